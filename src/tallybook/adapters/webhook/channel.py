"""`Channel` over HTTP: one POST, signed; the status decides, the answer's beginning is kept.

Redirects are not followed: an address that moved is changed by the people whose it is. A
connection is made for each attempt and closed after it.
"""

import ipaddress
import ssl
from collections.abc import Sequence
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

import httpcore2

from tallybook import __version__
from tallybook.adapters.webhook.guard import is_public
from tallybook.adapters.webhook.network import Deadline, GuardedNetwork, Lookups, Refused
from tallybook.adapters.webhook.signing import signed_headers
from tallybook.deliver.delivery import ANSWER_CHARS_MAX, Answer
from tallybook.kernel.book.fact import Fact
from tallybook.kernel.errors import Invalid
from tallybook.kernel.timestamps import SECOND_US, to_us

URL_CHARS_MAX = 2048
CONNECT_SECONDS_MAX = 5.0
TOTAL_SECONDS_MAX = 15.0
BODY_SECONDS_MAX = 2.0
"""How long the answer's body is waited for once its status is known."""


class WebhookChannel:
    """Sends facts to URLs.

    Args:
        allow_private: whether addresses that are not public, and http without TLS, are allowed.
        ca_file: certificates to trust, PEM; None is the system's.
        total_seconds: after which an attempt has failed.

    Raises:
        Invalid: `ca_file` cannot be used.
    """

    def __init__(
        self,
        *,
        allow_private: bool = False,
        ca_file: Path | None = None,
        total_seconds: float = TOTAL_SECONDS_MAX,
    ) -> None:
        """Connect to nothing yet."""
        self._allow_private = allow_private
        self._total_seconds = total_seconds
        self._tls = _trusting(ca_file)
        self._lookups = Lookups()

    def check(self, address: str) -> str:
        """Return a URL as it is kept; raises Invalid."""
        host = checked_url(address, plain=self._allow_private)
        if not self._allow_private and _numeric(host) and not is_public(host):
            raise Invalid(f"{host} is not a public address", code="private-address", field="url")
        return address

    def send(
        self, address: str, fact: Fact, body: bytes, secrets: Sequence[str], now_us: int
    ) -> Answer:
        """POST a fact to a URL."""
        deadline = Deadline(self._total_seconds)
        headers = {
            "content-type": "application/json",
            "user-agent": f"tallybook/{__version__}",
            "connection": "close",
        } | signed_headers(fact.id, body, secrets, now_us // SECOND_US)
        try:
            return self._post(address, headers, body, deadline, now_us)
        except Refused as error:
            return Answer(outcome="failed", error=str(error))
        except httpcore2.TimeoutException as error:
            return Answer(outcome="failed", error=_timed_out(error, self._total_seconds))
        except (httpcore2.NetworkError, httpcore2.ProtocolError) as error:
            return Answer(outcome="failed", error=_said(error))
        except (httpcore2.UnsupportedProtocol, Invalid) as error:  # kept under other settings
            return Answer(outcome="failed", error=f"the address cannot be used: {error}")

    def _post(
        self, address: str, headers: dict[str, str], body: bytes, deadline: Deadline, now_us: int
    ) -> Answer:
        checked_url(address, plain=self._allow_private)
        url = httpcore2.URL(address)
        network = GuardedNetwork(self._lookups, deadline, allow_private=self._allow_private)
        seconds = {"connect": CONNECT_SECONDS_MAX, "read": self._total_seconds,
                   "write": self._total_seconds}  # fmt: skip
        with (
            httpcore2.HTTPConnection(
                url.origin, ssl_context=self._tls, network_backend=network
            ) as connection,
            connection.stream(
                "POST",
                url,
                headers=list(headers.items()),
                content=body,
                extensions={"timeout": seconds},
            ) as response,
        ):
            deadline.shorten(BODY_SECONDS_MAX)
            text = _beginning(response)
            return answer_of(response.status, _headers(response), text, now_us)


def answer_of(status: int, headers: dict[str, str], text: str, now_us: int) -> Answer:
    """Return what an HTTP status means.

    Args:
        status: of the answer.
        headers: of the answer, names in lower case.
        text: beginning of its body.
        now_us: microseconds UTC, for a `Retry-After` that is a date.
    """
    if 200 <= status < 300:
        return Answer(outcome="delivered", code=status, text=text)
    wait_us = retry_after(headers.get("retry-after", ""), now_us)
    if status == HTTPStatus.GONE:
        return Answer(outcome="gone", code=status, text=text, error="410 Gone")
    if 300 <= status < 400:
        where = headers.get("location", "")
        error = f"it answered {status} (to {where[:200]}); redirects are not followed"
        return Answer(outcome="failed", code=status, text=text, error=error)
    error = f"it answered {status}"
    return Answer(outcome="failed", code=status, text=text, error=error, retry_after_us=wait_us)


def retry_after(text: str, now_us: int) -> int | None:
    """Return microseconds that a `Retry-After` asks for, None where it says nothing."""
    said = text.strip()
    if said.isascii() and said.isdecimal():
        return int(said[:9]) * SECOND_US
    try:
        moment = parsedate_to_datetime(said)
    except ValueError:
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0, to_us(aware) - now_us)


def checked_url(address: str, *, plain: bool) -> str:
    """Return the host of a URL that facts can be sent to.

    Args:
        address: https, or http where `plain`.
        plain: whether http without TLS is allowed.

    Raises:
        Invalid: it is no such URL, or carries a name and password.
    """
    shown = "url must be an address such as https://example.com/tallybook"
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError as error:
        raise Invalid(f"{shown}: {error}", field="url") from error
    printable = address.isascii() and address.isprintable() and " " not in address
    if not printable or len(address) > URL_CHARS_MAX or not parts.hostname:
        raise Invalid(shown, field="url")
    if parts.scheme != "https" and not (plain and parts.scheme == "http"):
        raise Invalid("url must begin with https://", code="plain-http", field="url")
    if parts.username is not None or parts.password is not None or parts.fragment:
        message = "url must not carry a name, a password or a fragment; the signature proves who"
        raise Invalid(message, field="url")
    return parts.hostname


def _numeric(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _headers(response: httpcore2.Response) -> dict[str, str]:
    return {
        name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers
    }


def _beginning(response: httpcore2.Response) -> str:
    """Return the first KiB of a body, as much of it as comes in time."""
    found = bytearray()
    try:
        for block in response.iter_stream():
            found += block
            if len(found) >= ANSWER_CHARS_MAX:
                break
    except (httpcore2.TimeoutException, httpcore2.NetworkError, httpcore2.ProtocolError):
        pass  # the status is known, and it decides
    return bytes(found[:ANSWER_CHARS_MAX]).decode(errors="replace")


def _timed_out(error: httpcore2.TimeoutException, total: float) -> str:
    if isinstance(error, httpcore2.ConnectTimeout):
        return str(error) if "name" in str(error) else "no connection in time"
    return f"no answer within {total:g} seconds"


def _said(error: Exception) -> str:
    text = str(error) or type(error).__name__
    if isinstance(error, httpcore2.ProtocolError):
        return f"its answer is not HTTP: {text}"
    return f"the connection failed: {text}"


def _trusting(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except OSError as error:
        raise Invalid(
            f"webhooks.ca_file {ca_file} cannot be used: {error}", field="webhooks.ca_file"
        ) from error
