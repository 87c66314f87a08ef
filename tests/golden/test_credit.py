"""The field's worked cases for grants, entitlements, prepaid credit and wallets."""

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from tallybook.catalog.entitlement import (
    INCLUDED,
    Entitlement,
    EntitlementSpec,
    Grant,
    GrantSpec,
    Metered,
    Recurrence,
    TopUp,
    Wallet,
    check_entitlement,
    check_grant,
    covers_minor,
    parse_interval,
    parse_step,
    units_for,
    void,
)
from tallybook.catalog.price import parse_price
from tallybook.invoice.document.spread import Fund, Payable, spread
from tallybook.kernel.errors import Conflict
from tallybook.kernel.money import from_minor, to_minor
from tallybook.kernel.period import parse_moment, zone
from tallybook.kernel.timestamps import DAY_US, HOUR_US, SECOND_US, format_us
from tallybook.rate.charge import rate
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
from tallybook.settle.threshold import crossed
from tallybook.settle.wallet import Draw, put_in, wallet_at
from tests.golden.vectors import Case, cases, require

UTC = zone("UTC")
SIZES = {"d": DAY_US, "h": HOUR_US, "m": 60 * SECOND_US, "s": SECOND_US}


@pytest.fixture(autouse=True)
def _there() -> None:
    require()


def identity(case: Case) -> str:
    return str(case["id"])


def at(text: str, base: str = "2024-01-01T00:00:00Z") -> int:
    """Return an instant: RFC 3339, or `T+5h1m` counted from the start of measuring."""
    if not text.startswith("T"):
        return parse_moment(text, UTC, "at")
    parts = re.findall(r"(\d+)([dhms])", text)
    offset = sum(int(number) * SIZES[unit] for number, unit in parts)
    return parse_moment(base, UTC, "at") + (-offset if text.startswith("T-") else offset)


def used(given: Case) -> list[Usage]:
    return [Usage(at(when), Decimal(amount)) for when, amount in given.get("usage", [])]


# ---------------------------------------------------------------- grants


def granted(given: dict[str, Any], number: int = 0) -> Grant:
    recurrence = given.get("recurrence", {})
    spec = GrantSpec(
        key=given.get("id", f"g{number}"),
        amount=Decimal(given["amount"]),
        effective=format_us(at(given.get("effective_at") or given["effective"])),
        expires_after=given.get("expires_after"),
        every=recurrence.get("interval"),
        anchor=recurrence.get("anchor"),
        priority=given.get("priority", 1),
        rollover_min=Decimal(given.get("reset_min", 0)),
        rollover_max=Decimal(given.get("reset_max", 0)),
    )
    grant = check_grant(spec, "UTC")
    if "expires" in given:
        lasting = f"PT{(at(given['expires']) - grant.effective_us) // SECOND_US}S"
        assert parse_interval("expires", lasting)
        grant = check_grant(GrantSpec(**{**fields(spec), "expires_after": lasting}), "UTC")
    return void(grant, at(given["deleted_at"])) if "deleted_at" in given else grant


def fields(spec: GrantSpec) -> dict[str, Any]:
    return {name: getattr(spec, name) for name in spec.__struct_fields__}


def all_granted(given: Case) -> tuple[Grant, ...]:
    found: list[Grant] = []
    for item in given["grants"]:
        one = granted(item, len(found))
        more = range(1, item.get("repeat", 1))
        found += [one, *(replace(one, key=f"{one.key}-{n}") for n in more)]
    return tuple(found)


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


# ---------------------------------------------------------------- prepaid credit


def wallet(**said: Any) -> Wallet:
    return Wallet(**{"key": "w", "customer": "c", "currency": "USD", **said})


PREPAID = {case["id"]: case for case in cases("openmeter", "prepaid-credit")}


def prepaid(identity: str) -> tuple[Case, Case]:
    if identity not in PREPAID:
        require()
    return PREPAID[identity]["given"], PREPAID[identity]["expect"]


