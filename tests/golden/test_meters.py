"""The field's worked cases of meters: what a window holds, and when it begins and ends."""

from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from itertools import count

import pytest

from tallybook.adapters.memory.usage_reader import MemoryUsageReader
from tallybook.catalog.meter import Meter, MeterSpec, check_meter
from tallybook.catalog.price import parse_price
from tallybook.kernel.decimals import STEP
from tallybook.kernel.period import parse_moment, zone
from tallybook.kernel.timestamps import DAY_US, HOUR_US, SECOND_US, format_us
from tallybook.meter.usage import StoredEvent, Usage, UsageQuery
from tallybook.meter.window import bounds
from tallybook.rate.charge import rate
from tests.golden.vectors import Case, cases, identity, require


@pytest.fixture(autouse=True)
def _there() -> None:
    require()


UTC = zone("UTC")
T = parse_moment("2026-05-01", UTC, "at")
STEPS = {"": 0, "+1s": SECOND_US, "+2s": 2 * SECOND_US, "+1m": 60 * SECOND_US,
         "+1h": HOUR_US, "+1d": DAY_US}  # fmt: skip


def at(text: str) -> int:
    """Return the instant of 'T+1h', or of a date or time in UTC."""
    return T + STEPS[text[1:]] if text.startswith("T") else parse_moment(text, UTC, "at")


class Stream:
    """Events of one type, and what a meter says of them."""

    def __init__(self) -> None:
        """Start empty."""
        self.reader = MemoryUsageReader()
        self.numbers = count(1)

    def add(self, when: int, data: str = "{}", subject: str = "s") -> None:
        """Add one event."""
        number = next(self.numbers)
        event = StoredEvent(
            id=f"e{number}", source="test", type="t", subject=subject, time_us=when,
            received_us=0, commit_seq=1, data=data, ext=None, problem=None, row_hash=number,
        )  # fmt: skip
        self.reader.add("default", [event])

    def value(self, when: str, value: object, **dimensions: str) -> None:
        """Add an event with a value, spelled as JSON."""
        texts = [f'"value":{value}', *(f'"{n}":"{text}"' for n, text in dimensions.items())]
        self.add(at(when), f"{{{','.join(texts)}}}")

    def ask(
        self, aggregation: str, borders: Sequence[int], *group_by: str, by_subject: bool = False
    ) -> list[Usage]:
        """Return the answer."""
        query = UsageQuery(
            tenant="default", meter=meter(aggregation), bounds=tuple(borders), cut=1,
            group_by=group_by, by_subject=by_subject,
        )  # fmt: skip
        return self.reader.usage(query)


def meter(aggregation: str) -> Meter:
    """Return a meter of the events' value."""
    path = None if aggregation == "COUNT" else "$.value"
    return check_meter(
        MeterSpec(
            key="m", event_type="t", aggregation=aggregation, value=path,
            group_by={"cloud": "$.cloud", "unit": "$.unit"},
        )
    )  # fmt: skip


def json_text(value: object) -> str:
    return "null" if value is None else f'"{value}"' if isinstance(value, str) else str(value)


AGGREGATIONS = cases("openmeter", "meter-aggregation")


@pytest.mark.parametrize("case", AGGREGATIONS, ids=identity)
def test_openmeter_aggregations(case: Case) -> None:
    """Ours are exact to 12 decimals, theirs are floats of a few more."""
    stream = Stream()
    for event in case["given"]["events"]:
        stream.value(event["t"], json_text(event["data"]["value"]))
    (row,) = stream.ask(case["given"]["aggregation"], (T, T + HOUR_US))
    exact = Decimal(case["expect"]["value"]).quantize(STEP, ROUND_HALF_EVEN)
    assert row.value == exact
    assert case["expect"]["value_on_empty_range"] == "no row"
    assert stream.ask(case["given"]["aggregation"], (T + HOUR_US, T + DAY_US)) == []


QUERIES = [c for c in cases("openmeter", "meter-query-e2e") if "subjects" in c["given"]]


