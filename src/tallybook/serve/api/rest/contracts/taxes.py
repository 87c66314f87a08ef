"""Taxes: rates with a name, added to prices or contained in them."""

import msgspec
from litestar import Controller, delete, get, post, put

from tallybook.catalog.catalog import Catalog
from tallybook.catalog.tax import TaxSpec, check_tax, tax_spec
from tallybook.compose import World
from tallybook.kernel.errors import Missing
from tallybook.serve.api.common.access import BILLING, READ
from tallybook.serve.api.common.paging import LIMIT_DEFAULT, Cursor, Limit, Page, keyed_page
from tallybook.serve.api.gate import Grant
from tallybook.serve.api.rest.contracts.entries import Archived, archive, change, create, shown


class TaxView(TaxSpec, frozen=True, kw_only=True):
    """A tax as it is stored."""

    archived: bool = False


def tax_view(catalog: Catalog, key: str) -> TaxView:
    """Return a tax as the API shows it; raises Missing."""
    if key not in catalog.taxes:
        raise Missing(f"there is no tax '{key}'", field="key")
    written = msgspec.structs.asdict(tax_spec(catalog.taxes[key]))
    return TaxView(**written, archived=not catalog.live("tax", key))


class Taxes(Controller):
    """What is added to prices, or contained in them."""

    path = "/taxes"
    tags = ("taxes",)

    @get("/", opt=READ, sync_to_thread=True)
    def list_taxes(
        self,
        world: World,
        grant: Grant,
        limit: Limit = LIMIT_DEFAULT,
        cursor: Cursor = None,
        archived: Archived = False,
    ) -> Page[TaxView]:
        """List taxes by key."""
        catalog = world.catalog.load(grant.tenant)
        some = shown(catalog, "tax", catalog.taxes, archived=archived)
        views = [tax_view(catalog, tax.key) for tax in some]
        return keyed_page(views, limit, cursor, lambda view: view.key)

    @post("/", opt=BILLING, sync_to_thread=True)
    def create_tax(self, world: World, grant: Grant, data: TaxSpec) -> TaxView:
        """Create a tax."""
        return tax_view(create(world, grant, check_tax(data)), data.key)

    @get("/{key:str}", opt=READ, sync_to_thread=True)
    def get_tax(self, world: World, grant: Grant, key: str) -> TaxView:
        """Show a tax."""
        return tax_view(world.catalog.load(grant.tenant), key)

    @put("/{key:str}", opt=BILLING, sync_to_thread=True)
    def change_tax(self, world: World, grant: Grant, key: str, data: TaxSpec) -> TaxView:
        """Change a tax, for invoices from now on; those that are made keep the tax they had."""
        return tax_view(change(world, grant, key, check_tax(data)), key)

    @delete("/{key:str}", opt=BILLING, sync_to_thread=True)
    def archive_tax(self, world: World, grant: Grant, key: str) -> None:
        """Take a tax out of use; refused while something in use names it."""
        archive(world, grant, "tax", key)


ROUTES: tuple[type[Controller], ...] = (Taxes,)
