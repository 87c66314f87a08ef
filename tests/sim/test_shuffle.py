"""Order, duplicates, splits and upkeep change no answer: every aggregate is a function of the set.

Guarantees 2 and 3 of CONTRACTS §1. A world of events is sent shuffled, repeated and split over
partitions and commits, while roll-ups, compaction, deletion of replaced files and restarts happen
in between; a plain road that takes the same set in one piece must answer the same.
"""

import shutil
from pathlib import Path
from tempfile import mkdtemp

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallybook.adapters.duckdb.usage_reader import LakeUsageReader
from tallybook.catalog.meter import AGGREGATIONS, MeterSpec, check_meter
from tallybook.kernel.timestamps import HOUR_US, format_us
from tallybook.meter.usage import Counters, Ownership, UsageQuery
from tallybook.meter.window import GRID_US, bounds
from tallybook.serve.worker.maintain import LakeKeeper
from tallybook.settings import Settings
from tests.sim.road import Road, event

EXAMPLES = max(8, settings.default.max_examples // 8)
START_US = 1_794_960_000_000_000
METERS = [
    check_meter(
        MeterSpec(
            key=f"m{i}",
            event_type="t",
            aggregation=aggregation,
            value=None if aggregation == "COUNT" else "$.v",
            group_by={"region": "$.region"},
            filter={"$.ok": ["1"]} if i == 1 else {},
        )
    )
    for i, aggregation in enumerate(AGGREGATIONS)
]
PARTITIONS = 3

VALUES = st.sampled_from(
    [0, 1, -2.5, "3.000000000001", "99999999999999999999", "1e20", "x", None, "1e-13"]
)
TIMES = st.integers(0, 4 * GRID_US) | st.integers(0, 4).map(lambda i: i * GRID_US)
BODIES = st.fixed_dictionaries(
    {"v": VALUES, "region": st.sampled_from(["eu", "us", None]), "ok": st.sampled_from([1, 0])}
)
EVENTS = st.lists(
    st.tuples(TIMES, st.sampled_from(["a", "b", None]), BODIES), min_size=10, max_size=25
)


def world(drawn):
    return [
        event(f"e{i}", format_us(START_US + at), subject, data)
        for i, (at, subject, data) in enumerate(drawn)
    ]


WHICH = st.lists(st.integers(0, 99), max_size=8)
NOTHING = (st.just(0), st.just([]))
SEND = st.tuples(st.just("send"), st.integers(0, PARTITIONS - 1), WHICH)
PUMP = st.tuples(st.just("pump"), *NOTHING)
ROLL = st.tuples(st.just("roll"), st.integers(1, 4), st.lists(st.integers(0, 7), max_size=4))
KEEP = st.tuples(st.sampled_from(["compact", "vacuum", "restart"]), *NOTHING)
STEPS = st.one_of(SEND, SEND, PUMP, PUMP, ROLL, KEEP)


class World:
    """A road, and its keeper with merges that happen soon."""

    def __init__(self, folder: Path):
        self.road = Road(folder, partitions=PARTITIONS)
        self.road.meters = METERS[::2]  # the others are read from the envelope
        self.keeper = LakeKeeper(Settings(data_dir=folder))

    def do(self, events, kind, number, which):
        match kind:
            case "send" if which:
                self.road.send([events[i % len(events)] for i in which], partition=number)
            case "pump":
                self.road.pump()
            case "roll":
                self.road.roll([METERS[i] for i in which], steps=number)
            case "compact":
                self.keeper.compact()
            case "vacuum":
                self.keeper.tidy(0)
            case "restart":
                self.road.open_lake()

    def drain(self):
        while self.road.pump() is not None:
            pass


@pytest.fixture(scope="module", autouse=True)
def soon():
    """Let any two files be merged, and all their subjects, so that small worlds see it."""
    with pytest.MonkeyPatch.context() as patch:
        merge = "tallybook.serve.worker.maintain.next_merge"
        patch.setattr(merge, lambda files: list(files) if len(files) > 1 else [])
        patch.setattr("tallybook.adapters.duckdb.rollups.FANOUT", 2)
        patch.setattr("tallybook.adapters.duckdb.rollups.SUMMED_BYTES_MIN", 0)
        patch.setattr("tallybook.adapters.duckdb.rollups.SAVED_MIN", 0)
        yield


@pytest.fixture(scope="module")
def folder():
    """A place for worlds; hypothesis makes many within one test."""
    made = Path(mkdtemp())
    yield made
    shutil.rmtree(made)


def questions(cut):
    end = START_US + 5 * GRID_US
    owners = (
        Ownership("a", "X", None, START_US + GRID_US + 7),
        Ownership("a", "Y", START_US + GRID_US + 7, None),
        Ownership("b", "X", START_US, START_US + 3 * GRID_US),
    )
    for meter in METERS:
        yield UsageQuery(tenant="default", meter=meter, bounds=(START_US, end), cut=cut)
        yield UsageQuery(
            tenant="default",
            meter=meter,
            bounds=bounds(START_US - HOUR_US, end, "HOUR", "Asia/Kathmandu"),
            cut=cut,
            group_by=("region",),
            by_subject=True,
        )
        yield UsageQuery(
            tenant="default", meter=meter, bounds=(START_US + 3, end), cut=cut, owners=owners
        )


def answers(reader, cut):
    return [reader.usage(question) for question in questions(cut)]


@settings(max_examples=EXAMPLES)
@given(
    EVENTS.map(world), st.lists(STEPS, min_size=8, max_size=30), st.randoms(use_true_random=False)
)
def test_every_answer_is_a_function_of_the_set(folder, events, steps, rng):
    messy, plain = World(Path(mkdtemp(dir=folder))), World(Path(mkdtemp(dir=folder)))
    for kind, number, which in steps:
        messy.do(events, kind, number, which)
    rest = events * 2
    rng.shuffle(rest)
    while rest:
        size = rng.randrange(1, 9)
        part, rest = rest[:size], rest[size:]
        messy.road.send(part, partition=rng.randrange(PARTITIONS))
        messy.do(events, rng.choice(["pump", "pump", "compact", "wait"]), 0, [])
        messy.do(events, "roll", 1, rng.sample(range(len(METERS)), 2))
    messy.drain()
    plain.road.send(events)
    plain.drain()

    head = messy.road.reader.head()
    expected = answers(plain.road.reader, plain.road.reader.head())
    assert answers(messy.road.reader, head) == expected
    fresh = LakeUsageReader(messy.road.table, Path(mkdtemp(dir=folder)), threads=1)
    assert answers(fresh, head) == expected, "as it went equals all over again"

    messy.road.roll(METERS)
    assert answers(messy.road.reader, head) == expected
    while messy.keeper.compact():
        pass
    messy.keeper.tidy(0)
    assert answers(messy.road.reader, head) == expected

    counted = messy.road.reader.counters("default")
    assert counted.accepted == len(events) == messy.road.reader.stored("default", head).accepted
    assert counted.received == counted.accepted + counted.duplicate
    assert (counted.quarantined, counted.id_conflict) == (0, 0)
    for each in (messy, plain):
        each.road.close()


@settings(max_examples=EXAMPLES)
@given(EVENTS.map(world), st.lists(STEPS, min_size=8, max_size=20), st.integers(0, 20))
def test_a_snapshot_stays_what_it_was(folder, events, steps, later):
    """Whatever comes after commit n, the answer at n does not move (DECISIONS 13)."""
    made = World(Path(mkdtemp(dir=folder)))
    made.road.send(events[:10])
    made.drain()
    cut = made.road.reader.head()
    before = answers(made.road.reader, cut)
    for kind, number, which in steps:
        made.do(events, kind, number, which)
    made.road.send(events[later:] or events)
    made.drain()
    made.keeper.compact()
    made.keeper.tidy(0)
    assert answers(made.road.reader, cut) == before
    made.road.close()


PAIRS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2)), min_size=1, max_size=6)
THEN = st.sampled_from(["", "pump", "restart", "compact"])
CLAIMS = st.lists(st.tuples(st.integers(0, PARTITIONS - 1), PAIRS, THEN), min_size=1, max_size=12)


