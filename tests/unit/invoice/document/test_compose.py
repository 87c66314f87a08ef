"""What composing does beyond its worked tables."""

from decimal import Decimal

import pytest
from msgspec.structs import replace

from tallybook.catalog.customer import Customer, Seller
from tallybook.catalog.plan import Share
from tallybook.invoice.document import EXTRA, MINIMUM, compose, spent
from tallybook.invoice.document.number import assert_sums
from tallybook.invoice.document.spread import Fund, Payable, spread
from tallybook.invoice.funds import Funds
from tallybook.invoice.line import Total
from tallybook.invoice.rating import Fact
from tallybook.invoice.record import finalized
from tallybook.kernel.errors import Missing
from tests.support.composing import (
    END,
    START,
    Fee,
    amount_off,
    at,
    billed,
    catalog_of,
    credits_of,
    drafted,
    facts_of,
    in_turn,
    invoiced,
    item_of,
    manifest_of,
    minimum_item,
    one_off,
    percent_off,
    tax_of,
    wallet_of,
)


def test_nothing_new_is_no_invoice() -> None:
    assert drafted([Fee(key="fee", minor=700, before=(700, 0))]) is None
    assert drafted() is None


def test_a_one_off_alone_is_an_invoice() -> None:
    draft = drafted(extras=[replace(one_off(1250), quantity=Decimal(5), unit="h")])
    assert draft is not None
    (line,) = draft.invoice.lines
    assert (line.kind, line.quantity, line.unit, line.amount) == ("one-off", "5", "h", "12.50")
    assert line.steps[0].text == "one-off: 5 × 2.5 = 12.5"
    assert (line.subscription, line.charge) == (EXTRA, "x1")
    stored = finalized(draft, 7)
    assert (stored.head.period_start_us, stored.head.period_end_us) == (START, END)
    assert stored.lines[0].position.charge == "x1"


def test_one_offs_come_after_what_was_used_by_their_beginning() -> None:
    late = replace(one_off(1, "a"), start_us=END, end_us=END + 1)
    found = invoiced([Fee(key="fee", minor=5)], [late, one_off(2, "b")])
    assert [line.charge for line in found.lines] == ["fee", "b", "a"]


def test_a_one_off_without_taxes_of_its_own_has_the_payers_else_the_sellers() -> None:
    customer = Customer(key="acme", name="Acme", currency="USD", taxes=("5",))
    seller = Seller(taxes=("19",))
    taxes = [tax_of(key) for key in ("5", "19", "7")]

    def keys(who: Customer | None, own: tuple[str, ...] | None) -> list[str]:
        found = invoiced(extras=[one_off(100, taxes=own)], taxes=taxes, customer=who, seller=seller)
        return [tax.tax for tax in found.taxes]

    assert keys(customer, None) == ["5"]
    assert keys(replace(customer, taxes=()), None) == []
    assert keys(None, None) == ["19"]
    assert keys(customer, ("7",)) == ["7"]
    assert keys(customer, ()) == []


def test_a_tax_that_is_not_there_is_missing() -> None:
    with pytest.raises(Missing, match="no tax 'gone'"):
        invoiced([Fee(key="fee", minor=1, taxes=("gone",))])


def test_a_tax_of_nothing_stands_in_the_table_with_its_reason() -> None:
    reverse = replace(tax_of("0"), category="AE", reason="Reverse charge")
    found = invoiced([Fee(key="fee", minor=1000, taxes=("0",))], taxes=[reverse, tax_of("19")])
    (tax,) = found.taxes
    assert (tax.category, tax.reason, tax.base, tax.amount) == (
        "AE",
        "Reverse charge",
        "10.00",
        "0.00",
    )
    assert found.lines[0].taxes[0].amount_minor == 0
    assert found.manifest.taxes == (reverse,)


def test_limits_of_a_coupon_must_all_match() -> None:
    fees = [
        Fee(key="calls", minor=1000, meter="m1"),
        Fee(key="calls", minor=1000, meter="m1", plan="app", subscription="sub2"),
        Fee(key="fee", minor=1000),
    ]

    def lines(**limits: tuple[str, ...]) -> list[int]:
        found = invoiced(fees, [one_off(1000)], funds=Funds(coupons=(percent_off("10", **limits),)))
        return [line.discount_minor for line in found.lines]

    assert lines() == [100, 100, 100, 100]
    assert lines(plans=("web",)) == [100, 0, 100, 0]
    assert lines(plans=("web",), meters=("m1",)) == [100, 0, 0, 0]
    assert lines(charges=("fee",)) == [0, 0, 100, 0]
    assert lines(meters=("m2",)) == [0, 0, 0, 0]


def test_narrow_coupons_come_first_then_the_oldest() -> None:
    wide, plan, meter, newer = in_turn(
        [
            amount_off(10),
            amount_off(20, plans=("web",)),
            amount_off(30, meters=("m1",)),
            amount_off(40, plans=("web",), charges=("calls",)),
        ]
    )
    found = invoiced(
        [Fee(key="calls", minor=1000, meter="m1")],
        funds=Funds(coupons=(wide, plan, meter, newer)),
    )
    assert [used.amount_minor for used in found.discounts] == [40, 30, 20, 10]


