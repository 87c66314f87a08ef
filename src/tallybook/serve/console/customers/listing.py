"""The list of customers: their plans, and what they owe."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from litestar import Request, Response, get
from litestar.types import ControllerRouterHandler

from tallybook.catalog.catalog import Catalog
from tallybook.catalog.subscription import plan_at, state_at
from tallybook.compose import World
from tallybook.kernel.money import money_text
from tallybook.serve.api.common.paging import keyed_page
from tallybook.serve.api.rest.catalog import customer_view
from tallybook.serve.console.access import PAGE, session_of
from tallybook.serve.console.render import html
from tallybook.settle.receivable.owing import owed

PAGE_ROWS = 50


@get("/customers", opt=PAGE, sync_to_thread=True)
def customers_page(
    request: "Request[Any, Any, Any]",
    world: World,
    cursor: str | None = None,
    find: str = "",
) -> Response[bytes]:
    """List customers by key; of those whose key, name or subject has a text."""
    session = session_of(request)
    tenant = session.grant.tenant
    catalog = world.catalog.load(tenant)
    live = [one for one in catalog.customers.values() if catalog.live("customer", one.key)]
    wanted = find.strip().casefold()
    some = [one for one in live if not wanted or _has(one, wanted)]
    shown = keyed_page(some, PAGE_ROWS, cursor, lambda customer: customer.key)
    keys = [customer.key for customer in shown.items]
    return html(
        "customers/list.html",
        session=session,
        here="customers",
        customers=[customer_view(catalog, customer) for customer in shown.items],
        plans=plans_of(catalog, keys, world.clock.now_us()),
        owed={key: _owed(world, tenant, key) for key in keys},
        total=len(some),
        find=find,
        next_cursor=shown.next_cursor,
    )


def _has(customer: Any, wanted: str) -> bool:
    texts = (customer.key, customer.name, *(span.subject for span in customer.subjects))
    return any(wanted in text.casefold() for text in texts)


def plans_of(catalog: Catalog, keys: Sequence[str], now_us: int) -> dict[str, list[str]]:
    """Return the plans that customers are on now, by name."""
    found: dict[str, list[str]] = defaultdict(list)
    for one in catalog.subscriptions.values():
        if one.customer not in keys or not catalog.live("subscription", one.key):
            continue
        if state_at(one, now_us, catalog.subscriptions.get(one.base)) != "ended":
            found[one.customer].append(catalog.plan(plan_at(one, now_us)[0]).name)
    return {key: sorted(set(names)) for key, names in found.items()}


def _owed(world: World, tenant: str, key: str) -> list[tuple[str, str, str]]:
    """Return currency, what is open and what of it is overdue."""
    standing = world.settlements.standing(tenant, key)
    return [
        (
            currency,
            money_text(one.open_minor, currency),
            money_text(one.overdue_minor, currency) if one.overdue_minor else "",
        )
        for currency, one in sorted(owed(standing, world.clock.now_us()).items())
        if one.open_minor
    ]


ROUTES: list[ControllerRouterHandler] = [customers_page]
