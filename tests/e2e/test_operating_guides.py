"""The commands of the guides to operations, edges and webhooks, run in their order."""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.server import Server, asked, workers
from tests.e2e.test_gate_guides import lines
from tests.e2e.test_guides import LINE, ROOT, fences, tallybook

OPERATIONS = ROOT / "docs" / "guides" / "operations.md"
EDGE = ROOT / "docs" / "guides" / "edge.md"
WEBHOOKS = ROOT / "docs" / "guides" / "webhooks.md"
SECONDS = 60


def shell(work: Path, text: str, **environment: str) -> str:
    """Run a line in the folder of a reader of the guide; it ends well."""
    known = {k: v for k, v in os.environ.items() if not k.startswith("TALLYBOOK_")}
    known["PATH"] = f"{Path(sys.executable).parent}:{known['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text], cwd=work, env=known | environment,
        capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (text, done.stdout, done.stderr)
    return done.stdout


@pytest.mark.slow(8)
def test_what_the_guide_to_operations_says_is_done_and_a_copy_is_a_backup(tmp_path):
    event = '{"id":"1","source":"s","type":"t","specversion":"1.0","time":"2026-05-01T00:00:00Z"}'
    meter = '{"key": "m", "event_type": "t", "aggregation": "COUNT"}'
    look, listing, copying, *_, upgrading = fences(OPERATIONS, "")
    with Server(tmp_path / "tallybook-data", workers(1)) as server:
        assert server.post("/api/v1/meters", meter)
        server.post("/api/v1/events", event, "application/cloudevents+json")
        server.caught_up()
        for line in (look + listing).splitlines():
            program, *words = shlex.split(line.replace("http://127.0.0.1:8080", server.url))
            with contextlib.chdir(tmp_path):
                if program == "tallybook":
                    server.tallybook(*words)
                else:
                    shell(tmp_path, shlex.join([program, *words]))
    (tmp_path / "backup").mkdir()
    shell(tmp_path, copying.replace("/backup", "backup"))
    shell(tmp_path, upgrading)
    with Server(tmp_path / "backup" / "tallybook-data", workers(1)) as server:
        assert server.get("/api/v1/meters/m/query")["data"][0]["value"] == 1


def collecting(server: Server, work: Path, words: list[str]) -> None:
    """Run the agent until the log it follows has arrived, and stop it."""
    command = [sys.executable, "-m", "tallybook", *words]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TALLYBOOK_")}
    with (work / "agent.log").open("ab") as output:
        agent = subprocess.Popen(command, cwd=work, env=environment, stderr=output, stdout=output)
    try:
        deadline = time.monotonic() + SECONDS
        while not server.get("/api/v1/edges")["items"]:
            assert agent.poll() is None, (work / "agent.log").read_text()
            assert time.monotonic() < deadline, "the server hears of no edge"
            time.sleep(0.1)
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(SECONDS) == 0, (work / "agent.log").read_text()
    finally:
        agent.kill()
        agent.wait()


def test_the_commands_of_the_guide_to_edges_work_in_their_order(shared_server, tmp_path):
    server = shared_server.tenant("edges")
    meter = '{"key": "requests", "event_type": "http.server.request", "aggregation": "COUNT"}'
    assert server.post("/api/v1/meters", meter)
    (tmp_path / "access.log").write_text("".join(LINE.format(i % 5, i, i) for i in range(20)))
    shell(tmp_path, "gzip --keep access.log && mv access.log.gz old.log.gz")
    (tmp_path / "edge.key").write_text(server.key)
    settings, *_ = fences(EDGE, "toml")
    (tmp_path / "edge.toml").write_text(settings.replace("http://127.0.0.1:8080", server.url))
    rules = next(body for body in fences(EDGE, "toml") if body.startswith("# rules.toml"))
    (tmp_path / "rules.toml").write_text(rules)
    name = ""
    for words in lines(EDGE, ""):
        told = [word.replace("http://127.0.0.1:8080", server.url) for word in words]
        if words[:2] == ["edge", "run"]:
            collecting(server, tmp_path, told)
            name = server.get("/api/v1/edges")["items"][0]["name"]
        elif words[0] == "edge":
            done = tallybook(tmp_path, told)
            assert done.returncode == 0, done.stderr
        else:
            with contextlib.chdir(tmp_path):
                server.tallybook(*[name if word == "web-1" else word for word in told])
    (piped,) = re.findall(r"^zcat .*", EDGE.read_text(), re.MULTILINE)
    shell(tmp_path, piped, TALLYBOOK_URL=server.url, TALLYBOOK_KEY=server.key)
    server.caught_up()
    (row,) = server.get("/api/v1/meters/requests/query")["data"]
    assert row["value"] == 60, "an agent, a file and a stream are three sources"


def test_the_commands_of_the_guide_to_webhooks_work_in_their_order(shared_server):
    server = shared_server.tenant("hooks")
    text = "\n".join(fences(WEBHOOKS, "console"))
    told = [line[2:] for line in text.splitlines() if line.startswith("$ ")]
    assert len(told) == 3
    add, *rest = [line.replace("'", "").split()[1:] for line in told]
    server.tallybook(*add)
    (hook,) = server.get("/api/v1/webhooks")["items"]
    for words in rest:
        server.tallybook(*words[:2], hook["id"])
    assert asked("GET", f"{server.url}/health/ready").status_code == 200
