"""Meters: what each one counts, and a chart of what it measured."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec
from litestar import Request, Response, get
from litestar.types import ControllerRouterHandler
from markupsafe import Markup

from tallybook.catalog.meter import Meter
from tallybook.compose import World
from tallybook.kernel.timestamps import DAY_US, HOUR_US, SECOND_US, from_us
from tallybook.meter.usage import Usage, UsageQuery
from tallybook.meter.window import GRID_US, WindowSize, bounds
from tallybook.serve.api.rest.catalog import MeterView, meter_view
from tallybook.serve.console.access import PAGE, session_of
from tallybook.serve.console.charts import Bar, bars, share, spark
from tallybook.serve.console.render import html, number

ZERO = Decimal(0)
GROUPS_SHOWN = 20
WINDOWS_FINE_MAX = 72
_FINE_SECONDS = (1, 2, 5, 10, 15, 30, 60, 120)
FINE_US_MAX = WINDOWS_FINE_MAX * _FINE_SECONDS[-1] * SECOND_US
_ALIGN_US = {"HOUR": HOUR_US, "DAY": DAY_US, "MONTH": DAY_US}
_FORMATS = {"HOUR": "%d %b %H:%M", "DAY": "%d %b", "MONTH": "%b %Y"}


class Range(msgspec.Struct, frozen=True):
    """The times a chart covers.

    Attributes:
        borders: of its windows, microseconds UTC.
        window: how wide they are, for people.
        labels: format of the axis.
    """

    borders: tuple[int, ...]
    window: str
    labels: str

    @property
    def start_us(self) -> int:
        """The first instant."""
        return self.borders[0]

    @property
    def end_us(self) -> int:
        """The first instant after it."""
        return self.borders[-1]


class MeterRow(msgspec.Struct, frozen=True):
    """A meter in the list."""

    meter: MeterView
    total: Decimal | None
    events: int
    spark: Markup


class GroupRow(msgspec.Struct, frozen=True):
    """One value of a dimension."""

    label: str
    value: Decimal | None
    events: int
    share: Markup


def charted(span: tuple[int, int] | None) -> Range | None:
    """Return the range to chart for events between two instants, with fitting windows."""
    if span is None:
        return None
    length = span[1] - span[0]
    for seconds in _FINE_SECONDS:
        if length <= WINDOWS_FINE_MAX * seconds * SECOND_US:
            return _fine(span, seconds * SECOND_US)
    window: WindowSize = "MONTH"
    if length <= 4 * DAY_US:
        window = "HOUR"
    elif length <= 120 * DAY_US:
        window = "DAY"
    width = _ALIGN_US[window]
    start, end = span[0] // width * width, (span[1] // width + 1) * width
    return Range(bounds(start, end, window), window.lower(), _FORMATS[window])


def _fine(span: tuple[int, int], width_us: int) -> Range:
    """Return windows of seconds, for the first minutes of a new server."""
    start = span[0] // width_us * width_us
    count = (span[1] - start) // width_us + 1
    borders = tuple(start + width_us * i for i in range(count + 1))
    seconds = width_us // SECOND_US
    labels = "%H:%M" if seconds >= 60 else "%H:%M:%S"
    name = f"{seconds // 60} min" if seconds >= 60 else f"{seconds} s"
    return Range(borders, name, labels)


def measured(
    world: World, tenant: str, meter: Meter, shown: Range, cut: int, **more: Any
) -> list[Usage]:
    """Return a meter's usage in each window of a range."""
    query = UsageQuery(tenant=tenant, meter=meter, bounds=shown.borders, cut=cut, **more)
    return world.usage.usage(query)


def whole(
    world: World, tenant: str, meter: Meter, shown: Range, cut: int, **more: Any
) -> list[Usage]:
    """Return a meter's usage over a whole range."""
    borders = (shown.start_us, shown.end_us)
    query = UsageQuery(tenant=tenant, meter=meter, bounds=borders, cut=cut, **more)
    return world.usage.usage(query)


