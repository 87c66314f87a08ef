"""The seller: who sends the invoices."""

from litestar import Controller, get, put

from tallybook.catalog.customer import SellerSpec, check_seller, seller_spec
from tallybook.compose import World
from tallybook.serve.api.common.access import BILLING, READ
from tallybook.serve.api.gate import Grant
from tallybook.serve.api.rest.contracts.entries import change


class SellerOf(Controller):
    """Who sends the invoices; there is one."""

    path = "/seller"
    tags = ("seller",)

    @get("/", opt=READ, sync_to_thread=True)
    def get_seller(self, world: World, grant: Grant) -> SellerSpec:
        """Show the seller."""
        return seller_spec(world.catalog.load(grant.tenant).seller)

    @put("/", opt=BILLING, sync_to_thread=True)
    def change_seller(self, world: World, grant: Grant, data: SellerSpec) -> SellerSpec:
        """Change the seller, for invoices from now on; those that are made keep theirs."""
        return seller_spec(change(world, grant, "seller", check_seller(data)).seller)


ROUTES: tuple[type[Controller], ...] = (SellerOf,)
