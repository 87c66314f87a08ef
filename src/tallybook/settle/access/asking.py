"""The questions about usage that working out a balance needs, and their answers put together.

Source: docs/algorithms/entitlements.md, Usage of meters
"""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from itertools import pairwise

import msgspec

from tallybook.kernel.decimals import EXACT
from tallybook.kernel.timestamps import HOUR_US, LAST_US
from tallybook.meter.usage import Ownership
from tallybook.meter.window import floor_grid
from tallybook.settle.access.kept import Kept, Settled, Terms, beginning, keep
from tallybook.settle.balance import NOTHING, Usage, total
from tallybook.settle.burn import borders
from tallybook.settle.entitlement import periods
from tallybook.settle.flow import ADDITIVE
from tallybook.settle.run import advance

SETTLE_AFTER_US = HOUR_US
"""Usage older than this is settled; what comes later than that is worked out from the start."""


class Span(msgspec.Struct, frozen=True):
    """From one instant to another.

    Attributes:
        period_us: start of the usage period it lies in.
    """

    start_us: int
    end_us: int
    period_us: int


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How a balance is worked out.

    Attributes:
        settled: where it begins.
        settle_us: up to where it is settled then.
        spans: in which no grant changes, from `settled` to `at_us`.
    """

    terms: Terms
    settled: Settled
    settle_us: int
    at_us: int
    spans: tuple[Span, ...]

    @property
    def additive(self) -> bool:
        """Whether the usage of spans adds up; else it is asked for from the period's start on."""
        return self.terms.meter.aggregation in ADDITIVE

    def asked(self, place: int) -> tuple[int, int]:
        """Return from when to when usage is asked for to know that of a span."""
        if place == len(self.spans):
            return self.at_us, LAST_US
        span = self.spans[place]
        return (span.start_us if self.additive else span.period_us), span.end_us

    def owners(self, place: int, owner: str) -> Iterator[Ownership]:
        """Yield whose events are of a span; the place after the last span is what lies ahead."""
        start_us, end_us = self.asked(place)
        for owned in self.terms.owners:
            first = start_us if owned.start_us is None else max(start_us, owned.start_us)
            last = end_us if owned.end_us is None else min(end_us, owned.end_us)
            if first < last:
                yield Ownership(owned.subject, owner, first, last)

    def usage(self, values: Sequence[Decimal]) -> tuple[Usage, ...]:
        """Return the usage of each span, at its start, from what was answered to the questions."""
        found, before, period_us = [], NOTHING, None
        for span, answered in zip(self.spans, values, strict=True):
            if self.additive or span.period_us != period_us:
                before, period_us = NOTHING, span.period_us
            found.append(Usage(span.start_us, EXACT.subtract(answered, before)))
            before = answered
        return tuple(found)

    def kept(self, values: Sequence[Decimal], cut: int, ahead_us: int | None) -> Kept:
        """Return the balance.

        Args:
            values: answered to the questions about the spans.
            cut: snapshot.
            ahead_us: time of the first usage at or after the instant.
        """
        usage = self.usage(values)
        made_of = self.terms.made_of(usage, self.at_us, self.settled.raw)
        middle = advance(self.settled.state, made_of, self.settle_us).state
        raw = total(used.amount for used in usage if used.at_us < self.settle_us)
        settled = Settled(state=middle, raw=EXACT.add(self.settled.raw, raw))
        state = advance(middle, made_of, self.at_us).state
        return keep(self.terms, settled, state, cut, ahead_us)


def plan(terms: Terms, known: Kept | None, at_us: int) -> Plan:
    """Return how a balance is worked out at an instant at or after the start of measuring.

    Args:
        terms: what it depends on.
        known: of the same terms, in whose settled part no usage is new; None to begin anew.
        at_us: not before `known` was settled.
    """
    settled = beginning(terms) if known is None else known.settled
    since = settled.state.at_us
    all_periods = periods(terms.metered, terms.by_hand, at_us)
    settle_us = max(since, floor_grid(at_us - SETTLE_AFTER_US))
    if terms.meter.aggregation not in ADDITIVE:
        settle_us = max(since, all_periods[-1].start_us)
    made_of = terms.made_of((), at_us)
    cuts = set(borders(made_of.grants, made_of.resets, since, at_us))
    ordered = sorted(cuts | {settle_us})
    starts = [period.start_us for period in all_periods]
    return Plan(
        terms=terms,
        settled=settled,
        settle_us=settle_us,
        at_us=at_us,
        spans=tuple(_spans(ordered, starts)),
    )


def _spans(cuts: Sequence[int], starts: Sequence[int]) -> Iterator[Span]:
    """Yield the spans between cuts; every start of a period that lies between is a cut."""
    number = 0
    for start_us, end_us in pairwise(cuts):
        while number + 1 < len(starts) and starts[number + 1] <= start_us:
            number += 1
        yield Span(start_us, end_us, starts[number])
