"""Errors as RFC 9457 `application/problem+json`, with stable codes.

The one table from exceptions to HTTP statuses.
"""

import re
from http import HTTPStatus
from typing import Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException

from tallybook.kernel.errors import (
    Conflict,
    Corrupt,
    Forbidden,
    Invalid,
    Missing,
    Refused,
    TallybookError,
    Throttled,
    Timeout,
    Unavailable,
)

PROBLEM_JSON = "application/problem+json"

STATUS: dict[type[TallybookError], int] = {
    Invalid: 400,
    Forbidden: 403,
    Missing: 404,
    Conflict: 409,
    Refused: 400,
    Throttled: 429,
    Timeout: 504,
    Unavailable: 503,
    Corrupt: 500,
    TallybookError: 500,
}
CODE_STATUS = {
    "certificate-needed": 401,
    "key-expired": 401,
    "method-not-allowed": 405,
    "no-key": 401,
    "not-acceptable": 406,
    "records-expired": 410,
    "over-limit": 413,
    "precondition-failed": 412,
    "request-timeout": 408,
    "too-large": 413,
    "unsupported-media-type": 415,
    "uri-too-long": 414,
}
"""Codes with a status of their own."""

HTTP_CODES = {
    400: "invalid",
    401: "no-key",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    406: "not-acceptable",
    413: "too-large",
    415: "unsupported-media-type",
    429: "throttled",
}


_BODY = "body"
_PLACE = re.compile(r"\[[^\]]*\]")
"""Where in a list, or under which key, something stands."""
_NAMED = re.compile(r"(?:missing required|unknown) field `([^`]*)`")


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of every refusing answer.

    Attributes:
        code: stable word, listed in docs/errors.md.
        detail: a sentence for people that says what to do.
        field: the field at fault, where there is one.
    """

    title: str
    status: int
    detail: str
    code: str
    field: str | None = None


def status_of(error: TallybookError) -> int:
    """Return the HTTP status of an error."""
    if error.code in CODE_STATUS:
        return CODE_STATUS[error.code]
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def problem_of(error: TallybookError) -> Problem:
    """Return the body that tells an error."""
    status = status_of(error)
    return Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        detail=error.message,
        code=error.code,
        field=error.field,
    )


def encoded(problem: Problem) -> bytes:
    """Return the body as JSON."""
    kind = f"urn:tallybook:problem:{problem.code}"
    return msgspec.json.encode({"type": kind, **msgspec.to_builtins(problem)})


def headers_of(error: TallybookError) -> dict[str, str]:
    """Return the headers that go with an error."""
    headers = {}
    if status_of(error) == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    if error.code == "method-not-allowed":
        headers["allow"] = "POST"
    if isinstance(error, Unavailable):
        headers["retry-after"] = str(error.retry_after_seconds or 1)
    return headers


def answer_tallybook(_request: "Request[Any, Any, Any]", error: TallybookError) -> Response[bytes]:
    """Answer one of our own errors."""
    problem = problem_of(error)
    if isinstance(error, Corrupt):
        structlog.get_logger("api").error("api.corrupt", error=error.message)
    return Response(
        encoded(problem),
        status_code=problem.status,
        media_type=PROBLEM_JSON,
        headers=headers_of(error),
    )


def answer_http(_request: "Request[Any, Any, Any]", error: HTTPException) -> Response[bytes]:
    """Answer an error of the web framework: no route, wrong method, malformed body."""
    problem = http_problem(error)
    headers = {str(name): str(value) for name, value in (error.headers or {}).items()}
    return Response(
        encoded(problem),
        status_code=problem.status,
        media_type=PROBLEM_JSON,
        headers=headers,
    )


def http_problem(error: HTTPException) -> Problem:
    """Return what an error of the web framework tells."""
    status = error.status_code
    return Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        detail=_detail(error),
        code=HTTP_CODES.get(
            status, "invalid" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "bug"
        ),
        field=_field(error),
    )


def _field(error: HTTPException) -> str | None:
    """Return the field of a request that could not be decoded, spelled as our own checks do."""
    if error.status_code != HTTPStatus.BAD_REQUEST:
        return None
    extra: Any = error.extra
    if not isinstance(extra, list) or not extra:
        return _BODY
    key = _PLACE.sub("", str(extra[0].get("key", "data")))
    named = _NAMED.search(str(extra[0].get("message", "")))
    parts = ["" if key == "data" else key, named[1] if named else ""]
    return ".".join(part for part in parts if part) or _BODY


def _detail(error: HTTPException) -> str:
    if error.status_code == HTTPStatus.INTERNAL_SERVER_ERROR:
        return "the server failed; its log says more"
    extra: Any = error.extra
    if isinstance(extra, list) and extra:
        said = (f"{part.get('key', 'body')}: {part.get('message', '')}" for part in extra)
        return "; ".join(said)
    return str(error.detail)


def answer_bug(request: "Request[Any, Any, Any]", error: Exception) -> Response[bytes]:
    """Answer what nobody expected: log it in full, tell nothing of it."""
    log = structlog.get_logger("api")
    log.error("api.bug", method=request.method, path=request.url.path, exc_info=error)
    problem = Problem(
        title="Internal Server Error",
        status=500,
        detail="the server failed; its log says more",
        code="bug",
    )
    return Response(encoded(problem), status_code=500, media_type=PROBLEM_JSON)
