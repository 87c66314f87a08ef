"""A balance that is kept: exact at an instant and a snapshot, and steady until something happens.

A kept balance is continued in time without asking the lake, as long as no usage lies ahead that is
known already. New usage touches it: then it is worked out again, from where it was settled unless
the usage is older than that.

Source: docs/algorithms/entitlements.md, Kept balances
"""

from decimal import Decimal

import msgspec

from tallybook.catalog.entitlement import Entitlement, Metered
from tallybook.catalog.meter import Meter
from tallybook.kernel.period import Period
from tallybook.meter.usage import Ownership
from tallybook.settle.balance import NOTHING, State, Usage
from tallybook.settle.burn import borders
from tallybook.settle.entitlement import HandReset, Value, facts, periods, value
from tallybook.settle.ports import EntitlementFacts
from tallybook.settle.run import Facts, advance, start


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """Everything but usage that a balance depends on.

    Attributes:
        entitlement: metered.
        meter: the version that counts.
        owners: the customer's subjects, and when.
        facts: what was granted, and reset by hand.
    """

    entitlement: Entitlement
    meter: Meter
    owners: tuple[Ownership, ...]
    facts: EntitlementFacts = EntitlementFacts()

    @property
    def metered(self) -> Metered:
        """How it is metered."""
        access = self.entitlement.access
        assert isinstance(access, Metered), "only metered entitlements have balances"
        return access

    @property
    def by_hand(self) -> tuple[HandReset, ...]:
        """Resets by hand."""
        return self.facts.resets

    def made_of(self, usage: tuple[Usage, ...], until_us: int, raw: Decimal = NOTHING) -> Facts:
        """Return all facts up to an instant, with usage that follows on a cumulated amount."""
        return facts(self.metered, self.facts.grants, usage, self.by_hand, until_us, raw)


class Settled(msgspec.Struct, frozen=True, kw_only=True):
    """Where working out a balance may begin.

    A span between two changes of a grant counts as a whole, whatever its parts, so the state is
    one at a change, and what was used since is kept beside it.

    Attributes:
        state: at its instant, with all usage before it.
        raw: cumulated usage before it, in the meter's unit.
        until_us: before which usage is known.
        used: from the state's instant until then, in the meter's unit.
    """

    state: State
    raw: Decimal = NOTHING
    until_us: int
    used: Decimal = NOTHING


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A balance at an instant, as of a snapshot.

    Attributes:
        settled: an earlier instant to begin from when usage is new.
        state: at `at_us`.
        cut: snapshot.
        period: the usage period that contains `at_us`.
        steady_until_us: the state stays as it is before this.
        ahead_us: time of the first usage known that lies at or after `at_us`; None for none.
    """

    terms: Terms
    settled: Settled
    state: State
    cut: int
    period: Period
    steady_until_us: int
    ahead_us: int | None = None

    @property
    def at_us(self) -> int:
        """The instant at which it was worked out."""
        return self.state.at_us

    def holds(self, at_us: int) -> bool:
        """Whether it can be continued to an instant without asking for usage."""
        return self.at_us <= at_us and (self.ahead_us is None or at_us <= self.ahead_us)


def beginning(terms: Terms) -> Settled:
    """Return the state in which measuring begins."""
    since = terms.metered.measure_from_us
    return Settled(state=start(since), until_us=since)


def keep(
    terms: Terms, settled: Settled, state: State, cut: int, ahead_us: int | None = None
) -> Kept:
    """Return a state as it is kept, with how long it is steady."""
    period = periods(terms.metered, terms.by_hand, state.at_us)[-1]
    made_of = terms.made_of((), state.at_us)
    ends = borders(made_of.grants, (), state.at_us, period.end_us)[1:]
    resets = (one.at_us for one in terms.by_hand if one.at_us > state.at_us)  # by a clock ahead
    return Kept(
        terms=terms,
        settled=settled,
        state=state,
        cut=cut,
        period=period,
        steady_until_us=min((*ends, *resets)),
        ahead_us=ahead_us,
    )


def onward(kept: Kept, at_us: int) -> Kept:
    """Return a balance continued to an instant to which it holds."""
    assert kept.holds(at_us), "usage in between is not known here"
    if at_us < kept.steady_until_us:
        return kept
    made_of = kept.terms.made_of((), at_us)
    state = advance(kept.state, made_of, at_us).state
    return keep(kept.terms, kept.settled, state, kept.cut, kept.ahead_us)


def answer(kept: Kept, at_us: int, wanted: Decimal = NOTHING) -> Value:
    """Return whether it may be used, of a balance that was continued to an instant."""
    assert kept.at_us <= at_us < kept.steady_until_us, "continue it first"
    return value(kept.terms.entitlement, kept.state, at_us, wanted=wanted, period=kept.period)
