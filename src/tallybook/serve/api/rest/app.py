"""All routes but the hot path, as one Litestar application."""

from typing import Any

from litestar import Litestar, Request
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme
from litestar.types import ControllerRouterHandler

from tallybook import __version__
from tallybook.adapters.sql.access.unmoved import Unmoved
from tallybook.compose import World
from tallybook.kernel.errors import TallybookError
from tallybook.serve.api.checks import Checks, checks_of
from tallybook.serve.api.common.access import grant_of, guard
from tallybook.serve.api.common.audited import audited, begin
from tallybook.serve.api.common.branch import Branch
from tallybook.serve.api.common.decoding import ExactRequest
from tallybook.serve.api.common.problem import answer_bug, answer_http, answer_tallybook
from tallybook.serve.api.compat.openmeter.meters import query_meter_by_body
from tallybook.serve.api.compat.openmeter.routes import openmeter_openapi, openmeter_router
from tallybook.serve.api.gate import Gate
from tallybook.serve.api.rest import (
    access,
    catalog,
    contracts,
    events,
    fleet,
    invoices,
    prices,
    quarantine,
    runs,
    settlement,
    streams,
    system,
    usage,
    webhooks,
)
from tallybook.serve.api.rest.quarantine import Accepts
from tallybook.serve.api.rest.streams.waiting import Waits

BASE = "/api/v1"

API_ROUTES: list[ControllerRouterHandler] = [
    *catalog.ROUTES,
    *contracts.ROUTES,
    prices.calculate_price,
    usage.query_meter,
    query_meter_by_body,
    events.list_events,
    *quarantine.ROUTES,
    invoices.Invoices,
    invoices.show_reconciliation,
    *settlement.ROUTES,
    *fleet.ROUTES,
    *webhooks.ROUTES,
    *streams.ROUTES,
    runs.BillingRuns,
    *access.ROUTES,
    system.show_status,
]
MACHINE_ROUTES: list[ControllerRouterHandler] = [
    system.live,
    system.ready,
    system.metrics,
    system.openapi,
    openmeter_openapi,
]

_ABOUT = "Usage becomes money, exactly. Every request needs `Authorization: Bearer tb_…`."


def rest_app(
    state: dict[str, Any], pages: list[ControllerRouterHandler], body_bytes_max: int
) -> Litestar:
    """Return the application.

    Args:
        state: of `state_of`: what the routes work with.
        pages: routes of the console.
        body_bytes_max: the largest body of a request.
    """
    return Litestar(
        route_handlers=[
            Branch(BASE, route_handlers=API_ROUTES),
            openmeter_router(),
            *MACHINE_ROUTES,
            *pages,
        ],
        guards=[guard],
        middleware=[audited],
        before_request=begin,
        request_class=ExactRequest,
        dependencies={
            "world": Provide(_world, sync_to_thread=False),
            "checks": Provide(_checks, sync_to_thread=False),
            "grant": Provide(_grant, sync_to_thread=False),
        },
        exception_handlers={
            TallybookError: answer_tallybook,
            HTTPException: answer_http,
            Exception: answer_bug,
        },
        openapi_config=_description(),
        state=State(state),
        request_max_body_size=body_bytes_max,
        logging_config=None,
        signature_types=[World, Checks],
    )


def state_of(world: World, gate: Gate, ingest: Accepts) -> dict[str, Any]:
    """Return what the routes of an application work with; its `checks` are to be closed.

    Args:
        world: parts of this process.
        gate: knows keys.
        ingest: stores redriven events.
    """
    world.audit  # noqa: B018 - from here on every transaction tells who asked for it
    return {
        "world": world,
        "gate": gate,
        "ingest": ingest,
        "checks": checks_of(world),
        "waits": Waits(),
        "unmoved": Unmoved(world.engine),
    }


def _world(state: State) -> World:
    found: World = state.world
    return found


def _checks(state: State) -> Checks:
    found: Checks = state.checks
    return found


def _grant(request: "Request[Any, Any, Any]") -> Any:
    return grant_of(request)


def _description() -> OpenAPIConfig:
    bearer = SecurityScheme(type="http", scheme="bearer", description="An API key, tb_…")
    return OpenAPIConfig(
        title="Tallybook",
        version=__version__,
        description=_ABOUT,
        components=Components(security_schemes={"key": bearer}),
        security=[{"key": []}],
        path="/openapi",
        use_handler_docstrings=True,
        render_plugins=[JsonRenderPlugin()],  # none that shows a page made by somebody else
    )
