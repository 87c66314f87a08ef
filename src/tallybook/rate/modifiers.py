"""What is done to units before, and to amounts after, a price.

A stage that changes nothing yields no step. Source: docs/algorithms/modifiers.md
"""

from collections.abc import Iterator
from decimal import Decimal

from tallybook.catalog.price import Modified, UnitConversion
from tallybook.kernel.decimals import EXACT, plain
from tallybook.rate.proration import Portion
from tallybook.rate.step import Part, Step, flat, note, percent_of, shown

_WORDS = {"ceiling": "rounded up to", "floor": "rounded down to", "half_up": "rounded to"}


def convert(conversion: UnitConversion, quantity: Decimal) -> Decimal:
    """Return a quantity of zero or more in the units sold, rounded as the conversion says.

    Rounding is decided by whole division, so that a tie is never missed or invented.
    """
    top, bottom = quantity, Decimal(1)
    if conversion.operation == "divide":
        bottom = conversion.factor
    else:
        top = EXACT.multiply(quantity, conversion.factor)
    if conversion.rounding == "none":
        return EXACT.divide(top, bottom)
    whole, rest = EXACT.divmod(EXACT.scaleb(top, conversion.precision), bottom)
    if _up(conversion, rest, bottom):
        whole = EXACT.add(whole, Decimal(1))
    return EXACT.scaleb(whole, -conversion.precision)


def _up(conversion: UnitConversion, rest: Decimal, bottom: Decimal) -> bool:
    if conversion.rounding == "ceiling":
        return bool(rest)
    return conversion.rounding == "half_up" and EXACT.multiply(rest, Decimal(2)) >= bottom


def conversion_note(conversion: UnitConversion, quantity: Decimal, name: str = "") -> Part:
    """Return what a conversion does to a quantity, in words."""
    sign = "÷" if conversion.operation == "divide" else "×"
    bare = UnitConversion(operation=conversion.operation, factor=conversion.factor)
    exact, final = convert(bare, quantity), convert(conversion, quantity)
    text = f"{shown(quantity)} {sign} {plain(conversion.factor)} = {shown(exact)}"
    if conversion.rounding != "none":
        text += f", {_WORDS[conversion.rounding]} {shown(final)}"
    return note(f"{name}: {text}" if name else text)


def free_note(used: Decimal, free: Decimal, left: Decimal) -> Part:
    """Return how many units are free, in words."""
    return note(f"{shown(used)} of {plain(free)} free units used, {shown(left)} to pay")


def is_modified(price: Modified) -> bool:
    """Whether discount, maximum or minimum may change an amount."""
    return not (
        price.discount_percent is None
        and price.maximum_amount is None
        and price.minimum_amount is None
    )


def around(price: Modified, amount: Decimal, minimum: Portion | None) -> Iterator[Part]:
    """Yield what discount, maximum and minimum change of an amount, in this order.

    Args:
        price: says which.
        amount: what the price gives, zero or more.
        minimum: the part of the period that the minimum is for; None where it is not due yet.
    """
    for change in (_discount, _maximum):
        part = change(price, amount)
        if part is not None:
            amount = EXACT.add(amount, part.exact)
            yield part
    if price.minimum_amount is not None:
        yield from _minimum(price.minimum_amount, amount, minimum)


def _discount(price: Modified, amount: Decimal) -> Part | None:
    if price.discount_percent is None or not amount:
        return None
    off = percent_of(amount, price.discount_percent)
    percent = f"{plain(price.discount_percent)} %"
    return _less(off, f"discount of {percent}: {shown(amount)} × {percent} = {shown(off)}")


def _maximum(price: Modified, amount: Decimal) -> Part | None:
    if price.maximum_amount is None or amount <= price.maximum_amount:
        return None
    over = EXACT.subtract(amount, price.maximum_amount)
    most = plain(price.maximum_amount)
    return _less(over, f"maximum of {most}: {shown(amount)} is {shown(over)} over it")


def _minimum(least: Decimal, amount: Decimal, portion: Portion | None) -> Iterator[Part]:
    if amount >= least:
        return
    if portion is None:
        yield note(f"the minimum of {plain(least)} is due when the period is over")
        return
    name = f"minimum of {plain(least)}"
    if not portion.whole():
        least = portion.of_amount(least)
        name += f" × {portion.taken} of {portion.full} {portion.unit} = {shown(least)}"
    short = EXACT.subtract(least, amount)
    if short > 0:
        text = f"{name}: {shown(amount)} is {shown(short)} short of it"
        yield Part(short, Step(text=text, amount=shown(short)))


def _less(amount: Decimal, text: str) -> Part:
    taken = amount.copy_negate()
    return Part(taken, Step(text=text, amount=shown(taken)))


def never_negative(amount: Decimal) -> Part:
    """Return what raises an amount below zero to nothing."""
    return flat(amount.copy_negate(), "never below nothing")
