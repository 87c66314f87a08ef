"""Every aggregation, any split into commits, any roll-ups, any borders: DuckDB equals Decimal.

Guarantees 2 to 4 of CONTRACTS §1; the oracle is the plain-Python reader of `adapters.memory`.
"""

import random
from pathlib import Path

import msgspec
import pytest

from tallybook.adapters.memory.usage_reader import MemoryUsageReader
from tallybook.catalog.meter import AGGREGATIONS, LEVELS, Meter, MeterSpec, check_meter
from tallybook.kernel.timestamps import format_us
from tallybook.meter.level import LevelTerms
from tallybook.meter.usage import Ownership, StoredEvent, UsageQuery
from tallybook.meter.window import GRID_US
from tests.sim.road import Road, event

START_US = 1_794_960_000_000_000
SPAN_US = 6 * GRID_US
VALUES = [
    "1",
    "2.5",
    "-3.125",
    "0.000000000001",
    "0.0000000000015",
    "99999999999999999999",
    "1e20",
    "1e2",
    "NaN",
    "x",
    None,
    True,
    7,
    12345678.125,
    {"a": 1},
    "0",
]
REGIONS = ["eu", "us", None, "", 1, "ü"]
SUBJECTS = ["a", "b", "c", None]


def meters() -> list[Meter]:
    """Return one meter an aggregation, half of them with a filter."""
    return [
        check_meter(
            MeterSpec(
                key=f"m{i}", event_type="t", aggregation=aggregation,
                value=None if aggregation == "COUNT" else "$.v.x",
                group_by={"region": "$.region", "kind": "$.kind"},
                filter={} if i % 2 else {"$.ok": ["true", "1"]},
            )
        )
        for i, aggregation in enumerate(AGGREGATIONS)
    ]  # fmt: skip


def world(rng: random.Random, count: int) -> list[dict[str, object]]:
    """Return events with ties in time, bad values, duplicates and strangers."""
    found = []
    for i in range(count):
        time = START_US + rng.choice([rng.randrange(SPAN_US), GRID_US * rng.randrange(6), 0, -1])
        data = {
            "v": {"x": rng.choice(VALUES)}, "region": rng.choice(REGIONS),
            "kind": rng.choice(["k", "l"]), "ok": rng.choice([True, 1, "no"]),
        }  # fmt: skip
        kind = "t" if rng.random() < 0.9 else "other"
        found.append(event(f"e{i}", format_us(time), rng.choice(SUBJECTS), data, type=kind))
    return found


