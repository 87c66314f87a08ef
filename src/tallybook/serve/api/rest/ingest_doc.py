"""The doors in the API's description: hot path and front doors are no Litestar routes."""

from typing import Any

_EVENT = {
    "type": "object",
    "required": ["specversion", "id", "source", "type"],
    "properties": {
        "specversion": {"const": "1.0"},
        "id": {"type": "string"},
        "source": {"type": "string", "format": "uri-reference"},
        "type": {"type": "string"},
        "subject": {"type": "string"},
        "time": {"type": "string", "format": "date-time"},
        "data": {"type": "object"},
    },
    "additionalProperties": True,
}
_BATCH = {"type": "array", "items": _EVENT}


def with_ingest(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the description with the event door and the front doors added."""
    paths = {**schema["paths"], **{path: {"post": _door(*told)} for path, told in _DOORS.items()}}
    path = "/api/v1/events"
    paths[path] = {**paths.get(path, {}), "post": _operation()}
    return {**schema, "paths": paths}


_DOORS = {
    "/v1/metrics": ("exportMetrics", "OTLP/HTTP metrics.", ["x-protobuf", "json"]),
    "/api/v1/write": ("remoteWrite", "Prometheus remote write 1.0 and 2.0.", ["x-protobuf"]),
    "/api/v2/write": ("writeLines", "Influx line protocol.", []),
    "/write": ("writeLinesOne", "Influx line protocol, as version 1 sends it.", []),
    "/api/v1/logs": ("sendObjects", "JSON objects: NDJSON or an array.", ["json", "x-ndjson"]),
}
"""Path -> name of the operation, what it takes, and its media types below application/."""


def _door(name: str, summary: str, kinds: list[str]) -> dict[str, Any]:
    spelled = [f"application/{kind}" for kind in kinds] or ["text/plain"]
    return {
        "tags": ["doors"],
        "operationId": name,
        "summary": summary,
        "requestBody": {"required": True, "content": {kind: {} for kind in spelled}},
        "responses": {
            "2XX": {"description": "Stored durably."},
            "4XX": {"description": "Refused, or in part; what is bad is quarantined."},
            "503": {"description": "Not now; send the same again."},
        },
    }


def _operation() -> dict[str, Any]:
    problem = {
        "description": "Refused; nothing was stored.",
        "content": {"application/problem+json": {}},
    }
    return {
        "tags": ["events"],
        "operationId": "ingestEvents",
        "summary": "Send events: one, many, or one in binary mode (ce- headers).",
        "parameters": [
            {
                "name": "partial",
                "in": "query",
                "required": False,
                "description": "true stores the good events and quarantines the others.",
                "schema": {"type": "boolean"},
            }
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/cloudevents+json": {"schema": _EVENT},
                "application/cloudevents-batch+json": {"schema": _BATCH},
                "application/json": {"schema": {"oneOf": [_EVENT, _BATCH]}},
            },
        },
        "responses": {
            "200": {"description": "With partial=true: how many are stored, what is quarantined."},
            "204": {"description": "Stored durably."},
            "400": problem,
            "401": problem,
            "403": problem,
            "413": problem,
            "415": problem,
            "503": problem,
        },
    }