def test_free_credit_goes_first() -> None:
    given, expect = prepaid("om-prepaid-credit-001")
    ups = [
        TopUp(key=c["kind"], amount=Decimal(c["amount"]), at_us=0, free=c["kind"] == "promotional")
        for c in given["credits"]
    ]
    state = wallet_at(wallet(), ups, [Draw(1, "inv", Decimal(100))], 2)
    applied = [part.amount for part in state.taken["inv"]]
    assert applied == list(map(Decimal, expect["credits_applied"]))
    assert state.unpaid["inv"] == Decimal(expect["invoice_total"])
    assert sum(applied) == Decimal(expect["recognized_from_credits"])


def test_credit_does_not_reach_back() -> None:
    given, expect = prepaid("om-prepaid-credit-003")
    credit = given["credit"]
    up = TopUp(key="c", amount=Decimal(credit["amount"]), at_us=at(credit["granted_at"]))
    amount = rate(parse_price({"type": "unit", "unit_amount": "1"}), Decimal(8)).amount
    drawn = Draw(at(given["service_period"][1]), "inv", amount)
    state = wallet_at(wallet(), [up], [drawn], at(given["finalized_at"]))
    assert state.balance == Decimal(expect["credit_left"])
    assert state.open == Decimal(expect["unfunded_usage"])


def test_a_debt_is_repaid_first() -> None:
    given, expect = prepaid("om-prepaid-credit-005")
    up = TopUp(key="c", amount=Decimal(given["credit"]["amount"]), at_us=5, expires_us=9)
    drawn = Draw(1, "use", Decimal(given["unfunded_usage"]))
    states = [wallet_at(wallet(overdraft="repay"), [up], [drawn], when) for when in (5, 9)]
    assert states[0].balance == Decimal(expect["available_after_grant"])
    assert states[1].lapsed == Decimal(expect["expired_at_E"])


def test_a_correction_gives_back_the_latest_expiry_first() -> None:
    given, expect = prepaid("om-prepaid-credit-007")
    ups = [
        TopUp(key=credit["id"], amount=Decimal(credit["amount"]), at_us=0, expires_us=expires)
        for credit, expires in zip(given["credits"], (10, 20), strict=True)
    ]
    spend, corrected = Decimal(given["spend"]), Decimal(given["spend_corrected_to"])
    drawn = [Draw(1, "s", spend), Draw(2, "s", corrected - spend)]
    first = wallet_at(wallet(), ups, drawn, 2)
    assert {part.top_up: part.amount for part in first.taken["s"]} == {
        key: Decimal(amount) for key, amount in expect["spent_from_first"].items()
    }
    left = {key: Decimal(n) for key, n in expect["available_after_correction"].items()}
    assert wallet_at(wallet(), ups, drawn, 3).left == left
    ended = wallet_at(wallet(), ups, drawn, 20)
    assert ended.lapsed == Decimal(expect["expired_in_total_after_E2"])


APPLIED = [c for c in cases("openmeter", "credit-application") if "price" in c["given"]]


def cents(amount: str | Decimal) -> int:
    return to_minor(Decimal(amount), "USD")


@pytest.mark.parametrize("case", APPLIED, ids=identity)
def test_openmeter_credits_on_lines(case: Case) -> None:
    given, expect = case["given"], case["expect"]
    names = {"up_to": "up_to", "flat": "flat_amount", "unit": "unit_amount"}
    tiers = [{names[k]: v for k, v in tier.items() if v} for tier in given["price"]["tiers"]]
    price: dict[str, Any] = {"type": "graduated", "tiers": tiers}
    if "minimum" in given["price"]:
        price["minimum_amount"] = given["price"]["minimum"]
    steps = rate(parse_price(price), Decimal(given["usage_in_line"])).steps
    amounts = [Decimal(s.amount) for s in steps if s.unit is None and Decimal(s.amount)]
    assert amounts == [Decimal(l.get("amount") or l["charges"]) for l in expect["lines"]]
    lines = [Payable(f"l{n}", "usage", cents(amount)) for n, amount in enumerate(amounts)]
    funds = [
        Fund(key=f"c{n}", available_minor=cents(amount))
        for n, amount in enumerate(given["credits_applied"])
    ]
    parts = spread(funds, lines)
    for line, told in zip(lines, expect["lines"], strict=True):
        credited = [part.amount_minor for part in parts if part.line == line.key]
        assert credited == list(map(cents, told["credits"]))
        assert line.due_minor - sum(credited) == cents(told["total"])


