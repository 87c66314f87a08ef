"""Wallets looked after: what expired is posted; who used something new is looked at.

Who is to be looked at follows from the lake's commits and from the versions of the accounts; after
a restart every watched wallet is looked at once, a bounded number each round.
"""

from collections import deque
from collections.abc import Iterable

import structlog

from tallybook.catalog.catalog import Catalog
from tallybook.compose import World
from tallybook.kernel.errors import TallybookError, Unavailable
from tallybook.kernel.timestamps import HOUR_US
from tallybook.serve.worker.chores import Chore
from tallybook.settle.prepaid.flow import lapse
from tallybook.settle.prepaid.watch import watched
from tallybook.settle.prepaid.watching import Watching, look_at

EVERY_SECONDS = 3.0
AT_ONCE = 25
"""Customers looked at in one round of a tenant, so that jobs are not kept waiting."""
AGAIN_US = HOUR_US
"""After this everybody is looked at again: fees come with time, not with usage."""


class _Tenant:
    """What is left to do for one tenant."""

    def __init__(self) -> None:
        self.cut: int | None = None
        self.posted_us = -1
        self.begun_us = 0
        self.waiting: deque[str] = deque()

    def wait(self, customers: Iterable[str]) -> None:
        """Put customers in the queue that are not in it."""
        known = set(self.waiting)
        self.waiting += [one for one in dict.fromkeys(customers) if one not in known]


class WalletKeeper:
    """Looks after the wallets of all tenants, from one process."""

    def __init__(self) -> None:
        """Begin with everything to be looked at."""
        self._tenants: dict[str, _Tenant] = {}

    def round(self, world: World) -> int:
        """Do what is due; return how many things were done."""
        return sum(self._tenant(world, tenant) for tenant in world.wallets.tenants())

    def _tenant(self, world: World, tenant: str) -> int:
        state = self._tenants.setdefault(tenant, _Tenant())
        catalog = world.catalog.load(tenant)
        done = self._lapse(world, tenant, state, catalog)
        state.wait(self._due(world, tenant, state, catalog))
        for _ in range(min(AT_ONCE, len(state.waiting))):
            done += self._look(world, tenant, state, state.waiting.popleft())
        return done

    def _lapse(self, world: World, tenant: str, state: _Tenant, catalog: Catalog) -> int:
        """Post what expired since the last round."""
        now_us = world.clock.now_us()
        keys = world.wallets.ended(tenant, state.posted_us, now_us)
        gone = lapse(world.wallets, tenant, [catalog.wallets[key] for key in keys], now_us)
        state.posted_us = now_us
        return len(gone)

    def _due(self, world: World, tenant: str, state: _Tenant, catalog: Catalog) -> list[str]:
        """Return the customers that are to be looked at, those with new usage first."""
        wallets = [
            one
            for one in catalog.wallets.values()
            if watched(one) and catalog.live("wallet", one.key)
        ]
        customers = {one.customer for one in wallets}
        if not customers:
            return []
        now_us, head = world.clock.now_us(), world.usage.head()
        if state.cut is None or now_us - state.begun_us >= AGAIN_US:
            state.cut, state.begun_us = head, now_us
            return sorted(customers)
        users = _users(world, tenant, catalog, state.cut, head)
        state.cut = head
        moved = [one.customer for one in world.wallets.moved(tenant, wallets)]
        return [one for one in (*sorted(users), *moved) if one in customers]

    def _look(self, world: World, tenant: str, state: _Tenant, customer: str) -> int:
        """Look at a customer; one that cannot be looked at holds up nobody else."""
        log = structlog.get_logger("wallets").bind(tenant=tenant, customer=customer)
        ports = Watching(billing=world.billing(tenant), wallets=world.wallets)
        try:
            looks = look_at(ports, customer)
        except Unavailable:
            state.wait([customer])
            raise
        except TallybookError as error:
            log.warning("wallet.not_looked_at", code=error.code, error=error.message)
            return 0
        if looks is None:
            state.wait([customer])
            return 0
        for one in looks:
            if one.recharge is not None:
                asked = one.recharge
                log.info("wallet.recharge_requested", wallet=asked.wallet, recharge=asked.key)
        return sum(one.recharge is not None or bool(one.low) for one in looks)


def _users(world: World, tenant: str, catalog: Catalog, after: int, head: int) -> set[str]:
    """Return the customers who pay for usage of the commits after one, up to another."""
    if head <= after:
        return set()
    types = sorted({meter.event_type for meter in catalog.live_meters()})
    touched = {
        one.subject for type_ in types for one in world.usage.touched(tenant, type_, after, head)
    }
    used = {
        customer.key
        for customer in catalog.customers.values()
        if any(span.subject in touched for span in customer.subjects)
    }
    return used | {parent for key in used if (parent := catalog.customers[key].parent)}


CHORES = (Chore(name="wallets", every_seconds=EVERY_SECONDS, step=WalletKeeper().round),)
"""What is looked after between jobs."""
