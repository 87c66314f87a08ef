"""Subscriptions: who has which plan since when, and what is decided about it."""

from decimal import Decimal
from typing import Annotated, Any

import msgspec
from litestar import Controller, delete, get, post, put
from litestar.params import Parameter

from tallybook.catalog.catalog import Catalog
from tallybook.catalog.subscription import (
    State,
    Subscription,
    SubscriptionSpec,
    check_subscription,
    described,
    state_at,
    subscription_spec,
)
from tallybook.compose import World
from tallybook.invoice.amend import Outlook, outlook
from tallybook.kernel.decimals import plain_builtins
from tallybook.kernel.errors import Missing
from tallybook.kernel.period import Period
from tallybook.kernel.timestamps import format_us
from tallybook.serve.api.common.access import BILLING, READ
from tallybook.serve.api.common.paging import LIMIT_DEFAULT, Cursor, Limit, Page, keyed_page
from tallybook.serve.api.gate import Grant
from tallybook.serve.api.rest.contracts.entries import (
    Archived,
    Force,
    archive_billed,
    change,
    create,
    shown,
)


class AmendmentView(msgspec.Struct, frozen=True, kw_only=True):
    """Something decided about a subscription.

    Attributes:
        type: plan, quantity, price, anchor, pause, resume, cancel or uncancel.
        at: from when on it holds.
        recorded: when it was decided.
        text: the same for people.
    """

    type: str
    at: str
    recorded: str
    text: str


class SpanView(msgspec.Struct, frozen=True):
    """From `start` to before `end`."""

    start: str
    end: str


class SubscriptionView(SubscriptionSpec, frozen=True, kw_only=True):
    """A subscription as it is stored; times are RFC 3339.

    Attributes:
        plan, quantities, prices: what it started with; `now` has what holds.
    """

    state: State
    amendments: list[AmendmentView] = []
    rule: str = ""
    archived: bool = False


class NowView(msgspec.Struct, frozen=True, kw_only=True):
    """Where a subscription stands now.

    Attributes:
        plan_version: of the present period; null where none is opened and none is pinned.
        period: the present one; null where there is none.
        next_period: the one after it; null where it ends before.
        ends: null for nowhere.
        quantities: units of fixed fees, where they were ever told.
        prices: its own prices.
    """

    plan: str
    plan_version: int | None
    phase: str
    period: SpanView | None
    next_period: SpanView | None
    ends: str | None
    quantities: dict[str, Decimal]
    prices: dict[str, dict[str, object]]


class SubscriptionDetail(SubscriptionView, frozen=True, kw_only=True):
    """A subscription, and where it stands now."""

    now: NowView


def subscription_view(
    catalog: Catalog, subscription: Subscription, now_us: int
) -> SubscriptionView:
    """Return a subscription as lists show it."""
    return SubscriptionView(**_fields(catalog, subscription, now_us))


def subscription_detail(
    world: World, grant: Grant, catalog: Catalog, key: str
) -> SubscriptionDetail:
    """Return a subscription with where it stands now; raises Missing."""
    if key not in catalog.subscriptions:
        raise Missing(f"there is no subscription '{key}'", field="key")
    subscription = catalog.subscriptions[key]
    billing = world.billing(grant.tenant)
    stands = now_view(outlook(billing, catalog, subscription))
    fields = _fields(catalog, subscription, world.clock.now_us())
    return SubscriptionDetail(**fields, now=stands)


def now_view(found: Outlook) -> NowView:
    """Return where a subscription stands as the API shows it."""
    spans = [_span(period) for period in found.periods]
    return NowView(
        plan=found.plan,
        plan_version=found.plan_version,
        phase=found.phase,
        period=spans[0] if spans else None,
        next_period=spans[1] if len(spans) > 1 else None,
        ends=None if found.end_us is None else format_us(found.end_us),
        quantities=found.quantities,
        prices={key: plain_builtins(price) for key, price in found.prices.items()},
    )


