"""One API process: the hot path on its own log partition, and the routes, behind one listener."""

import asyncio
import gc
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import uvloop
from granian.constants import Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server
from litestar import Litestar

from tallybook.adapters.sql.keys import key_digest
from tallybook.adapters.sqlite.door_log import SqliteDoorLog
from tallybook.admit.key import ROLES, ApiKey
from tallybook.compose import TENANT, World
from tallybook.serve.api.access_log import AccessLog
from tallybook.serve.api.admission.made import admission
from tallybook.serve.api.app import App, Front
from tallybook.serve.api.bounds import Sendable
from tallybook.serve.api.checks.quick import QuickChecks
from tallybook.serve.api.columns import ColumnWatch
from tallybook.serve.api.common.idempotency import Idempotent
from tallybook.serve.api.compat.doors import lago_door, stripe_door
from tallybook.serve.api.compat.openmeter.dialect import Dialect
from tallybook.serve.api.doors.app import DoorsApp, Parts
from tallybook.serve.api.doors.commit import DoorCommit
from tallybook.serve.api.fleet.notes import Notes
from tallybook.serve.api.fleet.watch import FleetWatch
from tallybook.serve.api.gate import Gate
from tallybook.serve.api.gateway.arrival import end_soon
from tallybook.serve.api.gateway.wire import Wire
from tallybook.serve.api.ingest import IngestApp
from tallybook.serve.api.partition import put_aside, take_lowest
from tallybook.serve.api.rest.app import rest_app, state_of
from tallybook.serve.api.rest.streams.waiting import Waits
from tallybook.serve.console.pages import console_routes
from tallybook.serve.supervisor.child import on_stop
from tallybook.serve.worker.pipeline import DOORS_PARTITION, doors_log, read_trim_mark, trim_mark
from tallybook.settings import Settings
from tallybook.transport.accept import AcceptLimits

BACKLOG = 1024

SWITCH_SECONDS = 0.0005
"""How long the event loop may keep the interpreter while the commit thread waits for it: with the
default of 5 ms every fsync would cost 5 ms more."""

GARBAGE_THRESHOLD = 50_000
"""Objects between two looks for cycles: a batch makes thousands of them and no cycle."""


class Composed(msgspec.Struct, frozen=True):
    """What answers requests, and what it is made of."""

    app: Front
    world: World
    gate: Gate
    waits: Waits


_set_up: dict[int, Litestar] = {}
"""Applications that no process answers with yet, by the largest body of their requests."""


def set_up(settings: Settings) -> None:
    """Set up the routes for processes that are forked from here on.

    It takes a third of a start, so it is done once, and not in every process and again in each that
    takes the place of one that died; and the processes share the pages.
    """
    bytes_max = settings.server.body_bytes_max
    _set_up[bytes_max] = rest_app({}, console_routes(), bytes_max)


def all_routes(state: dict[str, Any], body_bytes_max: int) -> Litestar:
    """Return the application of the API's routes and the console's; arguments as of `rest_app`."""
    app = _set_up.pop(body_bytes_max, None)
    if app is None:
        return rest_app(state, console_routes(), body_bytes_max)
    app.state.update(state)
    return app


def run_api(settings: Settings) -> int:
    """Serve until asked to stop; then finish what was begun."""
    with composed(settings) as made:
        uvloop.run(_serve(settings, made.app, made.waits))
    return 0


