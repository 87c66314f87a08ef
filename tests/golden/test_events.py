"""The field's worked cases of events: what is accepted, counted once, and measured.

The events of a case go the road of a request: `accept`, then the identities that are stored once.
"""

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from tallybook.adapters.memory.usage_reader import MemoryUsageReader
from tallybook.catalog.meter import Meter, MeterSpec, check_meter
from tallybook.kernel.timestamps import DAY_US
from tallybook.meter.usage import StoredEvent, Usage, UsageQuery
from tallybook.store.dedupe import first_in_batch
from tallybook.transport.accept import AcceptLimits, accept
from tallybook.transport.columns import ColumnSet
from tallybook.transport.identity import identities, keys_array
from tests.golden.vectors import Case, cases, identity, require
from tests.support.billing_world import at

AREAS = {
    "openmeter": ("event-validation", "ingest-e2e"),
    "lago": ("ingestion.batch_limit", "ingestion.batch_duplicate"),
}
NOW_US = at("2026-05-10")
ABSENT = object()


@pytest.fixture(autouse=True)
def _there() -> None:
    require()


def wire(number: object, data: object = ABSENT, **more: object) -> dict[str, Any]:
    """Return an event as it is sent."""
    core = {"specversion": "1.0", "id": str(number), "source": "/s", "type": "t"}
    return {**core, **({} if data is ABSENT else {"data": data}), **more}


def accepted(events: Sequence[dict[str, Any]]) -> tuple[list[StoredEvent], list[int]]:
    """Send a batch; return the events that are stored, and the places of those refused."""
    body = json.dumps(events).encode()
    rows, refused = accept("default", body, NOW_US, ColumnSet({}), AcceptLimits())
    bad = {one.index for one in refused}
    digests = identities(rows.tenants, rows.sources, rows.ids, [i in bad for i in range(len(rows))])
    first, _ = first_in_batch(keys_array(digests), np.arange(len(rows), dtype=np.int64))
    stored = [
        StoredEvent(
            id=rows.ids[at_], source=rows.sources[at_], type=rows.types[at_],
            subject=rows.subjects[at_], time_us=rows.times[at_], received_us=rows.received[at_],
            commit_seq=1, data=rows.datas[at_].decode(), ext=None, problem=None, row_hash=at_,
        )
        for at_ in range(len(rows))
        if at_ not in bad and first[at_]
    ]  # fmt: skip
    return stored, sorted(bad)


def measured(meter: Meter, stored: Sequence[StoredEvent]) -> list[Usage]:
    """Return what a meter says of events, by all its dimensions."""
    reader = MemoryUsageReader()
    reader.add("default", stored)
    return reader.usage(
        UsageQuery(
            tenant="default",
            meter=meter,
            bounds=(NOW_US - 60 * DAY_US, NOW_US + 60 * DAY_US),
            cut=1,
            group_by=tuple(sorted(meter.group_by)),
        )
    )


def meter_of(given: dict[str, Any]) -> Meter:
    return check_meter(
        MeterSpec(
            key="m",
            event_type="t",
            aggregation=given["aggregation"],
            value=given.get("value_property"),
            group_by=given.get("group_by", {}),
        )
    )


VALID = [c for c in cases("openmeter", "event-validation") if c["id"] != "om-event-validation-005"]


@pytest.mark.parametrize("case", VALID, ids=identity)
def test_openmeter_values(case: Case) -> None:
    """Where they refuse a value, our meter leaves the event out and counts it as a problem."""
    given, expect = case["given"], case["expect"]
    meter = meter_of(given["meter"])
    stored, refused = accepted([wire(1, given["event_data"])])
    assert (len(stored), refused) == (1, [])
    (row,) = measured(meter, stored)
    if "error" in expect:
        assert (row.value, row.problems) == (None, 1)
    else:
        assert (row.value, row.problems) == (Decimal(expect["value"]), 0)
        assert dict(zip(sorted(meter.group_by), row.group, strict=True)) == expect["group"]


def test_a_missing_dimension_is_null() -> None:
    """docs/algorithms/differences.md"""
    meter = meter_of({"aggregation": "COUNT", "group_by": {"method": "$.method"}})
    (row,) = measured(meter, accepted([wire(1, {"path": "/"})])[0])
    assert row.group == (None,)


def sent(number: int, request: dict[str, Any]) -> dict[str, Any]:
    data = request["data"]
    if data == "absent":
        return wire(number)
    return wire(number, "text" if data == "a JSON string" else data)


@pytest.mark.parametrize(
    "case", [c for c in cases("openmeter", "ingest-e2e") if "requests" in c["given"]], ids=identity
)
def test_openmeter_requests(case: Case) -> None:
    given, expect = case["given"], case["expect"]
    stored: list[StoredEvent] = []
    codes = []
    for number, request in enumerate(given["requests"]):
        kept, refused = accepted([sent(number, request)])
        codes.append(400 if refused else 204)
        stored += kept
    assert codes == expect["http"]
    assert len(stored) == expect["stored_events"]
    aggregation, path = given["meter"].split()
    (row,) = measured(meter_of({"aggregation": aggregation, "value_property": path}), stored)
    assert row.value == Decimal(expect["meter_value"])
    assert row.problems == expect["events_with_validation_error"]


@pytest.mark.parametrize(
    "case",
    [c for c in cases("openmeter", "ingest-e2e") if "same_id_and_source" in c["given"]],
    ids=identity,
)
def test_openmeter_one_event_sent_often(case: Case) -> None:
    given = case["given"]
    assert given["same_id_and_source"]
    days = [1 + at_ % 10 for at_ in range(given["events"])]
    events = [wire("same", {"n": n}, time=f"2026-05-{d:02d}T00:00:00Z") for n, d in enumerate(days)]
    stored, refused = accepted(events)
    assert refused == []
    (row,) = measured(meter_of({"aggregation": given["meter"]}), stored)
    assert row.value == Decimal(case["expect"]["meter_value"])


@pytest.mark.parametrize("case", cases("lago", "ingestion.batch_limit"), ids=identity)
def test_lago_batches(case: Case) -> None:
    stored, refused = accepted([wire(n, {}) for n in range(case["given"]["events"])])
    assert (len(stored), refused) == (case["expect"]["accepted"], [])


REPLAYED = {
    "openmeter": {c["id"] for c in (*VALID, *cases("openmeter", "ingest-e2e"))},
    "lago": {c["id"] for c in cases("lago", "ingestion.batch_limit")},
}
