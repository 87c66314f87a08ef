"""What every keeper of counts must do: shared by processes, changed together, ended with them."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from tallybook.adapters.mapped.counts import MappedCounts, put_aside
from tallybook.adapters.memory.counts import MemoryCounts, SharedCounts
from tallybook.admit.plan.bind import place
from tallybook.admit.plan.decide import FRESH, Held, Place
from tallybook.admit.plan.flow import let_through
from tallybook.admit.plan.limit import Concurrency, Quota
from tests.unit.admit.plan.sample import NOON_NS, bound_to

Counts: TypeAlias = MappedCounts | MemoryCounts
New: TypeAlias = Callable[[], Counts]

A, B, OWN = place(("a",)), place(("b",)), place(("own",), own=True)


@pytest.fixture(params=["mapped", "memory"])
def new(request: pytest.FixtureRequest, tmp_path: Path) -> New:
    shared = SharedCounts()

    def make() -> Counts:
        if request.param == "memory":
            return MemoryCounts(shared)
        return MappedCounts(tmp_path / "counts" / "limits.bin", put_aside)

    return make


def add(counts: Counts, place: Place, amount: int = 1) -> Held:
    """Add to the first number of a count, and return what it was."""

    def more(held: list[Held]) -> tuple[list[Held], Held]:
        return [(held[0][0] + amount, *held[0][1:])], held[0]

    return counts.change([place], more)


def test_a_count_begins_with_zeros_and_keeps_what_it_is_given(new: New) -> None:
    counts = new()
    assert counts.read([A]) == [FRESH]
    largest = (2**63 - 1, -(2**63), 7, 8)
    counts.change([A, B], lambda _: ([largest, (1, 2, 3, 4)], None))
    assert counts.read([B, A]) == [(1, 2, 3, 4), largest]
    assert counts.change([A], lambda held: (None, held)) == [largest]


def test_all_processes_count_together(new: New) -> None:
    one, two = new(), new()
    assert [add(one, A), add(two, A), add(one, A)] == [(n, 0, 0, 0) for n in range(3)]
    assert one.read([A]) == two.read([A]) == [(3, 0, 0, 0)]
    assert one.generation == two.generation
    one.sync()
    two.close()
    assert new().read([A]) == [(3, 0, 0, 0)]


def test_a_decision_that_fails_changes_nothing(new: New) -> None:
    counts = new()
    add(counts, A)

    def fails(_held: list[Held]) -> Any:
        raise ValueError

    with pytest.raises(ValueError):
        counts.change([A, B], fails)
    assert counts.read([A, B]) == [(1, 0, 0, 0), FRESH]
    add(counts, A)
    assert counts.read([A]) == [(2, 0, 0, 0)]


def test_what_is_its_own_ends_with_a_process(new: New) -> None:
    one, two = new(), new()
    add(one, OWN, 2)
    add(two, OWN, 3)
    assert add(one, OWN)[:2] == (2, 3)
    assert two.read([OWN])[0][:2] == (3, 3)
    one.close()
    assert two.read([OWN])[0][:2] == (3, 0)
    three = new()
    assert three.read([OWN])[0][:2] == (0, 3)
    assert add(three, OWN)[:2] == (0, 3)
    assert two.read([OWN])[0][:2] == (3, 1)


def test_many_counts_have_room_and_none_is_another(new: New) -> None:
    one, two = new(), new()
    places = [place((str(number),)) for number in range(3_000)]
    for number, where in enumerate(places):
        add(one if number % 2 else two, where, number)
    for counts in (one, two, new()):
        assert [held[0] for held in counts.read(places)] == list(range(3_000))


def test_threads_lose_no_count(new: New) -> None:
    several = [new(), new()]

    def work(counts: Counts) -> None:
        for _ in range(200):
            add(counts, A)

    threads = [threading.Thread(target=work, args=(several[n % 2],)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert several[0].read([A]) == [(1_600, 0, 0, 0)]


def test_limits_are_decided_on_it(new: New) -> None:
    one, two = new(), new()
    bounds = [
        bound_to(Quota(key="q", limit=5, window="day")),
        bound_to(Concurrency(key="c", limit=3)),
    ]
    stops = [let_through(one if n % 2 else two, bounds, NOON_NS).stop for n in range(4)]
    assert [stop is None for stop in stops] == [True, True, True, False]
    assert stops[3] is not None
    assert stops[3].bound.limit.key == "c"
    two.close()
    assert [let_through(one, bounds, NOON_NS).stop is None for _ in range(3)] == [True, True, False]
    assert one.read([bounds[0].place])[0][1] == 5
