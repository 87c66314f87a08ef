"""Meters, customers and plans one by one, and the whole catalog as a file."""

from typing import Annotated

import msgspec
from litestar import Controller, delete, get, post, put
from litestar.params import Parameter

from tallybook.admit.declare import PlanChange
from tallybook.catalog.catalog import Catalog
from tallybook.catalog.change import Change
from tallybook.catalog.customer import Customer, CustomerSpec, check_customer, customer_spec
from tallybook.catalog.document import parse_document
from tallybook.catalog.flow import Keep, apply, plan_apply
from tallybook.catalog.meter import Meter, MeterSpec, check_meter, meter_spec
from tallybook.catalog.plan import Plan, PlanSpec, check_plan, plan_spec
from tallybook.compose import World
from tallybook.invoice.backtest import Backtest, backtest, check_span
from tallybook.invoice.unbilled import Why, without_unbilled
from tallybook.kernel.errors import Invalid
from tallybook.kernel.period import parse_moment, zone
from tallybook.route.declare import RuleChange
from tallybook.serve.api.common.access import BILLING, READ
from tallybook.serve.api.common.paging import LIMIT_DEFAULT, Cursor, Limit, Page, keyed_page
from tallybook.serve.api.gate import Grant
from tallybook.serve.api.rest.access import declared
from tallybook.serve.api.rest.contracts.entries import (
    Archived,
    Force,
    archive,
    archive_billed,
    change,
    create,
    shown,
)
from tallybook.serve.api.rest.streams import declared as routing


class MeterView(MeterSpec, frozen=True, kw_only=True):
    """A meter as it is stored, newest version."""

    version: int = 1
    archived: bool = False


class CustomerView(CustomerSpec, frozen=True, kw_only=True):
    """A customer as it is stored."""

    rule: str = ""
    archived: bool = False


class PlanView(PlanSpec, frozen=True, kw_only=True):
    """A plan as it is stored, newest version."""

    version: int = 1
    archived: bool = False


class ChangeView(msgspec.Struct, frozen=True):
    """One thing that an apply changes."""

    action: str
    kind: str
    key: str
    details: list[str]


class Changes(msgspec.Struct, frozen=True):
    """What an apply changes; empty where everything is as declared.

    Attributes:
        kept: what is not declared and not archived either, and why.
    """

    changes: list[ChangeView]
    kept: list[ChangeView] = []


def meter_view(catalog: Catalog, meter: Meter) -> MeterView:
    """Return a meter as the API shows it."""
    archived = not catalog.live("meter", meter.key)
    written = msgspec.structs.asdict(meter_spec(meter))
    return MeterView(**written, version=meter.version, archived=archived)


def customer_view(catalog: Catalog, customer: Customer) -> CustomerView:
    """Return a customer as the API shows it."""
    archived = not catalog.live("customer", customer.key)
    written = msgspec.structs.asdict(customer_spec(customer))
    return CustomerView(**written, rule=customer.rule, archived=archived)


def plan_view(catalog: Catalog, plan: Plan) -> PlanView:
    """Return a plan as the API shows it."""
    archived = not catalog.live("plan", plan.key)
    written = msgspec.structs.asdict(plan_spec(plan))
    return PlanView(**written, version=plan.version, archived=archived)


class Meters(Controller):
    """What is counted."""

    path = "/meters"
    tags = ("meters",)

    @get("/", opt=READ, sync_to_thread=True)
    def list_meters(
        self,
        world: World,
        grant: Grant,
        limit: Limit = LIMIT_DEFAULT,
        cursor: Cursor = None,
        archived: Archived = False,
    ) -> Page[MeterView]:
        """List meters, newest version of each."""
        catalog = world.catalog.load(grant.tenant)
        some = shown(catalog, "meter", catalog.meters, archived=archived)
        views = [meter_view(catalog, versions[-1]) for versions in some]
        return keyed_page(views, limit, cursor, lambda view: view.key)

    @post("/", opt=BILLING, sync_to_thread=True)
    def create_meter(self, world: World, grant: Grant, data: MeterSpec) -> MeterView:
        """Create a meter; it counts over history too."""
        meter = check_meter(data)
        catalog = create(world, grant, meter)
        return meter_view(catalog, catalog.meter(meter.key))

    @get("/{key:str}", opt=READ, sync_to_thread=True)
    def get_meter(
        self, world: World, grant: Grant, key: str, version: int | None = None
    ) -> MeterView:
        """Show a meter, the newest version where none is named."""
        catalog = world.catalog.load(grant.tenant)
        return meter_view(catalog, catalog.meter(key, version))

    @put("/{key:str}", opt=BILLING, sync_to_thread=True)
    def change_meter(self, world: World, grant: Grant, key: str, data: MeterSpec) -> MeterView:
        """Change a meter; another meaning is a new version, for open periods."""
        catalog = change(world, grant, key, check_meter(data))
        return meter_view(catalog, catalog.meter(key))

    @delete("/{key:str}", opt=BILLING, sync_to_thread=True)
    def archive_meter(self, world: World, grant: Grant, key: str) -> None:
        """Take a meter out of use; its past stays."""
        archive(world, grant, "meter", key)


