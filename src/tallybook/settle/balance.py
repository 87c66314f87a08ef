"""Balances of grants at an instant, and the history that led there.

Source: docs/algorithms/grants.md
"""

from collections.abc import Iterable
from decimal import Decimal

import msgspec

from tallybook.kernel.decimals import EXACT

NOTHING = Decimal(0)


def total(amounts: Iterable[Decimal]) -> Decimal:
    """Return the exact sum."""
    found = NOTHING
    for amount in amounts:
        found = EXACT.add(found, amount)
    return found


class Usage(msgspec.Struct, frozen=True, order=True):
    """An amount used at an instant, or in the span that begins there and changes no grant.

    Attributes:
        at_us: microseconds UTC.
        amount: in the entitlement's unit; negative where the meter falls.
    """

    at_us: int
    amount: Decimal


class Reset(msgspec.Struct, frozen=True, order=True):
    """The end of a usage period and the beginning of the next.

    Attributes:
        at_us: microseconds UTC.
        keep_overage: whether overage is paid in the new period instead of being waived.
    """

    at_us: int
    keep_overage: bool = False


class Pot(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one grant: granted = burnt + lapsed + left.

    Attributes:
        granted: filled in so far: at its beginning, by refills, by a rollover minimum.
        burnt: used up.
        lapsed: lost by expiry, voiding, refill or rollover.
        in_force: whether what is left may be used.
    """

    granted: Decimal
    burnt: Decimal = NOTHING
    lapsed: Decimal = NOTHING
    in_force: bool = True

    @property
    def left(self) -> Decimal:
        """What can still be used."""
        return EXACT.subtract(EXACT.subtract(self.granted, self.burnt), self.lapsed)

    def burn(self, amount: Decimal) -> "Pot":
        """Return it after an amount was used."""
        return msgspec.structs.replace(self, burnt=EXACT.add(self.burnt, amount))

    def refill(self, amount: Decimal) -> "Pot":
        """Return it with exactly this left: what was left lapses."""
        return msgspec.structs.replace(
            self,
            granted=EXACT.add(self.granted, amount),
            lapsed=EXACT.add(self.lapsed, self.left),
        )

    def roll(self, kept: Decimal) -> "Pot":
        """Return it with this left after a reset: less lapses, more is granted."""
        change = EXACT.subtract(kept, self.left)
        if change > 0:
            return msgspec.structs.replace(self, granted=EXACT.add(self.granted, change))
        return msgspec.structs.replace(self, lapsed=EXACT.subtract(self.lapsed, change))

    def lapse(self) -> "Pot":
        """Return it out of force, with nothing left."""
        lapsed = EXACT.add(self.lapsed, self.left)
        return msgspec.structs.replace(self, lapsed=lapsed, in_force=False)


class State(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the balances after an instant depend on, besides later facts.

    A state may be kept and continued: that costs less and changes nothing, as long as no fact
    before its instant is new.

    Attributes:
        at_us: usage before this is in it.
        period_us: where the present usage period began.
        pots: by key of the grant; of those that began.
        overage: used in this usage period, or kept from one before, and covered by no grant.
        usage: net usage of this usage period.
        mark: the highest that `usage` has been in it; only what is above burns.
        waived: overage that resets have forgiven so far.
    """

    at_us: int
    period_us: int
    pots: dict[str, Pot] = {}
    overage: Decimal = NOTHING
    usage: Decimal = NOTHING
    mark: Decimal = NOTHING
    waived: Decimal = NOTHING

    @property
    def balance(self) -> Decimal:
        """What is left of all grants in force."""
        return total(pot.left for pot in self.pots.values())

    @property
    def left(self) -> dict[str, Decimal]:
        """What is left of each grant in force, by its key."""
        return {key: pot.left for key, pot in self.pots.items() if pot.in_force}


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch in which no grant changes; one without length is a reset.

    Attributes:
        left: of each grant in force at its start, before open overage is burnt.
        overage: open at its start.
        usage: net, within it.
    """

    start_us: int
    end_us: int
    left: dict[str, Decimal]
    overage: Decimal
    usage: Decimal
