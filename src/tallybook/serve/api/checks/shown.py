"""A check as clients ask for it and read it."""

from decimal import Decimal

import msgspec

from tallybook.kernel.decimals import check_numbers, plain
from tallybook.kernel.errors import Invalid
from tallybook.kernel.timestamps import format_us
from tallybook.serve.api.checks.keeping import Checked
from tallybook.settle.balance import NOTHING

NUMBERS = msgspec.json.Encoder(decimal_format="number")
"""Writes balances as OpenMeter's clients read them: numbers, exact."""


class PeriodView(msgspec.Struct, frozen=True, rename={"start": "from", "end": "to"}):
    """From when to when."""

    start: str
    end: str


class ValueView(msgspec.Struct, frozen=True, kw_only=True):
    """May it be used? In the words of OpenMeter's clients.

    Attributes:
        hasAccess: whether.
        balance: what is left; usage: of this usage period; overage: what no grant covers.
        totalAvailableGrantAmount: what there was to use in this usage period.
        config: of a static entitlement.
        period: the present usage period of a metered one.
        at: the instant it is for; cut: the snapshot of events that it is exact for.
    """

    hasAccess: bool  # noqa: N815 - as OpenMeter's clients read it
    balance: Decimal
    usage: Decimal
    overage: Decimal
    totalAvailableGrantAmount: Decimal  # noqa: N815 - likewise
    at: str
    cut: int | None = None
    config: str | None = None
    period: PeriodView | None = None


def value_view(checked: Checked) -> ValueView:
    """Return an answer as the API shows it."""
    told, period = checked.value, checked.value.period
    return ValueView(
        hasAccess=told.access,
        balance=short(told.balance),
        usage=short(told.usage),
        overage=short(told.overage),
        totalAvailableGrantAmount=short(told.available),
        at=format_us(checked.at_us),
        cut=checked.cut,
        config=told.config or None,
        period=None
        if period is None
        else PeriodView(format_us(period.start_us), format_us(period.end_us)),
    )


def shown_value(checked: Checked) -> bytes:
    """Return an answer as it is sent."""
    return NUMBERS.encode(value_view(checked))


def short(number: Decimal) -> Decimal:
    """Return a number without zeros that say nothing."""
    return Decimal(plain(number))


def wanted_of(text: str | None) -> Decimal:
    """Return how much is wanted, 0 where that is not said; raises Invalid."""
    if text is None:
        return NOTHING
    try:
        amount = Decimal(text)
    except ArithmeticError as error:
        raise Invalid("amount must be a number", field="amount") from error
    check_numbers(amount, "amount")
    if amount < 0:
        raise Invalid("amount must be 0 or more", field="amount")
    return amount
