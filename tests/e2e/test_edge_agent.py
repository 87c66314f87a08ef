"""The agent as a process against a server that fails in every way: nothing lost or doubled."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.support.edge_server import EdgeServer, misbehaving

LINE = '10.0.{}.{} - - [17/May/2015:10:05:03 +0000] "GET /{} HTTP/1.1" 200 {} "-" "x"\n'
DEADLINE_SECONDS = 60
ENV = {k: v for k, v in os.environ.items() if not k.startswith("TALLYBOOK_")}
RSS_KIB_MAX = 40 * 1024


def tallybook(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "tallybook", *map(str, arguments)]


@contextmanager
def agent(
    server: EdgeServer, state: Path, *arguments: str | Path
) -> Iterator[subprocess.Popen[str]]:
    command = tallybook(
        "edge", "run", "--url", server.url, "--key", "tb_test", "--state", state,
        "--interval", "0.1", "--drain", "20", *arguments,
    )  # fmt: skip
    process = subprocess.Popen(command, env=ENV, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = tallybook(*arguments)
    return subprocess.run(
        command, env=ENV, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False
    )


def wait_for(what: Any, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not what():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def write_lines(path: Path, first: int, count: int) -> None:
    with path.open("a") as file:
        for n in range(first, first + count):
            file.write(LINE.format(n // 250 % 250, n % 250, n, n))


def requests_in(server: EdgeServer) -> list[int]:
    found = [e for e in server.stored.values() if e["type"] == "http.server.request"]
    return sorted(int(event["data"]["path"][1:]) for event in found)


def test_nothing_is_lost_or_doubled_through_failures_rotation_and_half_lines(
    tmp_path: Path,
) -> None:
    log, state = tmp_path / "access.log", tmp_path / "state"
    write_lines(log, 0, 500)
    with (
        EdgeServer(misbehaving(seed=1)) as server,
        agent(server, state, "--access-log", log, "--no-host") as process,
    ):
        wait_for(lambda: len(server.stored) >= 100, process)
        write_lines(log, 500, 300)
        log.rename(tmp_path / "access.log.1")
        write_lines(tmp_path / "access.log.1", 800, 10)
        write_lines(log, 810, 200)
        with log.open("a") as file:
            half = LINE.format(1, 1, 1010, 1)
            file.write(half[:40])
            file.flush()
            time.sleep(0.3)
            file.write(half[40:])
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=DEADLINE_SECONDS)
        assert process.returncode == 0, said
        assert requests_in(server) == list(range(1011))
        assert any(count > 1 for count in server.received.values()), "no answer was lost"
        assert "1011 events stored" in said
        assert run("edge", "status", "--state", state, "--json").returncode == 0


@pytest.mark.parametrize("kills", [4, pytest.param(40, marks=pytest.mark.slow(50))])
def test_kill_9_at_random_moments_repeats_or_continues_but_never_loses(
    tmp_path: Path, kills: int
) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    moments = random.Random(seed)
    log, state = tmp_path / "access.log", tmp_path / "state"
    written = 0
    with EdgeServer(misbehaving(seed, trouble_percent=15)) as server:
        for _ in range(kills):
            with agent(server, state, "--access-log", log) as process:
                for _ in range(moments.randint(1, 8)):
                    write_lines(log, written, 200)
                    written += 200
                    time.sleep(moments.random() * 0.2)
                process.kill()
        with agent(server, state, "--access-log", log, "--for", "0", "--drain", "55s") as process:
            _, said = process.communicate(timeout=DEADLINE_SECONDS)
            assert process.returncode == 0, said
        assert requests_in(server) == list(range(written))
        assert_host_time_is_counted_once(server)


def assert_host_time_is_counted_once(server: EdgeServer) -> None:
    """Each growth starts where the one before ended: no gap and no overlap, whatever was killed."""
    spans = sorted(
        (e["data"]["since"], e["time"])
        for e in server.stored.values()
        if e["type"] == "system.cpu.time" and e["data"]["mode"] == "idle"
    )
    for (_, until), (since, _) in pairwise(spans):
        assert until <= since, "the same time was measured twice"


def test_an_agent_without_a_server_keeps_everything_and_says_so(tmp_path: Path) -> None:
    log, state = tmp_path / "access.log", tmp_path / "state"
    write_lines(log, 0, 100)
    nowhere = ("--url", "http://127.0.0.1:9", "--key", "tb_test", "--state", state, "--no-host")
    alone = run("edge", "run", *nowhere, "--access-log", log, "--for", "0", "--drain", "0.3s")
    assert alone.returncode == 3
    assert "is it running" in alone.stderr
    assert "100 wait" in alone.stderr
    status = json.loads(run("edge", "status", "--state", state, "--json").stdout)
    assert status["spooled_events"] == status["collected_events"] == 100
    assert status["files"][0]["offset"] == log.stat().st_size
    with EdgeServer() as server:
        arguments = ("--access-log", log, "--no-host", "--for", "0")
        with agent(server, state, *arguments) as process:
            assert process.wait(DEADLINE_SECONDS) == 0
        assert requests_in(server) == list(range(100))
    status = json.loads(run("edge", "status", "--state", state, "--json").stdout)
    assert (status["spooled_events"], status["agent"]["stored"]) == (0, 100)
    assert status["agent"]["running"] is False


def test_a_wrong_key_parks_nothing_and_a_bad_event_blocks_nothing(tmp_path: Path) -> None:
    log, state = tmp_path / "access.log", tmp_path / "state"
    write_lines(log, 0, 50)

    def verdict(number: int, events: list[Any]) -> int:
        if number <= 2:
            return 401
        return 400 if any(e["data"].get("path") == "/17" for e in events) else 200

    arguments = ("--access-log", log, "--no-host", "--for", "0.1s")
    with EdgeServer(verdict) as server, agent(server, state, *arguments) as process:
        _, said = process.communicate(timeout=DEADLINE_SECONDS)
        assert process.returncode == 0, said
        assert requests_in(server) == [n for n in range(50) if n != 17]
    assert "1 refused and kept" in said
    refused = (state / "refused.ndjson").read_text().splitlines()
    assert [json.loads(line)["data"]["path"] for line in refused] == ["/17"]
    with EdgeServer() as server:
        again = run("ingest", state / "refused.ndjson", "--format", "cloudevents",
                    "--url", server.url, "--key", "tb_test")  # fmt: skip
        assert again.returncode == 0, again.stderr
        assert requests_in(server) == [17]


def test_a_full_spool_stops_reading_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    log, state = tmp_path / "access.log", tmp_path / "state"
    config = tmp_path / "edge.toml"
    config.write_text(f'spool_bytes_max = 1048576\nstate = "{state}"\nhost = false\n'
                      f'[[access_log]]\npath = "{log}"\nsource = "web-1"\n')  # fmt: skip
    noise = random.Random(3)
    with log.open("w") as file:
        for n in range(6000):
            agent_name = noise.randbytes(200).hex()
            file.write(LINE.format(1, 1, n, n).replace('"x"', f'"{agent_name}"'))
    up = False
    with EdgeServer(lambda _number, _events: 200 if up else 503) as server:
        command = tallybook("edge", "run", "--config", config, "--url", server.url,
                            "--key", "tb_test", "--interval", "0.1")  # fmt: skip
        process = subprocess.Popen(command, env=ENV, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        wait_for(lambda: "nearly full" in process.stderr.readline(), process)
        offset = json.loads(run("edge", "status", "--state", state, "--json").stdout)["files"][0]
        assert offset["offset"] < log.stat().st_size
        up = True
        wait_for(lambda: len(server.stored) == 6000, process)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=DEADLINE_SECONDS)
        assert process.returncode == 0
        assert {source for source, _ in server.stored} == {"web-1"}


def test_a_second_agent_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    with EdgeServer() as server, agent(server, tmp_path / "state") as process:
        wait_for(lambda: server.stored, process)
        second = run(
            "edge", "run", "--url", server.url, "--key", "k", "--state", tmp_path / "state"
        )
        assert second.returncode == 1
        assert "another agent runs" in second.stderr


def test_what_is_sent_is_compressed_small_and_authorised(tmp_path: Path) -> None:
    with EdgeServer() as server, agent(server, tmp_path / "state") as process:
        wait_for(lambda: server.requests >= 12, process)
        rss_kib = int(Path(f"/proc/{process.pid}/status").read_text().split("VmRSS:")[1].split()[0])
        steady = server.headers[2:]
    assert rss_kib < RSS_KIB_MAX
    first = server.headers[0]
    assert first["authorization"] == "Bearer tb_test"
    assert first["content-type"] == "application/cloudevents-batch+json"
    assert first["content-encoding"] == "zstd"
    assert set(server.paths) == {"/api/v1/events?partial=true"}
    sizes = [
        int(h["content-length"]) + sum(len(k) + len(v) + 4 for k, v in h.items()) for h in steady
    ]
    readings_an_hour = 360
    assert max(sizes) * readings_an_hour < 1024 * 1024


def test_check_prints_the_next_events_and_remembers_nothing(tmp_path: Path) -> None:
    log, state = tmp_path / "access.log", tmp_path / "state"
    write_lines(log, 0, 5)
    arguments = ("--state", state, "--access-log", f"{log}:combined", "--limit", "2", "--no-host")
    for _ in range(2):
        done = run("edge", "check", *arguments)
        assert done.returncode == 0, done.stderr
        events = [json.loads(line) for line in done.stdout.splitlines()]
        assert [event["data"]["path"] for event in events] == ["/0", "/1"]
    assert not state.exists()
    host = run("edge", "check", "--state", state)
    assert "system.cpu.time" in host.stdout


def test_a_state_folder_that_cannot_be_used_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    done = run("edge", "run", "--key", "k", "--state", tmp_path / "file" / "state")
    assert done.returncode == 3
    assert "cannot be used" in done.stderr
    missing = run("edge", "status", "--state", tmp_path / "none")
    assert missing.returncode == 1
    assert "no agent has run" in missing.stderr
