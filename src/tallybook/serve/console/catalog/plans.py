"""Plans: versions, phases and charges in words."""

from collections import Counter
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, get
from litestar.params import Parameter
from litestar.types import ControllerRouterHandler

from tallybook.catalog.catalog import Catalog
from tallybook.catalog.plan import Minimum, Plan, commitment, priced, thresholds
from tallybook.catalog.subscription import plan_at, state_at
from tallybook.compose import World
from tallybook.kernel.errors import Invalid
from tallybook.serve.api.common.paging import keyed_page
from tallybook.serve.console.access import PAGE, session_of
from tallybook.serve.console.catalog.words import ChargeWords, charge_words
from tallybook.serve.console.render import every, html, number

PAGE_ROWS = 50
VERSIONS_SHOWN = 50

VersionAsked = Annotated[int | None, Parameter(ge=1, le=1_000_000, required=False)]


class PhaseWords(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of a subscription with the terms that hold in it.

    Attributes:
        lasts: how long, in words.
        minimum: commitment, in words; '' for none.
    """

    name: str
    lasts: str
    charges: list[ChargeWords]
    minimum: str


@get("/plans", opt=PAGE, sync_to_thread=True)
def plans_page(
    request: "Request[Any, Any, Any]", world: World, cursor: str | None = None
) -> Response[bytes]:
    """List plans and add-ons with how many are on each."""
    session = session_of(request)
    catalog = world.catalog.load(session.grant.tenant)
    live = [versions[-1] for key, versions in catalog.plans.items() if catalog.live("plan", key)]
    shown = keyed_page(live, PAGE_ROWS, cursor, lambda plan: plan.key)
    return html(
        "catalog/plans.html",
        session=session,
        here="plans",
        plans=shown.items,
        on=on_plans(catalog, world.clock.now_us()),
        total=len(live),
        next_cursor=shown.next_cursor,
    )


def on_plans(catalog: Catalog, now_us: int) -> Counter[str]:
    """Return how many subscriptions that have not ended are on each plan."""
    found: Counter[str] = Counter()
    for one in catalog.subscriptions.values():
        base = catalog.subscriptions.get(one.base)
        if catalog.live("subscription", one.key) and state_at(one, now_us, base) != "ended":
            found[plan_at(one, now_us)[0]] += 1
    return found


@get("/plans/{key:str}", opt=PAGE, sync_to_thread=True)
def plan_page(
    request: "Request[Any, Any, Any]",
    world: World,
    key: str,
    version: VersionAsked = None,
    currency: str = "",
) -> Response[bytes]:
    """Show one version of a plan in one of its currencies."""
    session = session_of(request)
    catalog = world.catalog.load(session.grant.tenant)
    plan = catalog.plan(key, version)
    code = currency or plan.currency
    if code not in plan.sold_in():
        raise Invalid(f"{key} is sold in {', '.join(plan.sold_in())}", field="currency")
    return html(
        "catalog/plan.html",
        session=session,
        here="plans",
        plan=plan,
        currency=code,
        versions=catalog.plans[key][::-1][:VERSIONS_SHOWN],
        newest=catalog.plans[key][-1].version,
        archived=not catalog.live("plan", key),
        phases=phases(catalog, plan, code),
        thresholds=[number(one) for one in thresholds(plan, code)],
        subscriptions=on_plans(catalog, world.clock.now_us())[key],
        may_bill=session.grant.allows("billing") and catalog.live("plan", key),
    )


def phases(catalog: Catalog, plan: Plan, currency: str) -> list[PhaseWords]:
    """Return a plan's phases in order, and at last its own terms where they ever hold."""
    found = [
        _phase(catalog, plan, currency, phase.key, phase.name, phase.length)
        for phase in plan.phases
    ]
    if not plan.phases or plan.phases[-1].length is not None:
        found.append(_phase(catalog, plan, currency, "", "", None))
    return found


def _phase(
    catalog: Catalog, plan: Plan, currency: str, key: str, name: str, length: str | None
) -> PhaseWords:
    charges = priced(plan, key, currency)
    for_good = "then, for good" if plan.phases else ""
    return PhaseWords(
        name=name or ("Afterwards" if plan.phases else "Charges"),
        lasts=for_good if length is None else f"for {_length(length)}",
        charges=[charge_words(catalog, plan, charge, currency) for charge in charges],
        minimum=minimum_words(plan, commitment(plan, key, currency), currency),
    )


def _length(text: str) -> str:
    words = every(text)
    return f"a {words}" if words.isalpha() else words


def minimum_words(plan: Plan, minimum: Minimum | None, currency: str) -> str:
    """Return a commitment in words; '' for none."""
    if minimum is None:
        return ""
    of = f" of {', '.join(minimum.charges)}" if minimum.charges else ""
    amount = f"{number(minimum.amount)} {currency}"
    return f"{minimum.name}: at least {amount}{of}, each {every(plan.interval)}"


ROUTES: list[ControllerRouterHandler] = [plans_page, plan_page]
