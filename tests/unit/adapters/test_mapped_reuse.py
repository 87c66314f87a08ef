"""Slots of counts whose time is over are used again; what counts still is never lost to it."""

import threading
from pathlib import Path

import pytest

from tallybook.adapters.mapped.counts import MappedCounts, put_aside
from tallybook.adapters.mapped.table import is_over, word_of
from tallybook.admit.plan.bind import lasting, place
from tallybook.admit.plan.decide import FRESH, Held, Place
from tallybook.admit.plan.limit import Concurrency, Counting, Quota, Rate

HOUR = 3600.0
FIRST_BYTES = 4096 + 1024 * 128
FOR_GOOD = place(("for good",))


class Clock:
    """Seconds since 1970 that are set by hand."""

    def __init__(self) -> None:
        self.seconds = 1_800_000_000.0

    def __call__(self) -> float:
        return self.seconds


def counts_at(folder: Path, clock: Clock) -> MappedCounts:
    return MappedCounts(folder / "limits.bin", put_aside, clock)


def add(counts: MappedCounts, where: Place, amount: int = 1) -> Held:
    return counts.change([where], lambda held: ([(held[0][0] + amount, *held[0][1:])], held[0]))


def passing(folder: Path, keys: int, days: int) -> int:
    """Count keys that are seen once each, over some days; return the bytes of the file."""
    clock = Clock()
    counts = counts_at(folder, clock)
    add(counts, FOR_GOOD)
    for number in range(keys):
        clock.seconds += days * 24 * HOUR / keys
        where = place((str(number),), hours=52)
        assert add(counts, where) == FRESH
        if number % 1000 == 0:
            assert counts.read([where]) == [(1, 0, 0, 0)]
    assert counts.read([FOR_GOOD]) == [(1, 0, 0, 0)]
    size = (folder / "limits.bin").stat().st_size
    counts.close()
    return size


def test_keys_that_come_and_go_take_room_for_those_of_a_time(tmp_path: Path) -> None:
    assert passing(tmp_path, keys=12_000, days=200) <= 7 * FIRST_BYTES


@pytest.mark.slow(120)
def test_hundreds_of_thousands_of_keys_that_come_and_go(tmp_path: Path) -> None:
    assert passing(tmp_path, keys=400_000, days=160) < 8_000_000, "6,000 of them at a time"


@pytest.mark.parametrize(
    ("limit", "hours"),
    [
        (Rate(key="r", rate=5), 2),
        (Rate(key="r", rate=1, seconds=86_400, burst=31), 31 * 24 + 2),
        (Quota(key="q", limit=1, window="day"), 52),
        (Quota(key="q", limit=1, window="month"), 2 * (31 * 24 + 2)),
        (Concurrency(key="c", limit=1), 2),
    ],
)
def test_how_long_a_count_means_something(limit: Counting, hours: int) -> None:
    assert lasting(limit) == hours


def test_a_word_tells_time_and_stripe() -> None:
    assert word_of(500_000, 7) & 255 == 7
    assert not is_over(word_of(500_000, 7), 500_000)
    assert is_over(word_of(500_000, 7), 500_001)
    assert not is_over(word_of(0, 7), 500_001), "for good"
    assert not is_over(0, 500_001), "written by an older version"


def crowd(counts: MappedCounts, name: str, number: int = 6_000) -> None:
    for one in range(number):
        add(counts, place((name, str(one)), hours=1))


def test_what_is_still_counted_keeps_its_slot(tmp_path: Path) -> None:
    clock = Clock()
    counts = counts_at(tmp_path, clock)
    used, running = place(("used",), hours=52), place(("running",), own=True, hours=2)
    add(counts, used)
    add(counts, running)
    for day in range(6):
        clock.seconds += 50 * HOUR
        assert add(counts, used)[0] == day + 1, "each use begins its time anew"
        crowd(counts, f"day {day}", 2_000)
    assert counts.read([running])[0][0] == 1, "a request runs until it has ended"
    add(counts, running, -1)
    clock.seconds += 60 * HOUR
    size = (tmp_path / "limits.bin").stat().st_size
    crowd(counts, "later", 2_000)
    assert counts.read([used]) == [FRESH]
    assert (tmp_path / "limits.bin").stat().st_size == size


def test_a_slot_that_another_process_gave_away_is_found_anew(tmp_path: Path) -> None:
    clock = Clock()
    one, two = counts_at(tmp_path, clock), counts_at(tmp_path, clock)
    old = place(("old",), hours=1)
    own = place(("old own",), own=True, hours=1)
    add(one, old, 5)
    add(one, own, 1)
    add(one, own, -1)
    clock.seconds += 10 * HOUR
    crowd(two, "new")
    assert one.read([old, own]) == [FRESH, FRESH]
    assert add(one, old) == FRESH
    assert add(one, own) == FRESH
    assert two.read([old]) == [(1, 0, 0, 0)]
    assert [two.read([place(("new", str(n)), hours=1)])[0][0] for n in range(6_000)] == [1] * 6_000


def test_a_slot_whose_lock_is_held_is_left(tmp_path: Path) -> None:
    clock = Clock()
    one, two = counts_at(tmp_path, clock), counts_at(tmp_path, clock)
    old = place(("old",), hours=1)
    add(one, old, 5)
    clock.seconds += 10 * HOUR

    others = [place(("new", str(n)), hours=1) for n in range(6_000)]
    others = [where for where in others if where.stripe != old.stripe]

    def meanwhile(held: list[Held]) -> tuple[list[Held], None]:
        for number, where in enumerate(others):
            add(two if number % 2 else one, where)
        return [(held[0][0] + 1, 0, 0, 0)], None

    one.change([old], meanwhile)
    assert one.read([old]) == two.read([old]) == [(6, 0, 0, 0)]


def test_nothing_is_lost_while_slots_change_hands(tmp_path: Path) -> None:
    clock = Clock()
    several = [counts_at(tmp_path, clock) for _ in range(2)]
    living = [place(("living", str(n)), hours=10_000) for n in range(20)]

    def work(counts: MappedCounts, worker: int) -> None:
        for turn in range(600):
            clock.seconds += HOUR / 2
            add(counts, place((str(worker), str(turn)), hours=1))
            add(counts, living[turn % 20])

    threads = [threading.Thread(target=work, args=(several[n % 2], n)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [held[0] for held in several[0].read(living)] == [120] * 20
