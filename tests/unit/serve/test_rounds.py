"""Threads beside the requests: they end when they are closed, and before the interpreter does."""

import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from tallybook.serve.api.common.rounds import Rounds

NATIVE = """
import threading
import duckdb
from tallybook.serve.api.common.rounds import Rounds

begun = threading.Event()
database = duckdb.connect()

def ask():
    begun.set()
    database.cursor().execute("SELECT sum(x.i * y.i) FROM range(4000) x(i), range(4000) y(i)")

Rounds(ask, 0.001, "native").start()
begun.wait()
"""


@pytest.fixture
def counted() -> Iterator[tuple[Rounds, threading.Semaphore]]:
    done = threading.Semaphore(0)
    rounds = Rounds(done.release, 0.01, "counted")
    yield rounds, done
    rounds.close()


def test_rounds_go_on_until_they_are_closed(counted):
    rounds, done = counted
    rounds.start()
    rounds.start()
    assert [done.acquire(timeout=60) for _ in range(3)] == [True] * 3
    assert [one.name for one in threading.enumerate()].count("counted") == 1
    rounds.close()
    assert rounds.ended
    assert "counted" not in [one.name for one in threading.enumerate()]


def test_what_was_closed_is_not_begun_again(counted):
    rounds, done = counted
    rounds.close()
    rounds.start()
    assert "counted" not in [one.name for one in threading.enumerate()]
    assert not done.acquire(blocking=False)


def test_a_bug_is_told_and_the_next_round_comes():
    numbers = iter(range(9))
    seen = threading.Event()

    def fail_first() -> None:
        if next(numbers) == 0:
            raise ValueError("a bug")
        seen.set()

    rounds = Rounds(fail_first, 0.01, "failing")
    rounds.start()
    assert seen.wait(60)
    rounds.close()


def test_a_process_that_forgets_to_close_ends_well_from_the_middle_of_a_query():
    ended = subprocess.run(
        [sys.executable, "-c", NATIVE], capture_output=True, text=True, timeout=120, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