def _span(period: Period) -> SpanView:
    return SpanView(format_us(period.start_us), format_us(period.end_us))


def _fields(catalog: Catalog, subscription: Subscription, now_us: int) -> dict[str, Any]:
    base = catalog.subscriptions.get(subscription.base)
    written: dict[str, Any] = msgspec.structs.asdict(subscription_spec(subscription))
    return written | {
        "state": state_at(subscription, now_us, base),
        "amendments": [
            AmendmentView(
                type=str(type(one).__struct_config__.tag),
                at=format_us(one.at_us),
                recorded=format_us(one.recorded_us),
                text=described(one),
            )
            for one in subscription.amendments
        ],
        "rule": subscription.rule,
        "archived": not catalog.live("subscription", subscription.key),
    }


class Subscriptions(Controller):
    """Who has which plan, since when."""

    path = "/subscriptions"
    tags = ("subscriptions",)

    @get("/", opt=READ, sync_to_thread=True)
    def list_subscriptions(
        self,
        world: World,
        grant: Grant,
        limit: Limit = LIMIT_DEFAULT,
        cursor: Cursor = None,
        customer: str | None = None,
        plan: Annotated[
            str | None, Parameter(description="Only those that started on this plan.")
        ] = None,
        wanted: Annotated[
            State | None,
            Parameter(query="state", required=False, description="Only those in this state."),
        ] = None,
        archived: Archived = False,
    ) -> Page[SubscriptionView]:
        """List subscriptions by key."""
        catalog, now = world.catalog.load(grant.tenant), world.clock.now_us()
        some = [
            one
            for one in shown(catalog, "subscription", catalog.subscriptions, archived=archived)
            if customer in {None, one.customer}
            and plan in {None, one.plan}
            and (wanted is None or _state(catalog, one, now) == wanted)
        ]
        found = keyed_page(some, limit, cursor, lambda subscription: subscription.key)
        views = [subscription_view(catalog, one, now) for one in found.items]
        return Page(views, found.next_cursor)

    @post("/", opt=BILLING, sync_to_thread=True)
    def create_subscription(
        self, world: World, grant: Grant, data: SubscriptionSpec
    ) -> SubscriptionDetail:
        """Put a customer on a plan, from any instant on."""
        catalog = world.catalog.load(grant.tenant)
        made = check_subscription(data, catalog.customer(data.customer).zone)
        catalog = create(world, grant, made)
        return subscription_detail(world, grant, catalog, made.key)

    @get("/{key:str}", opt=READ, sync_to_thread=True)
    def get_subscription(self, world: World, grant: Grant, key: str) -> SubscriptionDetail:
        """Show a subscription: its state, what was decided about it, its period now and next."""
        return subscription_detail(world, grant, world.catalog.load(grant.tenant), key)

    @put("/{key:str}", opt=BILLING, sync_to_thread=True)
    def change_subscription(
        self, world: World, grant: Grant, key: str, data: SubscriptionSpec
    ) -> SubscriptionDetail:
        """Correct what a subscription started with; what was decided since stays decided."""
        zone = world.catalog.load(grant.tenant).customer(data.customer).zone
        catalog = change(world, grant, key, check_subscription(data, zone))
        return subscription_detail(world, grant, catalog, key)

    @delete("/{key:str}", opt=BILLING, sync_to_thread=True)
    def archive_subscription(
        self, world: World, grant: Grant, key: str, force: Force = False
    ) -> None:
        """Take a subscription out of use: nothing of it is billed any more.

        Refused where something is not billed yet: cancel it and bill first. With `force`
        that is lost.
        """
        archive_billed(world, grant, "subscription", key, force=force)


def _state(catalog: Catalog, subscription: Subscription, now_us: int) -> State:
    return state_at(subscription, now_us, catalog.subscriptions.get(subscription.base))


ROUTES: tuple[type[Controller], ...] = (Subscriptions,)
