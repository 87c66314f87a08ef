"""Questions to meters."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Literal

import msgspec

from tallybook.adapters.http.client import Client as Http
from tallybook.adapters.http.client import Params
from tallybook.kernel.errors import Invalid
from tallybook.kernel.timestamps import format_us, to_us

Moment = datetime | str
Window = Literal["MINUTE", "HOUR", "DAY", "MONTH"]


class UsageRow(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What was measured in one window, of one group.

    Attributes:
        value: exact; None where no event had a usable value.
        window_start: inclusive; window_end: exclusive; both UTC.
        group_by: dimension -> value, None where the events have none.
        customer_id: key of the customer, where grouped by it.
    """

    value: Decimal | None
    window_start: datetime
    window_end: datetime
    subject: str | None = None
    group_by: dict[str, str | None] = {}
    customer_id: str | None = None


class _Answer(msgspec.Struct, frozen=True):
    data: list[UsageRow]


def ask_usage(
    http: Http,
    meter: str,
    from_: Moment | None,
    to: Moment | None,
    *,
    window: Window | None = None,
    zone: str = "UTC",
    subjects: Sequence[str] = (),
    customers: Sequence[str] = (),
    group_by: Sequence[str] = (),
    where: Mapping[str, str | Sequence[str]] | None = None,
) -> list[UsageRow]:
    """Return what a meter measured; see `Client.usage`."""
    params: dict[str, str | int | list[str] | None] = {
        "from": _moment(from_, "from_"),
        "to": _moment(to, "to"),
        "windowSize": window,
        "windowTimeZone": zone if window else None,
        "subject": list(subjects),
        "filterCustomerId": list(customers),
        "groupBy": list(group_by),
        "numbers": "string",
    }
    for name, values in (where or {}).items():
        params[f"filterGroupBy[{name}]"] = [values] if isinstance(values, str) else list(values)
    asked: Params = {name: value for name, value in params.items() if value not in (None, [])}
    answer: _Answer = http.get(f"/api/v1/meters/{named(meter)}/query", asked, into=_Answer)
    return answer.data


def named(key: str) -> str:
    """Return a key as a part of a path; raises Invalid."""
    from urllib.parse import quote

    if not key:
        raise Invalid("a key is needed", field="key")
    return quote(key, safe=":")


def _moment(value: Moment | None, field: str) -> str | None:
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise Invalid(f"{field} needs a zone, such as tzinfo=UTC", field=field)
        return format_us(to_us(value.astimezone(UTC)))
    return value
