"""The worked cases of totals by name, and what tests of them read off an invoice."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from tallybook.invoice.document import Invoice
from tallybook.invoice.line import Line
from tallybook.kernel.money import from_minor
from tallybook.kernel.period import zone
from tests.golden.vectors import Case, cases
from tests.support.composing import (
    Fee,
    at,
)

UTC = zone("UTC")


def one(system: str, name: str) -> Case:
    """Return a case by its name."""
    areas = {**AREAS}[system]
    return next(case for case in cases(system, *areas) if case["id"] == name)


def usd(minor: int) -> Decimal:
    return from_minor(minor, "USD")


def discounts(invoice: Invoice) -> list[int]:
    return [line.discount_minor for line in invoice.lines]


def tax_minor(line: Line) -> int:
    return sum(part.amount_minor for part in line.taxes)


def numbered(minors: Sequence[int], taxes: Sequence[tuple[str, ...]] = ()) -> list[Fee]:
    """Return a fee of each amount."""
    keys = taxes or [()] * len(minors)
    return [Fee(key=f"f{n}", minor=minor, taxes=keys[n]) for n, minor in enumerate(minors)]


AREAS = {
    "openmeter": ("invoice", "invoice-collection"),
    "lago": (
        "coupon", "coupon.stack", "coupon.tax.full_invoice",
        "credit_note.apply.fifo", "credit_note.apply.partial",
        "invoice.totals", "invoice.totals.provider_tax",
        "minimum_commitment.in_arrears", "minimum_commitment.in_advance",
        "minimum_commitment.downgrade",
        "tax.mixed_rates_coupon_true_up", "tax.invoice_level.coupon", "tax.invoice_level.zero",
        "tax.precedence", "proration.terminate.tax",
        "prepaid.cap", "prepaid.priority", "prepaid.fee_type_limits", "progressive_billing",
    ),
    "killbill": ("tax.plugin", "credit", "hierarchy"),
}  # fmt: skip


def assert_totals(invoice: Invoice, told: dict[str, Any]) -> None:
    """Compare the figures that a case names with those of an invoice."""
    net = invoice.subtotal_minor - invoice.discount_minor
    mine = {
        "fees_amount_cents": invoice.subtotal_minor,
        "coupons_amount_cents": invoice.discount_minor,
        "sub_total_excluding_taxes_amount_cents": net,
        "taxes_amount_cents": invoice.tax_minor,
        "sub_total_including_taxes_amount_cents": invoice.total_minor,
        "total_amount_cents": invoice.payable_minor,
        "prepaid_credit_amount_cents": sum(one.amount_minor for one in invoice.prepaid),
    }
    assert {name: mine[name] for name in told} == told


def span_of(dates: Sequence[str]) -> tuple[int, int, int, int]:
    start, end, full_start, full_end = (at(text) for text in dates)
    return start, end, full_start, full_end
