"""Invoices that became overdue: told once each, soon after their due date."""

import msgspec

from tallybook.compose import World
from tallybook.deliver.watch import overdue_fact
from tallybook.invoice.ports import InvoiceHead
from tallybook.invoice.state import shown_as
from tallybook.kernel.timestamps import HOUR_US

OVERDUE_SECONDS = 30.0
WATCH = "overdue"
HEADS_AT_ONCE = 1_000
AGAIN_US = HOUR_US
"""After this every overdue invoice is looked at again: one may be finalized past its due date."""


class OverdueWatch:
    """Looks at the invoices whose due date passed since it looked last, from one process."""

    def __init__(self) -> None:
        """Begin with every overdue invoice."""
        self._seen: dict[str, int] = {}
        self._begun: dict[str, int] = {}

    def round(self, world: World) -> int:
        """Tell of invoices that became overdue; return how many."""
        now_us = world.clock.now_us()
        return sum(self._tenant(world, tenant, now_us) for tenant in world.catalog.tenants())

    def _tenant(self, world: World, tenant: str, now_us: int) -> int:
        since = self._seen.get(tenant)
        if since is None or now_us - self._begun[tenant] >= AGAIN_US:
            since, self._begun[tenant] = None, now_us
        late = msgspec.structs.replace(shown_as("overdue", now_us), due_from_us=since)
        told, after = 0, None
        while heads := world.invoices.invoices(
            tenant, limit=HEADS_AT_ONCE, after=after, shown=late
        ):
            told += _tell(world, tenant, heads, now_us)
            after = heads[-1].number
        self._seen[tenant] = now_us
        return told


def _tell(world: World, tenant: str, heads: list[InvoiceHead], now_us: int) -> int:
    known = world.marks.of(tenant, WATCH, [head.id for head in heads])
    new = [head for head in heads if head.id not in known]
    if new:
        facts = [overdue_fact(head, now_us) for head in new]
        world.marks.move(tenant, WATCH, {head.id: now_us for head in new}, facts)
    return len(new)