def query(rng: random.Random, meter: Meter, cut: int) -> UsageQuery:
    """Return any question."""
    count = rng.choice([2, 2, 3, 5, 9])
    step = rng.choice([1, GRID_US])
    borders = sorted({START_US + rng.randrange(-2, SPAN_US // step) * step for _ in range(count)})
    if rng.random() < 0.3 or len(borders) < 2:
        borders = [START_US + i * GRID_US for i in range(6)]
    owners = None
    if rng.random() < 0.5:
        middle = START_US + rng.randrange(SPAN_US // GRID_US) * GRID_US + rng.choice([0, 5])
        owners = (
            Ownership("a", "X", None, middle), Ownership("a", "Y", middle, None),
            Ownership("b", "X", START_US + 3, START_US + 3 * GRID_US),
        )  # fmt: skip
    return UsageQuery(
        tenant="default", meter=meter, bounds=tuple(borders), cut=cut, owners=owners,
        group_by=tuple(rng.sample(["region", "kind"], rng.randrange(3))),
        by_subject=rng.random() < 0.4,
        subjects=("a", "c") if rng.random() < 0.2 else None,
        where={"region": ("eu", None)} if rng.random() < 0.2 else {},
    )  # fmt: skip


def level_query(rng: random.Random, meters: list[Meter], cut: int) -> UsageQuery:
    """Return any question about a level."""
    meter = rng.choice([m for m in meters if m.aggregation in LEVELS])
    asked = query(rng, meter, cut)
    releases = rng.choice(
        [
            (),
            (("kind", ("l",)),),
            (("region", ("us", None)), ("kind", ("k",))),
            (("region", (None,)),),
        ]
    )
    terms = LevelTerms(
        since_us=rng.choice(asked.bounds[:-1]), releases=releases, moments=rng.random() < 0.6
    )
    return msgspec.structs.replace(asked, level=terms)


def oracle(road: Road) -> MemoryUsageReader:
    """Return the plain reader over the same lake's rows."""
    memory = MemoryUsageReader()
    memory.add("default", road.reader.recent("default", limit=10_000))
    return memory


def check_pages(
    rng: random.Random, road: Road, stored: list[StoredEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compare pages of the newest events, from few files or many, with the whole list."""
    places = [(event.time_us, event.source, event.id) for event in stored]
    assert places == sorted(places, reverse=True)
    for _ in range(20):
        monkeypatch.setattr(
            "tallybook.adapters.duckdb.lake_files.PORTION_FILES", rng.randrange(1, 4)
        )
        limit, before = rng.randrange(1, 30), rng.choice([None, *places])
        since = rng.choice([None, *(event.time_us for event in stored)])
        where = rng.choice([{}, {"type": "other"}, {"subject": "a"}])
        wanted = [
            event
            for event, place in zip(stored, places, strict=True)
            if (before is None or place < before)
            and (since is None or event.time_us >= since)
            and all(getattr(event, name) == text for name, text in where.items())
        ]
        found = road.reader.recent(
            "default", limit=limit, where=where, since_us=since, before=before
        )
        assert found == wanted[:limit]


@pytest.mark.parametrize("seed", range(12))
def test_every_answer_equals_the_oracle(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random events, commits, roll-ups (some with files of everybody) and questions."""
    print("seed", seed)
    monkeypatch.setattr("tallybook.adapters.duckdb.rollups.SUMMED_BYTES_MIN", 0)
    rng = random.Random(seed)
    monkeypatch.setattr("tallybook.adapters.duckdb.rollups.SAVED_MIN", seed // 4)
    road = Road(tmp_path, partitions=2)
    all_meters = meters()
    road.meters = all_meters if seed % 3 else []  # else every column is read from the envelope
    events = world(rng, 120)
    pending = events + rng.sample(events, 20)
    rng.shuffle(pending)
    while pending:
        size = rng.randrange(1, 60)
        part, pending = pending[:size], pending[size:]
        road.send(part, partition=rng.randrange(2))
        if rng.random() < 0.7:
            road.pump()
        if rng.random() < 0.3:
            road.meters = all_meters
            road.roll(rng.sample(all_meters, 4), steps=rng.randrange(3))
    if seed % 2:
        road.roll(all_meters, steps=rng.randrange(1, 6))
    road.pump()
    plain = oracle(road)
    assert road.reader.stored("default", 1 << 60).accepted == len(events)
    monkeypatch.setattr("tallybook.adapters.duckdb.lake_files.PORTION_FILES", 1)
    stored = road.reader.recent("default", limit=10_000)
    check_pages(rng, road, stored, monkeypatch)
    for cut in range(road.reader.head() + 1):
        for kind in ("t", "other", "none"):
            times = [e.time_us for e in stored if e.type == kind and e.commit_seq <= cut]
            span = (min(times), max(times)) if times else None
            assert road.reader.span("default", kind, cut) == span, (kind, cut)
        for meter in rng.sample(all_meters, 6):
            extent = road.reader.extent("default", meter, cut)
            assert extent == plain.extent("default", meter, cut), (meter, cut)
            if extent is not None:
                span = road.reader.span("default", meter.event_type, cut)
                within = road.reader.span("default", meter.event_type, cut, extent)
                assert meter.filter or within == span
    for _ in range(60):
        asked = query(
            rng, rng.choice(all_meters), rng.choice([road.reader.head(), rng.randrange(1, 8)])
        )
        assert road.reader.usage(asked) == plain.usage(asked), asked
        asked = level_query(rng, all_meters, asked.cut)
        assert road.reader.usage(asked) == plain.usage(asked), asked
        assert list(road.reader.events(asked, after_cut=1)) == list(
            plain.events(asked, after_cut=1)
        )
    road.close()