def test_a_coupon_that_is_used_up_or_of_another_currency_takes_nothing() -> None:
    hands = (
        replace(amount_off(10), left_minor=0),
        replace(percent_off("10"), invoices_left=0),
        amount_off(10, "EUR"),
        amount_off(10, amount=None),
    )
    found = invoiced([Fee(key="fee", minor=100)], funds=Funds(coupons=in_turn(hands)))
    assert found.discounts == ()
    assert found.total_minor == 100


def test_a_wallet_of_another_currency_waits() -> None:
    hand = wallet_of(500)
    other = replace(hand, wallet=replace(hand.wallet, currency="EUR"))
    assert invoiced([Fee(key="fee", minor=100)], funds=Funds(wallets=(other,))).prepaid == ()


def test_a_credit_of_what_was_never_billed_takes_nothing_back() -> None:
    for before in ((0, 5), (700, 0)):
        found = invoiced([Fee(key="fee", minor=-100, before=before)])
        assert found.lines[0].discount_minor == 0


def test_each_dimension_value_has_a_discount_of_its_own() -> None:
    fee = Fee(key="calls", minor=100, meter="m1")
    catalog = catalog_of([fee])
    (plan,) = catalog.plans["web"]
    charge = replace(plan.charges[0], split_by=("region",))
    catalog = replace(catalog, plans={"web": (replace(plan, charges=(charge,)),)})
    before = (replace(billed(500, 100), group=("eu",)), replace(billed(500), group=("us",)))
    item = replace(item_of(fee), before=before)
    facts = {item.position: {("asia",): Fact(Decimal(2), 2, 2)}}
    draft = compose(manifest_of([item]), catalog, facts)
    assert draft is not None
    told = [(one.line.dimensions["region"], one.line.discount_minor) for one in draft.lines]
    assert told == [("asia", 0), ("eu", -100), ("us", 0)]
    assert [one.billed.discount_minor for one in draft.lines] == [0, 0, 0]


def test_a_true_up_follows_the_charges_of_its_subscription() -> None:
    items = [
        item_of(Fee(key="a", minor=100)),
        minimum_item("10"),
        item_of(Fee(key="b", minor=100, subscription="sub2")),
    ]
    fees = [Fee(key="a", minor=100), Fee(key="b", minor=100)]
    draft = compose(manifest_of(items), catalog_of(fees), {})
    assert draft is not None
    assert [line.charge for line in draft.invoice.lines] == ["a", MINIMUM, "b"]


def test_a_wallet_pays_nothing_of_a_line_below_zero() -> None:
    fees = [Fee(key="calls", minor=700, before=(1000, 0), meter="m1"), Fee(key="fee", minor=1000)]
    found = invoiced(fees, funds=Funds(wallets=(wallet_of(5000, only=("usage",)),)))
    assert [line.amount_minor for line in found.lines] == [-300, 1000]
    assert found.prepaid == ()


def test_members_are_summed_and_those_without_a_line_left_out() -> None:
    members = [
        Customer(key=key, name=key.title(), currency="USD", zone="Asia/Tokyo")
        for key in ("kid", "son", "idle")
    ]
    found = invoiced(
        [
            Fee(key="c", minor=300, customer="son", subscription="s1", taxes=("10",)),
            Fee(key="a", minor=100),
            Fee(key="b", minor=200, customer="kid", subscription="s2"),
        ],
        [replace(one_off(50), customer="kid")],
        members=members,
        taxes=[tax_of("10")],
        funds=Funds(coupons=(percent_off("10"),)),
    )
    assert [(line.customer, line.amount_minor) for line in found.lines] == [
        ("", 100),
        ("kid", 200),
        ("kid", 50),
        ("son", 300),
    ]
    told = [(one.name, one.lines, one.subtotal, one.net, one.tax) for one in found.members]
    assert told == [
        ("Acme", 1, "1.00", "0.90", "0.00"),
        ("Kid", 2, "2.50", "2.25", "0.00"),
        ("Son", 1, "3.00", "2.70", "0.27"),
    ]
    assert [member.key for member in found.manifest.members] == ["kid", "son"]


def test_shares_are_of_the_base_and_summed_by_party() -> None:
    shares = (Share("provider", Decimal(70)), Share("client", Decimal(10)))
    found = invoiced(
        [Fee(key="fee", minor=1190, taxes=("19i",), shares=shares)],
        [replace(one_off(-100), shares=(Share("client", Decimal(50)),))],
        taxes=[tax_of("19i")],
    )
    assert [(one.party, one.amount) for one in found.shares] == [
        ("client", "0.50"),
        ("provider", "7.00"),
    ]
    assert found.lines[0].shares[0].percent == "70"


