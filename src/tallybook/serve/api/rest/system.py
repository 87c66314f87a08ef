"""For machines and operators: health, metrics, status, the API's own description."""

from typing import Any

import msgspec
from litestar import Request, Response, get
from litestar.openapi.spec import OpenAPI

from tallybook import __version__
from tallybook.compose import World
from tallybook.kernel.timestamps import format_us
from tallybook.meter.usage import Counters
from tallybook.serve.api.common.access import OPEN, READ, READ_BOUND
from tallybook.serve.api.document.complete import completed
from tallybook.serve.api.gate import Grant
from tallybook.serve.api.rest.metrics import exposition
from tallybook.serve.api.rest.prices import with_question
from tallybook.serve.supervisor.folder import ServerInfo, read_info
from tallybook.serve.worker.pipeline import Lag, lag


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """How the server is.

    Attributes:
        caught_up: whether everything acknowledged is in the lake.
        head: the lake's newest commit.
        counters: what became of this tenant's events.
        partitions: how far the lake is behind each log partition.
        server: supervisor and children; null where that is unknown.
    """

    version: str
    time: str
    caught_up: bool
    head: int
    counters: Counters
    partitions: list[Lag]
    server: ServerInfo | None


def status(world: World, tenant: str) -> Status:
    """Return how the server is, as a tenant may see it."""
    partitions = lag(world.settings, world.table)
    return Status(
        version=__version__,
        time=format_us(world.clock.now_us()),
        caught_up=all(part.events_behind == 0 for part in partitions if not part.problem),
        head=world.usage.head(),
        counters=world.usage.counters(tenant),
        partitions=partitions,
        server=read_info(world.settings.data_dir),
    )


@get("/status", opt=READ, tags=["system"], sync_to_thread=True)
def show_status(world: World, grant: Grant) -> Status:
    """Show how far the lake is, what became of the events, and which processes run."""
    return status(world, grant.tenant)


@get("/health/live", opt=OPEN, tags=["system"], sync_to_thread=False)
def live() -> dict[str, str]:
    """Answer while the process lives."""
    return {"status": "live"}


@get("/health/ready", opt=OPEN, tags=["system"], sync_to_thread=True)
def ready(world: World) -> dict[str, str]:
    """Answer 200 while keys can be checked and events accepted; 503 otherwise."""
    world.keys.version()
    return {"status": "ready"}


@get("/metrics", opt=OPEN, tags=["system"], sync_to_thread=True)
def metrics(world: World) -> Response[bytes]:
    """Show figures for Prometheus; nothing of a tenant."""
    return Response(exposition(world), media_type="text/plain; version=0.0.4; charset=utf-8")


@get("/openapi.json", opt=READ_BOUND, tags=["system"], sync_to_thread=True)
def openapi(request: "Request[Any, Any, Any]") -> Response[bytes]:
    """Describe this API: OpenAPI 3.1."""
    found: OpenAPI = request.app.openapi_schema
    described = completed(with_question(found.to_schema()))
    return Response(msgspec.json.encode(described), media_type="application/json")
