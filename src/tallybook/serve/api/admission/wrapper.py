"""The ASGI wrapper in front of every application: who asks, under which limits, let in or not."""

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec
import structlog
from anyio.to_thread import run_sync

from tallybook.admit.key import ADMIN, Grant
from tallybook.admit.plan import routes
from tallybook.admit.plan.bind import Binding
from tallybook.admit.plan.decide import Bound
from tallybook.admit.plan.limit import Entitled
from tallybook.admit.plan.use import route_of
from tallybook.kernel.errors import Forbidden, Invalid, Missing, TallybookError, Unavailable
from tallybook.serve.api.admission.ticket import (
    TICKET,
    App,
    Limits,
    Message,
    Receive,
    Scope,
    Send,
    Ticket,
    Told,
    sending,
)
from tallybook.serve.api.admission.watch import NOTHING, PlanWatch
from tallybook.serve.api.common.problem import PROBLEM_JSON, encoded, headers_of, problem_of
from tallybook.serve.api.doors.answer import Asked, bearer, parameters
from tallybook.serve.api.doors.app import PATHS

EVENTS_PATH = "/api/v1/events"


class Keys(Protocol):
    """Knows keys."""

    def grant(self, key: str) -> Grant | None:
        """Return what a key grants, None where it is not good."""
        ...


WAY_BACK = ("* /api/v1/usage-plans*", "* /api/v1/keys*")
"""What a key with the scope admin may ask for whatever its plan says: it puts plans right there, so
that nobody locks themselves out."""
API = "/api/"
Show = Callable[[TallybookError], tuple[bytes, list[tuple[bytes, bytes]]]]

Access = Callable[[str, str, str], bool]
"""Whether a customer of a tenant has access to a feature now; raises Missing, Unavailable."""


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """What admission needs of the process.

    Attributes:
        keys: knows who asks.
        plans: knows the limits.
        told: counts, and who is told.
        built_in: limits that hold for everybody together, in front of what does not scale.
        access: asks entitlements.
        use: whether the use of keys is counted.
        page: returns whose key the session of a console page is; None for nobody's, or a person's.
        show: returns the page, and its headers, that tells a person why they were not let in; None
            answers a problem there too.
    """

    keys: Keys
    plans: PlanWatch
    told: Told
    built_in: Sequence[Bound]
    access: Access
    use: bool
    page: Callable[[Scope], Grant | None] = lambda _scope: None
    show: Show | None = None


