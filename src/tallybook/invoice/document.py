"""The invoice as a document: what the customer reads, and the canonical JSON that is kept.

A function of manifest, catalog versions and usage at the cut (guarantee 5). The number is the one
thing given to it at finalization.
"""

from collections.abc import Mapping

import msgspec

from tallybook.catalog.catalog import Catalog
from tallybook.catalog.customer import Bank, Place
from tallybook.invoice.funds import CouponUsed, CreditUsed, WalletUsed
from tallybook.invoice.line import Drafted, Line, draft_lines, numbered
from tallybook.invoice.manifest import (
    Group,
    Item,
    Manifest,
    Position,
    canonical,
    invoice_id,
)
from tallybook.invoice.rating import Fact
from tallybook.kernel.errors import Corrupt, Invalid
from tallybook.kernel.money import money_text
from tallybook.kernel.timestamps import format_us

Facts = Mapping[Position, Mapping[Group, Fact]]
"""Cumulated usage of each item, by dimension value."""

NUMBER_DIGITS = 6
DRAFT_NUMBER = "DRAFT"


class Party(msgspec.Struct, frozen=True, kw_only=True):
    """Seller or customer as the document shows them."""

    name: str
    address: tuple[str, ...]
    email: str
    tax_id: str
    place: Place = Place()


class TaxTotal(msgspec.Struct, frozen=True, kw_only=True):
    """One tax of an invoice: computed on the sum of its bases and rounded once.

    Attributes:
        rate: percent, plain decimal text.
        base: net of the tax: what it is computed on, or what remains where prices contain it.
        category: UNTDID 5305.
    """

    tax: str
    name: str
    rate: str
    inclusive: bool
    category: str
    reason: str
    base: str
    base_minor: int
    amount: str
    amount_minor: int


class Invoice(msgspec.Struct, frozen=True, kw_only=True):
    """An invoice; every number is a plain decimal text, every time RFC 3339.

    Attributes:
        id: derived from the manifest.
        number: gapless in its series, assigned at finalization.
        locale: how a renderer writes numbers and dates.
        zone: whose dates a renderer writes.
        period_start: the earliest start of the lines' periods, adjustments aside.
        period_end: the latest end of usage billed.
        subtotal: sum of the lines, before coupons.
        discounts: what each coupon took off.
        taxes: by rate.
        total: subtotal less discounts plus the taxes that prices do not contain.
        credits: what credits paid of it.
        prepaid: what wallets paid of it.
        carried: a total below zero, which becomes the customer's credit; 0 or more.
        payable: what is left to pay: total less credits and prepaid, never below zero.
        reference: to be named in the payment.
        replaces: number of the voided invoice that it is issued in place of; '' for none.
    """

    id: str
    number: str
    series: str
    issued: str
    due: str
    seller: Party
    customer_key: str
    customer: Party
    locale: str
    zone: str
    currency: str
    period_start: str
    period_end: str
    lines: tuple[Line, ...]
    total: str
    total_minor: int
    notes: tuple[str, ...]
    manifest: Manifest
    subtotal: str = "0"
    subtotal_minor: int = 0
    discounts: tuple[CouponUsed, ...] = ()
    discount_minor: int = 0
    taxes: tuple[TaxTotal, ...] = ()
    tax_minor: int = 0
    credits: tuple[CreditUsed, ...] = ()
    prepaid: tuple[WalletUsed, ...] = ()
    carried: str = "0"
    carried_minor: int = 0
    payable: str = "0"
    payable_minor: int = 0
    reference: str = ""
    replaces: str = ""
    bank: Bank = Bank()
    terms: str = ""


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """An invoice without a number, and the state it leaves behind."""

    invoice: Invoice
    lines: tuple[Drafted, ...]


def item_drafts(item: Item, catalog: Catalog, facts: Facts, cut: int, zone: str) -> list[Drafted]:
    """Return the lines of one item.

    Raises:
        Missing: a plan or meter version that the item names is not in the catalog.
    """
    plan = catalog.plan(item.plan, item.plan_version)
    meter = None if item.meter is None else catalog.meter(item.meter, item.meter_version)
    return list(draft_lines(item, plan, meter, facts.get(item.position, {}), cut, zone))