@settings(max_examples=EXAMPLES)
@given(CLAIMS)
def test_of_different_contents_the_first_by_commit_wins(folder, claims):
    made = World(Path(mkdtemp(dir=folder)))
    first: dict[int, int] = {}
    pending: list[list[tuple[int, int]]] = [[] for _ in range(PARTITIONS)]
    count = Counters()

    def pump():
        nonlocal count
        made.drain()
        order = sorted(range(PARTITIONS), key=lambda i: (made.road.logs[i].epoch, i))
        for who, what in [claim for i in order for claim in pending[i]]:
            new = who not in first
            count = Counters(
                received=count.received + 1,
                accepted=count.accepted + new,
                duplicate=count.duplicate + (not new),
                id_conflict=count.id_conflict + (first.setdefault(who, what) != what),
            )
        for part in pending:
            part.clear()

    for partition, pairs, then in claims:
        sent = [event(f"e{who}", format_us(START_US), "a", {"v": what}) for who, what in pairs]
        made.road.send(sent, partition=partition)
        pending[partition] += pairs
        if then == "pump":
            pump()
        elif then:
            made.do(sent, then, 0, [])
    pump()
    assert made.road.reader.counters("default") == count
    stored = made.road.reader.recent("default", limit=100)
    assert {e.id: e.data for e in stored} == {f"e{w}": f'{{"v": {v}}}' for w, v in first.items()}
    made.road.close()