def test_openmeter_credits_skip_what_is_paid() -> None:
    found = [c for c in cases("openmeter", "credit-application") if "price" not in c["given"]]
    for case in found:
        given, lines = case["given"], case["given"]["lines_before"]
        due = [cents(l["unit_amount"]) - sum(map(cents, l["credits_already"])) for l in lines]
        funds = [Fund(key="c", available_minor=cents(n)) for n in given["credits_to_apply"]]
        parts = spread(funds, [Payable(f"l{n}", "", amount) for n, amount in enumerate(due)])
        after = [
            [*map(cents, l["credits_already"]), *(p.amount_minor for p in parts if p.line == key)]
            for l, key in zip(lines, ("l0", "l1"), strict=True)
        ]
        assert after == [list(map(cents, told)) for told in case["expect"]["credits_after"]]


# ---------------------------------------------------------------- Lago


def lago(area: str) -> tuple[Case, Case]:
    found = cases("lago", area)
    if not found:
        require()
    return found[0]["given"], found[0]["expect"]


def test_lago_credit_stops_at_the_total() -> None:
    given, expect = lago("prepaid.cap")
    told = expect["invoice"]
    fees = sum(
        fee["times"] * to_minor(Decimal(fee["precise_amount_cents"]).scaleb(-2), "USD")
        for fee in given["fees"]
    )
    tax = to_minor(from_minor(fees * given["tax_rate"], "USD") / 100, "USD")
    assert (fees, tax) == (told["fees_amount_cents"], told["taxes_amount_cents"])
    up = TopUp(key="t", amount=from_minor(given["wallet_cents"], "USD"), at_us=0)
    before = wallet_at(wallet(), [up], [], 1).balance
    funds = [Fund(key="w", available_minor=covers_minor(wallet(), before))]
    paid = sum(part.amount_minor for part in spread(funds, [Payable("all", "", fees + tax)]))
    assert paid == told["prepaid_credit_amount_cents"]
    assert fees + tax - paid == told["total_amount_cents"]
    drawn = Draw(1, "inv", units_for(wallet(), before, paid))
    after = wallet_at(wallet(), [up], [drawn], 2).balance
    assert cents(after) == expect["wallet_balance_cents"]


def named_funds(names: Sequence[str], each: int) -> list[Fund]:
    """Return wallets in their order of creation, from names such as 'priority charge'."""
    return [
        Fund(
            key=name,
            available_minor=each,
            priority=49 if "priority" in name else 50,
            since_us=number,
            only=tuple(kind for kind in ("charge", "subscription") if kind in name),
        )
        for number, name in enumerate(names)
    ]


@pytest.mark.parametrize("area", ["prepaid.priority", "prepaid.fee_type_limits"])
def test_lago_order_and_limits_of_wallets(area: str) -> None:
    given, expect = lago(area)
    names = given.get("wallets_in_creation_order") or [*expect["drawn"], "normal"]
    fees = given.get("fees") or [
        {
            "type": given["fee_type"],
            "amount_cents": given["invoice_total_cents"],
            "taxes_cents": 0,
        }
    ]
    lines = [
        Payable(fee["type"], fee["type"], fee["amount_cents"] + fee["taxes_cents"]) for fee in fees
    ]
    parts = spread(named_funds(names, given["wallets_each_cents"]), lines)
    drawn: dict[str, int] = {}
    for part in parts:
        drawn[part.fund] = drawn.get(part.fund, 0) + part.amount_minor
    assert drawn == {name: cents(amount) for name, amount in expect["drawn"].items()}
    assert sum(drawn.values()) == expect["prepaid_credit_amount_cents"]


