"""What no route of the web framework answers: the hot path, the front doors, other systems' posts.

Each protocol has its own words for a refusal; what is the same is the status.
"""

from typing import Any

from tallybook.serve.api.document.refusals import refusals

API = "/api/v1"
_EVENT: dict[str, Any] = {
    "type": "object",
    "title": "Event",
    "description": "A CloudEvent 1.0; further attributes are kept and can be routed by.",
    "required": ["specversion", "id", "source", "type"],
    "properties": {
        "specversion": {"const": "1.0"},
        "id": {"type": "string", "minLength": 1, "maxLength": 1024},
        "source": {"type": "string", "minLength": 1, "maxLength": 1024},
        "type": {"type": "string", "minLength": 1, "maxLength": 1024},
        "subject": {"type": ["string", "null"], "maxLength": 1024},
        "time": {"type": ["string", "null"], "format": "date-time"},
        "datacontenttype": {"type": ["string", "null"], "maxLength": 1024},
        "data": {"type": ["object", "null"]},
    },
    "additionalProperties": True,
}
_ONE = {"$ref": "#/components/schemas/Event"}
_BATCH: dict[str, Any] = {"type": "array", "items": _ONE, "maxItems": 10000}
_STORED: dict[str, Any] = {
    "type": "object",
    "required": ["stored", "quarantined"],
    "properties": {
        "stored": {"type": "integer", "minimum": 0},
        "quarantined": {"type": "array", "items": {"type": "object"}},
    },
}
EXAMPLE: dict[str, Any] = {
    "specversion": "1.0",
    "id": "req-1",
    "source": "https://shop.example",
    "type": "http.server.request",
    "subject": "acme",
    "time": "2026-11-21T08:00:00Z",
    "data": {"bytes": 512},
}
_LINES = "requests,host=web1 count=5i 1795248000000000000"
_FRONT: dict[str, tuple[str, str, list[str], Any]] = {
    "/v1/metrics": (
        "exportMetrics", "OTLP/HTTP metrics.", ["application/json", "application/x-protobuf"],
        {"resourceMetrics": []},
    ),
    f"{API}/write": (
        "remoteWrite", "Prometheus remote write 1.0 and 2.0.", ["application/x-protobuf"], None,
    ),
    "/api/v2/write": ("writeLines", "Influx line protocol.", ["text/plain"], _LINES),
    "/write": (
        "writeLinesOne", "Influx line protocol, as version 1 sends it.", ["text/plain"], _LINES,
    ),
    f"{API}/logs": (
        "sendObjects", "JSON objects: NDJSON or an array.",
        ["application/json", "application/x-ndjson"], [{"path": "/", "bytes": 512}],
    ),
}  # fmt: skip
"""Path -> name of the operation, what it takes, its media types, an example of the first."""
_METER_EVENT = {
    "event_name": "requests",
    "payload": {"stripe_customer_id": "acme", "value": "5"},
    "identifier": "req-1",
}
_FORM, _JSON = "application/x-www-form-urlencoded", "application/json"
_CANCEL = {"event_name": "requests", "type": "cancel", "cancel": {"identifier": "req-1"}}
_LAGO = {
    "transaction_id": "req-1",
    "external_subscription_id": "acme-pro",
    "code": "requests",
    "properties": {"bytes": 512},
}
_OTHERS: dict[str, tuple[str, str, str, Any]] = {
    "/v1/billing/meter_events": (
        "stripeMeterEvent", "One meter event, as Stripe's API v1 takes it.", _FORM, _METER_EVENT,
    ),
    "/v1/billing/meter_event_adjustments": (
        "stripeMeterEventAdjustment", "Cancel a meter event, as Stripe's API v1 does.", _FORM,
        _CANCEL,
    ),
    "/v2/billing/meter_events": (
        "stripeMeterEventV2", "One meter event, as Stripe's API v2 takes it.", _JSON, _METER_EVENT,
    ),
    "/v2/billing/meter_event_adjustments": (
        "stripeMeterEventAdjustmentV2", "Cancel a meter event, as Stripe's API v2 does.", _JSON,
        _CANCEL,
    ),
    "/v2/billing/meter_event_session": (
        "stripeMeterEventSession", "A token for Stripe's stream of meter events.", _JSON, {},
    ),
    "/v2/billing/meter_event_stream": (
        "stripeMeterEventStream", "Many meter events, as Stripe's stream takes them.", _JSON,
        {"events": [_METER_EVENT]},
    ),
    f"{API}/events/batch": (
        "lagoEventsBatch", "Many events, as Lago takes them.", _JSON, {"events": [_LAGO]},
    ),
}  # fmt: skip
"""Path -> name of the operation, what it takes, its media type, an example."""