def compose(manifest: Manifest, catalog: Catalog, facts: Facts) -> Draft | None:
    """Return the invoice that a manifest makes, or None where nothing differs from before.

    Args:
        manifest: its items may include some without a line; the invoice's manifest has the rest.
        catalog: holds every version that the items name.
        facts: usage at the manifest's cut.
    """
    by_item = [
        (item, item_drafts(item, catalog, facts, manifest.cut, manifest.customer.zone))
        for item in manifest.items
    ]
    kept = msgspec.structs.replace(
        manifest, items=tuple(item for item, drafts in by_item if drafts)
    )
    if not kept.items:
        return None
    identity = invoice_id(kept)
    drafts = [draft for _, drafts in by_item for draft in drafts]
    lines = tuple(numbered(draft, identity, at) for at, draft in enumerate(drafts, 1))
    return Draft(invoice=_invoice(kept, identity, tuple(d.line for d in lines)), lines=lines)


def _invoice(manifest: Manifest, identity: str, lines: tuple[Line, ...]) -> Invoice:
    seller, customer = manifest.seller, manifest.customer
    total = sum(line.amount_minor for line in lines)
    current = [line for line in lines if not line.adjustment] or list(lines)
    return Invoice(
        id=identity,
        number=DRAFT_NUMBER,
        series=seller.series,
        issued=format_us(manifest.issued_us),
        due=format_us(manifest.due_us),
        seller=Party(
            name=seller.name,
            address=seller.address,
            email=seller.email,
            tax_id=seller.tax_id,
            place=seller.place,
        ),
        customer_key=customer.key,
        customer=Party(
            name=customer.name,
            address=customer.address,
            email=customer.email,
            tax_id=customer.tax_id,
            place=customer.place,
        ),
        locale=customer.locale,
        zone=customer.zone,
        currency=manifest.currency,
        period_start=min(line.period_start for line in current),
        period_end=max(line.until for line in current),
        lines=lines,
        total=money_text(total, manifest.currency),
        total_minor=total,
        notes=seller.notes,
        manifest=manifest,
        subtotal=money_text(total, manifest.currency),
        subtotal_minor=total,
        payable=money_text(max(total, 0), manifest.currency),
        payable_minor=max(total, 0),
        carried=money_text(max(-total, 0), manifest.currency),
        carried_minor=max(-total, 0),
        reference=customer.reference,
        replaces=manifest.replaces,
        bank=seller.bank,
        terms=seller.terms,
    )


def number_text(series: str, number: int) -> str:
    """Return the number as people read it, such as INV-000042."""
    return f"{series}-{number:0{NUMBER_DIGITS}d}"


def number_place(text: str) -> tuple[str, int]:
    """Return series and ordinal of a number, the order of a list; raises Invalid."""
    series, _, ordinal = text.rpartition("-")
    if not series or not ordinal.isdecimal() or not ordinal.isascii():
        raise Invalid(f"'{text}' is not an invoice number such as INV-000042", field="number")
    return series, int(ordinal)


def with_number(draft: Draft, number: int) -> Invoice:
    """Return the invoice with the number it was given."""
    invoice = draft.invoice
    return msgspec.structs.replace(invoice, number=number_text(invoice.series, number))


def encode_invoice(invoice: Invoice) -> bytes:
    """Return the canonical JSON that is stored and recomputed."""
    total = sum(line.amount_minor for line in invoice.lines)
    assert total == invoice.total_minor, "the total is the sum of the lines"
    return canonical(invoice)


def decode_invoice(body: bytes | str) -> Invoice:
    """Return a stored invoice.

    Raises:
        Corrupt: the stored JSON is not an invoice.
    """
    try:
        return msgspec.json.decode(body, type=Invoice)
    except msgspec.DecodeError as error:
        raise Corrupt(f"a stored invoice cannot be read: {error}") from error