@contextmanager
def composed(
    settings: Settings, routes_with: Callable[[dict[str, Any], int], Litestar] = all_routes
) -> Iterator[Composed]:
    """Open a log partition and everything that answers requests; closed when the block ends.

    Args:
        settings: of this process.
        routes_with: makes the application of the routes from what they work with and the largest
            body of a request.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.set_threshold(GARBAGE_THRESHOLD, 20, 50)
    world = World(settings)
    ensure_first_key(world, settings.data_dir / "first-key")
    gate = Gate(world.keys, world.secret)
    gate.start()
    partition = take_lowest(settings.log_dir)
    columns = ColumnWatch(
        world.catalog.version, world.catalog.all_meters, settings.limits.typed_columns_max
    )
    sendable = Sendable(world.catalog.load, world.clock.now_us)
    ingest = IngestApp(
        partition,
        trim_mark(settings.log_dir, partition.number),
        gate,
        columns,
        accept_limits(settings),
        sendable,
    )
    doors = doors_app(settings, world, gate, columns, sendable)
    log = AccessLog(settings.data_dir / "access.log") if settings.server.access_log else None
    state = state_of(world, gate, ingest)
    routes: Any = routes_with(state, settings.server.body_bytes_max)
    quick = QuickChecks(Idempotent(routes, world, gate), gate, state["checks"])
    rest = Wire(quick, settings.server.body_bytes_max)
    notes = Notes(settings.log_dir, partition.log.path, ingest.forget_notes)
    fleet = FleetWatch(ingest, gate, world.edges.note, notes)
    fleet.start()
    routed = Dialect(rest, fleet)
    stripe = stripe_door(world, gate, ingest, settings.limits.request_bytes_max)
    lago = lago_door(world, gate, ingest, settings.limits.request_bytes_max)
    ingest.speak_lago(lago.take)
    apps: dict[App, Callable[[str, str], bool]] = {
        doors: doors.answers,
        stripe: stripe.answers,
        lago: lago.answers,
    }
    gc.freeze()
    try:
        with admission(world, gate, state["checks"]) as admitted:
            front = Front(fleet, routed, log, apps, admitted)
            yield Composed(front, world, gate, state["waits"])
    finally:
        quick.close()
        state["checks"].close()
        fleet.close()
        notes.close()
        doors.close()
        ingest.close()
        partition.close()
        gate.close()
        if log is not None:
            log.close()


def doors_app(
    settings: Settings, world: World, gate: Gate, columns: ColumnWatch, sendable: Sendable
) -> DoorsApp:
    """Return what answers at the front doors."""
    return DoorsApp(
        Parts(
            gate=gate,
            rules=world.door_rules.recent,
            columns=columns,
            limits=accept_limits(settings),
            commit=door_commit(settings),
            sendable=sendable,
        )
    )


def door_commit(settings: Settings) -> DoorCommit:
    """Return the writer of the partition that the front doors of all workers share."""
    path = doors_log(settings.log_dir)
    mark = trim_mark(settings.log_dir, DOORS_PARTITION)
    log = SqliteDoorLog(path, lambda: time.time_ns() // 1000, put_aside)
    return DoorCommit(log, lambda epoch: read_trim_mark(mark, epoch))


def accept_limits(settings: Settings) -> AcceptLimits:
    """Return the bounds of a request."""
    limits = settings.limits
    return AcceptLimits(
        event_bytes_max=limits.event_bytes_max,
        request_events_max=limits.request_events_max,
        request_bytes_max=limits.request_bytes_max,
        future_seconds_max=limits.future_seconds_max,
    )


def ensure_first_key(world: World, path: Path) -> None:
    """Store the first admin key that the supervisor made, where no key was ever stored."""
    try:
        text = path.read_text().strip()
    except FileNotFoundError:
        return  # a folder whose owner took the file away after the first start
    key = ApiKey(
        tenant=TENANT,
        id=world.ids.new("key"),
        name="first key",
        shown=text[:8],
        digest=key_digest(world.secret, text),
        scopes=ROLES["operator"],
        created_us=world.clock.now_us(),
    )
    with world.acting("server", "first start"):
        world.keys.add(key, only_if_first=True)


async def _serve(settings: Settings, app: Callable[..., object], waits: Waits) -> None:
    server = Server(
        app,
        address=settings.server.host,
        port=settings.server.port,
        interface=Interfaces.ASGI,
        websockets=False,
        backlog=BACKLOG,
        http1_settings=HTTP1Settings(keep_alive=True),
        log_enabled=False,
    )
    loop = asyncio.get_running_loop()

    def stop() -> None:
        waits.end()
        loop.call_soon_threadsafe(end_soon, loop)
        loop.call_soon_threadsafe(server.stop)

    on_stop(stop)
    await server.serve()
