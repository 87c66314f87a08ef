"""The post: a process of its own, so that a billing run never holds facts up, nor they it."""

import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping

import structlog

from tallybook.compose import World
from tallybook.deliver.ports import Channel
from tallybook.kernel.errors import TallybookError
from tallybook.kernel.ids import derived_id
from tallybook.kernel.timestamps import DAY_US
from tallybook.serve.worker.post.sender import Bounds, Sender
from tallybook.settings import Settings

NICE = 3
"""How much it yields to accepting and pumping."""
IDLE_SECONDS = 0.3
AWAY_SECONDS = 2.0
STOP_SECONDS_MAX = 12.0
"""How long a stop waits for attempts; one that is not on record then is made again."""
TIDY_SECONDS = 600.0
FORGOTTEN_AT_ONCE = 1_000
"""Between two rounds of sending, so that nobody waits while much is forgotten."""


def run_post(settings: Settings, stop: threading.Event) -> None:
    """Tell facts outside until asked to stop."""
    os.nice(NICE)
    world = World(settings)
    with world.acting("server", "post"):
        _run(world, settings, stop)


def _run(world: World, settings: Settings, stop: threading.Event) -> None:
    node = node_of(settings)
    sender = sender_of(world, node)
    log = structlog.get_logger("post")
    _guarded(lambda: world.post.release(f"{node}.", world.clock.now_us()))
    tidied = -TIDY_SECONDS
    while not stop.is_set():
        done = _guarded(sender.round)
        if done is None:
            stop.wait(AWAY_SECONDS)
            continue
        if time.monotonic() - tidied > TIDY_SECONDS:
            forgotten = _guarded(lambda: forget(world)) or 0
            if forgotten:
                log.info("post.forgotten", things=forgotten)
            if forgotten >= FORGOTTEN_AT_ONCE:
                continue
            tidied = time.monotonic()
        if not done:
            _pause(sender, stop)
    _guarded(lambda: _finished(sender))


def sender_of(world: World, node: str) -> Sender:
    """Return a sender with every channel of this server."""
    hooks = world.settings.webhooks
    channels: Mapping[str, Channel] = {"webhook": world.webhooks}
    return Sender(
        world.post,
        channels,
        world.seal,
        world.clock,
        f"{node}.{secrets.token_hex(8)}",
        Bounds(
            senders=hooks.senders,
            endpoint_senders=hooks.endpoint_senders,
            disable_after_days=hooks.disable_after_days,
        ),
    )


def node_of(settings: Settings) -> str:
    """Return a name for this server: of its machine and folder, which one server locks."""
    return derived_id("node", socket.gethostname(), str(settings.data_dir.resolve()))


def forget(world: World) -> int:
    """Drop some facts and deliveries that are past their time; return how many."""
    before_us = world.clock.now_us() - world.settings.webhooks.keep_days * DAY_US
    return world.post.forget(before_us, FORGOTTEN_AT_ONCE)


def _pause(sender: Sender, stop: threading.Event) -> None:
    """Wait for an attempt to end, or for a while where none is under way."""
    if sender.under_way:
        sender.wait(IDLE_SECONDS)
    else:
        stop.wait(IDLE_SECONDS)


def _finished(sender: Sender) -> int:
    sender.finish(STOP_SECONDS_MAX)
    return 0


def _guarded(step: Callable[[], int]) -> int | None:
    """Do a step; None where the database is away, which is told and tried again."""
    try:
        return step()
    except TallybookError as error:
        log = structlog.get_logger("post")
        log.warning("post.put_off", code=error.code, error=error.message)
        return None