DOORS = {
    ("post", f"{API}/events"),
    *(("post", path) for path in (*_FRONT, *_OTHERS)),
    ("get", f"{API}/events/{{transaction_id}}"),
}
"""Method and path of everything that is described here."""


def with_doors(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the description with the hot path, the front doors and other systems' posts."""
    paths = schema["paths"]
    paths.setdefault(f"{API}/events", {})["post"] = _events()
    for path, told in _FRONT.items():
        paths[path] = {"post": _front(*told)}
    for path, other in _OTHERS.items():
        paths[path] = {"post": _other(*other)}
    paths[f"{API}/events/{{transaction_id}}"] = {"get": _lago_event()}
    schema["components"]["schemas"]["Event"] = _EVENT
    return schema


def _events() -> dict[str, Any]:
    examples = {
        "application/cloudevents+json": ({**_ONE}, EXAMPLE),
        "application/cloudevents-batch+json": (_BATCH, [EXAMPLE]),
        "application/json": ({"anyOf": [_ONE, _BATCH]}, EXAMPLE),
    }
    content = {
        kind: {"schema": schema, "example": example} for kind, (schema, example) in examples.items()
    }
    stored = {"stored": 1, "quarantined": []}
    return {
        "tags": ["events"],
        "operationId": "ingestEvents",
        "summary": "Send events: one, many, or one in binary mode (ce- headers).",
        "description": (
            "Durable before the answer. A batch is atomic; the sender's `(source, id)` is counted"
            " once however often it is sent. Also gzip or zstd (Content-Encoding)."
        ),
        "parameters": [
            {
                "name": "partial",
                "in": "query",
                "required": False,
                "description": "true stores the good events and quarantines the others.",
                "schema": {"type": "boolean"},
            }
        ],
        "requestBody": {"required": True, "content": content},
        "responses": {
            "200": {
                "description": "With partial=true: what is stored, what is quarantined.",
                "content": {_JSON: {"schema": _STORED, "example": stored}},
            },
            "204": {"description": "Stored durably."},
            **refusals("post", f"{API}/events"),
        },
    }


def _front(name: str, summary: str, kinds: list[str], example: Any) -> dict[str, Any]:
    content: dict[str, Any] = {kind: {} for kind in kinds}
    if example is None:
        content[kinds[0]] = {"schema": {"type": "string", "format": "binary"}}
    else:
        content[kinds[0]] = {"example": example}
    return {
        "tags": ["doors"],
        "operationId": name,
        "summary": summary,
        "description": f"{summary} Durable before the answer; refused in the protocol's own words.",
        "requestBody": {"required": True, "content": content},
        "responses": {
            "2XX": {"description": "Stored durably."},
            "4XX": {"description": "Refused, or in part; what is bad is quarantined."},
            "503": {"description": "Not now; send the same again."},
        },
    }


def _other(name: str, summary: str, kind: str, example: Any) -> dict[str, Any]:
    answer = {"schema": {"type": "object"}}
    return {
        "tags": ["compatibility"],
        "operationId": name,
        "summary": summary,
        "description": f"{summary} Mapped to an event; durable before the answer.",
        "requestBody": {
            "required": True,
            "content": {kind: {"schema": {"type": "object"}, "example": example}},
        },
        "responses": {
            "2XX": {"description": "Stored durably.", "content": {_JSON: answer}},
            "4XX": {"description": "Refused, in that system's words.", "content": {_JSON: answer}},
            "503": {"description": "Send the same again.", "content": {_JSON: answer}},
        },
    }


def _lago_event() -> dict[str, Any]:
    answer = {"schema": {"type": "object"}, "example": {"event": _LAGO}}
    refused = {"description": "Refused, in Lago's words.", "content": {_JSON: {}}}
    return {
        "tags": ["compatibility"],
        "operationId": "lagoEvent",
        "summary": "One event, as Lago shows it.",
        "description": "Found once it is in the lake.",
        "parameters": [
            {
                "name": "transaction_id",
                "in": "path",
                "required": True,
                "description": "The event's id.",
                "schema": {"type": "string", "minLength": 1, "maxLength": 1024},
                "example": "req-1",
            }
        ],
        "responses": {
            "200": {"description": "The event.", "content": {_JSON: answer}},
            "4XX": refused,
            "503": {**refused, "description": "Not now."},
        },
    }
