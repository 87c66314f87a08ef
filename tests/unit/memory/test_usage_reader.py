"""The oracle itself, against numbers worked out by hand."""

from decimal import Decimal

import pytest

from tallybook.adapters.memory.usage_reader import MemoryUsageReader
from tallybook.catalog.meter import Meter, MeterSpec, check_meter
from tallybook.kernel.timestamps import HOUR_US
from tallybook.meter.usage import Ownership, StoredEvent, UsageQuery


def event(number: int, data: str, subject: str = "s1", at: int | None = None) -> StoredEvent:
    return StoredEvent(
        id=f"e{number}",
        source="test",
        type="t",
        subject=subject,
        time_us=number if at is None else at,
        received_us=0,
        commit_seq=number,
        data=data,
        ext=None,
        problem=None,
        row_hash=number,
    )


def meter(aggregation: str, **more: object) -> Meter:
    value = None if aggregation == "COUNT" else "$.v"
    return check_meter(
        MeterSpec(key="m", event_type="t", aggregation=aggregation, value=value, **more)  # type: ignore[arg-type]
    )


def reader(*events: StoredEvent) -> MemoryUsageReader:
    made = MemoryUsageReader()
    made.add("default", events)
    return made


def query(counted: Meter, *bounds: int, **more: object) -> UsageQuery:
    return UsageQuery(tenant="default", meter=counted, bounds=bounds, cut=1000, **more)  # type: ignore[arg-type]


VALUES = [
    '{"v":1.50}',
    '{"v":"2"}',
    '{"v":null}',
    '{"v":true}',
    '{"v":[1]}',
    "{}",
    '{"v":"x"}',
    '{"v":1e0}',
]


@pytest.mark.parametrize(
    ("aggregation", "value", "problems"),
    [
        ("COUNT", "8", 0),
        ("SUM", "4.5", 5),
        ("AVG", "1.5", 5),
        ("MIN", "1", 5),
        ("MAX", "2", 5),
        ("LATEST", "1", 5),
        ("UNIQUE_COUNT", "5", 3),
    ],
)
def test_aggregations(aggregation: str, value: str, problems: int) -> None:
    events = [event(n, data) for n, data in enumerate(VALUES)]
    (row,) = reader(*events).usage(query(meter(aggregation), 0, 100))
    assert row.value == Decimal(value)
    assert (row.events, row.problems, row.digest) == (8, problems, sum(range(8)))


def test_time_weighted_carries_in_and_ends_with_the_window() -> None:
    levels = reader(
        event(1, '{"v":10}', at=0),
        event(2, '{"v":4}', at=3 * HOUR_US),
        event(3, '{"v":1}', subject="s2", at=3 * HOUR_US),
    )
    rows = levels.usage(query(meter("TIME_WEIGHTED"), HOUR_US, 2 * HOUR_US, 4 * HOUR_US))
    assert [row.value for row in rows] == [Decimal(10), Decimal(10 + 4 + 1)]
    assert [row.events for row in rows] == [0, 2]


def test_owners_take_the_union_of_their_subjects_while_mapped() -> None:
    events = [event(n, '{"v":1}', subject=f"s{n % 3}") for n in range(9)]
    owners = (Ownership("s0", "a"), Ownership("s1", "a", None, 5), Ownership("s1", "b", 5, None))
    rows = reader(*events).usage(query(meter("SUM"), 0, 100, owners=owners))
    assert [(row.owner, row.value) for row in rows] == [("a", Decimal(5)), ("b", Decimal(1))]


def test_dimensions_where_and_filter() -> None:
    events = [event(n, f'{{"v":1,"r":{r}}}') for n, r in enumerate(['"eu"', "7.0", "null", "true"])]
    split = meter("COUNT", group_by={"r": "$.r"})
    rows = reader(*events).usage(query(split, 0, 100, group_by=("r",)))
    assert [row.group for row in rows] == [(None,), ("7.0",), ("eu",), ("true",)]
    kept = reader(*events).usage(query(split, 0, 100, where={"r": ("eu", None)}))
    assert [row.value for row in kept] == [Decimal(2)]
    only = meter("COUNT", filter={"$.r": ["7.0"]})
    assert [row.events for row in reader(*events).usage(query(only, 0, 100))] == [1]


def test_a_cut_is_a_snapshot_and_quarantine_is_outside() -> None:
    made = reader(event(1, "{}"), event(2, "{}"), event(3, "{}"))
    assert made.head() == 3
    small = UsageQuery(tenant="default", meter=meter("COUNT"), bounds=(0, 9), cut=2)
    assert [e.id for e in made.events(small)] == ["e1", "e2"]
    assert [e.id for e in made.events(small, after_cut=1)] == ["e2"]
    assert made.subjects("default", "t", 9) == [("s1", 1)]
    assert made.by_type("default", 2) == {"t": 2}
    assert made.counters("default").received == 3