class Customers(Controller):
    """Who pays."""

    path = "/customers"
    tags = ("customers",)

    @get("/", opt=READ, sync_to_thread=True)
    def list_customers(
        self,
        world: World,
        grant: Grant,
        limit: Limit = LIMIT_DEFAULT,
        cursor: Cursor = None,
        parent: str | None = None,
        archived: Archived = False,
    ) -> Page[CustomerView]:
        """List customers by key; `parent` lists those that a customer pays for."""
        catalog = world.catalog.load(grant.tenant)
        some = shown(catalog, "customer", catalog.customers, archived=archived)
        some = [customer for customer in some if parent in {None, customer.parent}]
        found = keyed_page(some, limit, cursor, lambda customer: customer.key)
        return Page([customer_view(catalog, c) for c in found.items], found.next_cursor)

    @post("/", opt=BILLING, sync_to_thread=True)
    def create_customer(self, world: World, grant: Grant, data: CustomerSpec) -> CustomerView:
        """Create a customer."""
        customer = check_customer(data)
        catalog = create(world, grant, customer)
        return customer_view(catalog, catalog.customer(customer.key))

    @get("/{key:str}", opt=READ, sync_to_thread=True)
    def get_customer(self, world: World, grant: Grant, key: str) -> CustomerView:
        """Show a customer."""
        catalog = world.catalog.load(grant.tenant)
        return customer_view(catalog, catalog.customer(key))

    @put("/{key:str}", opt=BILLING, sync_to_thread=True)
    def change_customer(
        self, world: World, grant: Grant, key: str, data: CustomerSpec
    ) -> CustomerView:
        """Change a customer."""
        catalog = change(world, grant, key, check_customer(data))
        return customer_view(catalog, catalog.customer(key))

    @delete("/{key:str}", opt=BILLING, sync_to_thread=True)
    def archive_customer(self, world: World, grant: Grant, key: str, force: Force = False) -> None:
        """Take a customer out of use; invoices stay.

        Refused while it has subscriptions in use or charges that wait. With `force` the
        subscriptions are archived too, and what is not billed yet is lost.
        """
        archive_billed(world, grant, "customer", key, force=force)


class Plans(Controller):
    """What is sold."""

    path = "/plans"
    tags = ("plans",)

    @get("/", opt=READ, sync_to_thread=True)
    def list_plans(
        self,
        world: World,
        grant: Grant,
        limit: Limit = LIMIT_DEFAULT,
        cursor: Cursor = None,
        archived: Archived = False,
    ) -> Page[PlanView]:
        """List plans, newest version of each."""
        catalog = world.catalog.load(grant.tenant)
        some = shown(catalog, "plan", catalog.plans, archived=archived)
        views = [plan_view(catalog, versions[-1]) for versions in some]
        return keyed_page(views, limit, cursor, lambda view: view.key)

    @post("/", opt=BILLING, sync_to_thread=True)
    def create_plan(self, world: World, grant: Grant, data: PlanSpec) -> PlanView:
        """Create a plan."""
        plan = check_plan(data)
        catalog = create(world, grant, plan)
        return plan_view(catalog, catalog.plan(plan.key))

    @get("/{key:str}", opt=READ, sync_to_thread=True)
    def get_plan(
        self, world: World, grant: Grant, key: str, version: int | None = None
    ) -> PlanView:
        """Show a plan, the newest version where none is named."""
        catalog = world.catalog.load(grant.tenant)
        return plan_view(catalog, catalog.plan(key, version))

    @get("/{key:str}/versions", opt=READ, sync_to_thread=True)
    def list_versions(
        self,
        world: World,
        grant: Grant,
        key: str,
        limit: Limit = LIMIT_DEFAULT,
        cursor: Cursor = None,
    ) -> Page[PlanView]:
        """List all versions of a plan, oldest first; none of them ever changes."""
        catalog = world.catalog.load(grant.tenant)
        catalog.plan(key)
        views = [plan_view(catalog, plan) for plan in catalog.plans[key]]
        return keyed_page(views, limit, cursor, lambda view: f"{view.version:09d}")

    @put("/{key:str}", opt=BILLING, sync_to_thread=True)
    def change_plan(self, world: World, grant: Grant, key: str, data: PlanSpec) -> PlanView:
        """Change a plan: a new version, from each subscription's next period on."""
        catalog = change(world, grant, key, check_plan(data))
        return plan_view(catalog, catalog.plan(key))

    @delete("/{key:str}", opt=BILLING, sync_to_thread=True)
    def archive_plan(self, world: World, grant: Grant, key: str) -> None:
        """Take a plan out of use; refused while a subscription in use needs it."""
        archive(world, grant, "plan", key)