def series(shown: Range, rows: Sequence[Usage]) -> list[Bar]:
    """Return a bar for every window, empty ones too."""
    values = {row.start_us: row for row in rows}
    found = []
    for start in shown.borders[:-1]:
        row = values.get(start)
        value = row.value if row is not None and row.value is not None else ZERO
        at = from_us(start).strftime(shown.labels)
        title = f"{from_us(start):%Y-%m-%d %H:%M:%S} UTC: {number(value)}"
        found.append(Bar(at, title, value))
    return found


def _span(world: World, tenant: str, meter: Meter, cut: int) -> tuple[int, int] | None:
    """Return the first and the last instant with usage; exactly, where a chart would show it."""
    extent = world.usage.extent(tenant, meter, cut)
    if extent is None:
        return None
    first, last = extent[0], extent[1] - 1
    if last - first <= FINE_US_MAX + 2 * GRID_US:
        span = world.usage.span(tenant, meter.event_type, cut, extent) or (first, last)
        return max(first, span[0]), min(last, span[1])
    return first, last


@get("/meters", opt=PAGE, sync_to_thread=True)
def meters_page(request: "Request[Any, Any, Any]", world: World) -> Response[bytes]:
    """List meters with what they measured."""
    session = session_of(request)
    tenant, cut = session.grant.tenant, world.usage.head()
    catalog = world.catalog.load(tenant)
    rows = [
        _row(world, tenant, meter, meter_view(catalog, meter), cut)
        for meter in catalog.live_meters()
    ]
    return html("meters.html", session=session, here="meters", rows=rows)


def _row(world: World, tenant: str, meter: Meter, view: MeterView, cut: int) -> MeterRow:
    shown = charted(_span(world, tenant, meter, cut))
    if shown is None:
        return MeterRow(view, None, 0, Markup(""))
    total = whole(world, tenant, meter, shown, cut)
    values = [bar.value for bar in series(shown, measured(world, tenant, meter, shown, cut))]
    first = total[0] if total else None
    events = first.events if first else 0
    return MeterRow(view, first.value if first else None, events, spark(_thinned(values)))


def _thinned(values: Sequence[Decimal], points: int = 40) -> list[Decimal]:
    """Return at most so many values: the greatest of each run."""
    run = max(1, -(-len(values) // points))
    return [max(values[i : i + run]) for i in range(0, len(values), run)]


@get("/meters/{key:str}", opt=PAGE, sync_to_thread=True)
def meter_page(
    request: "Request[Any, Any, Any]", world: World, key: str, by: str = ""
) -> Response[bytes]:
    """Show one meter: its definition, a chart, and its dimensions."""
    session = session_of(request)
    tenant, cut = session.grant.tenant, world.usage.head()
    catalog = world.catalog.load(tenant)
    meter = catalog.meter(key)
    shown = charted(_span(world, tenant, meter, cut))
    total = whole(world, tenant, meter, shown, cut) if shown else []
    found = series(shown, measured(world, tenant, meter, shown, cut)) if shown else []
    caption = f"{meter.name or key} over time"
    return html(
        "meter.html",
        session=session,
        here="meters",
        meter=meter_view(catalog, meter),
        total=total[0] if total else None,
        range=shown,
        chart=bars(found, caption) if shown else Markup(""),
        bars=found,
        by=by,
        groups=_groups(world, tenant, meter, shown, cut, by) if shown and by else [],
    )


def _groups(
    world: World, tenant: str, meter: Meter, shown: Range, cut: int, by: str
) -> list[GroupRow]:
    more: dict[str, Any] = {"by_subject": True} if by == "subject" else {"group_by": (by,)}
    rows = whole(world, tenant, meter, shown, cut, **more)
    rows.sort(key=lambda row: row.value if row.value is not None else ZERO, reverse=True)
    top = rows[0].value if rows and rows[0].value is not None else ZERO
    return [
        GroupRow(
            (row.subject if by == "subject" else row.group[0]) or "(missing)",
            row.value,
            row.events,
            share(row.value or ZERO, top),
        )
        for row in rows[:GROUPS_SHOWN]
    ]


ROUTES: list[ControllerRouterHandler] = [meters_page, meter_page]