@pytest.mark.parametrize("case", QUERIES, ids=identity)
def test_openmeter_queries(case: Case) -> None:
    given, expect = case["given"], case["expect"]
    stream = Stream()
    for number in range(given["subjects"]):
        for when in given["event_times"]:
            stream.add(at(when), f'{{"value":{given["value_each"]}}}', f"subject-{number}")
    start, end = T, T + DAY_US + 60 * SECOND_US
    if given["query"] == "no window":
        (row,) = stream.ask("SUM", (start, end))
        wanted = expect["rows"][0]
        assert (row.value, wanted["window_start"], wanted["window_end"]) == (
            Decimal(wanted["value"]), "T", "T+1d+1m",
        )  # fmt: skip
    elif given["query"] == "window HOUR":
        rows = stream.ask("SUM", bounds(start, end, "HOUR"))
        assert [(r.start_us, r.value) for r in rows] == [
            (at(when), Decimal(value)) for when, value in expect["rows"]
        ]
    else:
        values = [row.value for row in stream.ask("SUM", (start, end), by_subject=True)]
        assert values == [Decimal(expect["value_of_each_subject"])] * given["subjects"]


def test_openmeter_windows_across_a_clock_change() -> None:
    known = cases("openmeter", "meter-query-e2e")
    case = next(case for case in known if case["id"] == "om-meter-query-e2e-007")
    name, expect = case["given"]["time_zone"], case["expect"]
    local = zone(name)
    ends = (parse_moment(text, local, "at") for text in ("2025-10-30", "2025-11-06"))
    borders = bounds(*ends, "DAY", name)
    assert len(borders) - 1 == expect["windows"]
    assert [format_us(us) for us in borders[3:5]] == expect["window_3"]
    stream = Stream()
    for day in range(7):
        stream.add(borders[day] + 10 * HOUR_US, '{"value":100}')
    rows = stream.ask("SUM", borders)
    assert [(row.start_us, row.value) for row in rows] == [(b, Decimal(100)) for b in borders[:-1]]


LAGO = {
    "aggregation.count": "COUNT",
    "aggregation.count.dedup": "COUNT",
    "aggregation.max": "MAX",
    "aggregation.latest": "LATEST",
    "aggregation.sum": "SUM",
    "aggregation.sum.breakdown": "SUM",
}
METERS = cases("lago", *LAGO)


def lago_events(given: Case) -> list[tuple[str, str]]:
    """Return day and value of each event; one that was sent twice is stored once."""
    if given.get("deduplication"):
        return [("2026-05-02", "0")]
    if "events_in_period" in given:
        return [("2026-05-02", "0")] * given["events_in_period"]
    found: list[tuple[str, str]] = []
    for event in given["events"]:
        if not isinstance(event, dict):
            value = 9 if event == "<10" else event
            found.append(("2026-05-02", json_text(value)))
            continue
        day = f"2026-05-{20 - event.get('age_days', 0):02d}"
        inside = event.get("in_period", True)
        value = event.get("value", event.get("v"))
        found += [(day if inside else "2026-04-30", json_text(value))] * event.get("times", 1)
    return found


@pytest.mark.parametrize("case", METERS, ids=identity)
def test_lago_meters(case: Case) -> None:
    """A meter starts from nothing in each period; what is no number does not count."""
    stream, expect = Stream(), case["expect"]
    for (day, value), cloud in zip(lago_events(case["given"]), clouds(case["given"]), strict=False):
        stream.value(day, value, cloud=cloud)
    may = (at("2026-05-01"), at("2026-06-01"))
    aggregation = LAGO[case["area"]]
    if "breakdown" in expect:
        rows = stream.ask(aggregation, may, "cloud")
        assert [{"cloud": r.group[0], "value": r.value} for r in rows] == expect["breakdown"]
        return
    (row,) = stream.ask(aggregation, may)
    assert (row.value or 0) == Decimal(expect["aggregation"])
    if "events_count" in expect:
        assert row.events - row.problems == expect["events_count"]


def clouds(given: Case) -> list[str]:
    events = given.get("events", [])
    named = [event["cloud"] for event in events if isinstance(event, dict) and "cloud" in event]
    return named or ["any"] * 100


def test_killbill_periods_are_half_open() -> None:
    (case,) = cases("killbill", "usage.rollup")
    stream = Stream()
    for day, unit, quantity in case["given"]["usage"]:
        stream.value(day, quantity, unit=unit)
    borders = [at(day) for day in case["given"]["transitions"]]
    rows = {(r.start_us, r.group[0]): r.value for r in stream.ask("SUM", borders, "unit")}
    for period in case["expect"]["periods"]:
        for unit in ("unit", "unit2"):
            assert rows.get((at(period["start"]), unit), 0) == period[unit]


