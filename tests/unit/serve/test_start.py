"""What starts cost: which modules are imported, and how a child is forked.

Numbers of modules, and not times, which mean nothing on a loaded machine.
"""

import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from tallybook.serve.api.child import all_routes
from tallybook.serve.supervisor import child
from tallybook.serve.supervisor.child import ENTRIES, Kind
from tallybook.serve.supervisor.forked import BUG, MODULES, UNKNOWN, set_up_routes
from tallybook.serve.supervisor.memory import ARROW_POOL
from tallybook.settings import Settings

ALWAYS = ("api", "pump", "jobs", "post")
"""Children that every server has."""
MODULES_MAX = 1_700
SUPERVISOR_MODULES_MAX = 250
FOR_SOME = {
    "altair", "babel", "confluent_kafka", "google.protobuf", "httpx2", "polars",
    "paho", "pandas", "pydantic", "psycopg", "pymysql", "typst", "vl_convert",
}  # fmt: skip
"""What is imported when it is first used, for most servers never do."""
HEAVY = {"cryptography", "deltalake", "duckdb", "granian", "litestar", "numpy", "pyarrow",
         "sqlalchemy", "structlog"}  # fmt: skip


def imported(statements: str) -> set[str]:
    """Return the modules of a fresh interpreter that did this."""
    told = f"{statements}\nimport os, sys; print(*sys.modules, flush=True); os._exit(0)"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_every_server_imports_no_more_than_it_needs() -> None:
    loaded = imported(
        "from tallybook.serve.supervisor.forked import preload\n"
        f"for kind in {ALWAYS}: preload(kind)"
    )
    assert loaded & FOR_SOME == set()
    assert len(loaded) <= MODULES_MAX


def test_the_doors_wait_for_nothing_that_is_only_used_behind_them() -> None:
    loaded = imported("from tallybook.serve.supervisor.forked import preload\npreload('api')")
    assert loaded & (FOR_SOME | {"duckdb", "httpcore2"}) == set()


def test_the_supervisor_takes_folder_and_port_before_it_imports_what_is_heavy() -> None:
    loaded = imported("import tallybook.serve.cli.server")
    assert loaded & (HEAVY | FOR_SOME) == set()
    assert len(loaded) <= SUPERVISOR_MODULES_MAX


def test_what_a_child_works_with_is_named_right() -> None:
    source = Path(__file__).parents[3] / "src"
    for name in {name for names in MODULES.values() for name in names}:
        place = source.joinpath(*name.split("."))
        assert place.with_suffix(".py").exists() or (place / "__init__.py").exists(), name


FORK = """
import os, signal, sys
from tallybook.serve.supervisor.forked import Forked

signal.signal(signal.SIGTERM, lambda *_: print("the parent's handler"))
kept, other = os.open(os.devnull, os.O_RDONLY), os.open(os.devnull, os.O_RDONLY)
print("before", end="")

def told():
    said = sys.stdin.readline()
    handed = [n for n in (kept, other) if os.path.exists(f"/dev/fd/{n}")]
    print(said.strip(), os.getsid(0) == os.getpid(), handed == [kept])
    return 7

def fails():
    raise ValueError("as it should")

def waits():
    print("waits", flush=True)
    while sys.stdin.read(): pass
    return 3

def ended(work, number=None, close=False):
    child = Forked(work, 1, kept)
    os.write(child.stdin, b"hello\\n")
    if number: child.send(number)
    if close: child.close()
    child.wait(60)
    child.close()
    return child.poll()

codes = [ended(told), ended(fails), ended(waits, signal.SIGTERM), ended(waits, close=True)]
print(codes)
"""


def test_a_fork_has_its_own_input_session_and_handlers_and_one_descriptor() -> None:
    done = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[0] == "beforehello True True"  # written once, and not again by each child
    assert f"[7, {BUG}, -15, 3]" in lines[-1]
    assert "ValueError: as it should" in done.stdout
    assert "the parent's handler" not in done.stdout


def test_modules_are_listed_for_every_kind_of_child() -> None:
    assert set(MODULES) == set(ENTRIES) == set(get_args(Kind))


def test_what_a_child_does_is_there() -> None:
    for place in ENTRIES.values():
        module, _, name = place.partition(":")
        assert callable(getattr(importlib.import_module(module), name))


def forks(statements: str, work: str) -> list[str]:
    """Return what two forks of a fresh interpreter print, and how they ended."""
    told = f"""
import os, signal, sys
from tallybook.serve.supervisor.forked import Forked, preload
{statements}
def work(): {work}
kept = os.open(os.devnull, os.O_RDONLY)
for _ in range(2):
    child = Forked(work, 1, kept)
    assert child.wait(60)
    child.close()
    print(child.poll(), flush=True)
os._exit(0)
"""
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_two_workers_never_name_two_requests_alike() -> None:
    asked = "from tallybook.serve.api.gateway.line import request_id\nrequest_id([])"
    one, _, other, _ = forks(f"preload('api')\n{asked}", "print(request_id([]).decode()); return 0")
    assert one.startswith("req_")
    assert other.startswith("req_")
    assert len(one) == len(other) == len("req_") + 24
    assert one[:16] != other[:16]


def test_routes_are_set_up_before_the_fork_and_taken_by_one_server() -> None:
    settings = Settings()
    set_up_routes(settings)
    bytes_max = settings.server.body_bytes_max
    taken, other = (all_routes({"number": number}, bytes_max) for number in (1, 2))
    assert (taken.state.number, other.state.number) == (1, 2)
    assert {route.path for route in taken.routes} == {route.path for route in other.routes}


def test_a_child_may_end_where_nobody_keeps_how() -> None:
    ignored = "signal.signal(signal.SIGCHLD, signal.SIG_IGN)"
    assert forks(ignored, "return 3") == [str(UNKNOWN)] * 2


def test_a_child_that_died_at_once_is_buried_as_others_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Died:
        def __init__(self, *_: object) -> None:
            there, self.stdin = os.pipe()
            os.close(there)
            self.pid = 1

        def poll(self) -> int:
            os.close(self.stdin)
            return -9

    monkeypatch.setattr(child, "Forked", Died)
    monkeypatch.setattr(child, "preload", lambda _kind: None)
    with (tmp_path / "log").open("wb") as log:
        started = child.Running(child.Role("api", 0), Settings(), log.fileno(), log)
    assert started.exit_code() == -9


@pytest.mark.parametrize(("said", "pool"), [({}, "system"), ({ARROW_POOL: "mimalloc"}, "mimalloc")])
def test_columns_are_taken_from_the_common_heap_unless_the_environment_says_otherwise(
    said: dict[str, str], pool: str
) -> None:
    code = (
        "from tallybook.serve.supervisor.memory import share_heaps\n"
        "share_heaps()\n"
        "import pyarrow\n"
        "print(pyarrow.default_memory_pool().backend_name)"
    )
    environment = {key: text for key, text in os.environ.items() if key != ARROW_POOL} | said
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == pool
