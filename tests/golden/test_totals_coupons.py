"""Lago's worked cases of coupons and taxes, and the totals they make."""

from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from tallybook.catalog.coupon import Coupon
from tallybook.catalog.customer import Customer, Seller
from tallybook.catalog.price import parse_price
from tallybook.catalog.tax import Tax
from tallybook.invoice.document import after_use
from tallybook.invoice.funds import CouponInHand, Funds
from tests.golden.totals import assert_totals, discounts, numbered, one, tax_minor, usd
from tests.golden.vectors import Case, cases, identity, require
from tests.support.composing import (
    Fee,
    at,
    in_turn,
    invoiced,
    one_off,
    tax_of,
)


@pytest.fixture(autouse=True)
def _there() -> None:
    require()


# ---------------------------------------------------------------- coupons


def coupon(given: dict[str, Any]) -> CouponInHand:
    """Return the coupon that a case describes."""
    fixed = given.get("amount_cents", given.get("fixed_cents"))
    rate = given.get("rate", given.get("percentage"))
    used = given.get("already_used_cents")
    terms = Coupon(
        key="c",
        name="c",
        amount=None if fixed is None else usd(fixed),
        percent=None if rate is None else Decimal(rate),
        currency="" if fixed is None else "USD",
        duration=given.get("frequency", "once"),
        invoices=given.get("remaining"),
        plans=(given["plan"],) if "plan" in given else (),
        meters=(given["limited_to"],) if "limited_to" in given else (),
    )
    return CouponInHand(
        redemption="r1",
        coupon=terms,
        left_minor=None if used is None else fixed - used,
        invoices_left=given.get("remaining"),
    )


COUPONS = [
    case for case in cases("lago", "coupon") if isinstance(case["given"]["fees_cents"], list)
]


@pytest.mark.parametrize("case", COUPONS, ids=identity)
def test_lago_coupon(case: Case) -> None:
    given, expect = case["given"], dict(case["expect"])
    hand = coupon(given["coupon"])
    found = invoiced(numbered(given["fees_cents"]), funds=Funds(coupons=(hand,)))
    assert found.discount_minor == expect.pop("credit_cents")
    if "fee_shares_cents" in expect:
        assert discounts(found) == expect.pop("fee_shares_cents")
    left = after_use(hand, found.discount_minor)
    assert (left is None) == expect.pop("coupon_terminated")
    if "remaining_after" in expect:
        remaining = left.invoices_left if left is not None else 0
        assert remaining == expect.pop("remaining_after")
    assert not expect


PROGRESSED = [
    case for case in cases("lago", "coupon") if isinstance(case["given"]["fees_cents"], dict)
]


@pytest.mark.parametrize("case", PROGRESSED, ids=identity)
def test_lago_coupon_on_what_was_not_billed_before(case: Case) -> None:
    given, expect = case["given"], case["expect"]
    before = given["already_credited_cents"]
    fees = [
        Fee(
            key=key,
            minor=minor,
            meter=key.rpartition("_")[0] or key,
            before=(before[key], 0) if key in before else None,
        )
        for key, minor in given["fees_cents"].items()
    ]
    found = invoiced(fees, funds=Funds(coupons=(coupon(given["coupon"]),)))
    assert found.discount_minor == expect["credit_cents"]
    shares = {line.charge: line.discount_minor + before.get(line.charge, 0) for line in found.lines}
    assert shares == expect["fee_shares_cents"]


STACKS = cases("lago", "coupon.stack")


@pytest.mark.parametrize("case", STACKS, ids=identity)
def test_lago_coupons_one_after_the_other(case: Case) -> None:
    given, expect = case["given"], case["expect"]
    hands = in_turn(coupon(one) for one in given["coupons"])
    fees = [replace(fee, plan="this") for fee in numbered(given["fees_cents"])]
    found = invoiced(fees, funds=Funds(coupons=hands))
    assert found.discount_minor == expect["coupons_amount_cents"]
    assert found.total_minor == expect["sub_total_excluding_taxes_amount_cents"]
    assert len(found.discounts) == expect["credits"]


