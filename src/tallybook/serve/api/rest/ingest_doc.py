"""`POST /api/v1/events` in the API's description: the hot path is no Litestar route."""

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
    """Return the description with the event door added."""
    paths = {**schema["paths"]}
    path = "/api/v1/events"
    paths[path] = {**paths.get(path, {}), "post": _operation()}
    return {**schema, "paths": paths}


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
