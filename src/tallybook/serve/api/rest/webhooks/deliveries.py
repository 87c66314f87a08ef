"""Deliveries: what became of each fact at each endpoint, attempt by attempt."""

from typing import Annotated

from litestar import Controller, get, post
from litestar.params import Parameter

from tallybook.compose import World
from tallybook.deliver.delivery import Delivery
from tallybook.deliver.flow import replay
from tallybook.deliver.ports import Asked
from tallybook.deliver.state import DeliveryState
from tallybook.serve.api.common.access import BILLING, READ
from tallybook.serve.api.common.paging import LIMIT_DEFAULT, Cursor, Limit, Page, page, place_of
from tallybook.serve.api.gate import Grant
from tallybook.serve.api.rest.webhooks.commands import find_endpoint, instant
from tallybook.serve.api.rest.webhooks.views import (
    DeliveryDetail,
    DeliveryView,
    delivery_detail,
    delivery_view,
)

Wanted = Annotated[
    DeliveryState | None,
    Parameter(query="state", required=False, description="Only deliveries in this state."),
]
OfKind = Annotated[
    str | None, Parameter(query="kind", required=False, description="Only facts of this kind.")
]
Since = Annotated[
    str | None,
    Parameter(query="since", required=False, description="Only facts since then, RFC 3339."),
]


def asked_of(
    endpoint: str | None,
    limit: int,
    cursor: str | None,
    state: DeliveryState | None = None,
    kind: str | None = None,
    since: str | None = None,
) -> Asked:
    """Return which deliveries a page asks for: one more than it shows; raises Invalid."""
    return Asked(
        endpoint=endpoint,
        states=() if state is None else (state,),
        kind=kind,
        since_us=None if since is None else instant("since", since),
        before=place_of(cursor, tuple[int, str]),
        limit=limit + 1,
    )


def place(delivery: Delivery) -> tuple[int, str]:
    """Return where a delivery stands in the order of a list."""
    return (delivery.at_us, delivery.id)


class Deliveries(Controller):
    """What became of facts."""

    path = "/webhooks"
    tags = ("webhooks",)

    @get("/{id:str}/deliveries", opt=READ, sync_to_thread=True)
    def list_deliveries(
        self,
        world: World,
        grant: Grant,
        id: str,
        limit: Limit = LIMIT_DEFAULT,
        cursor: Cursor = None,
        wanted: Wanted = None,
        kind: OfKind = None,
        since: Since = None,
    ) -> Page[DeliveryView]:
        """List the deliveries of an endpoint, newest fact first."""
        find_endpoint(world, grant.tenant, id)
        asked = asked_of(id, limit, cursor, wanted, kind, since)
        shown = page(world.post.deliveries(grant.tenant, asked), limit, place)
        return Page([delivery_view(one) for one in shown.items], shown.next_cursor)

    @get("/deliveries", opt=READ, sync_to_thread=True)
    def list_all(
        self,
        world: World,
        grant: Grant,
        limit: Limit = LIMIT_DEFAULT,
        cursor: Cursor = None,
        wanted: Wanted = None,
        kind: OfKind = None,
        since: Since = None,
    ) -> Page[DeliveryView]:
        """List the deliveries of all endpoints, removed ones too, newest fact first."""
        asked = asked_of(None, limit, cursor, wanted, kind, since)
        shown = page(world.post.deliveries(grant.tenant, asked), limit, place)
        return Page([delivery_view(one) for one in shown.items], shown.next_cursor)

    @get("/deliveries/{id:str}", opt=READ, sync_to_thread=True)
    def get_delivery(self, world: World, grant: Grant, id: str) -> DeliveryDetail:
        """Show a delivery with its attempts and the body that is sent."""
        return delivery_detail(*world.post.delivery(grant.tenant, id))

    @post("/deliveries/{id:str}/replay", opt=BILLING, status_code=200, sync_to_thread=True)
    def replay_delivery(self, world: World, grant: Grant, id: str) -> DeliveryView:
        """Send a delivery again, whatever became of it; its `webhook-id` stays the same."""
        return delivery_view(replay(world.post, grant.tenant, id, world.clock.now_us()))
