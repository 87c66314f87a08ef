"""An HTTP answer that refuses, as the exception it means (RFC 9457 problem+json or not)."""

from collections.abc import Mapping

import msgspec

from tallybook.kernel.errors import (
    Conflict,
    Forbidden,
    Invalid,
    Missing,
    Refused,
    TallybookError,
    Throttled,
    Timeout,
    Unavailable,
)

RETRY_AFTER_SECONDS_MAX = 3600
_EXCERPT_CHARS = 300
_REFUSALS: dict[int, type[Refused]] = {
    401: Forbidden,
    403: Forbidden,
    404: Missing,
    409: Conflict,
    410: Missing,
    412: Conflict,
}
_CODES = {413: "too-large"}
_WAITS: dict[int, type[Unavailable]] = {408: Timeout, 429: Throttled, 504: Timeout}


class ProblemBody(msgspec.Struct, frozen=True):
    """The members of `application/problem+json` that are read."""

    title: str = ""
    detail: str = ""
    code: str | None = None
    field: str | None = None


def error_of(status: int, headers: Mapping[str, str], content: bytes) -> TallybookError:
    """Return the exception that a refusing answer means.

    401 and 403 are `Forbidden`, 404 `Missing`, 409 `Conflict`, other 4xx `Invalid`;
    429 `Throttled`, 408 and 504 `Timeout`, everything else `Unavailable`.
    """
    problem = _problem(content)
    message = _message(status, problem, content)
    if status in _WAITS or not 400 <= status < 500:
        wait = _retry_after(headers.get("retry-after", ""))
        kind = _WAITS.get(status, Unavailable)
        return kind(message, code=problem.code, retry_after_seconds=wait)
    code = problem.code or _CODES.get(status)
    return _REFUSALS.get(status, Invalid)(message, code=code, field=problem.field)


def _problem(content: bytes) -> ProblemBody:
    try:
        return msgspec.json.decode(content, type=ProblemBody)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ProblemBody()  # a proxy's page; the message quotes it


def _message(status: int, problem: ProblemBody, content: bytes) -> str:
    said = problem.detail or problem.title
    if said:
        return said
    excerpt = content[:_EXCERPT_CHARS].decode(errors="replace").strip()
    return f"the server answered {status}" + (f": {excerpt}" if excerpt else "")


def _retry_after(text: str) -> int | None:
    """Return whole seconds; the date form of the header is not worth a clock comparison."""
    if not text.strip().isdecimal():
        return None
    return min(int(text), RETRY_AFTER_SECONDS_MAX)
