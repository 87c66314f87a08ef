"""An amount and the words for it: what rating is made of."""

from collections.abc import Iterable
from decimal import Decimal

import msgspec

from tallybook.kernel.decimals import EXACT, divide, plain

ZERO = Decimal(0)
SHOWN_DECIMALS_MAX = 50
"""Products of written numbers have fewer decimals; what has more is a quotient, shown with 12."""


class Step(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One summand of an amount, in words and numbers; numbers are plain decimal texts.

    Attributes:
        text: such as 'tier 2, over 10: 7 × 5 = 35'.
        amount: what this step adds; '0' where it only says what is done to the quantity.
        quantity: units (or packages) it covers, where it multiplies.
        unit_amount: for each of them.
        tier: 1 and up, for tiered prices.
        unit: what the amount is in, where that is credits and not the currency.
    """

    text: str
    amount: str
    quantity: str | None = None
    unit_amount: str | None = None
    tier: int | None = None
    unit: str | None = None


class Part(msgspec.Struct, frozen=True):
    """A step with its amount as exact as it is carried.

    Attributes:
        once: it is due once, for however long and for however many.
    """

    exact: Decimal
    step: Step
    once: bool = False


class Rated(msgspec.Struct, frozen=True, kw_only=True):
    """What a quantity costs.

    Attributes:
        quantity: as rated, never below zero.
        amount: exact, in units of the currency; the sum of the steps that are in the currency.
        steps: how it came about.
    """

    quantity: Decimal
    amount: Decimal
    steps: tuple[Step, ...]


def shown(value: Decimal) -> str:
    """Return a number as steps spell it: every digit, or 12 decimals of an endless quotient."""
    text = plain(value)
    if len(text) <= SHOWN_DECIMALS_MAX or len(text) - text.find(".") - 1 <= SHOWN_DECIMALS_MAX:
        return text
    return plain(divide(value, Decimal(1))) if "." in text else text


def added(amounts: Iterable[Decimal]) -> Decimal:
    """Return the sum."""
    total = ZERO
    for amount in amounts:
        total = EXACT.add(total, amount)
    return total


def percent_of(amount: Decimal, percent: Decimal) -> Decimal:
    """Return a share of an amount."""
    return EXACT.multiply(amount, percent).scaleb(-2, EXACT)


def note(text: str) -> Part:
    """Return a step that says something and adds nothing."""
    return Part(ZERO, Step(text=text, amount="0"))


def flat(amount: Decimal, name: str, tier: int | None = None) -> Part:
    """Return an amount that is due once."""
    text = shown(amount)
    return Part(amount, Step(text=f"{name}: {text}", amount=text, tier=tier), once=True)


def times(quantity: Decimal, unit_amount: Decimal, name: str, tier: int | None = None) -> Part:
    """Return a quantity times what one costs."""
    amount = EXACT.multiply(quantity, unit_amount)
    many, each, result = shown(quantity), plain(unit_amount), shown(amount)
    text = f"{many} × {each} = {result}"
    step = Step(
        text=f"{name}: {text}" if name else text,
        amount=result,
        quantity=many,
        unit_amount=each,
        tier=tier,
    )
    return Part(amount, step)


def share(quantity: Decimal, rate: Decimal, name: str, tier: int | None = None) -> Part:
    """Return a percentage of an amount that events carry."""
    amount = percent_of(quantity, rate)
    many, percent, result = shown(quantity), f"{plain(rate)} %", shown(amount)
    label = f"{percent} of {name}" if name else percent
    step = Step(
        text=f"{label}: {many} × {percent} = {result}", amount=result, quantity=many, tier=tier
    )
    return Part(amount, step)
