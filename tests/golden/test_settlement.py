"""The field's cases of credit notes, voids, credits and dunning, replayed on whole worlds."""

from decimal import Decimal
from typing import Any

import pytest

from tallybook.catalog.customer import CustomerSpec, check_customer
from tallybook.invoice.document import Invoice
from tallybook.kernel.errors import Conflict
from tallybook.kernel.money import to_minor
from tallybook.settle.receivable.crediting import Ask
from tallybook.settle.receivable.flow import estimate, redeem, void_invoice
from tallybook.settle.receivable.owing import requests
from tests.golden.vectors import Case, cases
from tests.support.settled_world import SettledWorld
from tests.support.subscription_story import CUSTOMER, Story, fee

AREAS = {
    "lago": (
        "credit_note.estimate", "credit_note.rounding.four_items",
        "credit_note.rounding.with_coupon", "credit_note.partial.rounding",
        "credit_note.terminate.rounding", "dunning.threshold",
    ),
    "killbill": ("void", "credit"),
}  # fmt: skip
KNOWN = {
    system: {case["id"]: case for case in cases(system, *areas)} for system, areas in AREAS.items()
}
REPLAYED: dict[str, set[str]] = {"lago": set(), "killbill": set()}


def replays(system: str, *names: str) -> Any:
    """Mark a test that replays these cases; where they are absent it is skipped."""
    REPLAYED[system].update(names)
    assert not KNOWN[system] or all(name in KNOWN[system] for name in names), names
    found = [KNOWN[system][name] for name in names if name in KNOWN[system]]
    return pytest.mark.parametrize("case", found, ids=[case["id"] for case in found])


class Settled(Story):
    """A customer whose invoices are paid, credited and voided."""

    def __init__(self) -> None:
        self.world: SettledWorld = SettledWorld()
        self.zone, self.currency = "UTC", "USD"
        self.put(check_customer(CustomerSpec(key=CUSTOMER, currency="USD", subjects=["s"])))

    def billed(
        self,
        fees: list[dict[str, Any]],
        rates: dict[str, str],
        off: int = 0,
        charges: tuple[str, ...] = (),
    ) -> Invoice:
        """Return the invoice of fees, with an amount off some of them."""
        for key, rate in rates.items():
            self.tax(key, rate)
        self.plan("p", *fees)
        self.start("p", "2026-05-01")
        if off:
            self.coupon(off, charges)
        found = self.run("2026-05-01")
        assert found is not None
        return found

    def coupon(self, minor: int, charges: tuple[str, ...]) -> None:
        """Redeem an amount off, once, of some charges."""
        from tallybook.catalog.coupon import Coupon

        amount = Decimal(minor) / 100
        self.put(Coupon(key="c", name="c", amount=amount, currency="USD", charges=charges))
        redeem(self.world.settling, "c", CUSTOMER)


def cents(value: str) -> int:
    return to_minor(Decimal(value), "USD")


def usd(minor: int) -> Decimal:
    return Decimal(minor) / 100


@replays("lago", "CRN-01")
def test_what_could_be_credited_and_paid_out(case: Case) -> None:
    given, expect = case["given"], case["expect"]
    story = Settled()
    first, second = given["fees"]
    invoice = story.billed(
        [
            fee("f0", usd(first["amount_cents"]), taxes=["one"]),
            fee("f1", usd(second["amount_cents"]), taxes=["one", "two"]),
        ],
        {"one": str(first["taxes"][0]), "two": str(second["taxes"][1])},
        second["coupons_cents"],
        ("f1",),
    )
    assert invoice.tax_minor == given["invoice"]["taxes_amount_cents"]
    assert invoice.total_minor == given["invoice"]["total_amount_cents"]
    story.world.pay(given["paid_cents"], customer=CUSTOMER)
    found = estimate(story.world.settling, invoice.number, Ask(reason="both fees in full"))
    assert found.creditable_minor == expect["max_creditable_amount_cents"]
    assert found.refundable_minor == expect["max_refundable_amount_cents"]
    assert found.note.tax_minor == expect["taxes_amount_cents"]
    assert found.note.subtotal_minor == expect["sub_total_excluding_taxes_amount_cents"]
    discounts = sum(line.discount_minor for line in invoice.lines)
    assert discounts == expect["coupons_adjustment_amount_cents"]


def in_sequence(story: Settled, invoice: Invoice, nets: list[int | None]) -> list[Any]:
    """Return the notes of crediting lines one after the other, the last line with what is left."""
    notes = []
    for at, net in enumerate(nets):
        line = str(min(at + 1, len(invoice.lines)))
        notes.append(story.world.credit(invoice.number, {line: net}))
    return notes


@replays("lago", "CRN-05")
def test_four_equal_items_are_credited_to_the_cent(case: Case) -> None:
    given, expect = case["given"], case["expect"]
    story = Settled()
    fees = [fee(f"f{n}", usd(c), taxes=["t"]) for n, c in enumerate(given["one_off_items_cents"])]
    invoice = story.billed(fees, {"t": str(given["tax_rate"])})
    assert invoice.total_minor == expect["invoice"]["total_amount_cents"]
    notes = in_sequence(story, invoice, given["credit_in_sequence"])
    told = [
        {"taxes_amount_cents": note.tax_minor, "total_amount_cents": note.total_minor}
        for note in notes
    ]
    assert told == expect["credit_notes"]
    with pytest.raises(Conflict, match="nothing is left"):
        estimate(story.world.settling, invoice.number, Ask(reason="more"))


