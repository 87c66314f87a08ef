"""OpenMeter's worked cases of grants, entitlements, resets and recurrences."""

import re
from collections.abc import Sequence
from decimal import Decimal

import pytest

from tallybook.catalog.entitlement import (
    INCLUDED,
    Entitlement,
    EntitlementSpec,
    Grant,
    Metered,
    Recurrence,
    check_entitlement,
    parse_step,
)
from tallybook.kernel.errors import Conflict
from tallybook.kernel.timestamps import DAY_US, HOUR_US, format_us
from tallybook.settle.balance import Pot, Reset, Segment, State, Usage
from tallybook.settle.entitlement import (
    HandReset,
    check_reset,
    facts,
    history,
    periods,
    state_at,
    value,
)
from tallybook.settle.run import Facts, advance
from tests.golden.credit import all_granted, at, granted, identity, used
from tests.golden.vectors import Case, cases, require


@pytest.fixture(autouse=True)
def _there() -> None:
    require()


# ---------------------------------------------------------------- grants


def begun(given: Case, grants: Sequence[Grant]) -> State:
    """Return the state that a case starts with."""
    start_us, since = at(given["measure_from"]), given.get("usage_before_start")
    held = given.get("balances_at_start", {})
    there = [grant.key for grant in grants if grant.in_force(start_us) and grant.key in held]
    before = Decimal(since["usage"]) if since else Decimal(0)
    return State(
        at_us=start_us,
        period_us=at(since["since"]) if since else start_us,
        pots={key: Pot(granted=Decimal(held[key])) for key in there},
        usage=before,
        mark=before,
    )


BURNDOWN = cases("openmeter", "grant-burndown")


def assert_segments(segments: Sequence[Segment], expect: Case) -> None:
    """Compare the history with what a case says of it, and take that off."""
    assert len(segments) == expect.pop("segment_count", len(segments))
    if "segments_usage" in expect:
        assert [s.usage for s in segments] == list(map(Decimal, expect.pop("segments_usage")))
    if "segments_balance_at_start_g1" in expect:
        told = expect.pop("segments_balance_at_start_g1")
        for segment, amount in zip(segments, told, strict=True):
            assert amount is None or segment.left["g1"] == Decimal(amount)
    for segment, told in zip(segments, expect.pop("segments", segments), strict=True):
        if isinstance(told, dict):
            assert segment.left.get("g1", 0) == Decimal(told["balance_at_start"])
            assert segment.overage == Decimal(told.get("overage_at_start", 0))


@pytest.mark.parametrize("case", BURNDOWN, ids=identity)
def test_openmeter_burn_down(case: Case) -> None:
    given, expect = case["given"], dict(case["expect"])
    grants = all_granted(given)
    made_of = Facts(
        grants=grants,
        usage=tuple(used(given)),
        resets=tuple(Reset(at(text)) for text in given.get("resets", [])),
    )
    outcome = advance(begun(given, grants), made_of, at(given["query_at"]))
    state, left = outcome.state, outcome.state.left
    for key, amount in expect.pop("grants", {}).items():
        assert left.pop(key, Decimal(0)) == Decimal(amount)
    if "all_others" in expect:
        assert set(left.values()) == {Decimal(expect.pop("all_others"))}
    for name, found in (
        ("balance", state.balance),
        ("overage", state.overage),
        ("usage_in_period", state.usage),
    ):
        if name in expect:
            assert found == Decimal(expect.pop(name))
    if "period_start" in expect:
        assert state.period_us == at(expect.pop("period_start"))
    assert_segments(outcome.history, expect)
    assert not expect


# ---------------------------------------------------------------- entitlements


def entitled(given: Case) -> Entitlement:
    """Return the entitlement of a case; its usage period is a year where it says nothing."""
    interval, _, anchor = given.get("usage_period", "P1Y").partition(" anchored ")
    spec = EntitlementSpec(
        customer="c",
        feature="f",
        type="metered",
        meter="m",
        start=format_us(at(given.get("T", "T"))),
        period="P1M" if interval == "month" else interval,
        anchor=format_us(at(anchor)) if anchor else None,
        keep_overage=given.get("preserve_overage", False),
        factor=Decimal(given.get("unit_conversion", {}).get("factor", 1)),
        filter={name: [text] for name, text in given.get("feature_filter", {}).items()},
        included=Decimal(given["issue_after_reset"]) if "issue_after_reset" in given else None,
        included_priority=given.get("issue_after_reset_priority", 1),
    )
    return check_entitlement(spec, "UTC")


def metered(given: Case) -> Metered:
    access = entitled(given).access
    assert isinstance(access, Metered)
    return access


def resets(given: Case) -> list[HandReset]:
    texts = [*given.get("resets", []), *([given["reset_at"]] if "reset_at" in given else [])]
    return [HandReset(at(text), given.get("retain_anchor", False)) for text in texts]


def collected(given: Case, until_us: int) -> Facts:
    return facts(metered(given), all_granted(given), used(given), resets(given), until_us)


def assert_value(given: Case, at_us: int, expect: Case) -> None:
    state = state_at(metered(given), collected(given, at_us), at_us)
    answer = value(entitled(given), state, at_us)
    for name in ("usage", "balance", "overage"):
        if name in expect:
            assert getattr(answer, name) == Decimal(expect[name])
    single = {name: amount for name, amount in expect.items() if re.fullmatch(r"g\d", name)}
    for key, amount in {**single, **expect.get("grants", {})}.items():
        assert state.left[key] == Decimal(amount)


