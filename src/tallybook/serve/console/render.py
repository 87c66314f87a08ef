"""Pages from templates: everything is escaped, undefined names fail, numbers keep their digits."""

from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import Any

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from litestar import Response

from tallybook.kernel.decimals import plain
from tallybook.kernel.timestamps import from_us, parse_rfc3339

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
        "clock": clock,
        "date": date,
        "day": day,
        "pretty": pretty,
        "unit": unit,
        "plural": plural,
    }
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


def _datetime(value: str | int) -> datetime | None:
    us = value if isinstance(value, int) else parse_rfc3339(value)
    return None if us is None else from_us(us).astimezone(UTC)


def moment(value: str | int) -> str:
    """Return an instant to the second, in UTC."""
    found = _datetime(value)
    return str(value) if found is None else f"{found:%Y-%m-%d %H:%M:%S}"


def clock(value: str | int) -> str:
    """Return an instant's time of day, in UTC."""
    found = _datetime(value)
    return "" if found is None else f"{found:%H:%M:%S}"


def date(value: str | int) -> str:
    """Return an instant's date as numbers, in UTC."""
    found = _datetime(value)
    return str(value) if found is None else f"{found:%Y-%m-%d}"


def day(value: str | int) -> str:
    """Return an instant's date, in UTC."""
    found = _datetime(value)
    return str(value) if found is None else f"{found:%-d %b %Y}"


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