@replays("lago", "CRN-06")
def test_items_with_a_coupon_are_credited_to_the_cent(case: Case) -> None:
    """They name an item before coupons; here a line is named and its net is credited."""
    given, expect = case["given"], case["expect"]
    story = Settled()
    fees = [fee(f"f{n}", usd(c), taxes=["t"]) for n, c in enumerate(given["fees_cents"])]
    invoice = story.billed(fees, {"t": str(given["tax_rate"])}, given["coupon_cents"])
    assert invoice.total_minor == expect["invoice_total_cents"]
    notes = in_sequence(story, invoice, [None, None, None])
    for note, line, told in zip(notes, invoice.lines, expect["credit_notes"], strict=True):
        assert note.subtotal_minor == told["sub_total_cents"]
        assert note.tax_minor == told["taxes_amount_cents"]
        assert note.total_minor == told["total_amount_cents"]
        assert line.discount_minor == round(Decimal(told["coupons_adjustment_cents"]))
    assert sum(note.total_minor for note in notes) == invoice.total_minor


@replays("lago", "CRN-11")
def test_a_part_of_a_line_is_credited(case: Case) -> None:
    given, expect = case["given"], case["expect"]["credit_note"]
    story = Settled()
    told = given["invoice"]
    fees = [fee("f", usd(told["fees_amount_cents"]), taxes=["t"])]
    invoice = story.billed(fees, {"t": str(told["tax_rate"])})
    assert invoice.total_minor == told["total_amount_cents"]
    note = story.world.credit(invoice.number, {"1": given["item_cents"]})
    assert note.subtotal_minor == expect["sub_total_cents"]
    assert (note.tax_minor, note.total_minor) == (
        expect["taxes_amount_cents"],
        expect["total_amount_cents"],
    )


@replays("lago", "CRN-08", "CRN-10")
def test_what_an_early_end_gives_back(case: Case) -> None:
    """Their credit note is an invoice below zero here, whose total becomes credit."""
    given, expect = case["given"], case["expect"]["credit_note"]
    plan = given["plan"]
    story = Settled()
    story.tax("t", given["tax_rate"])
    interval = {"monthly": "P1M", "weekly": "P1W"}[plan["interval"]]
    story.plan("p", fee("fee", usd(plan["amount_cents"]), interval=interval), taxes=["t"])
    anniversary = given["billing_time"] == "anniversary"
    day = given["subscription_at"][:10]
    story.start("p", day, anchor="start" if anniversary else None)
    first = story.run(day)
    assert first is not None
    told = case["expect"].get("invoice")
    if told is not None:
        assert first.subtotal_minor == told["fees_amount_cents"]
        assert first.tax_minor == told["taxes_amount_cents"]
    end = f"{day[:8]}{int(day[8:]) + 1:02d}"
    story.cancel(end)
    last = story.run(end)
    assert last is not None
    assert -last.subtotal_minor == expect["sub_total_cents"]
    assert -last.tax_minor == expect["taxes_amount_cents"]
    assert last.carried_minor == expect["total_amount_cents"]
    assert story.world.credits(CUSTOMER) == {last.number: expect["total_amount_cents"]}


@replays("lago", "DUN-02")
def test_what_is_overdue_is_asked_for_at_once(case: Case) -> None:
    given, expect = case["given"], case["expect"]
    threshold = given["threshold_cents"]

    def asked(*open_: int) -> list[int]:
        story = Settled()
        for at, minor in enumerate(open_):
            story.plan(f"p{at}", fee("f", usd(minor)))
            story.start(f"p{at}", "2026-05-01", key=f"s{at}")
            story.run("2026-05-01")
        heads = story.world.billing.invoices.invoices("default", limit=10)
        return [
            one.amount_minor for one in requests(heads, "USD", threshold, story.at("2028-01-01"))
        ]

    overdue = given["overdue_cents"]
    assert len(asked(overdue)) == expect["payment_requests_before"]
    together = asked(overdue, given["then_one_off_cents"])
    assert together == [expect["payment_request_cents"]]


@replays("killbill", "kb-credit-spread")
def test_credit_pays_what_is_open_and_what_comes(case: Case) -> None:
    expect = case["expect"]["account_balance_after"]
    story = Settled()
    story.plan("p", fee("f", "249.95"))
    story.start("p", "2012-05-01")
    story.run("2012-05-01")
    heads = story.world.billing.invoices.invoices("default", limit=10)
    assert sum(head.open_minor for head in heads) == cents(expect[0])
    story.world.pay(cents(case["given"]["credit"].split()[0]), customer=CUSTOMER)
    story.run("2012-06-01")
    left = sum(story.world.credits(CUSTOMER).values())
    assert all(not open_ for _, open_ in story.world.open().values())
    assert -left == cents(expect[1])


@replays("killbill", "kb-void-and-rebill")
def test_what_was_repaired_is_voided_after_its_repair(case: Case) -> None:
    given, expect = case["given"], case["expect"]["invoices"]
    story = Settled()
    story.world.pay(cents(given["credit"]), customer=CUSTOMER)
    story.plan("p", fee("f", given["rate"]))
    story.start("p", given["created"], anchor="start")
    first = story.run(given["created"])
    story.cancel(given["cancel"])
    repair = story.run(given["cancel"])
    assert first is not None
    assert repair is not None
    with pytest.raises(Conflict, match="later invoice"):
        void_invoice(story.world.settling, first.number)
    void_invoice(story.world.settling, repair.number)
    void_invoice(story.world.settling, first.number)
    again = story.run(given["cancel"])
    assert again is not None
    for invoice, items in zip((first, repair, again), expect, strict=True):
        charged, adjusted = items
        (line,) = invoice.lines
        assert line.amount_minor == cents(charged["amount"])
        used = sum(one.amount_minor for one in invoice.credits) - invoice.carried_minor
        assert -used == cents(adjusted["amount"])
    assert sum(story.world.credits(CUSTOMER).values()) == cents(case["note"].split()[-1])