BALANCES = cases("openmeter", "entitlement-balance")
NOW = [case for case in BALANCES if "query_at" in case["given"]]
HISTORIES = [case for case in BALANCES if "history" in case["given"]]


@pytest.mark.parametrize("case", NOW, ids=identity)
def test_openmeter_balance(case: Case) -> None:
    given, expect = case["given"], case["expect"]
    assert_value(given, at(given["query_at"]), expect)
    for name in expect:
        if name.startswith("at_"):
            assert_value(given, at(name[3:]), expect[name])


def hourly_history() -> Case:
    """Return what `same_as` of another case means: the first history from the start by hours."""
    return next(
        case["given"]
        for case in HISTORIES
        if case["given"]["history"].get("from") == "T" and len(case["given"]["grants"]) == 3
    )


@pytest.mark.parametrize("case", HISTORIES, ids=identity)
def test_openmeter_history(case: Case) -> None:
    given, expect = case["given"], case["expect"]
    asked = given["history"]
    if "same_as" in given:
        given = hourly_history()
    begin, end = at(asked["from"] or "T"), at(asked["to"])
    step = HOUR_US if asked["window"] == "hour" else DAY_US
    made_of = collected(given, end)
    windows = history(metered(given), made_of, range(begin, end + 1, step))
    assert len(windows) == expect["windows"]
    assert windows[0].balance == Decimal(expect.get("first_balance_at_start", windows[0].balance))
    for name, found in (
        ("usage", [window.usage for window in windows]),
        ("balance_at_start", [window.balance for window in windows]),
    ):
        told = expect.get(name, {})
        for number, amount in told.items() if isinstance(told, dict) else enumerate(told):
            assert found[int(number)] == Decimal(amount)
    run = advance(state_at(metered(given), made_of, begin), made_of, end)
    assert len(run.history) == expect["burn_down_segments"]


RESETS = cases("openmeter", "entitlement-reset")
REFUSED = [case for case in RESETS if "error" in case["expect"]]
FINER = "om-entitlement-reset-005"
"""Refused there, allowed here: they count in minutes (docs/algorithms/differences.md)."""


@pytest.mark.parametrize("case", REFUSED, ids=identity)
def test_openmeter_resets_refused(case: Case) -> None:
    given = case["given"]
    before, asked = HandReset(at(given["previous_reset"])), HandReset(at(given["reset_at"]))
    if case["id"] == FINER:
        assert check_reset(metered(given), [before], asked, asked.at_us) == asked
        return
    with pytest.raises(Conflict):
        check_reset(metered(given), [before], asked, at("T+1d"))


@pytest.mark.parametrize("case", [c for c in RESETS if "error" not in c["expect"]], ids=identity)
def test_openmeter_resets(case: Case) -> None:
    given, expect = {"grants": [], **case["given"]}, case["expect"]
    if "new_anchor" in expect:
        after = periods(metered(given), resets(given), at("T+2d"))
        assert after[-1].start_us == at("T+1d") + at(expect["new_anchor"]) - at("T")
    elif "after_first" in expect:
        assert_value(given, at(given["resets"][0]), expect["after_first"])
        assert_value(given, at(given["resets"][1]), expect["after_second"])
    else:
        assert_value(given, at(given["reset_at"]), expect)


@pytest.mark.parametrize("case", cases("openmeter", "entitlement-e2e"), ids=identity)
def test_openmeter_access(case: Case) -> None:
    given, expect = case["given"], case["expect"]
    of = metered(given)
    if "grants_after_creation" in expect:
        made = collected({"grants": [], **given}, at("T")).grants
        told = [(Decimal(g["amount"]), g["priority"]) for g in expect["grants_after_creation"]]
        assert [(grant.amount, grant.priority) for grant in made] == told
        assert [grant.key for grant in made] == [INCLUDED]
        return
    assert Decimal(expect["meter_value"]) == len(given["events"])
    points = [Usage(at("T+1h"), Decimal(1)) for event in given["events"] if of.counts(event)]
    grants = [granted({"amount": given["grant"], "effective": "T"})]
    state = state_at(of, facts(of, grants, points, [], at("T+1d")), at("T+1d"))
    answer, told = value(entitled(given), state, at("T+1d")), expect["entitlement"]
    assert answer.access is told["has_access"]
    assert answer.available == Decimal(told["total_available"])
    for name in ("balance", "usage", "overage"):
        assert getattr(answer, name) == Decimal(told[name])


RECURRENCES = cases("openmeter", "calendar-recurrence")


@pytest.mark.parametrize("case", RECURRENCES, ids=identity)
def test_openmeter_recurrence(case: Case) -> None:
    given, expect = case["given"], case["expect"]
    steps = Recurrence(interval=parse_step("i", given["interval"]), anchor_us=at(given["anchor"]))
    if "period" in expect:
        around = steps.around(at(given["at"]))
        assert [around.start_us, around.end_us] == [at(text) for text in expect["period"]]
        return
    newest = at(given["at"]) - (given["boundary"] == "exclusive")
    assert steps.step(steps.number_at(newest)) == at(expect["result"])


def test_all_cases_are_replayed() -> None:
    counts = [len(found) for found in (BURNDOWN, NOW, HISTORIES, RESETS, RECURRENCES)]
    least = (11, 5, 4, 7, 5)
    assert all(found >= few for found, few in zip(counts, least, strict=True)), counts


REPLAYED = {
    case["id"]
    for case in cases(
        "openmeter",
        "grant-burndown",
        "entitlement-balance",
        "entitlement-reset",
        "entitlement-e2e",
        "calendar-recurrence",
    )
    if case["id"] != FINER
}
"""Every test above replays every case of its area."""
