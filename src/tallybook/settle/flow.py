"""From stored events to the answer "may it be used?", and to the history of a balance.

Source: docs/algorithms/entitlements.md, usage of meters
"""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from itertools import pairwise

import msgspec

from tallybook.catalog.catalog import Catalog
from tallybook.catalog.entitlement import Entitlement, Grant, Metered
from tallybook.invoice.questions import ownerships
from tallybook.kernel.decimals import EXACT
from tallybook.kernel.errors import Invalid
from tallybook.meter.usage import UsageQuery
from tallybook.rate.ports import UsageReader
from tallybook.settle.balance import NOTHING, State, Usage, total
from tallybook.settle.burn import borders
from tallybook.settle.entitlement import (
    HandReset,
    Value,
    Window,
    facts,
    history,
    periods,
    state_at,
    value,
)
from tallybook.settle.run import Facts

ADDITIVE = ("COUNT", "SUM")
"""Aggregations whose parts add up: all spans are one question."""
RISING = ("MAX", "UNIQUE_COUNT", "TIME_WEIGHTED")
"""Aggregations that never fall within a usage period, for values of 0 and more."""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of an entitlement.

    Attributes:
        tenant: whose.
        entitlement: of one of the catalog's customers.
        grants: of it, beside the included one.
        by_hand: resets of it.
        cut: snapshot of the events.
    """

    tenant: str
    entitlement: Entitlement
    grants: tuple[Grant, ...] = ()
    by_hand: tuple[HandReset, ...] = ()
    cut: int


def check(
    reader: UsageReader,
    catalog: Catalog,
    asked: Question,
    at_us: int,
    wanted: Decimal = NOTHING,
) -> Value:
    """Return whether a feature may be used at an instant, now or past, and what is left.

    Args:
        reader: answers questions about usage.
        catalog: knows the customer and the meter.
        asked: which entitlement.
        at_us: microseconds UTC.
        wanted: in the entitlement's unit; zero asks whether anything is left.

    Raises:
        Missing: the catalog has no such customer or meter.
        Invalid: the meter may fall.

    Cost: nothing is read for boolean and static ones; else one question for COUNT and SUM, one for
    each change of a grant for other meters.
    """
    metered = asked.entitlement.access
    state = balances(reader, catalog, asked, at_us)
    if state is None or not isinstance(metered, Metered):
        return value(asked.entitlement, None, at_us)
    period = periods(metered, asked.by_hand, at_us)[-1]
    return value(asked.entitlement, state, at_us, wanted=wanted, period=period)


def balances(reader: UsageReader, catalog: Catalog, asked: Question, at_us: int) -> State | None:
    """Return the balances of grants at an instant; None before measuring, or without a meter.

    Raises:
        Missing: the catalog has no such customer or meter.
        Invalid: the meter may fall.
    """
    metered = asked.entitlement.access
    if not isinstance(metered, Metered) or at_us < metered.measure_from_us:
        return None
    return state_at(metered, _facts(reader, catalog, asked, metered, (at_us,)), at_us)


def balance_history(
    reader: UsageReader, catalog: Catalog, asked: Question, windows: Sequence[int]
) -> list[Window]:
    """Return balance and usage by windows; none for an entitlement that is not metered.

    Args:
        reader: answers questions about usage.
        catalog: knows the customer and the meter.
        asked: which entitlement.
        windows: rising borders; what lies before the start of measuring is left out.

    Raises:
        Missing: the catalog has no such customer or meter.
        Invalid: the meter may fall.
    """
    metered = asked.entitlement.access
    if not isinstance(metered, Metered):
        return []
    since = metered.measure_from_us
    inside = sorted({max(since, border) for border in windows})
    if len(inside) < 2:
        return []
    return history(metered, _facts(reader, catalog, asked, metered, inside), inside)


def _facts(
    reader: UsageReader,
    catalog: Catalog,
    asked: Question,
    metered: Metered,
    wanted: Sequence[int],
) -> Facts:
    """Return all facts up to the last wanted instant, with usage cut at every wanted one."""
    since, until = metered.measure_from_us, wanted[-1]
    planned = facts(metered, asked.grants, (), asked.by_hand, until)
    cuts = sorted({*borders(planned.grants, planned.resets, since, until), *wanted})
    source = _Source(reader, catalog, asked, metered)
    if source.meter.aggregation in ADDITIVE:
        used = list(source.spans(cuts))
    else:
        used = [
            rise
            for period in periods(metered, asked.by_hand, until)
            for rise in source.rises([c for c in cuts if period.start_us <= c <= period.end_us])
        ]
    return facts(metered, asked.grants, used, asked.by_hand, until)


class _Source:
    """The usage of one metered entitlement."""

    def __init__(
        self, reader: UsageReader, catalog: Catalog, asked: Question, metered: Metered
    ) -> None:
        self.reader = reader
        self.asked = asked
        self.meter = catalog.meter(metered.meter)
        if self.meter.aggregation not in (*ADDITIVE, *RISING):
            message = f"a meter of type {self.meter.aggregation} may fall and cannot be granted"
            raise Invalid(message, field="meter")
        self.owners = ownerships(catalog.customer(asked.entitlement.customer))
        self.where: dict[str, tuple[str | None, ...]] = dict(metered.filter)

    def spans(self, cuts: Sequence[int]) -> Iterator[Usage]:
        """Yield what each span between two cuts adds, at its start."""
        if len(cuts) > 1 and self.owners:
            query = UsageQuery(
                tenant=self.asked.tenant,
                meter=self.meter,
                bounds=tuple(cuts),
                cut=self.asked.cut,
                owners=self.owners,
                where=self.where,
            )
            for row in self.reader.usage(query):
                yield Usage(row.start_us, row.value or NOTHING)

    def rises(self, cuts: Sequence[int]) -> Iterator[Usage]:
        """Yield by how much the value since the first cut differs after each span, at its start."""
        before = NOTHING
        for start_us, end_us in pairwise(cuts):
            now = total(used.amount for used in self.spans((cuts[0], end_us)))
            yield Usage(start_us, EXACT.subtract(now, before))
            before = now
