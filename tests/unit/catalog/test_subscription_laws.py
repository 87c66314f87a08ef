"""Laws: periods tile what holds; the order of recording does not matter."""

from decimal import Decimal
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tallybook.catalog.amendment import (
    Amendment,
    AnchorChange,
    Cancel,
    Pause,
    PlanChange,
    QuantityChange,
    Resume,
)
from tallybook.catalog.plan import Phase
from tallybook.catalog.subscription import (
    Alignment,
    Subscription,
    own_prices,
    slots,
    state_at,
    timeline,
    units,
    whole_period,
)
from tallybook.kernel.timestamps import DAY_US, HOUR_US

START = 1_767_225_600_000_000
"""The beginning of 2026."""
ZONES = st.sampled_from(
    ["UTC", "Europe/Berlin", "Asia/Kolkata", "America/New_York", "Australia/Lord_Howe"]
)
INTERVALS = st.sampled_from(
    ["P1D", "P10D", "P1W", "P2W", "P1M", "P2M", "P3M", "P5M", "P6M", "P1Y", "P2Y", "P1M15D"]
)
INSTANTS = st.integers(-48, 24 * 500).map(lambda hours: START + hours * HOUR_US)
ANCHORS = st.none() | st.integers(-900, 900).map(lambda days: START + days * DAY_US)
AMENDMENTS = st.one_of(
    st.builds(PlanChange, at_us=INSTANTS, recorded_us=st.just(0), plan=st.sampled_from("abc")),
    st.builds(Pause, at_us=INSTANTS, recorded_us=st.just(0)),
    st.builds(Resume, at_us=INSTANTS, recorded_us=st.just(0)),
    st.builds(AnchorChange, at_us=INSTANTS, recorded_us=st.just(0), anchor_us=INSTANTS),
    st.builds(
        QuantityChange,
        at_us=INSTANTS,
        recorded_us=st.just(0),
        charge=st.just("seats"),
        quantity=st.integers(0, 9).map(Decimal),
    ),
)
DECIDED = st.lists(AMENDMENTS, max_size=8, unique_by=lambda one: one.at_us)


def phases_of(plan: str, version: int | None, at_us: int) -> tuple[Phase, ...]:
    del version, at_us
    if plan != "b":
        return ()
    return (Phase(key="trial", name="", length="P14D"), Phase(key="ramp", name="", length="P3M"))


def made(decided: list[Amendment], day: int = 1, anchor: int | None = None) -> Subscription:
    return Subscription(
        key="s",
        customer="c",
        plan="a",
        start_us=START,
        anchor_day=day,
        anchor_us=anchor,
        amendments=tuple(decided),
    )


@given(INTERVALS, ZONES, st.integers(1, 31), ANCHORS, INSTANTS)
def test_an_instant_lies_in_one_whole_period(
    interval: str, zone: str, day: int, anchor: int | None, at_us: int
) -> None:
    aligned = Alignment(day, anchor)
    whole = whole_period(aligned, interval, at_us, zone)
    assert at_us in whole
    assert whole_period(aligned, interval, whole.end_us - 1, zone) == whole
    assert whole_period(aligned, interval, whole.start_us, zone) == whole
    assert whole_period(aligned, interval, whole.end_us, zone).start_us == whole.end_us


@given(INTERVALS, ZONES, st.integers(1, 31), ANCHORS, DECIDED, st.none() | INSTANTS)
def test_periods_tile_what_holds(
    interval: str,
    zone: str,
    day: int,
    anchor: int | None,
    decided: list[Amendment],
    end: int | None,
) -> None:
    cancels = [] if end is None else [Cancel(at_us=end, recorded_us=0)]
    subscription = made([*decided, *cancels], day, anchor)
    stretches = timeline(subscription, phases_of, zone)
    assert all(one.end_us is None or one.start_us < one.end_us for one in stretches)
    until = START + 600 * DAY_US
    found = list(slots(stretches, {}, until, subscription, zone, interval))
    for slot in found:
        assert slot.start_us < slot.end_us
        assert slot.whole.start_us <= slot.start_us < slot.end_us <= slot.whole.end_us
    for before, after in pairwise(found):
        assert before.end_us <= after.start_us, "no instant is in two periods"
    for stretch in stretches:
        inside = [slot for slot in found if slot.stretch is stretch]
        if stretch.start_us <= until:
            assert inside[0].start_us == stretch.start_us
            assert all(a.end_us == b.start_us for a, b in pairwise(inside)), "no gap"
            assert inside[-1].end_us > until or inside[-1].end_us == stretch.end_us


@given(DECIDED, st.data(), st.none() | INSTANTS)
def test_the_order_of_recording_does_not_matter(
    decided: list[Amendment], data: st.DataObject, end: int | None
) -> None:
    cancels = [] if end is None else [Cancel(at_us=end, recorded_us=0)]
    one = made([*decided, *cancels])
    other = made(data.draw(st.permutations([*decided, *cancels])))
    assert timeline(one, phases_of) == timeline(other, phases_of)
    spans = (START, START + 300 * DAY_US)
    assert units(one, "seats", *spans) == units(other, "seats", *spans)
    for day in range(0, 500, 50):
        at_us = START + day * DAY_US
        assert state_at(one, at_us) == state_at(other, at_us)
        assert own_prices(one, at_us) == own_prices(other, at_us)


@given(DECIDED, st.none() | INSTANTS, st.integers(0, 500))
def test_it_is_charged_exactly_where_it_is_active(
    decided: list[Amendment], end: int | None, day: int
) -> None:
    cancels = [] if end is None else [Cancel(at_us=end, recorded_us=0)]
    subscription = made([*decided, *cancels])
    at_us = START + day * DAY_US
    there = [
        one
        for one in timeline(subscription)
        if one.start_us <= at_us and (one.end_us is None or at_us < one.end_us)
    ]
    assert (len(there) == 1) == (state_at(subscription, at_us) in {"active", "cancelled"})
