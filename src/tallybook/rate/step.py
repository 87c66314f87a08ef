"""An amount and the words for it: what rating is made of."""

from collections.abc import Iterable
from decimal import Decimal

import msgspec

from tallybook.kernel.decimals import EXACT, divide, plain

ZERO = Decimal(0)
HUNDRED = Decimal(100)
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
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int), "amounts are finite"
    endless = -exponent > SHOWN_DECIMALS_MAX
    return plain(divide(value, Decimal(1)) if endless else value)


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
    step = Step(text=f"{name}: {shown(amount)}", amount=shown(amount), tier=tier)
    return Part(amount, step, once=True)


def times(quantity: Decimal, unit_amount: Decimal, name: str, tier: int | None = None) -> Part:
    """Return a quantity times what one costs."""
    amount = EXACT.multiply(quantity, unit_amount)
    sum_text = f"{shown(quantity)} × {plain(unit_amount)} = {shown(amount)}"
    step = Step(
        text=f"{name}: {sum_text}" if name else sum_text,
        amount=shown(amount),
        quantity=shown(quantity),
        unit_amount=plain(unit_amount),
        tier=tier,
    )
    return Part(amount, step)


def share(quantity: Decimal, rate: Decimal, name: str, tier: int | None = None) -> Part:
    """Return a percentage of an amount that events carry."""
    amount = percent_of(quantity, rate)
    label = f"{plain(rate)} % of {name}" if name else f"{plain(rate)} %"
    step = Step(
        text=f"{label}: {shown(quantity)} × {plain(rate)} % = {shown(amount)}",
        amount=shown(amount),
        quantity=shown(quantity),
        tier=tier,
    )
    return Part(amount, step)
