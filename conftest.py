"""What every test may ask for, and how laws are searched for counter-examples."""

import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support import databases

# Tests start hundreds of processes: each would compile a thousand modules anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

ROOT = Path(__file__).parent
SHARED = Path(os.environ.get("TALLYBOOK_SHARED", ROOT.parent / "shared"))
IN_CI = bool(os.environ.get("CI"))

_SLOW_OK = [HealthCheck.too_slow]
settings.register_profile("laptop", deadline=None, suppress_health_check=_SLOW_OK)
settings.register_profile("ci", settings.get_profile("laptop"), derandomize=True, print_blob=True)
settings.register_profile("long", settings.get_profile("laptop"), max_examples=1000)
settings.register_profile("mutants", settings.get_profile("ci"), max_examples=25)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if IN_CI else "laptop"))


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Return the folder of real logs and worked cases; a skip without it, a failure in CI."""
    if SHARED.is_dir():
        return SHARED
    message = f"{SHARED} is absent: the real logs and the field's worked cases were NOT checked"
    if IN_CI:
        pytest.fail(message)
    pytest.skip(message)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest tests first: workers then end at about the same time.

    Of tests that take seconds, those with real processes come first. They wait more than they
    compute: the first worker begins with them, and the others compute meanwhile.
    """
    items.sort(key=lambda item: (-_slow_seconds(item), "tests/e2e/" not in item.nodeid))


def _slow_seconds(item: pytest.Item) -> int:
    mark = item.get_closest_marker("slow")
    return int(mark.args[0]) if mark is not None else 0


def pytest_collection_finish() -> None:
    """Let no search for garbage look at modules and thousands of tests again and again."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Let the interpreter take leave of everything."""
    gc.unfreeze()


def pytest_report_header() -> str:
    """Say at the top whether the shared material is there."""
    return f"shared material: {SHARED if SHARED.is_dir() else 'ABSENT, its tests will not run'}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say at the end, loudly, when the shared material was absent."""
    if not SHARED.is_dir():
        terminalreporter.section("shared material absent", red=True)
        terminalreporter.line(f"{SHARED} is not there; tests that need it were skipped.")


@pytest.fixture(scope="session")
def servers_of_session() -> Iterator[Callable[[str], str]]:
    """Return a function from a kind of database server to its address, started once."""
    running: dict[str, str] = {}
    with ExitStack() as stack:

        def address(kind: str) -> str:
            if kind not in running:
                running[kind] = stack.enter_context(databases.SERVERS[kind]())
            return running[kind]

        yield address


@pytest.fixture(scope="session")
def databases_of_session(servers_of_session: Callable[[str], str]) -> Callable[[str], str]:
    """Return a function from a kind of server to a database of it, made once, without rows."""
    made: dict[str, str] = {}

    def address(kind: str) -> str:
        if kind not in made:
            made[kind] = databases.new_database(servers_of_session(kind))
        return databases.emptied(made[kind])

    return address


@pytest.fixture
def empty_database(
    servers_of_session: Callable[[str], str], tmp_path: Path
) -> Callable[[str], str]:
    """Return a function from a kind of database to the address of one without tables."""

    def make(kind: str) -> str:
        if kind == "sqlite":
            return f"sqlite:///{tmp_path / 'control.db'}"
        return databases.new_database(servers_of_session(kind))

    return make


@pytest.fixture
def new_database(
    databases_of_session: Callable[[str], str], tmp_path: Path
) -> Callable[[str], str]:
    """Return a function from a kind of database to the address of an empty one, one a test."""

    def make(kind: str) -> str:
        if kind == "sqlite":
            return f"sqlite:///{tmp_path / 'control.db'}"
        return databases_of_session(kind)

    return make
