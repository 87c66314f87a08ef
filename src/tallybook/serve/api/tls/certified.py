"""Checks the certificate behind a request: the handshake has verified who signed it and when.

What is left: whether it has expired since, whether it was revoked, and whether it is the
certificate of the edge, and of the tenant, that the request speaks for. A refusal says why.
"""

import threading
import time
from collections.abc import Callable, Mapping

import structlog

from tallybook.adapters.x509.names import Presented
from tallybook.collect.sending.parcel import EDGE
from tallybook.kernel.errors import Forbidden, TallybookError, Unavailable
from tallybook.serve.api.app import App, Receive, Scope, Send
from tallybook.serve.api.doors.answer import Asked, bearer, parameters
from tallybook.serve.api.fleet.watch import CERTIFIED
from tallybook.serve.api.gate import Gate
from tallybook.serve.api.ingest import problem
from tallybook.serve.api.tls.wire import CERTIFICATE

POLL_SECONDS = 0.5
STALE_SECONDS_MAX = 30.0

Revoked = Callable[[], frozenset[str]]


class Revocations:
    """The revoked serial numbers, kept fresh; a list that is too old lets nobody in.

    Args:
        read: returns them from the control database.
    """

    def __init__(self, read: Revoked) -> None:
        """Read them once."""
        self._read = read
        self._serials = read()
        self._fresh = time.monotonic()

    def __contains__(self, serial: str) -> bool:
        """Whether a certificate was revoked; raises Unavailable where that is not known."""
        if time.monotonic() - self._fresh > STALE_SECONDS_MAX:
            message = "revoked certificates cannot be checked at the moment"
            raise Unavailable(message, code="gate-stale")
        return serial in self._serials

    def watch(self, ended: threading.Event) -> None:
        """Read them again, until the end."""
        while not ended.wait(POLL_SECONDS):
            try:
                self._serials = self._read()
                self._fresh = time.monotonic()
            except TallybookError as error:
                structlog.get_logger("tls").warning("tls.revocations", error=error.message)


class Certified:
    """An ASGI application that lets a certified request through to another one.

    Args:
        app: answers.
        gate: knows keys.
        revoked: serial numbers.
    """

    def __init__(self, app: App, gate: Gate, revoked: Revocations) -> None:
        """Keep the parts."""
        self._app = app
        self._gate = gate
        self._revoked = revoked

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or refuse it with a reason."""
        shown: Presented | None = scope.get(CERTIFICATE)
        if shown is None:
            await self._app(scope, receive, send)
            return
        try:
            self._check(scope, shown)
        except TallybookError as error:
            structlog.get_logger("tls").warning(
                "tls.refused", edge=shown.edge, serial=shown.serial, code=error.code
            )
            await refuse(send, error)
            return
        scope[CERTIFIED] = shown.edge
        await self._app(scope, receive, send)

    def _check(self, scope: Scope, shown: Presented) -> None:
        if shown.expires_us <= time.time_ns() // 1000:
            message = "the certificate has expired; ask for a new one with `tallybook ca renew`"
            raise Forbidden(message, code="certificate-expired")
        if shown.serial in self._revoked:
            message = f"the certificate {shown.serial} was revoked"
            raise Forbidden(message, code="certificate-revoked")
        headers = dict(scope["headers"])
        claimed = headers.get(EDGE.encode(), shown.edge.encode()).decode("latin-1")
        if not shown.edge or claimed != shown.edge:
            message = f"the certificate is for the edge '{shown.edge}', not for '{claimed}'"
            raise Forbidden(message, code="certificate-name")
        key = _key(scope, headers)
        grant = self._gate.grant(key) if key else None
        if grant is not None and grant.tenant != shown.tenant:
            message = "the certificate was issued for an edge of somebody else"
            raise Forbidden(message, code="certificate-name")


def _key(scope: Scope, headers: Mapping[bytes, bytes]) -> str:
    """Return the key of a request in whatever form a door takes it, '' for none."""
    asked = Asked(
        headers={name.decode("latin-1"): value for name, value in headers.items()},
        query=parameters(scope.get("query_string", b"")),
        body=b"",
        bytes_max=0,
    )
    return (bearer(asked) or "").removeprefix("Bearer ")


async def refuse(send: Send, error: TallybookError) -> None:
    """Answer with a problem; the connection ends with it."""
    status, body = problem(error)
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
