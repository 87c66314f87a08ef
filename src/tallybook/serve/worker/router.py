"""The router process: a side branch of the lake, with a cursor of its own.

Meters and lake do not know of it. It is started when the first rule was made.
"""

import threading
import time

import structlog

from tallybook.compose import World
from tallybook.kernel.errors import TallybookError, Unavailable
from tallybook.route.flow import Routing, replay_once, route_once
from tallybook.settings import Settings

POLL_SECONDS = 0.2
IDLE_POLL_SECONDS = 1.0
TRIM_SECONDS = 5.0
RETRY_SECONDS = 2.0


def run_router(settings: Settings, stop: threading.Event) -> None:
    """Route until asked to stop.

    Whatever fails is told and tried again from the cursor: a fault here must end neither the
    process tree nor the meters.
    """
    log = structlog.get_logger("router")
    world = World(settings)
    while not stop.is_set():
        try:
            if in_use(world):
                _route(world, stop)
            else:
                stop.wait(IDLE_POLL_SECONDS)
        except Unavailable as error:
            log.warning("router.waiting", code=error.code, error=error.message)
            stop.wait(RETRY_SECONDS)
        except TallybookError as error:
            log.exception("router.failed", code=error.code)
            stop.wait(RETRY_SECONDS)
        except Exception:
            log.exception("router.bug")
            stop.wait(RETRY_SECONDS)


def in_use(world: World) -> bool:
    """Whether a rule or a stream was ever made."""
    return world.settings.streams_db.exists() or world.rules.version() > 0


def _route(world: World, stop: threading.Event) -> None:
    """Route, replay and trim until asked to stop."""
    routing = routing_of(world)
    trimmed = 0.0
    while not stop.is_set():
        put = route_once(routing) + replay_once(routing)
        if time.monotonic() - trimmed > TRIM_SECONDS:
            trimmed = time.monotonic()
            while routing.streams.trim(world.clock.now_us()) and not stop.is_set():
                pass
        if not put:
            stop.wait(POLL_SECONDS)


def routing_of(world: World) -> Routing:
    """Return the ports that routing works with."""
    from tallybook.adapters.delta.record_reader import LakeRecords
    from tallybook.adapters.sql.routing.known import KnownRules
    from tallybook.adapters.sqlite.streams import SqliteReplays, SqliteStreamWriter

    return Routing(
        rules=KnownRules(world.rules),
        records=LakeRecords(world.table),
        streams=SqliteStreamWriter(world.streams_file),
        replays=SqliteReplays(world.streams_file),
        clock=world.clock,
    )
