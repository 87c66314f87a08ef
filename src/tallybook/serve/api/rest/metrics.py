"""`/metrics`: figures of the server in Prometheus' text format, nothing of a tenant."""

import shutil
from collections.abc import Iterable
from functools import partial

import psutil
from prometheus_client import CollectorRegistry, Gauge, Info, generate_latest

from tallybook import __version__
from tallybook.compose import World
from tallybook.deliver.endpoint import STATES
from tallybook.deliver.ports import Figures
from tallybook.kernel.timestamps import SECOND_US
from tallybook.serve.api.rest.fleet import figures as fleet
from tallybook.serve.api.rest.streams.figures import streams
from tallybook.serve.supervisor.folder import Child, read_info
from tallybook.serve.worker.pipeline import Lag, lag


def exposition(world: World) -> bytes:
    """Return the figures of this moment."""
    registry = CollectorRegistry()
    Info("tallybook", "The server's version.", registry=registry).info({"version": __version__})
    _log(registry, lag(world.settings, world.table))
    _lake(registry, world)
    _post(registry, world.post.figures(), world.clock.now_us())
    for figures in (fleet.edges, fleet.certificates, fleet.doors, streams):
        figures(partial(_gauge, registry), world)
    info = read_info(world.settings.data_dir)
    _processes(registry, info.children if info else [])
    return generate_latest(registry)


def _gauge(registry: CollectorRegistry, name: str, text: str, labels: Iterable[str] = ()) -> Gauge:
    return Gauge(f"tallybook_{name}", text, list(labels), registry=registry)


def _log(registry: CollectorRegistry, partitions: Iterable[Lag]) -> None:
    behind = _gauge(registry, "events_behind", "Acknowledged, not in the lake.", ["partition"])
    stored = _gauge(registry, "log_bytes", "Payload bytes in the log.", ["partition"])
    broken = _gauge(registry, "log_unreadable", "1 where it cannot be read.", ["partition"])
    for part in partitions:
        behind.labels(str(part.partition)).set(part.events_behind)
        stored.labels(str(part.partition)).set(part.stored_bytes)
        broken.labels(str(part.partition)).set(bool(part.problem))


def _lake(registry: CollectorRegistry, world: World) -> None:
    _gauge(registry, "lake_commits", "The lake's newest commit.").set(world.table.head())
    free = shutil.disk_usage(world.settings.data_dir).free
    _gauge(registry, "disk_free_bytes", "Free bytes under the data folder.").set(free)


def _post(registry: CollectorRegistry, figures: Figures, now_us: int) -> None:
    waits = _gauge(registry, "webhook_facts_waiting", "Facts that nobody was asked about yet.")
    waits.set(figures.facts)
    pending = _gauge(registry, "webhook_deliveries_pending", "Deliveries on their way.")
    pending.set(figures.waiting)
    age = _gauge(registry, "webhook_oldest_waiting_seconds", "Age of the oldest of them; 0: none.")
    age.set(0 if figures.oldest_us is None else max(0, now_us - figures.oldest_us) / SECOND_US)
    endpoints = _gauge(registry, "webhook_endpoints", "Endpoints by state.", ["state"])
    for state in STATES:
        endpoints.labels(state).set(figures.endpoints.get(state, 0))
    told = _gauge(registry, "webhook_delivered", "Deliveries of the endpoints that there are.")
    told.set(figures.delivered)
    failed = _gauge(registry, "webhook_failed_attempts", "Failed attempts of these.")
    failed.set(figures.failed)


def _processes(registry: CollectorRegistry, children: Iterable[Child]) -> None:
    labels = ["kind", "index"]
    restarts = _gauge(registry, "process_restarts", "Restarts since the start.", labels)
    memory = _gauge(registry, "process_resident_bytes", "Resident memory.", labels)
    for child in children:
        restarts.labels(child.kind, str(child.index)).set(child.restarts)
        memory.labels(child.kind, str(child.index)).set(_resident(child.pid))


def _resident(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0  # gone between two looks
