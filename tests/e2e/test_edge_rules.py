"""The agent as a process: rules from the server, settings read again, figures of its own."""

import json
import random
import signal
import subprocess
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tallybook.kernel.errors import Conflict, Invalid
from tests.e2e.server import KEY, Server
from tests.e2e.test_edge_agent import DEADLINE_SECONDS, ENV, agent, run, tallybook, wait_for
from tests.support.edge_server import EdgeServer, misbehaving

LINE = '10.0.0.{} - - [17/May/2015:10:{:02d}:{:02d} +0000] "GET / HTTP/1.1" {} {} "-" "x"\n'
RULES: dict[str, Any] = {
    "version": "7",
    "rules": [
        {
            "name": "requests",
            "match": "http.server.request",
            "group_by": {"status": "$.status"},
            "value": "$.bytes",
            "late_seconds": 0,
        }
    ],
}


def write(path: Path, numbers: range) -> None:
    with path.open("a") as file:
        for n in numbers:
            file.write(LINE.format(n % 5, n // 600 % 60, n // 10 % 60, 200 + n % 3, n))


def counted(server: EdgeServer) -> tuple[int, int]:
    """Requests and bytes, whether added up at the edge or not."""
    requests = size = 0
    for event in server.stored.values():
        data = event["data"]
        if event["type"] == "http.server.request.minute":
            requests, size = requests + data["count"], size + data["sum"]
        elif event["type"] == "http.server.request":
            requests, size = requests + 1, size + data["bytes"]
    return requests, size


def expected(lines: int) -> tuple[int, int]:
    return lines, sum(range(lines))


@pytest.mark.parametrize("kills", [4, pytest.param(40, marks=pytest.mark.slow(80))])
def test_windows_add_up_whatever_is_killed_when(tmp_path: Path, kills: int) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    moments = random.Random(seed)
    log, state = tmp_path / "access.log", tmp_path / "state"
    written = 0
    log.touch()
    with EdgeServer(misbehaving(seed, trouble_percent=15)) as server:
        server.rules = RULES
        for _ in range(kills):
            with agent(server, state, "--access-log", log, "--no-host") as process:
                for _ in range(moments.randint(2, 6)):
                    write(log, range(written, written + 400))
                    written += 400
                    time.sleep(0.2 + moments.random() * 0.3)
                process.kill()
        last = ("--access-log", log, "--no-host", "--for", "0", "--drain", "55s")
        with agent(server, state, *last) as process:
            _, said = process.communicate(timeout=DEADLINE_SECONDS)
            assert process.returncode == 0, said
        assert counted(server) == expected(written)
        types = Counter(event["type"] for event in server.stored.values())
        assert set(types) == {"http.server.request.minute"}
        assert {e["data"]["version"] for e in server.stored.values()} == {"7"}
        assert types.total() < written / 10


def test_rules_that_were_fetched_hold_while_the_server_is_away(tmp_path: Path) -> None:
    log, state = tmp_path / "access.log", tmp_path / "state"
    write(log, range(50))
    collect = ("--access-log", log, "--no-host", "--for", "0")
    with EdgeServer() as server:
        server.rules = RULES
        with agent(server, state, *collect) as process:
            assert process.wait(DEADLINE_SECONDS) == 0, process.communicate()[1]
    write(log, range(50, 100))
    nowhere = ("--url", "http://127.0.0.1:9", "--key", "tb_test", "--state", state)
    assert run("edge", "run", *nowhere, *collect, "--drain", "0.1s").returncode == 3
    check = run("edge", "check", "--state", state, "--access-log", log, "--no-host")
    assert check.stdout == ""
    with EdgeServer() as server:  # a server without rules: what was kept goes on
        with agent(server, state, "--no-host", "--access-log", log, "--for", "0") as process:
            assert process.wait(DEADLINE_SECONDS) == 0
        kinds = {event["type"] for event in server.stored.values()}
        assert kinds == {"http.server.request.minute"}
        assert counted(server)[0] == 50


def test_check_shows_what_rules_would_make(tmp_path: Path) -> None:
    log, rules = tmp_path / "access.log", tmp_path / "rules.toml"
    write(log, range(30))
    rules.write_text(
        '[[rules]]\nname = "ok"\nmatch = "http.server.request"\n'
        'where = { "$.status" = ["200"] }\nvalue = "$.bytes"\n'
    )
    arguments = ("--state", tmp_path / "s", "--access-log", log, "--no-host", "--rules", rules)
    done = run("edge", "check", *arguments, "--limit", "3")
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [e["type"].endswith(".minute") for e in events] == [False] * 3 + [True] * 3
    assert events[-1]["data"]["version"] == "rules.toml"
    assert "20 events as they are, and 5 windows by the rules" in done.stderr
    rules.write_text("[[rules]]\nname = 1\n")
    assert run("edge", "check", *arguments).returncode == 1
    rules.write_text("[[rules\n")
    assert "not TOML" in run("edge", "check", *arguments).stderr


def config_text(state: Path, logs: list[Path], more: str = "") -> str:
    tables = "".join(f'[[access_log]]\npath = "{log}"\nsource = "{log.name}"\n' for log in logs)
    return f'state = "{state}"\nhost = false\ninterval_seconds = 0.1\n{more}\n{tables}'


def test_settings_are_read_again_and_spool_and_positions_stay(tmp_path: Path) -> None:
    one, two, state = tmp_path / "one.log", tmp_path / "two.log", tmp_path / "state"
    write(one, range(100))
    write(two, range(100, 200))
    config = tmp_path / "edge.toml"
    config.write_text(config_text(state, [one], 'metrics_listen = "127.0.0.1:0"'))
    up = False
    with EdgeServer(lambda _number, _events: 200 if up else 503) as server:
        command = tallybook("edge", "run", "--config", config, "--url", server.url,
                            "--key", "tb_test", "--drain", "20s")  # fmt: skip
        process = subprocess.Popen(command, env=ENV, stderr=subprocess.PIPE, text=True)
        try:
            said = talk(process, "metrics on port")
            port = int(said.rsplit(" ", 1)[1])
            wait_for(lambda: figures(port)[f'events_read_total{{source="{one}"}}'] == 100, process)
            assert figures(port)["spool_events"] == 100
            config.write_text("nonsense")
            talk(process, "is not TOML")
            config.write_text(config_text(state, [one, two], 'edge = "new-name"'))
            assert "2 sources" in talk(process, "settings were read again")
            wait_for(lambda: figures(port)["spool_events"] == 200, process)
            assert figures(port)[f'events_read_total{{source="{one}"}}'] == 100, "it went on"
            process.send_signal(signal.SIGHUP)
            talk(process, "settings were read again")
            status = json.loads(run("edge", "status", "--state", state, "--json").stdout)
            assert [s["name"] for s in status["agent"]["sources"]] == [str(one), str(two)]
            assert status["agent"]["rss_bytes"] > 0
            assert "footprint" in run("edge", "status", "--state", state).stdout
            up = True
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=DEADLINE_SECONDS)
            assert process.returncode == 0
        finally:
            process.kill()
        assert counted(server) == expected(200)
        assert set(server.received.values()) == {1}, "nothing was read twice"


def talk(process: subprocess.Popen[str], words: str) -> str:
    """Return the next line of the agent that has these words."""
    assert process.stderr is not None
    while line := process.stderr.readline():
        if words in line:
            return line.strip()
    raise AssertionError(f"the agent never said '{words}'")


def figures(port: int) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        lines = answer.read().decode().splitlines()
    pairs = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
    return {name.removeprefix("tallybook_edge_"): float(value) for name, value in pairs}


def test_figures_are_told_on_loopback_only(tmp_path: Path) -> None:
    for address in ("0.0.0.0:9464", "nonsense", "127.0.0.1:99999"):
        config = tmp_path / "edge.toml"
        config.write_text(f'metrics_listen = "{address}"\nstate = "{tmp_path / "state"}"\n')
        done = run("edge", "run", "--config", config, "--key", "k", "--for", "0")
        assert done.returncode == 1
        assert "metrics_listen" in done.stderr


def test_a_rule_declared_on_the_server_reaches_the_meter(tmp_path: Path) -> None:
    """The whole road: declared, fetched, added up at the edge, metered, equal to the raw lines."""
    log, rules = tmp_path / "access.log", tmp_path / "rules.toml"
    write(log, range(900))
    rules.write_text(
        '[[rules]]\nname = "requests"\nmatch = "http.server.request"\nvalue = "$.bytes"\n'
        'group_by = { status = "$.status" }\n'
    )
    with Server(tmp_path / "data") as server:
        to = ("--url", server.url, "--key", KEY)
        for edge, expect in (("", "all edges"), ("web-1", "web-1")):
            shown = run("edges", "rules", "set", rules, "--edge", edge, *to)
            assert shown.returncode == 0, shown.stderr
            assert expect in shown.stdout
        own = json.loads(run("edges", "rules", "show", "--edge", "web-1", *to, "--json").stdout)
        assert own["version"] == "web-1:1"
        assert run("edges", "rules", "clear", "--edge", "web-1", *to).returncode == 0
        again = json.loads(run("edges", "rules", "show", "--edge", "web-1", *to, "--json").stdout)
        assert (again["version"], again["edge"]) == ("1", "")
        with server.client() as client:
            answer = client.raw("GET", "/api/v1/edges/rules")
            tag = answer.headers["etag"]
            same = client.raw("GET", "/api/v1/edges/rules", headers={"If-None-Match": tag})
            assert (tag, same.status, same.content) == ('"1"', 304, b"")
            with pytest.raises(Conflict):
                client.raw("PUT", "/api/v1/edges/rules", content=b'{"rules":[]}',
                           headers={"If-Match": '"7"'})  # fmt: skip
            with pytest.raises(Invalid, match="must have a type of its own"):
                client.raw("PUT", "/api/v1/edges/rules", params={"edge": "x"},
                           content=b'{"rules":[{"name":"a","match":"b","type":"b"}]}')  # fmt: skip
        collected = run("edge", "run", *to, "--state", tmp_path / "state", "--access-log", log,
                        "--no-host", "--for", "0")  # fmt: skip
        assert collected.returncode == 0, collected.stderr
        with server.client() as client:
            for key, value in (("hits", "$.count"), ("bytes", "$.sum")):
                client.post("/api/v1/meters", {
                    "key": key, "event_type": "http.server.request.minute", "aggregation": "SUM",
                    "value": value, "group_by": {"status": "$.status"},
                })  # fmt: skip
            deadline = time.monotonic() + DEADLINE_SECONDS
            while measured(client, "hits") != 900 and time.monotonic() < deadline:
                time.sleep(0.2)
            assert measured(client, "hits") == 900
            assert measured(client, "bytes") == sum(range(900))
            assert measured(client, "hits", "filterGroupBy[status]") == 300


def measured(client: Any, meter: str, *filtered: str) -> int:
    params = {"from": "2015-05-17T00:00:00Z", "to": "2015-05-18T00:00:00Z"}
    found = client.get(
        f"/api/v1/meters/{meter}/query", {**params, **dict.fromkeys(filtered, "200")}
    )
    return int(sum(row["value"] for row in found["data"]))
