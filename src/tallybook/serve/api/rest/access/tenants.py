"""Tenants: an operator makes, lists, closes and opens them."""

import msgspec
from litestar import Controller, get, post

from tallybook.adapters.sql.access.tenants import Tenant
from tallybook.admit.issue import KeySpec, check_terms
from tallybook.admit.tenant import check_closing, check_tenant, check_tenant_name
from tallybook.compose import World
from tallybook.kernel.timestamps import format_us
from tallybook.serve.api.common.access import OPERATOR
from tallybook.serve.api.common.paging import LIMIT_DEFAULT, Cursor, Limit, Page, keyed_page
from tallybook.serve.api.gate import Grant
from tallybook.serve.api.rest.access.keys import KeyView, make_key


class TenantSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tenant to make.

    Attributes:
        tenant: its id, 1 to 63 of a-z, 0-9, '-' and '_'; never changes.
        name: for people.
        key_name: name of its first key, which has the role owner.
    """

    tenant: str
    name: str = ""
    key_name: str = "first key"


class TenantView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A tenant.

    Attributes:
        open: whether its keys are accepted.
        first_key: its first key, in the answer that makes it and never again.
    """

    tenant: str
    name: str
    created_time: str
    open: bool
    closed_time: str | None = None
    first_key: KeyView | None = None


def tenant_view(tenant: Tenant) -> TenantView:
    """Return a tenant as the API shows it."""
    closed = tenant.closed_us
    return TenantView(
        tenant=tenant.tenant,
        name=tenant.name,
        created_time=format_us(tenant.created_us),
        open=closed is None,
        closed_time=None if closed is None else format_us(closed),
    )


def make_tenant(world: World, spec: TenantSpec) -> TenantView:
    """Make a tenant and its first key; the answer is the only place that shows the key."""
    owner = KeySpec(name=spec.key_name, roles=["owner"])
    now_us = world.clock.now_us()
    check_terms(owner, now_us)
    made = Tenant(
        tenant=check_tenant(spec.tenant), name=check_tenant_name(spec.name), created_us=now_us
    )
    world.tenants.add(made)
    return msgspec.structs.replace(tenant_view(made), first_key=make_key(world, made.tenant, owner))


class Tenants(Controller):
    """Who is kept apart from whom."""

    path = "/tenants"
    tags = ("tenants",)

    @get("/", opt=OPERATOR, sync_to_thread=True)
    def list_tenants(
        self, world: World, limit: Limit = LIMIT_DEFAULT, cursor: Cursor = None
    ) -> Page[TenantView]:
        """List the tenants that were made, by id; the first one, `default`, is always there."""
        views = [tenant_view(one) for one in world.tenants.listed()]
        return keyed_page(views, limit, cursor, lambda view: view.tenant)

    @post("/", opt=OPERATOR, sync_to_thread=True)
    def create_tenant(self, world: World, data: TenantSpec) -> TenantView:
        """Make a tenant and its first key, whose text is shown in this answer only."""
        return make_tenant(world, data)

    @get("/{tenant:str}", opt=OPERATOR, sync_to_thread=True)
    def get_tenant(self, world: World, tenant: str) -> TenantView:
        """Show a tenant; nothing of its data."""
        return tenant_view(world.tenants.get(tenant))

    @post("/{tenant:str}/close", opt=OPERATOR, status_code=200, sync_to_thread=True)
    def close_tenant(self, world: World, grant: Grant, tenant: str) -> TenantView:
        """Refuse all keys and people of a tenant from now on; its data stays as it is."""
        check_closing(tenant, grant.tenant)
        world.tenants.close(tenant, world.clock.now_us())
        return tenant_view(world.tenants.get(tenant))

    @post("/{tenant:str}/open", opt=OPERATOR, status_code=200, sync_to_thread=True)
    def open_tenant(self, world: World, tenant: str) -> TenantView:
        """Accept the keys of a closed tenant again."""
        world.tenants.close(tenant, None)
        return tenant_view(world.tenants.get(tenant))
