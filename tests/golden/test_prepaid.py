"""The worked cases of prepaid credit and wallets."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest

from tallybook.catalog.entitlement import (
    TopUp,
    Wallet,
    covers_minor,
    units_for,
)
from tallybook.catalog.price import parse_price
from tallybook.invoice.document.spread import Fund, Payable, spread
from tallybook.kernel.money import from_minor, to_minor
from tallybook.rate.charge import rate
from tallybook.settle.threshold import crossed
from tallybook.settle.wallet import Draw, put_in, wallet_at
from tests.golden.credit import at, identity
from tests.golden.vectors import Case, cases, require


@pytest.fixture(autouse=True)
def _there() -> None:
    require()


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
    assert len(PREPAID) == 4
    assert len(APPLIED) == 3
    assert len(ALERTS) >= 4


REPLAYED = {
    "openmeter": {c["id"] for c in cases("openmeter", "prepaid-credit", "credit-application")},
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
