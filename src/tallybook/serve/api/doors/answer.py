"""What a protocol's client is told, and how it proves who it is."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from urllib.parse import parse_qs

import msgspec

from tallybook.collect.doors.decide import Decision
from tallybook.collect.doors.point import Bad
from tallybook.kernel.errors import Forbidden, Invalid, TallybookError, Throttled, Unavailable

MESSAGE_CHARS_MAX = 1000
SHOWN_MAX = 10


NO_KEY = frozenset({"no-key", "key-expired"})
"""Codes of refusals that another key may mend: 401."""


class Answer(msgspec.Struct, frozen=True):
    """An HTTP answer."""

    status: int
    body: bytes = b""
    headers: Sequence[tuple[bytes, bytes]] = ()


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A request as a door reads it.

    Attributes:
        headers: lower-case names.
        query: parameters by name, the last of each.
        body: as sent, perhaps compressed.
        bytes_max: most bytes a body may have unpacked.
    """

    headers: Mapping[str, bytes]
    query: Mapping[str, str]
    body: bytes
    bytes_max: int

    def header(self, name: str) -> str:
        """Return a header's value, '' where it is absent."""
        return self.headers.get(name, b"").decode("latin-1").strip()

    def kind(self) -> str:
        """Return the content type without its parameters, in lower case."""
        return self.header("content-type").partition(";")[0].strip().lower()


PARAMETERS_MAX = 50


def parameters(query: bytes) -> dict[str, str]:
    """Return the parameters of a query string, the last of each name; raises Invalid for many."""
    try:
        text = query.decode("latin-1")
        found = parse_qs(text, keep_blank_values=True, max_num_fields=PARAMETERS_MAX)
    except ValueError as error:
        message = f"a request has at most {PARAMETERS_MAX} parameters"
        raise Invalid(message, field="query") from error
    return {name: values[-1] for name, values in found.items()}


def bearer(asked: Asked) -> str | None:
    """Return the Authorization header that the gate knows, whatever form the client uses.

    A key comes as `Bearer`, as Influx's `Token`, as the password of basic authentication, in
    `Api-Key` or `X-Api-Key`, or as the parameter `p` of Influx 1.
    """
    kind, _, text = asked.header("authorization").partition(" ")
    match kind.lower():
        case "bearer" | "token" | "api-token":
            return f"Bearer {_key(text)}"
        case "basic":
            return f"Bearer {_password(text)}"
        case _:
            pass
    other = asked.header("api-key") or asked.header("x-api-key") or asked.query.get("p", "")
    return f"Bearer {other}" if other else None


def _key(text: str) -> str:
    """Return a key; Influx 1 puts a user before it."""
    user, mark, key = text.strip().rpartition(":")
    return key if mark and not user.startswith("tb_") else text.strip()


def _password(text: str) -> str:
    try:
        user, _, password = base64.b64decode(text.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise Forbidden("basic authentication is malformed", code="no-key") from error
    return password or user


def status_of(error: TallybookError) -> int:
    """Return the HTTP status of a failure; a bug of ours is temporary, never the client's."""
    match error:
        case Forbidden():
            return 401 if error.code in NO_KEY else 403
        case Throttled():
            return 429
        case Unavailable():
            return 503
        case Invalid() if error.code in {"too-large", "over-limit"}:
            return 413
        case Invalid() if error.code == "unsupported-media-type":
            return 415
        case Invalid() if error.code == "request-timeout":
            return 408
        case _:
            return 400


def retry_after(error: TallybookError) -> list[tuple[bytes, bytes]]:
    """Return the headers that tell when to come back, [] where there is no coming back."""
    if isinstance(error, Unavailable):
        return [(b"retry-after", str(error.retry_after_seconds or 1).encode())]
    return [(b"www-authenticate", b"Bearer")] if error.code in NO_KEY else []


def said(decision: Decision) -> str:
    """Return in words what of a request cannot be counted, '' where all was."""
    texts = [_said(bad) for bad in decision.bad[:SHOWN_MAX]]
    if len(decision.bad) > SHOWN_MAX:
        texts.append(f"and {len(decision.bad) - SHOWN_MAX} more")
    if decision.refused:
        texts.append(f"{decision.refused} points of new series: there are too many series")
    return "; ".join(texts)[:MESSAGE_CHARS_MAX]


def _said(bad: Bad) -> str:
    return f"{bad.place}: {bad.message}" if bad.place else bad.message
