"""Refusals: one shape for every route, with every code that may stand in it."""

from http import HTTPStatus
from typing import Any

from tallybook.serve.api.document.codes import CODES

KIND = "application/problem+json"
PROBLEM: dict[str, Any] = {
    "type": "object",
    "title": "Problem",
    "description": "RFC 9457; programs decide by `code`, which docs/errors.md lists.",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string", "format": "uri", "description": "urn:tallybook:problem:CODE"},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string", "description": "For people: what to do."},
        "code": {"type": "string", "enum": list(CODES)},
        "field": {"type": "string", "description": "The field at fault."},
        "errors": {
            "type": "array",
            "description": "Of a batch: what is wrong with each bad event.",
            "items": {
                "type": "object",
                "required": ["index", "id", "code", "message"],
                "properties": {
                    "index": {"type": "integer", "minimum": 0},
                    "id": {"type": "string"},
                    "code": {"type": "string", "enum": list(CODES)},
                    "message": {"type": "string"},
                    "field": {"type": "string"},
                },
            },
        },
    },
}
_SAID = {
    400: ("Malformed, or out of range; `field` names what.", "invalid"),
    401: ("No good key.", "no-key"),
    403: ("The key may not do this.", "forbidden"),
    404: ("There is no such thing.", "not-found"),
    405: ("Not with this method.", "method-not-allowed"),
    406: ("Not in this representation.", "not-acceptable"),
    408: ("The body took too long to come.", "request-timeout"),
    409: ("The present state forbids it.", "conflict"),
    410: ("What is asked for was kept, and is no longer.", "records-expired"),
    412: ("It is not what If-Match says any more.", "precondition-failed"),
    413: ("Too large.", "too-large"),
    414: ("The path or the query is too long.", "uri-too-long"),
    415: ("Neither this media type nor this encoding is understood.", "unsupported-media-type"),
    429: ("Too much at once; `Retry-After` says when.", "throttled"),
    500: ("The server failed; its log says more.", "bug"),
    503: ("Not now; `Retry-After` says when.", "unavailable"),
    504: ("Something else took too long.", "timeout"),
}
_WAIT = {"Retry-After": {"description": "Seconds.", "schema": {"type": "string"}}}
_BEARER = {"WWW-Authenticate": {"description": "Bearer.", "schema": {"type": "string"}}}
_REQUEST = {"X-Request-Id": {"$ref": "#/components/headers/X-Request-Id"}}


def _name(status: int) -> str:
    return HTTPStatus(status).phrase.replace(" ", "").replace("-", "")


def _response(status: int, said: str, code: str) -> dict[str, Any]:
    example = {
        "type": f"urn:tallybook:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": said,
        "code": code,
    }
    schema = {"$ref": "#/components/schemas/Problem"}
    extra = _WAIT if status in {429, 503} else _BEARER if status == 401 else {}
    return {
        "description": said,
        "headers": {**_REQUEST, **extra},
        "content": {KIND: {"schema": schema, "example": example}},
    }


RESPONSES: dict[str, Any] = {
    _name(status): _response(status, *said) for status, said in _SAID.items()
}
"""Name -> a refusal, for `components.responses`."""

_ALWAYS = (400, 414, 429, 500, 503, 504)
_KEYED = (401, 403, 404)
_READ = (406, 410)
_WRITE = (408, 409, 412, 413, 415)
OPEN = {"/health/live", "/health/ready", "/metrics"}


def refusals(method: str, path: str) -> dict[str, Any]:
    """Return status -> reference to the refusal, for a route."""
    some = [*_ALWAYS, *(() if path in OPEN else _KEYED)]
    some += _READ if method == "get" else _WRITE
    return {
        str(status): {"$ref": f"#/components/responses/{_name(status)}"} for status in sorted(some)
    }