def test_lago_a_full_invoice() -> None:
    """Whole minor units on the lines, and a tax that is the sum of its table: 1 minor unit more."""
    case = one("lago", "CPN-16")
    given, expect = case["given"], case["expect"]
    fees = [
        Fee(
            key=fee["metric"],
            minor=fee["amount_cents"],
            meter=fee["metric"],
            plan=f"plan{fee['sub']}",
            subscription=f"s{fee['sub']}",
            taxes=(str(fee["tax"]),),
        )
        for fee in given["fees"]
    ]
    first, second, third = given["coupons"]
    hands = [
        coupon({"fixed_cents": first["fixed_cents"]}),
        coupon({"fixed_cents": second["fixed_cents"], "plan": "plan2"}),
        coupon({"fixed_cents": third["fixed_cents"]}),
    ]
    limited = replace(hands[0].coupon, meters=tuple(first["limited_to_metrics"]))
    hands[0] = replace(hands[0], coupon=limited)
    found = invoiced(fees, funds=Funds(coupons=in_turn(hands)), taxes=[tax_of("10"), tax_of("20")])
    for line, fee in zip(found.lines, expect["fees"], strict=True):
        assert abs(line.discount_minor - Decimal(fee["coupons_cents"])) < 1
        assert abs(tax_minor(line) - fee["taxes_cents"]) <= 1
    told = expect["invoice"]
    assert found.subtotal_minor == told["fees_amount_cents"]
    assert found.discount_minor == told["coupons_amount_cents"]
    net = found.subtotal_minor - found.discount_minor
    assert net == told["sub_total_excluding_taxes_amount_cents"]
    assert found.tax_minor == told["taxes_amount_cents"] + 1
    assert found.tax_minor == sum(tax.amount_minor for tax in found.taxes)


# ---------------------------------------------------------------- taxes


def test_lago_rates_coupon_and_minimum() -> None:
    """What they put beside a charge as its true-up is in its line here: the sums are equal."""
    case = one("lago", "TAX-01")
    given, expect = case["given"], case["expect"]
    plan, (fx, cards) = given["plan"], given["charges"]
    minimum = {"minimum_amount": str(usd(cards["min_amount_cents"]))}
    price = parse_price({"type": "unit", "unit_amount": str(usd(cards["usage_cents"])), **minimum})
    fees = [
        Fee(key="subscription", minor=plan["amount_cents"], taxes=(str(plan["tax"]),)),
        Fee(key=fx["metric"], minor=fx["amount_cents"], taxes=(str(fx["tax"]),)),
        Fee(key="cards", minor=0, meter="cards", price=price, taxes=(str(cards["tax"]),)),
    ]
    found = invoiced(
        fees,
        funds=Funds(coupons=(coupon({"fixed_cents": given["coupon_cents"]}),)),
        taxes=[tax_of(key) for key in ("0", "10", "20")],
    )
    wanted: dict[str, list[int]] = {}
    for fee in expect["fees"]:
        sums = wanted.setdefault(fee["kind"].removesuffix(" true-up"), [0, 0, 0])
        for at_place, name in enumerate(("amount_cents", "coupons_cents", "taxes_cents")):
            sums[at_place] += fee[name]
    mine = {
        line.charge: [line.amount_minor, line.discount_minor, tax_minor(line)]
        for line in found.lines
    }
    assert mine == wanted
    assert_totals(found, expect["invoice"])


