"""Refusals in Stripe's words."""

from typing import Any

from tallybook.kernel.errors import Invalid, TallybookError, Throttled, Unavailable
from tallybook.serve.api.compat.wire import Told
from tallybook.serve.api.doors.answer import retry_after, status_of
from tallybook.serve.api.ingest import EventsRefused

EXPIRED = "temporary_session_expired"

_FIELDS = {
    "id": "identifier",
    "type": "event_name",
    "subject": "payload[stripe_customer_id]",
    "time": "timestamp",
    "data": "payload",
}


def refusal(error: TallybookError) -> Told:
    """Return the answer to a request of which nothing is stored."""
    status = 404 if error.code == "resource_missing" else status_of(error)
    said: dict[str, Any] = {"type": _type(error, status), "code": _code(error)}
    said["message"] = error.message
    field = _field(error)
    if field:
        said["param"] = field
    headers = list(retry_after(error))
    if isinstance(error, Unavailable):
        headers.append((b"stripe-should-retry", b"true"))
    return Told(status, {"error": said}, headers)


def _type(error: TallybookError, status: int) -> str:
    if error.code == EXPIRED:
        return EXPIRED
    if isinstance(error, Throttled):
        return "rate_limit"
    return "api_error" if status >= 500 else "invalid_request_error"


def _code(error: TallybookError) -> str:
    match error:
        case Throttled():
            return "rate_limit"
        case Invalid() if error.code == "malformed":
            return "parameter_invalid"
        case _:
            return error.code.replace("-", "_")


def _field(error: TallybookError) -> str:
    if not isinstance(error, EventsRefused):
        return error.field or ""
    first = error.errors[0]
    field = str(first["field"] or "")
    name = _FIELDS.get(field, field)
    return name if first["index"] == 0 else f"events[{first['index']}].{name}"
