"""A synchronous client of the HTTP API.

Guarantees: every failure is a `TallybookError`; numbers never pass through a binary float;
the key is sent to the configured server only (redirects are not followed).
Source: CONTRACTS §3.
"""

import ipaddress
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from http import HTTPStatus
from threading import Lock
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit

import httpx2
import msgspec

from tallybook import __version__
from tallybook.adapters.http.problems import error_of
from tallybook.kernel.errors import Invalid, Timeout, Unavailable

T = TypeVar("T")
Params = Mapping[str, str | int | list[str] | None]

_PLAIN = msgspec.json.Decoder(float_hook=Decimal)


class Answer(msgspec.Struct, frozen=True):
    """A successful answer: status 2xx or 304, headers by lower-case name, the body as received."""

    status: int
    headers: dict[str, str]
    content: bytes


class Client:
    """Talks to one server with one key.

    Args:
        url: the server, such as 'http://127.0.0.1:8080'; a path prefix is kept.
        key: sent as `Authorization: Bearer`; None sends none.
        timeout_seconds: for each of connect, write and the wait for an answer.
        verify: path of a CA file for TLS; None is the system's.
        cert: paths of a certificate and its private key, for a server that asks for one.

    Raises:
        Invalid: `url` is not an http or https address.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        timeout_seconds: int = 60,
        verify: str | None = None,
        cert: tuple[str, str] | None = None,
    ) -> None:
        """Check the address and prepare the connection pool; nothing is sent yet."""
        self.url = _checked(url)
        headers = {"User-Agent": f"tallybook/{__version__}"}
        if key:
            headers["Authorization"] = f"Bearer {_header_safe(key)}"
        host = urlsplit(self.url).hostname or ""

        def connect() -> httpx2.Client:
            return httpx2.Client(
                base_url=self.url,
                headers=headers,
                timeout=timeout_seconds,
                verify=_tls(verify, cert) if self.url.startswith("https") else False,
                trust_env=not _is_loopback(host),  # a proxy never stands before 127.0.0.1
            )

        self._connect = connect
        self._lock = Lock()
        self._pool = _Pool(connect())

    def reconnect(self) -> None:
        """Read the certificate files again and use new connections from now on.

        A request that another thread has begun ends on the connection that it began on.

        Raises:
            Invalid: the files cannot be used; everything stays as it was.
        """
        pool = _Pool(self._connect())
        with self._lock:
            old, self._pool = self._pool, pool
        self._end(old)

    def raw(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        params: Params | None = None,
        timeout_seconds: int | None = None,
    ) -> Answer:
        """Send one request and return the answer as bytes.

        Raises:
            Refused: 4xx; its subclass and `code` say which.
            Unavailable: 5xx, 429, or no connection; `Timeout` where the outcome is unknown.
        """
        with self._lent() as http:
            request = http.build_request(
                method,
                path,
                content=content,
                headers=dict(headers or {}),
                params={k: v for k, v in params.items() if v is not None} if params else None,
            )
            if timeout_seconds is not None:
                request.extensions["timeout"] = httpx2.Timeout(timeout_seconds).as_dict()
            answer = self._send(http, request)
        kept = {name.lower(): value for name, value in answer.headers.items()}
        if not answer.is_success and answer.status_code != HTTPStatus.NOT_MODIFIED:
            raise error_of(answer.status_code, kept, answer.content)
        return Answer(answer.status_code, kept, answer.content)

    def get(self, path: str, params: Params | None = None, into: type[T] | Any = Any) -> T | Any:
        """Return the JSON answer of a GET, converted to `into`; see `raw` for what it raises."""
        headers = {"Accept": "application/json"}
        return decoded(self.raw("GET", path, params=params, headers=headers).content, into)

    def post(
        self,
        path: str,
        body: object = None,
        *,
        params: Params | None = None,
        into: type[T] | Any = Any,
        idempotency_key: str | None = None,
    ) -> T | Any:
        """POST `body` as JSON and return the JSON answer, None where it is empty."""
        return self._write("POST", path, body, params, into, idempotency_key)

    def put(self, path: str, body: object = None, *, into: type[T] | Any = Any) -> T | Any:
        """PUT `body` as JSON and return the JSON answer, None where it is empty."""
        return self._write("PUT", path, body, None, into, None)

    def patch(self, path: str, body: object = None, *, into: type[T] | Any = Any) -> T | Any:
        """PATCH `body` as JSON and return the JSON answer, None where it is empty."""
        return self._write("PATCH", path, body, None, into, None)

    def delete(self, path: str) -> None:
        """DELETE a resource."""
        self.raw("DELETE", path)

    def pages(self, path: str, params: Params | None = None) -> Iterator[Any]:
        """Yield the items of a list, page after page.

        A page is `{"items": [...], "next_cursor": str or null}` (`data` and `cursor` are
        accepted too); a bare array is the only page.
        """
        cursor: str | None = None
        while True:
            page = self.get(path, {**(params or {}), "cursor": cursor})
            if isinstance(page, list):
                yield from page
                return
            yield from page.get("items", page.get("data", []))
            following = page.get("next_cursor", page.get("cursor"))
            if not following or following == cursor:
                return
            cursor = following

    def close(self) -> None:
        """Close the connections, each once the request on it has ended."""
        self._end(self._pool)

    @contextmanager
    def _lent(self) -> Iterator[httpx2.Client]:
        """Lend the connections: whoever is last closes them, where they are to be closed.

        A socket that is closed while another thread reads from it gives its number to the next
        one, and that thread then reads what was meant for others.

        Raises:
            Unavailable: they are closed.
        """
        with self._lock:
            pool = self._pool
            if pool.ended:
                raise Unavailable(f"the connection to {self.url} is closed")
            pool.users += 1
        try:
            yield pool.http
        finally:
            with self._lock:
                pool.users -= 1
                unused = pool.unused()
            if unused:
                pool.http.close()

    def _end(self, pool: "_Pool") -> None:
        with self._lock:
            pool.ended = True
            unused = pool.unused()
        if unused:
            pool.http.close()

    def __enter__(self) -> Self:
        """Return itself; closed at the end of the block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connections."""
        self.close()

    def _write(
        self,
        method: str,
        path: str,
        body: object,
        params: Params | None,
        into: Any,
        idempotency_key: str | None,
    ) -> Any:
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if idempotency_key is not None:
            headers["Idempotency-Key"] = idempotency_key
        content = b"" if body is None else msgspec.json.encode(body)
        answer = self.raw(method, path, content=content, headers=headers, params=params)
        return decoded(answer.content, into) if answer.content else None

    def _send(self, http: httpx2.Client, request: httpx2.Request) -> httpx2.Response:
        try:
            return http.send(request)
        except httpx2.ConnectError as error:
            message = f"no server answers at {self.url} ({error}); is it running?"
            raise Unavailable(message) from error
        except httpx2.TimeoutException as error:
            raise Timeout(f"{self.url} did not answer in time") from error
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            raise Unavailable(f"{self.url}: {str(error) or type(error).__name__}") from error


class _Pool:
    """Connections made with one reading of the certificate files, and how many use them."""

    def __init__(self, http: httpx2.Client) -> None:
        self.http = http
        self.users = 0
        self.ended = False

    def unused(self) -> bool:
        """Whether nobody uses them and nobody will."""
        return self.ended and not self.users


def decoded(content: bytes, into: type[T] | Any = Any) -> T | Any:
    """Return JSON as a value of type `into`; plain values hold `Decimal`, never a float.

    Raises:
        Unavailable: it is not the JSON that was expected; something else answers there.
    """
    try:
        if into is Any:
            return _PLAIN.decode(content)
        return msgspec.json.decode(content, type=into)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Unavailable(f"the server's answer is not what was expected: {error}") from error


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise Invalid(f"'{url}' is not an address: {error}", field="url") from error
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        message = f"'{url}' is not an address such as http://127.0.0.1:8080"
        raise Invalid(message, field="url")
    return url.rstrip("/")


def _header_safe(key: str) -> str:
    if not key.isascii() or not key.isprintable() or " " in key:
        raise Invalid("the key has characters that no key has", field="key")
    return key


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _tls(ca_file: str | None, cert: tuple[str, str] | None) -> Any:
    import ssl

    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise Invalid(f"the CA file {ca_file} cannot be used: {error}", field="verify") from error
    if cert is not None:
        try:
            context.load_cert_chain(*cert)
        except OSError as error:
            message = f"the certificate {cert[0]} cannot be used: {error}"
            raise Invalid(message, field="cert") from error
    return context