class CatalogFile(Controller):
    """The whole catalog as `catalog.toml`."""

    path = "/catalog"
    tags = ("catalog",)

    @post("/diff", opt=READ, status_code=200, sync_to_thread=True)
    def diff(self, world: World, grant: Grant, body: bytes, prune: bool = False) -> Changes:
        """Show what an apply of this TOML text would change."""
        document = parse_document(_toml(body))
        why: Why = {}
        keep = _keep(world, grant, why)
        plans = declared.decided(world, grant.tenant, document.usage_plans, prune=prune)
        routes = routing.decided(world, grant.tenant, document.routes, prune=prune)
        changes = plan_apply(world.catalog, grant.tenant, document, prune=prune, keep=keep)
        return _views(changes, why, plans, routes)

    @post("/apply", opt=BILLING, status_code=200, sync_to_thread=True)
    def apply(self, world: World, grant: Grant, body: bytes, prune: bool = False) -> Changes:
        """Apply this TOML text; applied twice, the second time changes nothing.

        `prune` archives what is not declared, but nothing of which something is not billed yet.
        Usage plans are declared by keys with the scope admin; they are written after the catalog,
        all together, and `prune` takes those out of use that no key is on, where the file has any.
        Routes come last, all together; `prune` takes away those the file does not name, where it
        has any.
        """
        document = parse_document(_toml(body))
        plans = declared.decided(world, grant.tenant, document.usage_plans, prune=prune)
        declared.check_may(grant, plans)
        routes = routing.decided(world, grant.tenant, document.routes, prune=prune)
        why: Why = {}
        keep = _keep(world, grant, why)
        now_us = world.clock.now_us()
        changes = apply(
            world.catalog, grant.tenant, document, prune=prune, keep=keep, now_us=now_us
        )
        declared.write(world, grant.tenant, plans)
        routing.write(world, grant, routes)
        return _views(changes, why, plans, routes)

    @post("/backtest", opt=READ, status_code=200, sync_to_thread=True)
    def backtest(
        self,
        world: World,
        grant: Grant,
        body: bytes,
        start: Annotated[str, Parameter(query="from", description="A date or RFC 3339.")],
        end: Annotated[str, Parameter(query="to", description="A date or RFC 3339.")],
        prune: bool = False,
    ) -> Backtest:
        """Price what was really used with this TOML text, beside the present catalog.

        Writes nothing. Dates are days of the seller's zone; `to` is the first instant after it.
        """
        document = parse_document(_toml(body))
        tz = zone(world.catalog.load(grant.tenant).seller.zone)
        start_us, end_us = parse_moment(start, tz, "from"), parse_moment(end, tz, "to")
        span = check_span(start_us, end_us, world.clock.now_us())
        return backtest(world.billing(grant.tenant), document, span, prune=prune)


def _toml(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise Invalid("the body must be TOML in UTF-8", field="body") from error


def _keep(world: World, grant: Grant, why: Why) -> Keep:
    """Return what takes out changes that would lose something unbilled, and tells `why`."""

    def keep(catalog: Catalog, changes: list[Change]) -> list[Change]:
        if not any(change.action == "archive" for change in changes):
            return changes
        allowed, kept = without_unbilled(world.billing(grant.tenant), catalog, changes)
        why.update(kept)
        return allowed

    return keep


def _views(
    changes: list[Change], why: Why, plans: declared.Decided, routes: list[RuleChange]
) -> Changes:
    return Changes(
        [ChangeView(c.action, c.kind, c.key, list(c.details)) for c in changes]
        + [_plan_view(change) for change in plans.changes]
        + [ChangeView(c.action, "route", c.key, list(c.details)) for c in routes],
        [ChangeView("keep", kind, key, [reason]) for (kind, key), reason in why.items()]
        + [_plan_view(change) for change in plans.kept],
    )


def _plan_view(change: PlanChange) -> ChangeView:
    return ChangeView(change.action, "usage-plan", change.key, list(change.details))


ROUTES: tuple[type[Controller], ...] = (Meters, Customers, Plans, CatalogFile)
