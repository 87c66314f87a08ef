"""Endpoints: who is told what, since when, and how well that goes."""

import msgspec
from litestar import Controller, delete, get, patch, post

from tallybook.compose import World
from tallybook.deliver.flow import probe, remove, replay_since
from tallybook.deliver.kinds import KINDS, schemas
from tallybook.serve.api.common.access import ADMIN, BILLING, READ
from tallybook.serve.api.common.paging import LIMIT_DEFAULT, Cursor, Limit, Page, keyed_page
from tallybook.serve.api.gate import Grant
from tallybook.serve.api.rest.webhooks.commands import (
    EndpointChange,
    EndpointSpec,
    add_endpoint,
    change_endpoint,
    find_endpoint,
    instant,
    rotate_secret,
)
from tallybook.serve.api.rest.webhooks.views import (
    DeliveryView,
    EndpointView,
    KindView,
    SecretView,
    delivery_view,
    endpoint_view,
    secret_view,
)

OVERLAP_HOURS_DEFAULT = 24


class Rotation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long the secrets before sign as well; 0 ends them now."""

    overlap_hours: int = OVERLAP_HOURS_DEFAULT


class ReplaySpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Since when everything that was not delivered is sent again; RFC 3339."""

    since: str


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """How many deliveries are on their way again."""

    deliveries: int


class Webhooks(Controller):
    """Endpoints that are told facts."""

    path = "/webhooks"
    tags = ("webhooks",)

    @get("/", opt=READ, sync_to_thread=True)
    def list_endpoints(
        self,
        world: World,
        grant: Grant,
        limit: Limit = LIMIT_DEFAULT,
        cursor: Cursor = None,
    ) -> Page[EndpointView]:
        """List endpoints with their health."""
        now_us = world.clock.now_us()
        views = [endpoint_view(one, now_us) for one in world.post.endpoints(grant.tenant)]
        return keyed_page(views, limit, cursor, lambda view: view.id)

    @post("/", opt=ADMIN, sync_to_thread=True)
    def add_endpoint(self, world: World, grant: Grant, data: EndpointSpec) -> SecretView:
        """Add an endpoint; its secret is shown in this answer only."""
        endpoint, secret = add_endpoint(world, grant.tenant, data)
        return secret_view(endpoint, secret, world.clock.now_us())

    @get("/kinds", opt=READ, sync_to_thread=False)
    def list_kinds(self) -> list[KindView]:
        """List every kind of fact with the JSON Schema of its data."""
        return [KindView(kind=kind.name, about=kind.about, schemas=schemas(kind)) for kind in KINDS]

    @get("/{id:str}", opt=READ, sync_to_thread=True)
    def get_endpoint(self, world: World, grant: Grant, id: str) -> EndpointView:
        """Show an endpoint with its health."""
        return endpoint_view(find_endpoint(world, grant.tenant, id), world.clock.now_us())

    @patch("/{id:str}", opt=ADMIN, sync_to_thread=True)
    def change_endpoint(
        self, world: World, grant: Grant, id: str, data: EndpointChange
    ) -> EndpointView:
        """Change an endpoint, disable it, or enable it again."""
        changed = change_endpoint(world, grant.tenant, id, data)
        return endpoint_view(changed, world.clock.now_us())

    @delete("/{id:str}", opt=ADMIN, sync_to_thread=True)
    def remove_endpoint(self, world: World, grant: Grant, id: str) -> None:
        """Remove an endpoint; what was on its way to it is cancelled."""
        remove(world.post, grant.tenant, id, world.clock.now_us())

    @post("/{id:str}/rotate-secret", opt=ADMIN, status_code=200, sync_to_thread=True)
    def rotate_secret(self, world: World, grant: Grant, id: str, data: Rotation) -> SecretView:
        """Make a new secret, shown in this answer only; the one before signs too for a while."""
        endpoint, secret = rotate_secret(world, grant.tenant, id, data.overlap_hours)
        return secret_view(endpoint, secret, world.clock.now_us())

    @post("/{id:str}/test", opt=BILLING, sync_to_thread=True)
    def test_endpoint(self, world: World, grant: Grant, id: str) -> DeliveryView:
        """Send `webhook.test`; the delivery that is answered tells what became of it."""
        return delivery_view(probe(world.post, grant.tenant, id, world.clock.now_us()))

    @post("/{id:str}/replay", opt=BILLING, status_code=200, sync_to_thread=True)
    def replay_endpoint(self, world: World, grant: Grant, id: str, data: ReplaySpec) -> Replayed:
        """Send everything again that the endpoint was not told since a time."""
        since_us, now_us = instant("since", data.since), world.clock.now_us()
        count = replay_since(world.post, world.post, grant.tenant, id, since_us, now_us)
        return Replayed(deliveries=count)
