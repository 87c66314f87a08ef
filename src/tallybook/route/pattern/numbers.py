"""Numbers of JSON as exact values: never a float."""

from decimal import Decimal, InvalidOperation

from tallybook.route.pattern.terms import Beyond, Number

DIGITS_MAX = 4000
"""Of a number in an event or pattern; Python reads no longer integer."""


def exact(text: str) -> Number | Beyond:
    """Return a number of JSON exactly."""
    try:
        return Decimal(text)
    except InvalidOperation:
        return Beyond(text)


def exact_int(text: str) -> Number | Beyond:
    """Return an integer of JSON exactly."""
    return int(text) if len(text) <= DIGITS_MAX else exact(text)
