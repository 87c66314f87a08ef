"""Lago's events as usage events.

| Lago | here |
|---|---|
| `transaction_id` | `id`, within the source `lago/` and the subscription: Lago's own identity |
| `external_subscription_id` | `subject` (else `external_customer_id`, as old clients send) |
| `code` | `type` |
| `timestamp` | `time`: seconds or milliseconds since 1970, fractional too, or ISO 8601 |
| `properties` | `data`, every value as it was sent |
| `precise_total_amount_cents` | `data.precise_total_amount_cents`, for a price of type `dynamic` |

Source: Lago API 1.x, `POST /api/v1/events` and `/events/batch`.
"""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import msgspec

from tallybook.kernel.decimals import parse_decimal
from tallybook.kernel.errors import Invalid
from tallybook.kernel.event import UsageEvent
from tallybook.kernel.ids import derived_id
from tallybook.kernel.timestamps import SECOND_US, format_us, parse_rfc3339
from tallybook.serve.api.compat.wire import EVENTS_MAX, Number, as_json

SOURCE = "lago/"
AMOUNT = "precise_total_amount_cents"
MANDATORY, INVALID = "value_is_mandatory", "value_is_invalid"
_MILLISECONDS_FROM = Decimal(100_000_000_000)
"""A timestamp from here on counts milliseconds: as seconds it would be the year 5138."""
_LAST_MILLISECOND = Decimal(253_402_300_799_999)

_WRONG_SHOWN_MAX = 100
"""Wrong events that an answer tells of; those of a batch are of a kind."""

_SHAPE = re.compile(rb'\s*\{\s*"(?:event"\s*:\s*\{|events"\s*:\s*\[)')


class LagoEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event as it was sent.

    Attributes:
        time_us: None where none was sent.
        properties: as sent; amount: of `precise_total_amount_cents`, None for none.
    """

    transaction_id: str
    subject: str
    code: str
    time_us: int | None
    properties: Mapping[str, Any]
    amount: str | None


class LagoInvalid(Invalid):
    """Fields are wrong; nothing was stored.

    Attributes:
        details: field -> reasons; in a batch place -> field -> reasons.
    """

    def __init__(self, details: Mapping[str, Any]) -> None:
        """Take what is wrong."""
        super().__init__(f"validation errors: {details}", code="validation_errors")
        self.details = details


def is_lago(raw: bytes) -> bool:
    """Whether a JSON body has Lago's shape, which no CloudEvent has: an attribute is no object."""
    return _SHAPE.match(raw) is not None


def lago_events(body: Mapping[str, Any]) -> tuple[list[LagoEvent], bool]:
    """Return the events of a body, and whether it is a batch.

    Raises:
        LagoInvalid: at least one is wrong, the first hundred are told; or there are too many.
    """
    if "event" in body:
        event, wrong = _read(body["event"])
        if event is None:
            raise LagoInvalid(wrong)
        return [event], False
    listed = body.get("events")
    if not isinstance(listed, list) or not listed:
        raise LagoInvalid({"events": [MANDATORY]})
    if len(listed) > EVENTS_MAX:
        raise LagoInvalid({"events": ["too_many_events"]})
    read = [_read(each) for each in listed]
    wrong_ones = [(str(at), wrong) for at, (event, wrong) in enumerate(read) if event is None]
    if wrong_ones:
        raise LagoInvalid(dict(wrong_ones[:_WRONG_SHOWN_MAX]))
    return [event for event, _ in read if event is not None], True


def usage_event(event: LagoEvent) -> UsageEvent:
    """Return an event of Lago as a usage event."""
    data = dict(event.properties)
    if event.amount is not None:
        data[AMOUNT] = event.amount
    return UsageEvent(
        id=event.transaction_id,
        source=SOURCE + quote(event.subject, safe=""),
        type=event.code,
        subject=event.subject,
        time=None if event.time_us is None else format_us(event.time_us),
        data=msgspec.Raw(as_json(data)),
    )


def shown(event: LagoEvent, now_us: int) -> dict[str, object]:
    """Return a stored event as Lago answers it."""
    at_us = now_us if event.time_us is None else event.time_us
    return {
        "lago_id": derived_id("lago", event.subject, event.transaction_id),
        "transaction_id": event.transaction_id,
        "lago_customer_id": None,
        "lago_subscription_id": None,
        "external_subscription_id": event.subject,
        "code": event.code,
        "timestamp": format_us(at_us),
        AMOUNT: event.amount,
        "properties": msgspec.Raw(as_json(dict(event.properties))),
        "created_at": format_us(now_us),
    }


def _read(raw: Any) -> tuple[LagoEvent | None, dict[str, list[str]]]:
    """Return the event, or None and what is wrong with it."""
    if not isinstance(raw, dict):
        return None, {"event": [INVALID]}
    wrong: dict[str, list[str]] = {}
    customer = "external_customer_id"
    named = "external_subscription_id"
    by = customer if not raw.get(named) and raw.get(customer) else named
    texts = {name: _text(raw, name, wrong) for name in ("transaction_id", by, "code")}
    time_us = _time(raw.get("timestamp"), wrong)
    properties = raw.get("properties")
    if properties is None:
        properties = {}
    amount = _amount(raw.get(AMOUNT), wrong)
    if not isinstance(properties, dict) or (amount is not None and AMOUNT in properties):
        wrong["properties"] = [INVALID]
    if wrong:
        return None, wrong
    event = LagoEvent(
        transaction_id=texts["transaction_id"],
        subject=texts[by],
        code=texts["code"],
        time_us=time_us,
        properties=properties,
        amount=amount,
    )
    return event, {}


def _text(raw: Mapping[str, Any], name: str, wrong: dict[str, list[str]]) -> str:
    found = raw.get(name)
    if found is None or found == "":
        wrong[name] = [MANDATORY]
    elif not isinstance(found, str):
        wrong[name] = [INVALID]
    return str(found)


def _time(value: Any, wrong: dict[str, list[str]]) -> int | None:
    if value is None:
        return None
    found = _moment(value) if isinstance(value, str) else None
    if found is None:
        wrong["timestamp"] = ["invalid_format"]
    return found


def _moment(text: str) -> int | None:
    number = parse_decimal(text)
    if number is None:
        return None if isinstance(text, Number) else _iso(text)
    if not 0 <= number <= _LAST_MILLISECOND:
        return None
    scale = SECOND_US // 1000 if number >= _MILLISECONDS_FROM else SECOND_US
    return int(number * scale)


def _iso(text: str) -> int | None:
    """Return ISO 8601 as microseconds; without a zone it is UTC, as Lago reads it."""
    return parse_rfc3339(text) or parse_rfc3339(text.replace(" ", "T", 1) + "Z")


def _amount(value: Any, wrong: dict[str, list[str]]) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or parse_decimal(value) is None:
        wrong[AMOUNT] = [INVALID]
        return None
    return str(value)
