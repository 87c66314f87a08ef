"""Stripe's meter events as usage events.

| Stripe | here |
|---|---|
| `event_name` | `type` |
| `payload[stripe_customer_id]` | `subject` |
| `payload` | `data`, every value as it was sent |
| `identifier` | `id`, within the source `stripe`; unique for good, not for a day |
| `timestamp` | `time`; receipt time where it is absent |

Without `identifier` the identity is derived from `Idempotency-Key` and the content: the same
request sent again is the same event, another one under the same key is not lost.

Source: Stripe API, `POST /v1/billing/meter_events`, `/v2/billing/meter_events` (2026-10-28).
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from tallybook.kernel.decimals import parse_decimal
from tallybook.kernel.errors import Invalid
from tallybook.kernel.event import UsageEvent
from tallybook.kernel.ids import derived_id
from tallybook.kernel.timestamps import SECOND_US, format_us, parse_rfc3339
from tallybook.serve.api.compat.wire import as_json

SOURCE = "stripe"
CUSTOMER = "stripe_customer_id"
VALUE = "value"
CANCEL = "cancel:"
"""Before the identifier of an event that takes another back; nobody else's begins so."""
IDENTIFIER_CHARS_MAX = 100
PAYLOAD_KEYS_MAX = 64
FIELDS_MAX = 200
_LAST_SECOND = 253_402_300_799


class MeterEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A meter event as it was sent.

    Attributes:
        identifier: the sender's, or one that was derived.
        payload: name -> text, or a number's digits, as sent.
        time_us: None where none was sent.
    """

    event_name: str
    identifier: str
    payload: Mapping[str, Any]
    time_us: int | None

    @property
    def customer(self) -> str:
        """Who used it."""
        return str(self.payload[CUSTOMER])


def form_fields(body: bytes) -> dict[str, Any]:
    """Return the fields of a form, `payload[value]` as a mapping within.

    Raises:
        Invalid: it is no form, or names a field twice.
    """
    try:
        pairs = parse_qsl(
            body.decode(),
            keep_blank_values=True,
            strict_parsing=bool(body),
            max_num_fields=FIELDS_MAX,
            errors="strict",
        )
    except ValueError as error:
        raise Invalid(f"the body is not a form: {error}", code="malformed", field="body") from error
    found: dict[str, Any] = {}
    for name, text in pairs:
        outer, mark, inner = name.partition("[")
        place = found.setdefault(outer, {}) if mark else found
        key = inner.removesuffix("]") if mark else outer
        if not isinstance(place, dict) or key in place:
            raise Invalid(f"{name} is sent twice", code="malformed", field=name)
        place[key] = text
    return found


def meter_event(
    fields: Mapping[str, Any],
    idempotency_key: str,
    fresh: str,
    *,
    timestamps: str,
    within: str = "",
) -> MeterEvent:
    """Return the meter event that fields mean.

    Args:
        fields: of a form (version 1) or a JSON object (version 2).
        idempotency_key: of the request, '' for none.
        fresh: identity of an event that has none and came without an Idempotency-Key.
        timestamps: 'seconds' (version 1) or 'rfc3339' (version 2).
        within: prefix of a field's name in a refusal, such as 'events[0].'.

    Raises:
        Invalid: names the field as Stripe does.
    """
    name = _text(fields, "event_name", within)
    payload = _payload(fields, within)
    time_us = (_seconds if timestamps == "seconds" else _rfc3339)(fields.get("timestamp"), within)
    identifier = fields.get("identifier")
    if identifier is None:
        identifier = _derived(idempotency_key, fields, within) if idempotency_key else fresh
    elif not isinstance(identifier, str) or not 1 <= len(identifier) <= IDENTIFIER_CHARS_MAX:
        message = f"identifier must have 1 to {IDENTIFIER_CHARS_MAX} characters"
        raise Invalid(message, code="parameter_invalid", field=f"{within}identifier")
    elif identifier.startswith(CANCEL):
        message = f"identifier must not begin with '{CANCEL}', as those of adjustments do"
        raise Invalid(message, code="parameter_invalid", field=f"{within}identifier")
    return MeterEvent(event_name=name, identifier=identifier, payload=payload, time_us=time_us)


def usage_event(event: MeterEvent) -> UsageEvent:
    """Return a meter event as a usage event."""
    return UsageEvent(
        id=event.identifier,
        source=SOURCE,
        type=event.event_name,
        subject=event.customer,
        time=None if event.time_us is None else format_us(event.time_us),
        data=msgspec.Raw(as_json(event.payload)),
    )


def shown(event: MeterEvent, now_us: int, *, version: int) -> dict[str, object]:
    """Return a stored meter event as Stripe answers it."""
    at_us = now_us if event.time_us is None else event.time_us
    if version == 1:
        return {
            "object": "billing.meter_event",
            "created": now_us // SECOND_US,
            "event_name": event.event_name,
            "identifier": event.identifier,
            "livemode": True,
            "payload": {name: str(value) for name, value in event.payload.items()},
            "timestamp": at_us // SECOND_US,
        }
    return {
        "object": "v2.billing.meter_event",
        "created": format_us(now_us),
        "event_name": event.event_name,
        "identifier": event.identifier,
        "livemode": True,
        "payload": {name: str(value) for name, value in event.payload.items()},
        "timestamp": format_us(at_us),
    }


def _derived(key: str, fields: Mapping[str, Any], within: str) -> str:
    return derived_id("mevt", key, within, as_json(dict(fields)).decode())


def _text(fields: Mapping[str, Any], name: str, within: str) -> str:
    found = fields.get(name)
    if found is None or found == "":
        message = f"Missing required param: {within}{name}."
        raise Invalid(message, code="parameter_missing", field=f"{within}{name}")
    if type(found) is not str:
        message = f"Invalid string: {within}{name}."
        raise Invalid(message, code="parameter_invalid", field=f"{within}{name}")
    return found


def _payload(fields: Mapping[str, Any], within: str) -> Mapping[str, Any]:
    payload = fields.get("payload")
    if payload is None:
        message = f"Missing required param: {within}payload."
        raise Invalid(message, code="parameter_missing", field=f"{within}payload")
    if not isinstance(payload, dict) or len(payload) > PAYLOAD_KEYS_MAX:
        message = f"{within}payload must be an object of at most {PAYLOAD_KEYS_MAX} keys"
        raise Invalid(message, code="parameter_invalid", field=f"{within}payload")
    for name, value in payload.items():
        if not isinstance(value, str):
            field = f"{within}payload[{name}]"
            raise Invalid(f"{field} must be a string", code="parameter_invalid", field=field)
    if not payload.get(CUSTOMER):
        field = f"{within}payload[{CUSTOMER}]"
        raise Invalid(f"Missing required param: {field}.", code="parameter_missing", field=field)
    if VALUE in payload and parse_decimal(payload[VALUE]) is None:
        field = f"{within}payload[{VALUE}]"
        message = f"{field} must be a number, not '{payload[VALUE][:40]}'"
        raise Invalid(message, code="meter_event_invalid_value", field=field)
    return payload


def _seconds(value: Any, within: str) -> int | None:
    if value is None:
        return None
    text = str(value)
    number = text.isdecimal() and text.isascii() and len(text) <= len(str(_LAST_SECOND))
    if not number or int(text) > _LAST_SECOND:
        field = f"{within}timestamp"
        raise Invalid("Invalid timestamp: unix seconds", code="parameter_invalid", field=field)
    return int(text) * SECOND_US


def _rfc3339(value: Any, within: str) -> int | None:
    if value is None:
        return None
    found = parse_rfc3339(value) if type(value) is str else None
    if found is None:
        message = "Invalid timestamp: RFC 3339, such as 2026-11-01T00:00:00Z"
        raise Invalid(message, code="parameter_invalid", field=f"{within}timestamp")
    return found