def test_killbill_months_of_a_zone_with_summer_time() -> None:
    case = next(c for c in cases("killbill", "usage.time_zone") if c["id"] == "kb-usage-dst")
    name = case["given"]["account_tz"]
    stream = Stream()
    for when, quantity in case["given"]["usage"]:
        stream.add(parse_moment(when, zone(name), "at"), f'{{"value":{quantity}}}')
    ends = (parse_moment(text, zone(name), "at") for text in ("2023-03-01", "2023-06-01"))
    values = [row.value for row in stream.ask("SUM", bounds(*ends, "MONTH", name))]
    assert values == list(case["expect"]["quantities"].values())


PARTS = cases("killbill", "usage.price_change")
UNITS = {
    "kb-usage-catalog-version": ["1.50", "1.50", "2.50"],
    "kb-usage-plan-change": ["1.50", "1.00"],
    "kb-usage-upgrade-block": ["1.00", "3.00"],
}
"""The price of each part of a period, the first of its tiers."""


@pytest.mark.parametrize("case", PARTS, ids=identity)
def test_killbill_prices_that_change_within_a_period(case: Case) -> None:
    """A change of plan ends the period there; its tiers start again."""
    stream = Stream()
    for day, quantity in case["given"]["usage"]:
        stream.value(day, quantity)
    parts = [part for invoice in case["expect"]["invoices"] for part in invoice]
    for part, unit in zip(parts, UNITS[case["id"]], strict=True):
        tiers = [{"up_to": "1000", "unit_amount": unit}, {"unit_amount": "2.00"}]
        price = parse_price({"type": "graduated", "tiers": tiers})
        (row,) = stream.ask("SUM", (at(part["start"]), at(part["end"])))
        assert row.value is not None
        assert rate(price, row.value).amount == Decimal(part["amount"])


def test_killbill_a_subscription_of_minutes() -> None:
    """kb-usage-tz: 10 minutes on 20 February of Los Angeles; 85 units are one block."""
    case = next(c for c in cases("killbill", "usage.time_zone") if c["id"] == "kb-usage-tz")
    given, (((item,),)) = case["given"], case["expect"]["invoices"]
    start = parse_moment(given["created"][:17].replace("Z", ":00Z"), UTC, "at")
    end = parse_moment(given["cancel"].replace("Z", ":00Z"), UTC, "at")
    stream = Stream()
    for when, quantity in given["usage"]:
        when_us = parse_moment(when.replace("Z", ":00Z"), UTC, "at")
        stream.add(when_us, f'{{"value":{quantity}}}')
    (row,) = stream.ask("SUM", (start, end))
    price = parse_price({"type": "package", "package_size": "100", "amount": "2.95"})
    assert row.value is not None
    assert rate(price, row.value).amount == Decimal(item["amount"])
    local = parse_moment(item["start"], zone(given["account_tz"]), "at")
    assert local <= start < end <= local + DAY_US


def test_killbill_late_usage() -> None:
    """kb-usage-late-window: two older events are late; ours has no window, so April is corrected.

    Theirs leaves 30 April out (one block more: 2.95); the other lines are the same.
    """
    (case,) = cases("killbill", "usage.late_arrival")
    given = case["given"]
    price = parse_price({"type": "package", "package_size": "100", "amount": "2.95"})
    stream = Stream()
    stream.value("2012-04-05", 199)
    stream.value("2012-06-05", 350)
    for day, quantity in given["late_after_2012_07_01"]:
        stream.value(day, quantity)
    lines = {}
    months = ("2012-04-01", "2012-05-01", "2012-06-01", "2012-07-01", "2012-08-01")
    billed = {start: Decimal(amount) for start, _, amount in given["billed"]}
    for row in stream.ask("SUM", [at(day) for day in months]):
        start = format_us(row.start_us)[:10]
        assert row.value is not None
        difference = rate(price, row.value).amount - billed.get(start, Decimal(0))
        if difference:
            lines[start] = difference
    (wanted,) = case["expect"]["invoices"]
    april = lines.pop("2012-04-01")
    assert april == Decimal("2.95")
    assert lines == {item["start"]: Decimal(item["amount"]) for item in wanted}


AREAS = {
    "openmeter": ("meter-aggregation", "meter-query-e2e"),
    "lago": tuple(LAGO),
    "killbill": (
        "usage.rollup",
        "usage.time_zone",
        "usage.price_change",
        "usage.late_arrival",
    ),
}
REPLAYED = {c["id"] for part in (QUERIES, METERS, PARTS) for c in part} | {
    "om-meter-query-e2e-007", "om-meter-aggregation-005", "kb-cons-rollup", "kb-usage-dst",
    "kb-usage-tz",
}  # fmt: skip
