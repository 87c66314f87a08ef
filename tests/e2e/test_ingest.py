"""`tallybook ingest` as a person runs it, against a stand-in server."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.edge_server import EdgeServer, misbehaving

LINE = '10.0.0.{} - - [17/May/2015:10:05:03 +0000] "GET /{} HTTP/1.1" 200 {} "-" "x"\n'
ENV = {k: v for k, v in os.environ.items() if not k.startswith("TALLYBOOK_")}


def ingest(
    server: EdgeServer, file: object, *arguments: str, stdin: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "tallybook", "ingest", str(file), *arguments]
    command += ["--url", server.url, "--key", "tb_test", "--json"]
    return subprocess.run(
        command, env=ENV, input=stdin, capture_output=True, timeout=60, check=False
    )


def answer(done: subprocess.CompletedProcess[bytes]) -> dict[str, object]:
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "access.log"
    path.write_text("".join(LINE.format(n % 7, n % 5, n) for n in range(2500)) + "broken\n")
    return path


def test_every_line_is_counted_or_quarantined_and_again_changes_nothing(log: Path) -> None:
    with EdgeServer() as server:
        first = answer(ingest(server, log, "--format", "combined"))
        assert (first["lines"], first["accepted"], first["quarantined"]) == (2501, 2500, 1)
        assert server.requests == 3
        stored = dict(server.stored)
        copy = log.with_name("elsewhere.txt.gz")
        copy.write_bytes(gzip.compress(log.read_bytes()))
        assert answer(ingest(server, copy, "--format", "combined"))["lines"] == 2501
        half = log.with_name("half.log")
        half.write_bytes(log.read_bytes()[:100_001])
        part = ingest(server, half, "--format", "combined")
        assert answer(part)["unfinished_bytes"] != 0
        assert b"left unread" in part.stderr
        assert server.stored == stored


def test_a_server_that_fails_half_the_time_gets_everything_once(log: Path) -> None:
    with EdgeServer(misbehaving(seed=5)) as server:
        assert answer(ingest(server, log, "--format", "combined"))["accepted"] == 2500
        assert len(server.stored) == 2501


def test_a_killed_run_is_simply_repeated(log: Path) -> None:
    def slow(_number: int, _events: list[object]) -> int:
        time.sleep(0.2)
        return 200

    with EdgeServer(slow) as server:
        command = [sys.executable, "-m", "tallybook", "ingest", str(log), "--format", "combined",
                   "--url", server.url, "--key", "k"]  # fmt: skip
        process = subprocess.Popen(command, env=ENV)
        deadline = time.monotonic() + 60
        while not server.stored and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert 0 < len(server.stored) < 2501
        assert answer(ingest(server, log, "--format", "combined"))["lines"] == 2501
        assert len(server.stored) == 2501


def test_standard_input_needs_a_source_and_is_the_same_as_the_file(log: Path) -> None:
    with EdgeServer() as server:
        nameless = ingest(server, "-", "--format", "combined", stdin=log.read_bytes())
        assert nameless.returncode == 2
        assert b"--source" in nameless.stderr
        arguments = ("--format", "combined", "--source", "web-1")
        answer(ingest(server, "-", *arguments, stdin=log.read_bytes()))
        answer(ingest(server, log, *arguments))
        assert len(server.stored) == 2501
        assert {source for source, _ in server.stored} == {"web-1"}


def test_tables_with_their_fields_named(tmp_path: Path) -> None:
    rows = tmp_path / "calls.csv"
    rows.write_text('who,at,n\nacme,2015-05-17T00:00:00Z,"1,5"\n\nacme,2015-05-17T00:00:00Z,2\n')
    objects = b'{"who":"acme","n":1.50}\n\n{"who":"acme","n":2}'
    with EdgeServer() as server:
        mapped = ("--type", "api.call", "--subject", "who")
        found = answer(ingest(server, rows, "--format", "csv", *mapped, "--time", "at"))
        assert (found["lines"], found["blank"]) == (2, 1)
        found = answer(
            ingest(server, "-", "--format", "ndjson", *mapped, "--source", "s", stdin=objects)
        )
        assert (found["lines"], found["unfinished_bytes"]) == (2, 0)
        assert {event["subject"] for event in server.stored.values()} == {"acme"}
        assert {event["type"] for event in server.stored.values()} == {"api.call"}
        cut = rows.with_name("cut.csv")
        cut.write_text("who,n\nacme,12\nacme,3")
        assert answer(ingest(server, cut, "--format", "csv", *mapped))["lines"] == 1
        whole = ingest(server, cut, "--format", "csv", *mapped, "--complete")
        assert answer(whole)["lines"] == 2


@pytest.mark.parametrize("shape", ["lines", "array"])
def test_ready_events_keep_their_identity(tmp_path: Path, shape: str) -> None:
    events = [
        {"specversion": "1.0", "id": str(n), "source": "app", "type": "t", "x": 1} for n in range(3)
    ]
    file = tmp_path / "events.json"
    lines = "".join(json.dumps(event) + "\n" for event in events)
    file.write_text(lines if shape == "lines" else json.dumps(events, indent=1))
    with EdgeServer() as server:
        assert answer(ingest(server, file, "--format", "cloudevents"))["lines"] == 3
        assert list(server.stored) == [("app", "0"), ("app", "1"), ("app", "2")]
        assert [event["x"] for event in server.stored.values()] == [1, 1, 1]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--format", "elf"), 2),
        (("--format", "csv"), 2),
        (("--format", "combined", "--type", "t"), 2),
        (("--format", "csv", "--type", "t", "--time", "none"), 1),
        (("--format", "combined", "--source", ""), 1),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_sent(
    log: Path, arguments: tuple[str, ...], code: int
) -> None:
    with EdgeServer() as server:
        assert ingest(server, log, *arguments).returncode == code
        assert server.requests == 0


def test_exit_codes_of_refusal_and_absence(log: Path) -> None:
    with EdgeServer(lambda _number, _events: 403) as server:
        assert ingest(server, log, "--format", "combined").returncode == 1
        assert server.requests == 1
        assert ingest(server, log.with_name("none"), "--format", "combined").returncode == 1
    with EdgeServer(lambda _number, _events: 503) as server:
        arguments = ("--format", "combined", "--retry-for", "0.5s")
        assert ingest(server, log, *arguments).returncode == 3


def test_an_empty_file_sends_nothing(tmp_path: Path) -> None:
    empty = tmp_path / "empty.log"
    empty.write_bytes(b"")
    with EdgeServer() as server:
        for form in (("combined",), ("csv", "--type", "t"), ("cloudevents",)):
            assert answer(ingest(server, empty, "--format", *form))["lines"] == 0
        assert server.requests == 0
