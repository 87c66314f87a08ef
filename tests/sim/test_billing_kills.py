"""A kill between any two statements of a billing run or a finalization: afterwards all is as if
nothing had happened, once it is asked for again.

The short life (a run that makes a draft and invoices, then the draft's finalization) is lived once
for each statement, struck down there and taken up again. A few times a real SIGKILL strikes.
"""

import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine, event

from tallybook.adapters.sql.database import sqlite_url
from tallybook.invoice.run.drafts import finalize
from tests.support.billing_world import TENANT, World, at
from tests.support.shared_world import catalog_text, check_books, world_on

CUSTOMERS = 3
GRACED = 'key = "c001"\ncurrency = "USD"'


class Crash(BaseException):
    """The process is gone: nothing may catch it and go on."""


class Points:
    """Counts statements and commits; strikes before one of them."""

    def __init__(self, strike_at: int, strike: Callable[[], None]) -> None:
        self.strike_at, self.strike, self.passed = strike_at, strike, 0

    def watch(self, engine: Engine) -> None:
        event.listen(engine, "before_cursor_execute", self.pass_)
        event.listen(engine, "commit", self.pass_)

    def pass_(self, *_what: object) -> None:
        self.passed += 1
        if self.passed == self.strike_at:
            self.strike()


def raise_crash() -> None:
    raise Crash


def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def live(world: World) -> None:
    """Bill May; the draft becomes an invoice on the fourth of June."""
    world.clock.now = at("2026-06-01")
    world.bill("2026-05", name="run_x")
    world.clock.now = at("2026-06-04")
    for draft in world.billing.invoices.drafts.drafts(TENANT, limit=9):
        finalize(world.billing, draft.id)


def begun(place: Path | str) -> str:
    """Return a database with a catalog: in a folder, or at an address."""
    url = place if isinstance(place, str) else sqlite_url(place / "control.db")
    world, engine = world_on(url, CUSTOMERS)
    world.apply(catalog_text(CUSTOMERS).replace(GRACED, f"{GRACED}\ngrace_days = 3"))
    engine.dispose()
    return url


def struck(url: str, strike_at: int, strike: Callable[[], None] = raise_crash) -> int:
    """Live until the strike; return how many points were passed."""
    world, engine = world_on(url, CUSTOMERS)
    points = Points(strike_at, strike)
    points.watch(engine)
    try:
        live(world)
    except Crash:
        pass
    finally:
        engine.dispose()
    return points.passed


def outcome(url: str) -> list[tuple[str, str, str]]:
    """Return numbers, customers and digests after checking the books."""
    heads = check_books(url, CUSTOMERS)
    return [(head.number, head.customer, head.sha256) for head in heads]


@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.slow(100))])
def test_a_crash_before_any_statement_changes_nothing(every: int, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    url = begun(whole)
    points = struck(url, 0)
    expected = outcome(url)
    assert [number for number, _, _ in expected] == ["INV-000001", "INV-000002", "INV-000003"]
    assert points > 40
    start = tmp_path / "start"
    start.mkdir()
    begun(start)
    for strike_at in range(1, points + 1, every):
        folder = shutil.copytree(start, tmp_path / str(strike_at))
        url = sqlite_url(folder / "control.db")
        assert struck(url, strike_at) == strike_at
        struck(url, 0)
        assert outcome(url) == expected, f"after a crash before statement {strike_at}"


@pytest.mark.parametrize("every", [16, pytest.param(3, marks=pytest.mark.slow(100))])
@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_a_crash_before_any_statement_changes_nothing_on(
    kind: str, every: int, databases_of_session: Callable[[str], str]
) -> None:
    url = begun(databases_of_session(kind))
    points = struck(url, 0)
    expected = outcome(url)
    for strike_at in range(1, points + 1, every):
        url = begun(databases_of_session(kind))
        assert struck(url, strike_at) == strike_at
        struck(url, 0)
        assert outcome(url) == expected, f"after a crash before statement {strike_at}"


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_a_process_killed_beside_a_database_leaves_nothing_half_done(
    kind: str, databases_of_session: Callable[[str], str]
) -> None:
    for strike_at in (14, 33, 47):
        url = begun(databases_of_session(kind))
        process = multiprocessing.get_context("fork").Process(
            target=struck, args=(url, strike_at, kill_self)
        )
        process.start()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
        struck(url, 0)
        assert len(outcome(url)) == CUSTOMERS


def test_two_crashes_in_a_row_change_nothing(tmp_path: Path) -> None:
    url = begun(tmp_path)
    struck(url, 31)
    struck(url, 29)
    struck(url, 0)
    assert len(outcome(url)) == CUSTOMERS


@pytest.mark.parametrize("strike_at", [12, 27, 34, 41, 55])
def test_a_killed_process_leaves_nothing_half_done(strike_at: int, tmp_path: Path) -> None:
    url = begun(tmp_path)
    process = multiprocessing.get_context("fork").Process(
        target=struck, args=(url, strike_at, kill_self)
    )
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    struck(url, 0)
    assert len(outcome(url)) == CUSTOMERS
