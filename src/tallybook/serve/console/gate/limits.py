"""Usage plans: what keys are limited to, and how much of it every key has used."""

from typing import Any

import msgspec
from litestar import Request, Response, get
from litestar.types import ControllerRouterHandler

from tallybook.admit.issue import is_good
from tallybook.admit.plan.limit import Concurrency, Entitled, Limit, Quota, Rate
from tallybook.compose import World
from tallybook.kernel.timestamps import SECOND_US, format_us
from tallybook.serve.api.common.paging import keyed_page
from tallybook.serve.api.rest.access.usage_plans import (
    KeyUsage,
    LimitStanding,
    UsagePlanView,
    key_usage,
    plan_views,
)
from tallybook.serve.console.access import ADMIN_PAGE, session_of
from tallybook.serve.console.render import html

PAGE_ROWS = 25
SOON_SECONDS = 60
WORST = 95
"""From this part of a limit in use, in percent, its bar is a warning even where none is set."""


class Said(msgspec.Struct, frozen=True):
    """A limit in words.

    Attributes:
        allows: how much. for_: the routes. per: whose requests are counted together.
        warns: at which percentages.
    """

    key: str
    allows: str
    for_: str
    per: str
    warns: str


class Bar(msgspec.Struct, frozen=True):
    """How much of a limit is in use.

    Attributes:
        percent: 0 to 100. crowded: whether a warning is reached, or nearly all is in use.
        whole_time: RFC 3339, when all of it is there again; '' where that is within a minute.
    """

    standing: LimitStanding
    percent: int
    crowded: bool
    whole_time: str


class KeyBars(msgspec.Struct, frozen=True):
    """A key with its limits."""

    id: str
    name: str
    usage: KeyUsage
    bars: list[Bar]


@get("/usage-plans", opt=ADMIN_PAGE, sync_to_thread=True)
def usage_plans_page(
    request: "Request[Any, Any, Any]", world: World, cursor: str | None = None
) -> Response[bytes]:
    """List usage plans, and keys with bars of what they have used."""
    session = session_of(request)
    tenant, now_us = session.grant.tenant, world.clock.now_us()
    plans = plan_views(world, tenant)
    good = [key for key in world.keys.listed(tenant) if is_good(key, now_us)]
    found = keyed_page(good, PAGE_ROWS, cursor, lambda key: key.id)
    keys = [
        KeyBars(key.id, key.name, usage, [bar(one, now_us) for one in usage.limits])
        for key in found.items
        for usage in [key_usage(world, tenant, key.id)]
    ]
    return html(
        "gate/usage_plans.html",
        session=session,
        here="usage-plans",
        plans=[(plan, said(plan)) for plan in plans],
        keys=[key for key in keys if key.bars],
        next_cursor=found.next_cursor,
    )


def bar(standing: LimitStanding, now_us: int) -> Bar:
    """Return the bar of a limit."""
    percent = min(standing.used * 100 // standing.size, 100)
    crowded = standing.warning is not None or percent >= WORST
    seconds = standing.reset_seconds
    whole = format_us(now_us + seconds * SECOND_US) if seconds > SOON_SECONDS else ""
    return Bar(standing, percent, crowded, whole)


def said(plan: UsagePlanView) -> list[Said]:
    """Return the limits of a plan in words."""
    return [_said(limit) for limit in plan.limits]


def _said(limit: Limit) -> Said:
    routes = "all routes" if limit.routes == ("*",) else ", ".join(limit.routes)
    if isinstance(limit, Entitled):
        return Said(limit.key, f"while entitled to {limit.feature}", routes, "customer", "")
    warns = ", ".join(f"{percent} %" for percent in limit.warn)
    return Said(limit.key, _allows(limit), routes, limit.per, warns)


def _allows(limit: Rate | Quota | Concurrency) -> str:
    if isinstance(limit, Rate):
        span = "a second" if limit.seconds == 1 else f"in {limit.seconds:,} s"
        return f"{limit.rate:,} {limit.counts} {span}, {limit.size:,} at once"
    if isinstance(limit, Quota):
        return f"{limit.limit:,} {limit.counts} a {limit.window}"
    return f"{limit.limit:,} running at once"


ROUTES: list[ControllerRouterHandler] = [usage_plans_page]
