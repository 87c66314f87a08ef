"""The compatibility doors of a process, made from its parts."""

from typing import Any

from tallybook.compose import World
from tallybook.meter.usage import StoredEvent
from tallybook.serve.api.compat.lago import app as lago
from tallybook.serve.api.compat.stripe import app as stripe


def stripe_door(world: World, gate: Any, ingest: Any, bytes_max: int) -> stripe.StripeApp:
    """Return the door of Stripe's meter events."""
    lookup = stripe.Lookup(
        secret=world.secret,
        now_us=world.clock.now_us,
        fresh=lambda: world.ids.new("mevt"),
        stored=lambda tenant, source, name: next(iter(_found(world, tenant, name, source)), None),
        meters=lambda tenant: list(world.catalog.meters(tenant)),
    )
    return stripe.StripeApp(gate, ingest, lookup, bytes_max)


def lago_door(world: World, gate: Any, ingest: Any, bytes_max: int) -> lago.LagoApp:
    """Return the door of Lago's events."""
    lookup = lago.Lookup(
        now_us=world.clock.now_us, stored=lambda tenant, name: _found(world, tenant, name)
    )
    return lago.LagoApp(gate, ingest, lookup, bytes_max)


def _found(world: World, tenant: str, name: str, source: str | None = None) -> list[StoredEvent]:
    where = {"id": name} if source is None else {"id": name, "source": source}
    return world.usage.recent(tenant, limit=20, where=where, since_us=None, before=None)
