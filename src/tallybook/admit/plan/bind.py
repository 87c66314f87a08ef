"""From a plan to the limits of one key: whose requests are counted together, and where."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import assert_never

import msgspec

from tallybook.admit.key import Grant
from tallybook.admit.plan import routes
from tallybook.admit.plan.decide import Bound, Place
from tallybook.admit.plan.limit import Concurrency, Counting, Entitled, Per, Quota, Rate
from tallybook.admit.plan.plan import UsagePlan

HOUR_SECONDS = 3600
WINDOW_HOURS = {"day": 26, "week": 7 * 24 + 2, "month": 31 * 24 + 2}
"""The longest that a window is, with a clock change."""


class Binding(msgspec.Struct, frozen=True):
    """Every limit of a key.

    Attributes:
        counting: limits with a count.
        entitled: features that its customer must have access to.
    """

    counting: tuple[Bound, ...] = ()
    entitled: tuple[Entitled, ...] = ()

    def requests(self, method: str, path: str) -> list[Bound]:
        """Return the limits that count a request."""
        return self._of("requests", method, path)

    def events(self, method: str, path: str) -> list[Bound]:
        """Return the limits that count the events of a request."""
        return self._of("events", method, path)

    def _of(self, counts: str, method: str, path: str) -> list[Bound]:
        return [
            bound
            for bound in self.counting
            if bound.limit.counts == counts and routes.covers(bound.limit.routes, method, path)
        ]


def bind(plan: UsagePlan, grant: Grant) -> Binding:
    """Return a plan's limits for what a key grants."""
    counting = [
        bound(limit, plan.key, plan.zone, grant)
        for limit in plan.limits
        if not isinstance(limit, Entitled)
    ]
    entitled = [limit for limit in plan.limits if isinstance(limit, Entitled)]
    return Binding(tuple(counting), tuple(entitled))


def bound(limit: Counting, plan: str, zone: str, grant: Grant) -> Bound:
    """Return one limit for what a key grants."""
    who = _who(limit.per, grant)
    parts = (grant.tenant, "plan", plan, limit.key, who)
    return Bound(
        limit=limit,
        zone=zone,
        plan=plan,
        who=who,
        tenant=grant.tenant,
        customer=grant.customer,
        place=place(
            parts,
            own=isinstance(limit, Concurrency),
            stripe=(grant.tenant, who),
            hours=lasting(limit),
        ),
    )


def built_in(limits: Sequence[Concurrency]) -> tuple[Bound, ...]:
    """Return limits that hold for everybody together."""
    return tuple(
        Bound(
            limit=limit,
            zone="UTC",
            plan="",
            who="server",
            tenant="",
            customer="",
            place=place(("", "built-in", limit.key), own=True, hours=lasting(limit)),
        )
        for limit in limits
    )


def lasting(limit: Counting) -> int:
    """Return for how many hours after its last change a count of a limit means anything.

    A bucket is full again by then, a window has ended with the one after it, for a clock that is
    set back, and what was told in an hour is told anew.
    """
    match limit:
        case Rate():
            filling = -(-limit.size * limit.seconds // limit.rate)
            return filling // HOUR_SECONDS + 2
        case Quota():
            return 2 * WINDOW_HOURS[limit.window]
        case Concurrency():
            return 2
        case never:
            assert_never(never)


def place(
    parts: Sequence[str], *, own: bool = False, stripe: Sequence[str] = (), hours: int = 0
) -> Place:
    """Return where the count of something is kept.

    Args:
        parts: name it, together.
        own: each process keeps a part of its own.
        stripe: what is counted together with it shares its lock; nothing: as `parts`.
        hours: for how long after its last change it means anything; 0 for good.
    """
    return Place(_digest(parts), _digest(stripe or parts)[0], own, hours)


def _who(per: Per, grant: Grant) -> str:
    match per:
        case "tenant":
            return "tenant"
        case "customer" if grant.customer:
            return f"customer:{grant.customer}"
        case _:
            return f"key:{grant.key_id}"


def _digest(parts: Sequence[str]) -> bytes:
    told = b"".join(len(raw).to_bytes(4, "big") + raw for raw in (p.encode() for p in parts))
    return blake2b(told, digest_size=16).digest()
