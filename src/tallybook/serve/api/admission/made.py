"""Admission of a process, made from its parts."""

from collections.abc import Iterator
from contextlib import contextmanager

from tallybook.admit.plan.bind import built_in
from tallybook.admit.plan.limit import Concurrency
from tallybook.compose import World
from tallybook.serve.api.admission.teller import Teller
from tallybook.serve.api.admission.ticket import Told
from tallybook.serve.api.admission.watch import PlanWatch
from tallybook.serve.api.admission.wrapper import Access, Admission, Keys, Parts
from tallybook.serve.api.checks import Checks
from tallybook.serve.api.checks import Parts as CheckParts
from tallybook.settings import GateSettings


@contextmanager
def admission(world: World, gate: Keys) -> Iterator[Admission]:
    """Make the wrapper, and let its threads run until the block ends."""
    settings = world.settings.gate
    plans = PlanWatch(world.usage_plans)
    teller = Teller(world.counts, world.usage_plans.tell)
    parts = Parts(
        keys=gate,
        plans=plans,
        told=Told(world.counts, teller.add),
        built_in=built_in(protecting(settings)),
        access=asking(world),
        use=settings.meter_use,
    )
    plans.start()
    teller.start()
    try:
        yield Admission(parts)
    finally:
        plans.close()
        teller.close()


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


def asking(world: World) -> Access:
    """Return how entitlements are asked; what that needs is made with the first question."""
    made: list[Checks] = []

    def access(tenant: str, customer: str, feature: str) -> bool:
        if not made:
            parts = CheckParts(world.catalog, world.entitlements, lambda: world.usage, world.clock)
            made.append(Checks(parts))
        return made[0].value(tenant, customer, feature).value.access

    return access
