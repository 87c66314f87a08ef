"""Pages from templates: everything is escaped, undefined names fail, numbers keep their digits."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from litestar import Response

from tallybook.kernel.decimals import plain
from tallybook.kernel.errors import TallybookError
from tallybook.kernel.money import money_text
from tallybook.kernel.timestamps import from_us, parse_rfc3339
from tallybook.serve.api.common.problem import problem_of
from tallybook.serve.console.menu import MENU

CSP = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self';"
    " frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {"content-security-policy": CSP}


def html(template: str, code: int = 200, **context: Any) -> Response[bytes]:
    """Return a page."""
    text = environment().get_template(template).render(**context)
    return Response(
        text.encode(), status_code=code, media_type="text/html; charset=utf-8", headers=HEADERS
    )


def refusal_page(error: TallybookError) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """Return the page that tells a person why they were not let in, with its headers."""
    template = environment().get_template("error.html")
    body = template.render(problem=problem_of(error), session=None, here="").encode()
    headers = {"content-type": "text/html; charset=utf-8"} | HEADERS
    return body, [(name.encode(), text.encode()) for name, text in headers.items()]


@cache
def environment() -> Environment:
    """Return the templates with their filters."""
    made = Environment(
        loader=PackageLoader("tallybook.serve.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "number": number,
        "money": money,
        "moment": moment,
        "border": border,
        "clock": clock,
        "date": date,
        "days": days,
        "day": day,
        "pretty": pretty,
        "unit": unit,
        "plural": plural,
        "minor": minor,
        "signed": signed,
        "every": every,
    }
    made.globals["menu"] = MENU
    return made


def number(value: Decimal | int | str | None) -> str:
    """Return a number with its thousands apart and all its digits; – for none."""
    if value is None:
        return "–"
    exact = Decimal(value)
    whole, point, fraction = plain(abs(exact)).partition(".")
    return f"{'−' if exact < 0 else ''}{int(whole):,}{point}{fraction}"


def money(text: str) -> str:
    """Return money with its thousands apart; the digits after the point stay."""
    whole, point, digits = text.removeprefix("-").partition(".")
    return f"{'−' if text.startswith('-') else ''}{int(whole):,}{point}{digits}"


def minor(amount: int, currency: str) -> str:
    """Return minor units as money with its thousands apart."""
    return money(money_text(amount, currency))


def signed(text: str) -> str:
    """Return money with a plus where it is above zero."""
    found = money(text)
    return found if found.startswith("−") or not Decimal(text) else f"+{found}"


_EVERY = {
    "P1D": "day",
    "P1W": "week",
    "P7D": "week",
    "P1M": "month",
    "P3M": "quarter",
    "P6M": "half-year",
    "P1Y": "year",
    "P12M": "year",
}
_LETTERS = {"D": "days", "W": "weeks", "M": "months", "Y": "years"}


def every(interval: str) -> str:
    """Return how long a period is, in words: month, 14 days; as it is written where it is odd."""
    if interval in _EVERY:
        return _EVERY[interval]
    amount, letter = interval[1:-1], interval[-1:]
    return f"{amount} {_LETTERS[letter]}" if amount.isdecimal() and letter in _LETTERS else interval


def _datetime(value: str | int, zone: str) -> datetime | None:
    us = value if isinstance(value, int) else parse_rfc3339(value)
    return None if us is None else from_us(us).astimezone(UTC if zone == "UTC" else ZoneInfo(zone))


def moment(value: str | int, zone: str = "UTC") -> str:
    """Return an instant to the second, in UTC or another zone."""
    found = _datetime(value, zone)
    return str(value) if found is None else f"{found:%Y-%m-%d %H:%M:%S}"


def border(value: str | int) -> str:
    """Return an instant where a range begins or ends: at midnight the date alone, in UTC."""
    return moment(value).removesuffix(" 00:00:00")


def clock(value: str | int) -> str:
    """Return an instant's time of day, in UTC."""
    found = _datetime(value, "UTC")
    return "" if found is None else f"{found:%H:%M:%S}"


def date(value: str | int) -> str:
    """Return an instant's date as numbers, in UTC."""
    return day(value)


def day(value: str | int, zone: str = "UTC") -> str:
    """Return an instant's date, in UTC or another zone."""
    found = _datetime(value, zone)
    return str(value) if found is None else f"{found:%Y-%m-%d}"


def days(start: str | int, end: str | int, zone: str = "UTC") -> str:
    """Return a half-open range as documents write it: its days, the last one included.

    Where it ends within a day, the time of its end is told.
    """
    first, last = day(start, zone), moment(end, zone)
    if last.endswith(" 00:00:00") and _datetime(start, zone) != _datetime(end, zone):
        before = _datetime(end, zone)
        last = last if before is None else f"{before - timedelta(days=1):%Y-%m-%d}"
    last = last.removesuffix(" 00:00:00")
    return first if first == last else f"{first} – {last}"


def unit(text: str) -> str:
    """Return a unit for people: UCUM's braces around counted things are left out."""
    return text.replace("{", "").replace("}", "")


def pretty(value: Any) -> str:
    """Return JSON indented, for people."""
    raw = bytes(value) if isinstance(value, msgspec.Raw) else msgspec.json.encode(value)
    return msgspec.json.format(raw, indent=2).decode()


def plural(count: int, one: str, many: str | None = None) -> str:
    """Return a count with its noun."""
    return f"{number(count)} {one if count == 1 else many or one + 's'}"
