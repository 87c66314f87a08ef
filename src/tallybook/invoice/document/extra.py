"""One-off charges and credits as lines.

Source: docs/algorithms/invoice-totals.md
"""

from decimal import Decimal

from tallybook.catalog.price import FlatPrice
from tallybook.invoice.line import Drafted, Line, Total
from tallybook.invoice.manifest import Billed, Extra, Item, Manifest, Position
from tallybook.invoice.rounding import round_line
from tallybook.kernel.decimals import divide, plain
from tallybook.kernel.money import money_text
from tallybook.kernel.timestamps import format_us
from tallybook.rate.step import Step, flat

EXTRA = "@extra"
"""Stands for the subscription of a one-off; its charge is the id of its record."""

_NONE = "0"


def extra_position(extra: Extra) -> Position:
    """Return what billing adds up over for a one-off: nothing but itself."""
    return Position(EXTRA, extra.id, extra.start_us)


def extra_order(extra: Extra) -> tuple[int, str]:
    """Return the sort key of the lines: by their beginning."""
    return extra.start_us, extra.id


def extra_lines(manifest: Manifest) -> list[Drafted]:
    """Return the lines of the one-offs, by their beginning."""
    extras = sorted(manifest.extras, key=extra_order)
    taxes = manifest.customer.taxes
    default = manifest.seller.taxes if taxes is None else taxes
    return [_drafted(manifest, extra, default) for extra in extras]


def _drafted(manifest: Manifest, extra: Extra, default: tuple[str, ...]) -> Drafted:
    minor = round_line(extra.amount, manifest.currency, "half_up")
    billed = Billed(
        group=(),
        amount_minor=minor,
        quantity=plain(extra.quantity),
        events=0,
        digest=_NONE,
        until_us=extra.end_us,
        cut=manifest.cut,
        invoice="",
    )
    item = Item(
        position=extra_position(extra),
        plan="",
        plan_version=0,
        end_us=extra.end_us,
        full_start_us=extra.start_us,
        full_end_us=extra.end_us,
        until_us=extra.end_us,
        meter=None,
        meter_version=None,
        adjustment=False,
        customer=extra.customer,
        taxes=default if extra.taxes is None else extra.taxes,
    )
    return Drafted(line=_line(manifest, extra, minor), item=item, billed=billed)


def _line(manifest: Manifest, extra: Extra, minor: int) -> Line:
    quantity, amount = plain(extra.quantity), money_text(minor, manifest.currency)
    nothing = money_text(0, manifest.currency)
    return Line(
        id="",
        position=0,
        subscription=EXTRA,
        plan="",
        plan_version=0,
        charge=extra.id,
        name=extra.name,
        adjustment=False,
        period_start=format_us(extra.start_us),
        period_end=format_us(extra.end_us),
        until=format_us(extra.end_us),
        dimensions={},
        meter=None,
        unit=extra.unit,
        cut=manifest.cut,
        quantity=quantity,
        amount=amount,
        amount_minor=minor,
        events=0,
        price=FlatPrice(amount=extra.amount),
        steps=(_step(extra),),
        now=Total(quantity=quantity, amount=amount, events=0, exact=plain(extra.amount)),
        before=Total(quantity=_NONE, amount=nothing, events=0),
        kind="one-off",
        customer=extra.customer,
    )


def _step(extra: Extra) -> Step:
    """Return the amount in words; several units with the price of one."""
    if extra.quantity in {Decimal(0), Decimal(1)}:
        return flat(extra.amount, "one-off").step
    each, quantity = plain(divide(extra.amount, extra.quantity)), plain(extra.quantity)
    return Step(
        text=f"one-off: {quantity} × {each} = {plain(extra.amount)}",
        amount=plain(extra.amount),
        quantity=quantity,
        unit_amount=each,
    )
