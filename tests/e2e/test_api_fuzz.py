"""Requests made from the API's own description, good ones and bad ones, against a real server.

No answer is a failure of the server, and none is one that the description does not know: not its
status, not its media type, not its headers, not its shape.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.e2e.server import Server
from tests.support.gatehouse import story as told
from tests.support.gatehouse.house import FIRST_KEY, house
from tests.support.gatehouse.story import Story

ROOT = Path(__file__).parent.parent.parent
CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance",
    "response_headers_conformance", "response_schema_conformance",
)  # fmt: skip
LEFT_OUT = (
    "/api/v1/streams/{name}/sse",  # has no end
    "/api/v1/keys/{id}",  # would revoke the key that asks
    "/api/v1/tenants/{tenant}/close",
    "/v1/billing/meter_event_adjustments",  # waits five seconds for an event
    "/v2/billing/meter_event_adjustments",
)
SEED = os.environ.get("TALLYBOOK_FUZZ_SEED", "20261121")
CASES = int(os.environ.get("TALLYBOOK_FUZZ_CASES", "15"))
"""How many requests are made up for each operation; ten times as many conversations in all."""
HUNG_SECONDS = 1500


@contextmanager
def lively(folder: Path) -> Iterator[Server]:
    """Run a server with something of everything."""
    with house(folder) as made:
        story = Story(made, "default", FIRST_KEY)
        for part in told.LIVING:
            for call in part():
                story.tell(call)
    settings = {"TALLYBOOK_FIRST_KEY": FIRST_KEY, "TALLYBOOK_SERVER__ACCESS_LOG": "false"}
    with Server(folder, settings) as started:
        yield started


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with lively(tmp_path_factory.mktemp("fuzz") / "data") as started:
        yield started


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of its own: what requests that are made up leave behind ends conversations early."""
    with lively(tmp_path_factory.mktemp("untouched") / "data") as started:
        yield started


def run(server: Server, folder: Path, *options: str, every: int = 1) -> dict[str, Any]:
    """Return the report of a run of schemathesis over one of so many paths."""
    with server.client(FIRST_KEY) as client:
        document = msgspec.json.decode(client.raw("GET", "/openapi.json").content)
    paths = sorted(document["paths"])[int(SEED) % every :: every]
    document["paths"] = {path: document["paths"][path] for path in paths}
    described, report = folder / "openapi.json", folder / "report.json"
    described.write_bytes(msgspec.json.encode(document))
    left_out = [option for path in LEFT_OUT for option in ("--exclude-path", path)]
    command = [
        str(Path(sys.executable).parent / "schemathesis"), "run", str(described),
        "-u", server.url, "-H", f"Authorization: Bearer {FIRST_KEY}",
        "-c", ",".join(CHECKS), "--seed", SEED,
        "--continue-on-failure", "--no-shrink", "--generation-database", ":memory:", "--no-color",
        "--warnings", "off", "--report", "json", "--report-json-path", str(report),
        *left_out, *options,
    ]  # fmt: skip
    hooks = {"SCHEMATHESIS_HOOKS": "tests.support.schemathesis_hooks", "PYTHONPATH": str(ROOT)}
    # Where Hypothesis knows CI it takes no notice of the seed.
    usual = {name: text for name, text in os.environ.items() if name != "CI"}
    ended = subprocess.run(
        command, cwd=folder, env={**usual, **hooks}, capture_output=True, text=True,
        check=False, timeout=HUNG_SECONDS,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout[-6000:] + ended.stderr[-2000:]
    return dict(msgspec.json.decode(report.read_bytes(), type=dict[str, Any]))


def test_examples(server: Server, tmp_path: Path) -> None:
    report = run(server, tmp_path, "--phases", "examples")
    assert report["operations"]["tested"] > 150
    assert server.alive()


@pytest.mark.parametrize("every", [40, pytest.param(10, marks=pytest.mark.slow(100))])
def test_borders(server: Server, tmp_path: Path, every: int) -> None:
    """All borders of some paths, 80 requests an operation; another seed takes other paths.

    Some are enough: all routes decode by the same few types, and the examples ask every one.
    """
    report = run(server, tmp_path, "--phases", "coverage", every=every)
    assert report["test_cases"]["generated"] > 5_000 / every
    assert server.alive()


@pytest.mark.slow(150)
def test_requests_that_are_made_up(server: Server, tmp_path: Path) -> None:
    report = run(server, tmp_path, "--phases", "fuzzing", "-n", str(CASES))
    assert report["operations"]["tested"] == report["operations"]["selected"] > 200
    assert server.alive()


@pytest.mark.slow(150)
def test_calls_that_use_what_calls_before_them_made(untouched: Server, tmp_path: Path) -> None:
    report = run(untouched, tmp_path, "--phases", "stateful", "-n", str(10 * CASES))
    assert report["operations"]["tested"] > 30
    assert untouched.alive()