@pytest.mark.parametrize("name", ["TAX-03", "TAX-04"])
def test_lago_taxes_of_an_invoice(name: str) -> None:
    """An invoice has no rate of its own here: the amounts are compared."""
    case = one("lago", name)
    given, expect = case["given"], case["expect"]
    fees = [
        Fee(key=f"f{n}", minor=fee["amount_cents"], taxes=tuple(str(t) for t in fee["taxes"]))
        for n, fee in enumerate(given["fees"])
    ]
    off = given.get("coupons_amount_cents")
    found = invoiced(
        fees,
        funds=Funds(coupons=() if off is None else (coupon({"fixed_cents": off}),)),
        taxes=[tax_of("10"), tax_of("12")],
    )
    assert found.tax_minor == expect["taxes_amount_cents"]
    told = [
        (tax["rate"], tax["amount_cents"], tax["base_cents"]) for tax in expect.get("by_tax", [])
    ]
    mine = [(int(tax.rate), tax.amount_minor, tax.base_minor) for tax in found.taxes]
    assert mine[: len(told)] == told


def test_lago_totals() -> None:
    case = one("lago", "TAX-05")
    given, expect = case["given"], dict(case["expect"])
    keys = tuple(str(rate) for rate in given["taxes"])
    first, second = given["fees"]
    fees = numbered([first["amount_cents"], second["amount_cents"]], [keys, keys])
    off = coupon({"fixed_cents": second["coupons_cents"]})
    only = replace(off, coupon=replace(off.coupon, charges=("f1",)))
    found = invoiced(fees, funds=Funds(coupons=(only,)), taxes=[tax_of(key) for key in keys])
    assert [tax_minor(line) for line in found.lines] == expect.pop("fee_taxes_cents")
    assert_totals(found, expect)


def test_lago_taxes_from_elsewhere() -> None:
    case = one("lago", "TAX-06")
    given, expect = case["given"], case["expect"]
    taxes = [
        Tax(key=f"t{n}", name="", rate=Decimal(tax["rate"]) * 100)
        for n, tax in enumerate(given["provider_taxes"])
    ]
    keys = tuple(tax.key for tax in taxes)
    found = invoiced(numbered([given["fees"][0]["amount_cents"]], [keys]), taxes=taxes)
    assert [tax_minor(line) for line in found.lines] == [expect["fee_taxes_cents"]]
    assert sum(tax.rate for tax in taxes) == Decimal(expect["taxes_rate"])
    assert found.tax_minor == expect["taxes_amount_cents"]
    assert found.total_minor == expect["total_amount_cents"]


PRECEDENCE = cases("lago", "tax.precedence")


@pytest.mark.parametrize("case", PRECEDENCE, ids=identity)
def test_lago_which_tax_counts(case: Case) -> None:
    given, expect = case["given"], case["expect"]
    own = given.get("explicit_taxes")
    customer = Customer(
        key="acme",
        name="Acme",
        currency="USD",
        taxes=(str(given["customer_tax"]),) if "customer_tax" in given else None,
    )
    extra = one_off(
        given["one_off_cents"], taxes=None if own is None else tuple(str(rate) for rate in own)
    )
    found = invoiced(
        extras=[extra],
        customer=customer,
        seller=Seller(taxes=(str(given["billing_entity_tax"]),)),
        taxes=[tax_of(key) for key in ("8", "10", "20", "25")],
    )
    assert found.tax_minor == expect["taxes_amount_cents"]


def test_lago_tax_of_a_partial_period() -> None:
    case = one("lago", "SUB-19")
    given = case["given"]
    span = (at("2024-04-24"), at("2024-04-27"), at("2024-04-01"), at("2024-05-01"))
    fee = Fee(
        key="fee",
        minor=given["plan"]["amount_cents"],
        span=span,
        proration="day",
        taxes=(str(given["tax_rate"]),),
    )
    found = invoiced([fee], taxes=[tax_of(str(given["tax_rate"]))])
    assert found.total_minor == case["expect"]["invoice_total_amount_cents"]


REPLAYED = {"TAX-01", "TAX-03", "TAX-04", "TAX-05", "TAX-06", "SUB-19"} | {
    case["id"] for part in (COUPONS, PROGRESSED, STACKS, PRECEDENCE) for case in part
}
