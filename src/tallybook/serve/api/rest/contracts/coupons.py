"""Coupons: an amount or a percentage off, once, for some invoices, or forever."""

import msgspec
from litestar import Controller, delete, get, post, put

from tallybook.catalog.catalog import Catalog
from tallybook.catalog.coupon import CouponSpec, check_coupon, coupon_spec
from tallybook.compose import World
from tallybook.kernel.errors import Missing
from tallybook.serve.api.common.access import BILLING, READ
from tallybook.serve.api.common.paging import LIMIT_DEFAULT, Cursor, Limit, Page, keyed_page
from tallybook.serve.api.gate import Grant
from tallybook.serve.api.rest.contracts.entries import Archived, archive, change, create, shown


class CouponView(CouponSpec, frozen=True, kw_only=True):
    """A coupon as it is stored."""

    archived: bool = False


def coupon_view(catalog: Catalog, key: str) -> CouponView:
    """Return a coupon as the API shows it; raises Missing."""
    if key not in catalog.coupons:
        raise Missing(f"there is no coupon '{key}'", field="key")
    written = msgspec.structs.asdict(coupon_spec(catalog.coupons[key]))
    return CouponView(**written, archived=not catalog.live("coupon", key))


class Coupons(Controller):
    """What customers may redeem."""

    path = "/coupons"
    tags = ("coupons",)

    @get("/", opt=READ, sync_to_thread=True)
    def list_coupons(
        self,
        world: World,
        grant: Grant,
        limit: Limit = LIMIT_DEFAULT,
        cursor: Cursor = None,
        archived: Archived = False,
    ) -> Page[CouponView]:
        """List coupons by key."""
        catalog = world.catalog.load(grant.tenant)
        some = shown(catalog, "coupon", catalog.coupons, archived=archived)
        views = [coupon_view(catalog, coupon.key) for coupon in some]
        return keyed_page(views, limit, cursor, lambda view: view.key)

    @post("/", opt=BILLING, sync_to_thread=True)
    def create_coupon(self, world: World, grant: Grant, data: CouponSpec) -> CouponView:
        """Create a coupon."""
        return coupon_view(create(world, grant, check_coupon(data)), data.key)

    @get("/{key:str}", opt=READ, sync_to_thread=True)
    def get_coupon(self, world: World, grant: Grant, key: str) -> CouponView:
        """Show a coupon."""
        return coupon_view(world.catalog.load(grant.tenant), key)

    @put("/{key:str}", opt=BILLING, sync_to_thread=True)
    def change_coupon(self, world: World, grant: Grant, key: str, data: CouponSpec) -> CouponView:
        """Change a coupon as it is offered; what was redeemed before stays as it was."""
        return coupon_view(change(world, grant, key, check_coupon(data)), key)

    @delete("/{key:str}", opt=BILLING, sync_to_thread=True)
    def archive_coupon(self, world: World, grant: Grant, key: str) -> None:
        """Take a coupon out of use: it cannot be redeemed any more; redeemed ones still count."""
        archive(world, grant, "coupon", key)


ROUTES: tuple[type[Controller], ...] = (Coupons,)