class Admission:
    """Lets requests through to applications, under the limits of their keys.

    Args:
        parts: of this process.
    """

    def __init__(self, parts: Parts) -> None:
        """Keep the parts."""
        self._parts = parts
        self._guarded = tuple(pattern for bound in parts.built_in for pattern in bound.limit.routes)

    async def __call__(
        self, app: App, scope: Scope, receive: Receive, send: Send, *, door: bool
    ) -> None:
        """Answer one request.

        Args:
            app: answers it where it is let in.
            scope: as of ASGI, as are `receive` and `send`.
            door: whether it sends events.
        """
        built_in = () if door else self._built_in(scope)
        grant = None
        if self._parts.plans.any or self._parts.use:
            grant = self._asks(scope, door=door)
        elif not built_in:
            await app(scope, receive, send)
            return
        binding = self._binding(scope, grant)
        limits = self._limits(scope, binding, grant, built_in, door=door)
        entitled = self._entitled(scope, binding, door=door)
        if not limits and not entitled:
            await app(scope, receive, send)
            return
        await self._under(limits, entitled, grant, app, scope, receive, send)

    async def _under(
        self,
        limits: Limits,
        entitled: Sequence[Entitled],
        grant: Grant | None,
        app: App,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        status = 0

        def note(told: int) -> None:
            nonlocal status
            status = told

        ticket = Ticket(self._parts.told, limits)
        answer = sending(ticket, send, note)
        try:
            refused = await self._refused(ticket, entitled, grant)
            if refused is not None:
                await _refuse(scope, answer, refused, self._parts.show)
                return
            token = TICKET.set(ticket)
            try:
                await app(scope, receive, answer)
            finally:
                TICKET.reset(token)
        finally:
            ticket.leave(status)

    async def _refused(
        self, ticket: Ticket, entitled: Sequence[Entitled], grant: Grant | None
    ) -> TallybookError | None:
        try:
            for limit in entitled:
                assert grant is not None, "only a key's plan names features"
                await self._check(grant, limit)
            ticket.enter()
        except TallybookError as error:
            return error
        return None

    async def _check(self, grant: Grant, limit: Entitled) -> None:
        """Refuse where the key's customer has no access to a feature.

        Where that cannot be found out, nobody is stopped: our trouble is not the customer's.
        """
        try:
            has = bool(grant.customer) and await run_sync(
                self._parts.access, grant.tenant, grant.customer, limit.feature
            )
        except Missing:
            has = False
        except Unavailable as error:
            log = structlog.get_logger("limits")
            log.warning("limits.entitlement_not_known", key=grant.key_id, error=error.message)
            return
        if not has:
            who = f"customer '{grant.customer}'" if grant.customer else "the key's customer"
            message = f"{who} has no access to '{limit.feature}', or nothing left of it"
            raise Forbidden(message, code="entitlement-exhausted")

    def _binding(self, scope: Scope, grant: Grant | None) -> Binding:
        if grant is None:
            return NOTHING
        binding = self._parts.plans.binding(grant)
        if binding is NOTHING or not grant.allows(ADMIN):
            return binding
        return NOTHING if routes.covers(WAY_BACK, scope["method"], scope["path"]) else binding

    def _built_in(self, scope: Scope) -> Sequence[Bound]:
        method, path = scope["method"], scope["path"]
        if not self._guarded or not routes.covers(self._guarded, method, path):
            return ()
        return [
            bound
            for bound in self._parts.built_in
            if routes.covers(bound.limit.routes, method, path)
        ]

    def _limits(
        self,
        scope: Scope,
        binding: Binding,
        grant: Grant | None,
        built_in: Sequence[Bound],
        *,
        door: bool,
    ) -> Limits:
        method, path = scope["method"], scope["path"]
        use = None
        if self._parts.use and grant is not None:
            apart = door and path != EVENTS_PATH
            use = (grant.tenant, grant.key_id, route_of(method, path, door=apart))
        requests = [*built_in, *binding.requests(method, path)] if binding.counting else built_in
        events = binding.events(method, path) if binding.counting else ()
        return Limits(requests=requests, events=events, use=use)

    def _entitled(self, scope: Scope, binding: Binding, *, door: bool) -> list[Entitled]:
        return [
            limit
            for limit in binding.entitled
            if (limit.doors or not door)
            and routes.covers(limit.routes, scope["method"], scope["path"])
        ]

    def _asks(self, scope: Scope, *, door: bool) -> Grant | None:
        """Return whose key a request carries; None where it has no good one."""
        path = scope["path"]
        try:
            if not door and not path.startswith(API):
                return self._parts.page(scope)
            text = _spoken(scope) if door and path != EVENTS_PATH else _plain(scope)
            kind, _, key = text.partition(" ")
            return self._parts.keys.grant(key.strip()) if kind.lower() == "bearer" else None
        except (Forbidden, Unavailable, Invalid):
            return None  # the application refuses it, and says why


def _plain(scope: Scope) -> str:
    found = next((v for n, v in scope["headers"] if n == b"authorization"), b"")
    return bytes(found).decode("latin-1")


def _spoken(scope: Scope) -> str:
    return bearer(_asked(scope)) or ""


def _asked(scope: Scope) -> Asked:
    headers = {name.decode("latin-1").lower(): value for name, value in scope["headers"]}
    query = parameters(scope.get("query_string", b""))
    return Asked(headers=headers, query=query, body=b"", bytes_max=0)


_MACHINES = (API, "/openmeter/", "/openapi", "/metrics", "/health/", "/v1/", "/v2/", "/write")
"""Below these nobody reads pages."""


async def _refuse(
    scope: Scope,
    send: Send,
    error: TallybookError,
    page: Show | None,
) -> None:
    """Answer a request that was not let in, in the words of its protocol; a page with a page."""
    protocol = PATHS.get(scope["path"]) if scope["method"] == "POST" else None
    headers: list[tuple[bytes, bytes]]
    if protocol is not None:
        answer = protocol.refuse(_asked(scope), error)
        status, body, headers = answer.status, answer.body, list(answer.headers)
    else:
        problem = problem_of(error)
        status, body = problem.status, encoded(problem)
        headers = [(b"content-type", PROBLEM_JSON.encode())]
        if page is not None and not scope["path"].startswith(_MACHINES):
            body, headers = page(error)
        headers += [(name.encode(), text.encode()) for name, text in headers_of(error).items()]
    headers.append((b"content-length", str(len(body)).encode()))
    start: Message = {"type": "http.response.start", "status": status, "headers": headers}
    await send(start)
    await send({"type": "http.response.body", "body": body})
