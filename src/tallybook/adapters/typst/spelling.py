"""Numbers, money and dates as a locale writes them. Nothing passes through a float."""

import re
from datetime import datetime
from decimal import Decimal

from babel import Locale, UnknownLocaleError
from babel.dates import format_date, format_datetime, format_skeleton, format_time
from babel.numbers import format_currency, format_decimal

from tallybook.kernel.decimals import divide, plain
from tallybook.kernel.money import exponent, money_text
from tallybook.kernel.period import zone
from tallybook.kernel.timestamps import from_us, parse_rfc3339

QUANTITY_DECIMALS = 6
MIDNIGHT = (0, 0, 0, 0)
_WIDE_YEN = "\uffe5"
_CODE = re.compile(r"([A-Z]{3})(?=\d)")
_UNWRITTEN = re.compile("[\u0590-\u1fff\u200f\u2c80-\u2e7f]")
"""Letters that the fonts may lack: neither Latin, Greek, Cyrillic nor of East Asia."""


class Spelling:
    """Spells for one document.

    Args:
        locale: such as de_DE; its language, else American English, where it is unknown.
        currency: ISO 4217.
        zone_name: whose dates are written.
    """

    def __init__(self, locale: str, currency: str, zone_name: str) -> None:
        """Choose the locale."""
        self.locale = _known(locale) or _known(locale.partition("_")[0]) or Locale("en", "US")
        self.currency = currency
        self.zone = zone(zone_name)

    def money(self, amount: str) -> str:
        """Return an amount with the currency's sign and digits."""
        return _spelled(format_currency(Decimal(amount), self.currency, locale=self.locale))

    def minor(self, amount_minor: int) -> str:
        """Return an amount that is in minor units."""
        return self.money(money_text(amount_minor, self.currency))

    def price(self, amount: str) -> str:
        """Return an exact amount: all of its digits, and no fewer than the currency's."""
        value = Decimal(amount)
        digits = value.as_tuple().exponent
        if isinstance(digits, int) and -digits <= exponent(self.currency):
            return self.money(amount)
        return _spelled(
            format_currency(value, self.currency, locale=self.locale, decimal_quantization=False)
        )

    def number(self, value: str) -> str:
        """Return a quantity with up to six decimals; the explanation of the line has all."""
        text = plain(divide(Decimal(value), Decimal(1), QUANTITY_DECIMALS))
        return str(format_decimal(Decimal(text), locale=self.locale, decimal_quantization=False))

    def percent(self, value: str) -> str:
        """Return a percentage, such as '19 %'."""
        return f"{self.number(value)}\u00a0%"

    def country(self, code: str) -> str:
        """Return the name of a country; the code itself where it has none."""
        return str(self.locale.territories.get(code, code))

    def word(self, text: str) -> str:
        """Return a plain number, or an ISO date, as the locale writes it."""
        if parse_rfc3339(text) is not None:
            return self.moment(text)
        if "-" in text[1:]:
            day = datetime.strptime(text, "%Y-%m-%d")  # noqa: DTZ007 - a date of the customer's
            return self._date(day)
        return self.number(text)

    def day(self, text: str, *, before: bool = False) -> str:
        """Return a date; `before` is the date of the instant just before."""
        return self._date(self.local(text, before=before))

    def moment(self, text: str) -> str:
        """Return a date with its time."""
        local = self.local(text)
        written = format_datetime(local, "medium", locale=self.locale)
        return _readable(written, local, "%Y-%m-%d %H:%M")

    def span(self, start: str, end: str) -> str:
        """Return a half-open range of time: its days, the last one included, or to the minute."""
        if parse_rfc3339(end) == parse_rfc3339(start):
            return self.day(start)
        local = self.local(end)
        if (local.hour, local.minute, local.second, local.microsecond) != MIDNIGHT:
            last = self.moment(end)
        else:
            last = self.day(end, before=True)
        first = self.day(start)
        return first if first == last else f"{first} – {last}"

    def window(self, text: str, size: str) -> str:
        """Return the short name of a bar."""
        local = self.local(text)
        if size == "DAY":
            name = format_skeleton("MMMd", local, locale=self.locale)
            return _readable(name, local, "%m-%d")
        return _readable(format_time(local, "short", locale=self.locale), local, "%H:%M")

    def local(self, text: str, *, before: bool = False) -> datetime:
        """Return an instant in the customer's zone; `before` is the instant just before it."""
        us = parse_rfc3339(text)
        assert us is not None, "a document's times are RFC 3339"
        return from_us(us - 1 if before else us).astimezone(self.zone)

    def _date(self, local: datetime) -> str:
        return _readable(format_date(local, "medium", locale=self.locale), local, "%Y-%m-%d")


def _known(name: str) -> Locale | None:
    try:
        return Locale.parse(name)
    except (UnknownLocaleError, ValueError):
        return None


def _spelled(text: str) -> str:
    """Return money with a sign that the fonts have, and a space between a code and the digits."""
    return _CODE.sub("\\1\u00a0", str(text).replace(_WIDE_YEN, "¥"))


def _readable(text: str, local: datetime, plain_format: str) -> str:
    """Return a date as its locale writes it, or in digits where the fonts may lack its letters."""
    return local.strftime(plain_format) if _UNWRITTEN.search(text) else text
