"""The input manifest: everything an invoice is a function of, besides the stored events.

Source: DECISIONS 30; guarantee 5.
"""

from decimal import Decimal

import msgspec

from tallybook.catalog.customer import Customer, Seller
from tallybook.catalog.plan import Share
from tallybook.catalog.price import Price
from tallybook.catalog.tax import Tax
from tallybook.invoice.funds import NOTHING, Funds
from tallybook.kernel.decimals import encode_plain
from tallybook.kernel.ids import derived_id

RULES_VERSION = 2
"""Grows when rating, rounding or the canonical JSON change their meaning."""

Group = tuple[str | None, ...]
"""Values of a charge's `split_by` dimensions, in its order; () where it is not split."""


class Position(msgspec.Struct, frozen=True, order=True):
    """What billing adds up over: one charge of one stored period of one subscription."""

    subscription: str
    charge: str
    start_us: int


class Billed(msgspec.Struct, frozen=True, kw_only=True):
    """What earlier invoices billed of a position and dimension value, cumulated.

    Attributes:
        amount_minor: sum of the lines' amounts.
        quantity: sum of the lines' quantities, plain decimal text.
        events: events counted by the newest of them.
        digest: their digest, decimal text.
        until_us: usage before this is in it.
        cut: snapshot of the newest of them.
        invoice: id of the newest of them.
        discount_minor: sum of the lines' discounts: what a credit of it does not give back.
        forgiven_minor: of the amount, what credit notes gave back: no re-rating credits it again.
    """

    group: Group
    amount_minor: int
    quantity: str
    events: int
    digest: str
    until_us: int
    cut: int
    invoice: str
    discount_minor: int = 0
    forgiven_minor: int = 0

    def after(self, rated_minor: int) -> int:
        """Return what is billed in all, once the charge is rated at an amount.

        That amount; but not less than what credit notes gave back of it.
        """
        return max(rated_minor, min(self.forgiven_minor, self.amount_minor))


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One position to rate up to an instant, and what was billed of it before.

    Attributes:
        end_us: first instant after what counts; not above `start_us` where nothing counts.
        full_start_us, full_end_us: the whole period, the denominator of proration.
        until_us: usage before this counts now.
        meter: key of the meter priced; None for a fixed fee.
        adjustment: its period was closed before.
        before: by dimension value, in order.
        customer: key of the customer whose it is, where another one pays; '' for the payer.
        phase: key of the plan's phase; '' for none.
        price: in place of the plan's own, for this subscription; None for the plan's.
        quantities: units of a fixed fee, each from an instant on; () for 1.
        minimum: of a commitment, for the whole period; None for a charge.
        taxes: keys of the taxes of its lines.
    """

    position: Position
    plan: str
    plan_version: int
    end_us: int
    full_start_us: int
    full_end_us: int
    until_us: int
    meter: str | None
    meter_version: int | None
    adjustment: bool
    before: tuple[Billed, ...] = ()
    customer: str = ""
    phase: str = ""
    price: Price | None = None
    quantities: tuple[tuple[int, Decimal], ...] = ()
    minimum: Decimal | None = None
    taxes: tuple[str, ...] = ()


class Extra(msgspec.Struct, frozen=True, kw_only=True):
    """A one-off charge or credit, put on the customer's next invoice or on one of its own.

    Attributes:
        id: of its record; it is billed once.
        amount: exact, in the invoice's currency, all units together; negative for a credit.
        start_us: first instant of what it is for.
        end_us: first instant after it.
        taxes: keys; None for those of the customer.
        shares: parts of its amount that belong to others.
        customer: key of the customer whose it is, where another one pays; '' for the payer.
    """

    id: str
    name: str
    amount: Decimal
    start_us: int
    end_us: int
    quantity: Decimal = Decimal(1)
    unit: str = ""
    taxes: tuple[str, ...] | None = None
    shares: tuple[Share, ...] = ()
    customer: str = ""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The inputs of one invoice.

    Attributes:
        run: the billing run that made it.
        request: what the run was asked for: '2026-05', or 'until' and an instant.
        sequence: 1 for the customer's first invoice; no number is skipped or used twice.
        prior: id of the customer's invoice before this one.
        customer: as it was, with the subjects whose usage counts.
        cut: snapshot; only events with commit_seq <= cut count.
        catalog_version: of the catalog that was read.
        issued_us: the invoice's date.
        due_us: when it is to be paid.
        tz: version of the time zone data.
        items: those that have a line, or that a line depends on.
        members: customers that this one pays for, with the subjects whose usage counts.
        extras: one-off charges, each of them a line.
        funds: what reduces it.
        taxes: every tax that its lines may have, by key.
        replaces: number of the voided invoice that it is issued in place of; '' for none.
    """

    tenant: str
    run: str
    request: str
    sequence: int
    prior: str | None
    customer: Customer
    seller: Seller
    currency: str
    cut: int
    catalog_version: int
    issued_us: int
    due_us: int
    tz: str
    items: tuple[Item, ...]
    members: tuple[Customer, ...] = ()
    extras: tuple[Extra, ...] = ()
    funds: Funds = NOTHING
    taxes: tuple[Tax, ...] = ()
    replaces: str = ""
    rules: int = RULES_VERSION


def canonical(value: msgspec.Struct) -> bytes:
    """Return the canonical JSON of a value: keys sorted, no space, UTF-8, no float anywhere.

    Equal values have equal bytes, on every machine.
    """
    return encode_plain(value, order="sorted")


def invoice_id(manifest: Manifest) -> str:
    """Return the id of the invoice that a manifest makes: derived, never random."""
    return derived_id("inv", canonical(manifest))