def test_a_true_up_keeps_what_it_depends_on_in_the_manifest() -> None:
    paid = Fee(key="fee", minor=400, before=(400, 0))
    other = Fee(key="own", minor=100, before=(100, 0), subscription="sub2")
    draft = drafted([paid, other], items=[minimum_item("10")])
    assert draft is not None
    (line,) = draft.invoice.lines
    assert (line.kind, line.amount, line.charge) == ("minimum", "6.00", MINIMUM)
    kept = [item.position for item in draft.invoice.manifest.items]
    assert kept == [item_of(paid).position, minimum_item("10").position]
    again = compose(draft.invoice.manifest, catalog_of([paid]), facts_of([paid]))
    assert again == draft


def test_a_true_up_counts_as_one_and_has_no_events() -> None:
    draft = drafted(items=[minimum_item("10")])
    assert draft is not None
    (one,) = draft.lines
    assert (one.line.quantity, one.line.events, one.line.position) == ("1", 0, 1)
    assert one.line.now == Total(quantity="1", amount="10.00", events=0, exact="10")
    assert one.line.before == Total(quantity="0", amount="0.00", events=0, exact="0")
    assert one.billed == replace(billed(1000), cut=7, invoice=draft.invoice.id)


@pytest.mark.parametrize("minimum", [Decimal(0), None])
def test_a_commitment_that_holds_no_more_gives_its_true_up_back(minimum: Decimal | None) -> None:
    item = replace(minimum_item("10", 600), minimum=minimum)
    found = invoiced(items=[item])
    assert [(one.quantity, one.amount) for one in found.lines] == [("-1", "-6.00")]


def test_a_commitment_is_not_due_before_its_period_is_over() -> None:
    item = replace(minimum_item("10"), until_us=END - 1)
    assert drafted([Fee(key="fee", minor=400, before=(400, 0))], items=[item]) is None


def test_a_monthly_commitment_does_not_count_a_yearly_fee() -> None:
    yearly = Fee(key="fee", minor=400, span=(START, at("2027-05-01"), START, at("2027-05-01")))
    found = invoiced([yearly], items=[minimum_item("10")])
    assert [line.amount for line in found.lines] == ["4.00", "10.00"]


def test_a_commitment_cut_short_does_not_count_what_follows() -> None:
    middle = at("2026-05-16")
    rest = Fee(key="fee", minor=400, span=(middle, END, START, END))
    item = replace(minimum_item("31"), end_us=middle, until_us=middle)
    found = invoiced([rest], items=[item])
    assert [line.amount for line in found.lines] == ["4.00", "15.00"]


def test_what_an_invoice_uses_of_the_account() -> None:
    draft = drafted(
        [Fee(key="fee", minor=1000)],
        [one_off(100)],
        funds=Funds(
            version=5,
            coupons=(amount_off(100),),
            credits=credits_of(200),
            wallets=(wallet_of(300),),
        ),
    )
    assert draft is not None
    used = spent(draft, 12)
    assert (used.version, used.number, used.extras) == (5, "INV-000012", ("x1",))
    assert used.coupons == draft.invoice.discounts
    assert used.credits == draft.invoice.credits
    assert used.wallets == draft.invoice.prepaid
    assert draft.invoice.payable_minor == 500
    assert used.carried_minor == 0


def test_sums_that_do_not_hold_are_found() -> None:
    found = invoiced([Fee(key="fee", minor=1000)])
    assert_sums(found)
    for wrong in ({"subtotal_minor": 1}, {"discount_minor": 1}, {"tax_minor": 1}):
        with pytest.raises(AssertionError):
            assert_sums(replace(found, **wrong))
    with pytest.raises(AssertionError):
        assert_sums(replace(found, payable_minor=1))


def test_other_currencies_have_their_own_digits() -> None:
    for currency, shown in (("JPY", "110"), ("KWD", "0.110")):
        found = invoiced(
            [Fee(key="fee", minor=100, taxes=("10",))], taxes=[tax_of("10")], currency=currency
        )
        assert found.total == shown
        assert found.lines[0].discount == ("0" if currency == "JPY" else "0.000")


def test_credit_pays_only_the_kinds_that_it_is_for() -> None:
    lines = [Payable("1", "fee", 100), Payable("2", "usage", -50), Payable("3", "usage", 70)]
    parts = spread([Fund(key="w", available_minor=500, only=("usage",))], lines)
    assert [(part.line, part.amount_minor) for part in parts] == [("3", 70)]


def test_an_adjustment_does_not_move_the_period_of_an_invoice() -> None:
    earlier = (at("2026-04-01"), START, at("2026-04-01"), START)
    old = Fee(key="old", minor=5, adjustment=True, span=earlier)
    assert invoiced([old, Fee(key="fee", minor=5)]).period_start.startswith("2026-05-01")
    assert invoiced([old]).period_start.startswith("2026-04-01")
    assert manifest_of().rules >= 2


def test_a_true_up_that_a_credit_note_gave_back_is_not_credited_again() -> None:
    item = minimum_item("10", 1000)
    (before,) = item.before
    given = replace(item, before=(replace(before, forgiven_minor=700),), minimum=Decimal(5))
    (line,) = invoiced(items=[given]).lines
    assert (line.amount, line.now.amount) == ("-3.00", "7.00")
    assert [step.amount for step in line.steps] == ["5", "0", "2"]
    assert line.steps[-1].text == "given back by credit notes before: 2"
