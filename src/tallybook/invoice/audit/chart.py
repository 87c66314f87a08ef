"""The usage behind an invoice over time: what its chart shows.

Read at the invoice's own snapshot, so the same invoice always has the same chart.
"""

from decimal import Decimal

import msgspec

from tallybook.invoice.audit.verify import line_item
from tallybook.invoice.document import Invoice
from tallybook.invoice.line import Line
from tallybook.invoice.manifest import Position
from tallybook.invoice.ports import Billing
from tallybook.invoice.questions import item_query, owner_of
from tallybook.kernel.decimals import plain
from tallybook.kernel.timestamps import format_us
from tallybook.meter.usage import UsageQuery
from tallybook.meter.window import WindowSize, bounds
from tallybook.rate.step import ZERO

CHARTS_MAX = 2
SIZES: tuple[WindowSize, ...] = ("DAY", "HOUR", "MINUTE")
"""A chart by day; where everything lies in one day by hour; in one hour by minute."""


class Bar(msgspec.Struct, frozen=True):
    """Usage of one window.

    Attributes:
        start: RFC 3339.
        value: plain decimal text.
    """

    start: str
    value: str


class UsageChart(msgspec.Struct, frozen=True, kw_only=True):
    """Usage of one charge over time.

    Attributes:
        size: width of a bar.
        bars: every window, those without usage too.
    """

    name: str
    unit: str
    size: WindowSize
    bars: tuple[Bar, ...]


def usage_charts(billing: Billing, invoice: Invoice) -> tuple[UsageChart, ...]:
    """Return charts of the invoice's dearest metered charges, at most `CHARTS_MAX`.

    Cost: one query a chart, up to three where all usage lies in an hour.
    """
    lines: dict[Position, Line] = {}
    metered = [line for line in invoice.lines if line.meter is not None]
    for line in sorted(metered, key=lambda line: (line.adjustment, -abs(line.amount_minor))):
        item = line_item(invoice, line)
        if item.until_us > item.position.start_us:  # Else nothing is left of its period.
            lines.setdefault(item.position, line)
    return tuple(_chart(billing, invoice, line) for line in list(lines.values())[:CHARTS_MAX])


def _chart(billing: Billing, invoice: Invoice, line: Line) -> UsageChart:
    catalog = billing.catalog.load(billing.tenant)
    manifest = invoice.manifest
    item = line_item(invoice, line)
    owner = owner_of(item, manifest.customer, manifest.members)
    query = item_query(billing.tenant, item, catalog, manifest.cut, owner)
    query = msgspec.structs.replace(query, group_by=(), each=None)
    chart, only = _drawn(billing, line, query, SIZES[0], invoice.zone)
    for size in SIZES[1:]:
        if only is None:
            break
        query = msgspec.structs.replace(query, bounds=only)
        chart, only = _drawn(billing, line, query, size, invoice.zone)
    return chart


def _drawn(
    billing: Billing, line: Line, query: UsageQuery, size: WindowSize, zone: str
) -> tuple[UsageChart, tuple[int, ...] | None]:
    """Return a chart by windows of a size, and the window that holds all usage; None for none."""
    query = _in_windows(query, size, zone)
    values = _values(billing, query)
    used = [i for i, at in enumerate(query.bounds[:-1]) if values.get(at)]
    bars = tuple(Bar(format_us(at), plain(values.get(at, ZERO))) for at in query.bounds[:-1])
    chart = UsageChart(name=line.name, unit=line.unit, size=size, bars=bars)
    return chart, query.bounds[used[0] : used[0] + 2] if len(used) == 1 else None


def _in_windows(query: UsageQuery, size: WindowSize, zone: str) -> UsageQuery:
    borders = bounds(query.bounds[0], query.bounds[-1], size, zone)
    return msgspec.structs.replace(query, bounds=borders)


def _values(billing: Billing, query: UsageQuery) -> dict[int, Decimal]:
    rows = billing.usage.usage(query)
    return {row.start_us: ZERO if row.value is None else row.value for row in rows}
