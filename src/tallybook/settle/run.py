"""The engine: balances at any instant as a pure function of grants, usage by time and resets.

Source: docs/algorithms/grants.md
"""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from itertools import groupby

import msgspec

from tallybook.catalog.entitlement import Grant
from tallybook.kernel.decimals import EXACT
from tallybook.settle.balance import NOTHING, Pot, Reset, Segment, State, Usage
from tallybook.settle.burn import Change, burn_order, changes


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What balances are made of, each in any order.

    Attributes:
        grants: with distinct keys.
        usage: by time.
        resets: automatic ones and those by hand.
    """

    grants: tuple[Grant, ...] = ()
    usage: tuple[Usage, ...] = ()
    resets: tuple[Reset, ...] = ()


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The balances at an instant, and the segments since the state that was continued."""

    state: State
    history: tuple[Segment, ...]


def start(measure_from_us: int) -> State:
    """Return the state in which measuring begins."""
    return State(at_us=measure_from_us, period_us=measure_from_us)


def advance(state: State, facts: Facts, until_us: int) -> Outcome:
    """Continue a state to a later instant, or the same.

    Args:
        state: `start(...)`, or one that was computed from the same facts.
        facts: what lies before the state is not looked at.
        until_us: changes at this instant are in, usage at it is not.

    Guarantees: in one go or in many, and for facts in any order, the same.

    Cost: O(n log n) in grants, changes and usage since the state.
    """
    assert until_us >= state.at_us, "balances are continued forwards"
    course = _Course(state, facts, until_us)
    for at_us, now in groupby(course.changes, key=lambda change: change.at_us):
        course.use_until(at_us)
        course.change(now)
    course.use_until(until_us)
    return Outcome(state=course.state(), history=tuple(course.history))


class _Course:
    """One run from a state to an instant: what is being worked out."""

    def __init__(self, state: State, facts: Facts, until_us: int) -> None:
        self.at_us = state.at_us
        self.period_us = state.period_us
        self.pots = dict(state.pots)
        self.overage, self.waived = state.overage, state.waived
        self.sum, self.mark = state.usage, state.mark
        self.history: list[Segment] = []
        ordered = sorted(facts.grants, key=burn_order)
        self.rollover = {grant.key: grant.rollover for grant in ordered}
        assert len(self.rollover) == len(ordered), "grants have distinct keys"
        self.changes = self._changes(facts, until_us)
        self.usage: Sequence[Usage] = _net(facts.usage, state.at_us, until_us)
        self.next = 0
        self.opened = self._opened()

    def _changes(self, facts: Facts, until_us: int) -> list[Change]:
        """What happens, without what the state already holds; grants from before it begin at it."""
        begun = [
            Change(self.at_us, 3, "begin", grant)
            for grant in facts.grants
            if grant.key not in self.pots and grant.in_force(self.at_us)
        ]
        later = changes(facts.grants, facts.resets, self.at_us + 1, until_us)
        return [*begun, *later]

    def _opened(self) -> tuple[dict[str, Decimal], Decimal]:
        left = {key: pot.left for key, pot in self.pots.items() if pot.in_force}
        return left, self.overage

    def use_until(self, at_us: int) -> None:
        """Burn the usage before an instant, and close the segment that ends there."""
        used = NOTHING
        while self.next < len(self.usage) and self.usage[self.next].at_us < at_us:
            amount = self.usage[self.next].amount
            used = EXACT.add(used, amount)
            self._use(amount)
            self.next += 1
        if at_us > self.at_us:
            self._close(at_us, used)
            self.opened = self._opened()

    def _close(self, at_us: int, used: Decimal) -> None:
        left, overage = self.opened
        segment = Segment(start_us=self.at_us, end_us=at_us, left=left, overage=overage, usage=used)
        self.history.append(segment)
        self.at_us = at_us

    def _use(self, amount: Decimal) -> None:
        self.sum = EXACT.add(self.sum, amount)
        rise = EXACT.subtract(self.sum, self.mark)
        if rise > 0:
            self.mark = self.sum
            self.overage = EXACT.add(self.overage, rise)
            self._burn()

    def _burn(self) -> None:
        """Let the grants in force pay open overage, in their order."""
        for key in self.rollover:
            if not self.overage:
                return
            pot = self.pots.get(key)
            if pot is not None and pot.in_force:
                amount = min(pot.left, self.overage)
                self.pots[key] = pot.burn(amount)
                self.overage = EXACT.subtract(self.overage, amount)

    def change(self, now: Iterable[Change]) -> None:
        """Let everything of one instant happen, then burn open overage."""
        for change in now:
            if change.reset is not None:
                self._reset(change.reset)
            else:
                assert change.grant is not None, "a change is of a grant or a reset"
                self._change_grant(change, change.grant)
        self.opened = self._opened()
        self._burn()

    def _change_grant(self, change: Change, grant: Grant) -> None:
        pot = self.pots.get(grant.key)
        if pot is None:
            self.pots[grant.key] = Pot(granted=grant.amount)
        elif change.kind == "lapse":
            self.pots[grant.key] = pot.lapse()
        else:
            self.pots[grant.key] = pot.refill(grant.amount)

    def _reset(self, reset: Reset) -> None:
        self.opened = self._opened()
        self._close(reset.at_us, NOTHING)
        for key, pot in self.pots.items():
            if pot.in_force:
                self.pots[key] = pot.roll(self.rollover[key].keeps(pot.left))
        if not reset.keep_overage:
            self.waived = EXACT.add(self.waived, self.overage)
            self.overage = NOTHING
        self.sum = self.mark = NOTHING
        self.period_us = reset.at_us

    def state(self) -> State:
        """Return where it has come to."""
        return State(
            at_us=self.at_us,
            period_us=self.period_us,
            pots=self.pots,
            overage=self.overage,
            usage=self.sum,
            mark=self.mark,
            waived=self.waived,
        )


def _net(usage: Iterable[Usage], start_us: int, until_us: int) -> list[Usage]:
    """Return usage of a span by time; of one instant, the sum."""
    sums: dict[int, Decimal] = {}
    for used in usage:
        if start_us <= used.at_us < until_us:
            sums[used.at_us] = EXACT.add(sums.get(used.at_us, NOTHING), used.amount)
    return [Usage(at_us, sums[at_us]) for at_us in sorted(sums)]
