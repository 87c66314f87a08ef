"""Figures of edges, certificates and front doors for `/metrics`: sums, and no tenant's name."""

from collections import Counter
from collections.abc import Callable, Iterable

from prometheus_client import Gauge

from tallybook.adapters.sqlite.door_log import read_reasons, read_series
from tallybook.collect.sending.condition import condition, missing
from tallybook.compose import World
from tallybook.kernel.timestamps import SECOND_US
from tallybook.serve.api.fleet.expiry import EXPIRING_DAYS, expiries
from tallybook.serve.worker.pipeline import doors_log

Made = Callable[[str, str, Iterable[str]], Gauge]
"""Makes a gauge of a name, a sentence, and labels."""


def edges(made: Made, world: World) -> None:
    """Count edges by how they are, and what is worst among them."""
    now_us = world.clock.now_us()
    states, gaps, waiting, lag, offset = Counter[str](), 0, 0, 0.0, 0
    for one in world.edges.everybody():
        how = condition(one, now_us)
        states[how] += 1
        gaps += missing(one)
        waiting += one.waiting.events
        lag = max(lag, one.lag_seconds() if how != "silent" else 0.0)
        offset = max(offset, abs(one.clock_offset_us or 0))
    seen = made("edges", "Edges by how they are.", ["state"])
    for state in ("live", "behind", "silent"):
        seen.labels(state).set(states[state])
    made("edge_missing_batches", "Left an edge, did not arrive.", []).set(gaps)
    made("edge_waiting_events", "In the spools of edges, as they told.", []).set(waiting)
    made("edge_lag_seconds", "Longest wait in a spool of an edge that is heard.", []).set(lag)
    made("edge_clock_offset_seconds", "Largest.", []).set(offset / SECOND_US)


def certificates(made: Made, world: World) -> None:
    """Tell how long the certificates are good."""
    now_us = world.clock.now_us()
    found = expiries(world.settings, world.certificates.in_use())
    left = made("certificate_expires_seconds", "Until the first of its kind expires.", ["kind"])
    for kind in sorted({one.kind for one in found}):
        first = min(one.at_us for one in found if one.kind == kind)
        left.labels(kind).set((first - now_us) / SECOND_US)
    soon = sum(one.days(now_us) < EXPIRING_DAYS for one in found)
    text = f"Expired, or within {EXPIRING_DAYS} days: nobody has renewed them."
    made("certificates_expiring", text, []).set(soon)


def doors(made: Made, world: World) -> None:
    """Tell what became of what came in through the front doors."""
    path = doors_log(world.settings.log_dir)
    points = made("door_points", "What became of points, by reason.", ["door", "reason"])
    for (door, reason), count in read_reasons(path).items():
        points.labels(door, reason).set(count)
    series = read_series(path)
    made("door_series", "Series that have a standing.", []).set(series.known)
    made("door_series_max", "Series that may have one.", []).set(series.most)
    made("door_series_forgotten", "Long unseen, forgotten for room.", []).set(series.forgotten)
