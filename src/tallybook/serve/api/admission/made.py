"""Admission of a process, made from its parts."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from time import monotonic
from typing import Any

from litestar.connection import ASGIConnection

from tallybook.admit.key import Grant
from tallybook.admit.plan.bind import built_in
from tallybook.admit.plan.limit import Concurrency
from tallybook.compose import World
from tallybook.serve.api.admission.anchoring import AnchorWatch, anchors_of
from tallybook.serve.api.admission.teller import Teller
from tallybook.serve.api.admission.ticket import Scope, Told
from tallybook.serve.api.admission.watch import PlanWatch
from tallybook.serve.api.admission.wrapper import Access, Admission, Parts
from tallybook.serve.api.checks import FOLLOW_SECONDS, Checks
from tallybook.serve.api.compat.stripe.session import PREFIX, key_of_session
from tallybook.serve.api.gate import PERSON, Gate
from tallybook.serve.console.render import refusal_page
from tallybook.serve.console.session import COOKIE, read_cookie
from tallybook.settings import GateSettings

HEARD_MAX = 50_000


@contextmanager
def admission(world: World, gate: Gate, checks: Checks) -> Iterator[Admission]:
    """Make the wrapper, and let its threads run until the block ends.

    Args:
        world: of the process.
        gate: knows keys.
        checks: answer which features may be used.
    """
    settings = world.settings.gate
    plans = PlanWatch(world.usage_plans)
    teller = Teller(world.counts, world.usage_plans.tell)
    parts = Parts(
        keys=WithSessions(gate, world),
        plans=plans,
        told=Told(world.counts, teller.add),
        built_in=built_in(protecting(settings)),
        access=asking(checks),
        use=settings.meter_use,
        page=partial(key_of_page, world, gate),
        show=refusal_page,
    )
    watch = AnchorWatch(anchors_of(world))
    plans.start()
    teller.start()
    watch.start()
    try:
        yield Admission(parts)
    finally:
        plans.close()
        teller.close()
        watch.close()


class WithSessions:
    """Knows keys, and for which of them a session of Stripe's clients stands.

    Args:
        gate: knows keys.
        world: of the process.
    """

    def __init__(self, gate: Gate, world: World) -> None:
        """Keep both."""
        self._gate = gate
        self._world = world

    def grant(self, key: str) -> Grant | None:
        """Return what a key, or the key of a session, grants; None where it is not good.

        Raises:
            Forbidden: no such session.
            Invalid: the session has ended.
        """
        if not key.startswith(PREFIX):
            return self._gate.grant(key)
        now_us = self._world.clock.now_us()
        return self._gate.by_id(key_of_session(self._world.secret, key, now_us))


def key_of_page(world: World, gate: Gate, scope: Scope) -> Grant | None:
    """Return what the key grants with which somebody signed in to the console.

    None for people: they are under no usage plan.
    """
    if not any(name == b"cookie" for name, _ in scope["headers"]):
        return None
    asked: Any = {**scope, "state": {}}
    cookie = ASGIConnection(asked).cookies.get(COOKIE)
    session = read_cookie(world.secret, gate, cookie, world.clock.now_us())
    if session is None or session.grant.key_id.startswith(PERSON):
        return None
    return session.grant


def protecting(settings: GateSettings) -> list[Concurrency]:
    """Return the limits in front of what does not scale: of all tenants together."""
    groups = (
        ("documents", settings.documents_at_once, ("GET *.pdf", "GET *.xml")),
        ("backtests", settings.backtests_at_once, ("POST /api/v1/catalog/backtest",)),
        ("queries", settings.queries_at_once, ("GET /api/v1/meters/*/query",)),
    )
    return [
        Concurrency(key=key, limit=limit, routes=routes) for key, limit, routes in groups if limit
    ]


def asking(checks: Checks) -> Access:
    """Return how entitlements are asked.

    An answer holds for a moment, as long as the balances behind it are allowed to lag: a key that
    asks a hundred times a second does not ask the database as often.
    """
    heard: dict[tuple[str, str, str], tuple[float, bool]] = {}

    def access(tenant: str, customer: str, feature: str) -> bool:
        asked, now = (tenant, customer, feature), monotonic()
        until, has = heard.get(asked, (0.0, False))
        if now >= until:
            has = checks.value(tenant, customer, feature).value.access
            if len(heard) >= HEARD_MAX:
                heard.clear()
            heard[asked] = now + FOLLOW_SECONDS, has
        return has

    return access
