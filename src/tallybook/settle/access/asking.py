"""The questions about usage that working out a balance needs, and their answers put together.

Source: docs/algorithms/entitlements.md, Usage of meters
"""

from bisect import bisect_right
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
        change_us: of the last change of a grant at or before its start.
        period_us: start of the usage period it lies in.
    """

    start_us: int
    end_us: int
    change_us: int
    period_us: int


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How a balance is worked out.

    Attributes:
        settled: where it begins.
        settle_us: up to where it is settled then.
        change_us: of the last change of a grant until then.
        spans: in which no grant changes, from where `settled` ends to `at_us`.
    """

    terms: Terms
    settled: Settled
    settle_us: int
    change_us: int
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

    def used(self, values: Sequence[Decimal]) -> list[Decimal]:
        """Return the usage of each span, from what was answered to the questions."""
        found, before, period_us = [], NOTHING, None
        for span, answered in zip(self.spans, values, strict=True):
            if self.additive or span.period_us != period_us:
                before, period_us = NOTHING, span.period_us
            found.append(EXACT.subtract(answered, before))
            before = answered
        return found

    def kept(self, values: Sequence[Decimal], cut: int, ahead_us: int | None) -> Kept:
        """Return the balance.

        Args:
            values: answered to the questions about the spans.
            cut: snapshot.
            ahead_us: time of the first usage at or after the instant.
        """
        amounts = list(zip(self.spans, self.used(values), strict=True))
        known = Usage(self.settled.state.at_us, self.settled.used)
        usage = (known, *(Usage(span.change_us, amount) for span, amount in amounts))
        made_of = self.terms.made_of(usage, self.at_us, self.settled.raw)
        middle = advance(self.settled.state, made_of, self.change_us).state
        before = [one.amount for one in usage if one.at_us < self.change_us]
        older = [amount for span, amount in amounts if span.start_us < self.settle_us]
        all_known = total([self.settled.raw, self.settled.used, *older])
        raw = total([self.settled.raw, *before])
        settled = Settled(
            state=middle,
            raw=raw,
            until_us=self.settle_us,
            used=EXACT.subtract(all_known, raw),
        )
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
    since, until_us = settled.state.at_us, settled.until_us
    all_periods = periods(terms.metered, terms.by_hand, at_us)
    settle_us = max(until_us, floor_grid(at_us - SETTLE_AFTER_US))
    if terms.meter.aggregation not in ADDITIVE:
        settle_us = max(until_us, all_periods[-1].start_us)
    made_of = terms.made_of((), at_us)
    cuts = borders(made_of.grants, made_of.resets, since, at_us)
    changes = [since, *(change for change in cuts if since < change < at_us)]
    later = {change for change in changes if change > until_us}
    starts = [period.start_us for period in all_periods]
    return Plan(
        terms=terms,
        settled=settled,
        settle_us=settle_us,
        change_us=_last(changes, settle_us),
        at_us=at_us,
        spans=tuple(_spans(sorted({until_us, *later, settle_us, at_us}), changes, starts)),
    )


def _spans(cuts: Sequence[int], changes: Sequence[int], starts: Sequence[int]) -> Iterator[Span]:
    """Yield the spans between cuts; every change and start of a period in between is a cut."""
    for start_us, end_us in pairwise(cuts):
        yield Span(start_us, end_us, _last(changes, start_us), _last(starts, start_us))


def _last(instants: Sequence[int], at_us: int) -> int:
    """Return the last of rising instants that is not after another."""
    return instants[bisect_right(instants, at_us) - 1]
