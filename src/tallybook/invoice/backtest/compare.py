"""Two catalogs side by side: what each gives for one customer, charge by charge.

Pure. Amounts are sums of lines, each rounded once, before coupons and taxes.

Source: docs/algorithms/backtest.md
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Literal, TypedDict

import msgspec

from tallybook.catalog.customer import Customer
from tallybook.invoice.line import Line
from tallybook.kernel.decimals import EXACT, plain
from tallybook.kernel.money import money_text

Side = Literal["present", "proposed"]
Place = tuple[str, str]
"""Keys of a subscription and of one of its charges."""


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """What a charge comes to in a span of time."""

    name: str
    plan: str
    quantity: Decimal
    amount_minor: int


Figures = Mapping[Place, Figure]


class ChargeCompared(msgspec.Struct, frozen=True, kw_only=True):
    """One charge of one subscription on both sides; a side that does not have it is zero.

    Attributes:
        plan: that has it, the proposed one first.
        name: as its lines would show it.
        present, proposed: amounts in the customer's currency.
        difference: proposed less present.
    """

    subscription: str
    plan: str
    charge: str
    name: str
    present_quantity: str
    proposed_quantity: str
    present: str
    present_minor: int
    proposed: str
    proposed_minor: int
    difference: str
    difference_minor: int


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """One customer on both sides, or all customers of a currency (`customer` is '' then)."""

    customer: str
    name: str
    currency: str
    present: str
    present_minor: int
    proposed: str
    proposed_minor: int
    difference: str
    difference_minor: int
    charges: tuple[ChargeCompared, ...] = ()


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """A customer that one of the catalogs cannot price, and why."""

    customer: str
    side: Side
    code: str
    message: str


class Backtest(msgspec.Struct, frozen=True, kw_only=True):
    """What a proposed catalog changes for a span of time.

    Attributes:
        start, end: RFC 3339, half-open.
        cut: snapshot of the usage that both sides were priced with.
        changes: what an apply of the proposed catalog would change, one line each.
        totals: by currency.
        customers: those that either side has something to charge, by key.
    """

    start: str
    end: str
    cut: int
    changes: tuple[str, ...]
    totals: tuple[Compared, ...]
    customers: tuple[Compared, ...]
    failed: tuple[Failed, ...] = ()


def figures(upto: Iterable[Line], before: Iterable[Line]) -> Figures:
    """Return what falls into a span: what was billed up to its end less up to its start."""
    found: dict[Place, Figure] = {}
    for sign, lines in ((1, upto), (-1, before)):
        for line in lines:
            place = (line.subscription, line.charge)
            was = found.get(place)
            quantity = EXACT.multiply(Decimal(sign), Decimal(line.quantity))
            found[place] = Figure(
                name=line.name if was is None else was.name,
                plan=line.plan,
                quantity=quantity if was is None else EXACT.add(was.quantity, quantity),
                amount_minor=sign * line.amount_minor + (0 if was is None else was.amount_minor),
            )
    return {place: one for place, one in found.items() if one.quantity or one.amount_minor}


def compared(customer: Customer, present: Figures, proposed: Figures) -> Compared:
    """Return one customer on both sides."""
    charges = tuple(
        _charge(customer.currency, place, present.get(place), proposed.get(place))
        for place in sorted(present.keys() | proposed.keys())
    )
    return Compared(
        customer=customer.key,
        name=customer.name,
        charges=charges,
        **_amounts(
            customer.currency,
            sum(charge.present_minor for charge in charges),
            sum(charge.proposed_minor for charge in charges),
        ),
        currency=customer.currency,
    )


def totals(customers: Iterable[Compared]) -> tuple[Compared, ...]:
    """Return the sums by currency."""
    sums: dict[str, tuple[int, int]] = {}
    for one in customers:
        present, proposed = sums.get(one.currency, (0, 0))
        sums[one.currency] = (present + one.present_minor, proposed + one.proposed_minor)
    return tuple(
        Compared(customer="", name="", currency=code, **_amounts(code, *sums[code]))
        for code in sorted(sums)
    )


class _Amounts(TypedDict):
    present: str
    present_minor: int
    proposed: str
    proposed_minor: int
    difference: str
    difference_minor: int


def _amounts(currency: str, present: int, proposed: int) -> _Amounts:
    return {
        "present": money_text(present, currency),
        "present_minor": present,
        "proposed": money_text(proposed, currency),
        "proposed_minor": proposed,
        "difference": money_text(proposed - present, currency),
        "difference_minor": proposed - present,
    }


_NONE = Figure(name="", plan="", quantity=Decimal(0), amount_minor=0)


def _charge(
    currency: str, place: Place, present: Figure | None, proposed: Figure | None
) -> ChargeCompared:
    shown = proposed or present
    assert shown is not None, "a charge is on one side at least"
    old, new = present or _NONE, proposed or _NONE
    return ChargeCompared(
        subscription=place[0],
        plan=shown.plan,
        charge=place[1],
        name=shown.name,
        present_quantity=plain(old.quantity),
        proposed_quantity=plain(new.quantity),
        **_amounts(currency, old.amount_minor, new.amount_minor),
    )