def test_lago_top_ups_are_rounded() -> None:
    given, expect = lago("wallet.topup.rounding")
    amount, cost_minor = put_in(wallet(), Decimal(given["paid_credits"]))
    assert amount == Decimal(expect["credit_amount"])
    assert cost_minor == expect["invoice_total_cents"]
    assert covers_minor(wallet(), amount) == expect["balance_cents"]


def test_lago_ongoing_balance() -> None:
    given, expect = lago("wallet.rate_and_threshold")
    of = wallet(unit="CRD", rate=Decimal(given["wallet"]["rate_amount"]))
    up = TopUp(key="t", amount=Decimal(given["wallet"]["credits"]), at_us=0)
    with_tax = Decimal(100 + given["tax_rate"]) / 100
    arrears, advance_price, threshold_price = (
        parse_price({"type": "unit", "unit_amount": text}) for text in ("1", "2", "10")
    )
    limit = from_minor(given["subscriptions"][2]["usage_threshold_cents"], "USD")
    drawn: list[Draw] = []
    billed = before = Decimal(0)
    for number, units in enumerate((Decimal(10), Decimal(20)), 1):
        due = rate(advance_price, Decimal(10)).amount
        progress = rate(threshold_price, units).amount
        if crossed("up", [limit], before, progress, limit):
            due, billed = due + progress - billed, progress
        paid = Decimal(cents(due * with_tax)).scaleb(-2) / of.rate
        drawn.append(Draw(number, f"inv{number}", paid))
        balance = covers_minor(of, wallet_at(of, [up], drawn, number + 1).balance)
        unbilled = cents((rate(arrears, units).amount + progress - billed) * with_tax)
        told = expect[f"after_step_{number}"]
        assert balance == told["balance_cents"]
        assert unbilled == told["ongoing_usage_cents"]
        assert balance - unbilled == told["ongoing_balance_cents"]
        before = progress


ALERTS = cases("lago", "alert.thresholds_crossed")


@pytest.mark.parametrize("case", ALERTS, ids=identity)
def test_lago_thresholds(case: Case) -> None:
    given = case["given"]
    found = crossed(
        "up" if given["direction"] == "increasing" else "down",
        map(Decimal, given["thresholds"]),
        Decimal(given["previous_value"]),
        Decimal(given["current_value"]),
        Decimal(given["recurring_threshold"]),
    )
    assert found == given_numbers(case["expect"]["crossed"])


def given_numbers(numbers: Sequence[int]) -> list[Decimal]:
    return [Decimal(number) for number in numbers]


def test_all_cases_are_replayed() -> None:
    counts = [len(found) for found in (BURNDOWN, NOW, HISTORIES, RESETS, RECURRENCES, ALERTS)]
    assert all(found >= least for found, least in zip(counts, (11, 5, 4, 7, 5, 4), strict=True)), (
        counts
    )
    assert len(PREPAID) == 4
    assert len(APPLIED) == 3


REPLAYED = {
    "openmeter": {
        case["id"]
        for case in cases(
            "openmeter",
            "grant-burndown",
            "entitlement-balance",
            "entitlement-reset",
            "entitlement-e2e",
            "calendar-recurrence",
            "prepaid-credit",
            "credit-application",
        )
        if case["id"] != "om-entitlement-reset-005"
    },
    "lago": {
        case["id"]
        for case in cases(
            "lago",
            "prepaid.cap",
            "prepaid.priority",
            "prepaid.fee_type_limits",
            "wallet.topup.rounding",
            "wallet.rate_and_threshold",
            "alert.thresholds_crossed",
        )
    },
}
"""Every test above replays every case of its area."""
