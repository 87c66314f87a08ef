"""Amounts, texts and instants as they are sent: parsed once, refused with the field's name."""

from decimal import Decimal

from tallybook.kernel.decimals import EXACT, check_numbers
from tallybook.kernel.errors import Invalid
from tallybook.kernel.limits import NAME_CHARS_MAX
from tallybook.kernel.money import exponent, to_minor
from tallybook.kernel.timestamps import parse_rfc3339

AMOUNT_MAX = Decimal("1e15")
REASON_CHARS_MAX = 1024


def minor_of(field: str, amount: Decimal, currency: str) -> int:
    """Return an amount in minor units; raises Invalid where it has more digits than there are."""
    digits = exponent(currency)
    check_numbers(amount, field)  # also of queries, which no body's check saw
    if amount.copy_abs() >= AMOUNT_MAX:
        raise Invalid(f"{field} is out of range", field=field)
    if EXACT.scaleb(amount, digits) % 1:
        raise Invalid(f"{field} has at most {digits} decimals in {currency}", field=field)
    return to_minor(amount, currency)


def written(field: str, text: str, chars_max: int = NAME_CHARS_MAX) -> str:
    """Return a text on one line, of people's words, without blanks around it; raises Invalid."""
    bare = text.strip()
    if len(bare) > chars_max or not bare.isprintable():
        raise Invalid(f"{field} is one line of at most {chars_max} characters", field=field)
    return bare


def instant_of(field: str, text: str | None, now_us: int) -> int:
    """Return an instant that is not in the future; now where there is none; raises Invalid."""
    if text is None:
        return now_us
    instant = parse_rfc3339(text)
    if instant is None or instant > now_us:
        message = f"{field} is RFC 3339 and not in the future, such as 2026-11-05T10:00:00Z"
        raise Invalid(message, field=field)
    return instant
