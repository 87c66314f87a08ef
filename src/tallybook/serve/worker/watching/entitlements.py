"""Entitlements that are nearly or wholly used: who used something new is looked at."""

from collections import deque
from collections.abc import Iterable

import structlog

from tallybook.catalog.catalog import Catalog
from tallybook.catalog.entitlement import Entitlement, Metered
from tallybook.compose import World
from tallybook.deliver.watch import entitlement_fact, entitlement_mark
from tallybook.kernel.errors import Refused
from tallybook.kernel.timestamps import HOUR_US
from tallybook.settle.flow import Question, check

ENTITLEMENTS_SECONDS = 5.0
WATCH = "entitlement"
AT_ONCE = 50
"""Entitlements looked at in one round of a tenant, so that jobs are not kept waiting."""
AGAIN_US = HOUR_US
"""After this everything is looked at again: grants expire and periods begin without usage."""


class _Tenant:
    """What is left to do for one tenant."""

    def __init__(self) -> None:
        self.cut: int | None = None
        self.begun_us = 0
        self.waiting: deque[str] = deque()

    def wait(self, keys: Iterable[str]) -> None:
        """Put entitlements in the queue that are not in it."""
        known = set(self.waiting)
        self.waiting += [one for one in dict.fromkeys(keys) if one not in known]


class EntitlementWatch:
    """Looks at metered entitlements of all tenants, from one process."""

    def __init__(self) -> None:
        """Begin with everything to be looked at."""
        self._tenants: dict[str, _Tenant] = {}

    def round(self, world: World) -> int:
        """Look at what is due; return how many facts were told."""
        return sum(self._tenant(world, tenant) for tenant in world.catalog.tenants("entitlement"))

    def _tenant(self, world: World, tenant: str) -> int:
        state = self._tenants.setdefault(tenant, _Tenant())
        catalog = world.catalog.load(tenant)
        metered = {
            key: one
            for key, one in catalog.entitlements.items()
            if isinstance(one.access, Metered) and catalog.live("entitlement", key)
        }
        if not metered:
            return 0
        state.wait(_due(world, tenant, state, catalog, metered))
        told = 0
        for _ in range(min(AT_ONCE, len(state.waiting))):
            key = state.waiting.popleft()
            if key in metered:
                told += _look(world, tenant, catalog, metered[key])
        return told


def _due(
    world: World,
    tenant: str,
    state: _Tenant,
    catalog: Catalog,
    metered: dict[str, Entitlement],
) -> list[str]:
    """Return the entitlements whose subjects have new usage; all of them now and then."""
    now_us, head = world.clock.now_us(), world.usage.head()
    if state.cut is None or now_us - state.begun_us >= AGAIN_US:
        state.cut, state.begun_us = head, now_us
        return sorted(metered)
    before, state.cut = state.cut, head
    if head <= before:
        return []
    types = sorted({catalog.meter(_metered(one).meter).event_type for one in metered.values()})
    touched = {
        (type_, one.subject)
        for type_ in types
        for one in world.usage.touched(tenant, type_, before, head)
    }
    return [key for key, one in sorted(metered.items()) if _is_touched(catalog, one, touched)]


def _metered(entitlement: Entitlement) -> Metered:
    assert isinstance(entitlement.access, Metered), "the others are not looked at"
    return entitlement.access


def _is_touched(catalog: Catalog, entitlement: Entitlement, touched: set[tuple[str, str]]) -> bool:
    type_ = catalog.meter(_metered(entitlement).meter).event_type
    customer = catalog.customer(entitlement.customer)
    return any((type_, span.subject) in touched for span in customer.subjects)


def _look(world: World, tenant: str, catalog: Catalog, entitlement: Entitlement) -> int:
    """Look at one entitlement; one that cannot be looked at holds up nobody else."""
    key, now_us = entitlement.key, world.clock.now_us()
    if now_us < _metered(entitlement).measure_from_us:
        return 0
    facts = world.entitlements.facts(tenant, [key])[key]
    asked = Question(
        tenant=tenant,
        entitlement=entitlement,
        grants=facts.grants,
        by_hand=facts.resets,
        cut=world.usage.head(),
    )
    try:
        value = check(world.usage, catalog, asked, now_us)
    except Refused as error:
        log = structlog.get_logger("entitlements").bind(tenant=tenant, entitlement=key)
        log.warning("entitlement.not_looked_at", code=error.code, error=error.message)
        return 0
    if value.period is None:
        return 0
    mark, before = entitlement_mark(value), world.marks.of(tenant, WATCH, [key]).get(key)
    if mark == before:
        return 0
    fact = entitlement_fact(key, entitlement.customer, entitlement.feature, value, before, now_us)
    world.marks.move(tenant, WATCH, {key: mark}, [] if fact is None else [fact])
    return 0 if fact is None else 1
