"""What a customer may use at an instant: usage periods, balances, and the answer to a check.

Source: docs/algorithms/entitlements.md
"""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import assert_never

import msgspec

from tallybook.catalog.entitlement import Boolean, Entitlement, Grant, Metered, Static
from tallybook.kernel.decimals import EXACT, divide
from tallybook.kernel.errors import Conflict, Invalid
from tallybook.kernel.period import Period
from tallybook.settle.balance import NOTHING, Reset, State, Usage
from tallybook.settle.run import Facts, advance, start


class HandReset(msgspec.Struct, frozen=True, order=True):
    """A reset by hand.

    Attributes:
        at_us: microseconds UTC.
        keep_anchor: whether the next periods end where they would have without it.
        keep_overage: None for as the entitlement says.
    """

    at_us: int
    keep_anchor: bool = False
    keep_overage: bool | None = None


class Value(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to "may it be used?".

    Attributes:
        access: whether.
        balance: what is left.
        usage: net usage of this usage period.
        overage: what no grant covers.
        available: what there was to use in this usage period: balance + usage - overage.
        config: of a static entitlement.
        period: the present usage period, of a metered one.
    """

    access: bool
    balance: Decimal = NOTHING
    usage: Decimal = NOTHING
    overage: Decimal = NOTHING
    available: Decimal = NOTHING
    config: str = ""
    period: Period | None = None


def periods(metered: Metered, by_hand: Iterable[HandReset], until_us: int) -> list[Period]:
    """Return the usage periods from the start of measuring, the last one containing an instant.

    Args:
        metered: whose.
        by_hand: in any order; those after `until_us`, or before measuring, are not looked at.
        until_us: at or after the start of measuring.
    """
    recurrence, since = metered.period, metered.measure_from_us
    starts = [since]
    for reset in sorted(by_hand):
        if since < reset.at_us <= until_us:
            starts += recurrence.within(starts[-1], reset.at_us - 1)
            starts.append(reset.at_us)
            if not reset.keep_anchor:
                recurrence = msgspec.structs.replace(recurrence, anchor_us=reset.at_us)
    starts += recurrence.within(starts[-1], until_us)
    ends = [*starts[1:], recurrence.around(starts[-1]).end_us]
    return [Period(start, end) for start, end in zip(starts, ends, strict=True) if start < end]


def facts(
    metered: Metered,
    grants: Iterable[Grant],
    usage: Iterable[Usage],
    by_hand: Sequence[HandReset],
    until_us: int,
    before: Decimal = NOTHING,
) -> Facts:
    """Return everything the balances of a metered entitlement are made of, in its own units.

    Args:
        metered: whose.
        grants: beside the included one.
        usage: by time, in the meter's unit, from the start of measuring on.
        by_hand: resets.
        until_us: the latest instant that will be asked for.
        before: what was used before `usage`, in the meter's unit.
    """
    kept = {reset.at_us: reset.keep_overage for reset in by_hand}
    resets = []
    for period in periods(metered, by_hand, until_us)[1:]:
        said = kept.get(period.start_us)
        resets.append(Reset(period.start_us, metered.keep_overage if said is None else said))
    included = metered.included_grant()
    return Facts(
        grants=(*grants, *([] if included is None else [included])),
        usage=in_units(usage, metered, before),
        resets=tuple(resets),
    )


def in_units(
    usage: Iterable[Usage], metered: Metered, cumulated: Decimal = NOTHING
) -> tuple[Usage, ...]:
    """Return usage in the entitlement's unit, by time: the cumulated amount is what is divided.

    Usage before measuring is left out. However an amount is split, the sums at each instant are
    the same, to 12 decimals half-even.
    """
    counted = sorted(used for used in usage if used.at_us >= metered.measure_from_us)
    if metered.factor == 1:
        return tuple(counted)
    found, before = [], divide(cumulated, metered.factor)
    for used in counted:
        cumulated = EXACT.add(cumulated, used.amount)
        now = divide(cumulated, metered.factor)
        found.append(Usage(used.at_us, EXACT.subtract(now, before)))
        before = now
    return tuple(found)


def state_at(metered: Metered, made_of: Facts, at_us: int) -> State:
    """Return the balances at an instant at or after the start of measuring."""
    return advance(start(metered.measure_from_us), made_of, at_us).state


def value(
    entitlement: Entitlement,
    state: State | None,
    at_us: int,
    *,
    wanted: Decimal = NOTHING,
    period: Period | None = None,
) -> Value:
    """Return whether it may be used at an instant, and what is left.

    Args:
        entitlement: of any kind.
        state: balances at the instant, of a metered one; None before measuring begins.
        at_us: the instant, microseconds UTC.
        wanted: in the entitlement's unit; zero asks whether anything is left.
        period: the present usage period, to be told.
    """
    there = entitlement.in_force(at_us)
    match entitlement.access:
        case Boolean():
            return Value(access=there)
        case Static(config):
            return Value(access=there, config=config if there else "")
        case Metered() as metered:
            return _metered_value(metered, state, wanted, period, there=there)
        case _ as never:
            assert_never(never)


def _metered_value(
    metered: Metered, state: State | None, wanted: Decimal, period: Period | None, *, there: bool
) -> Value:
    if state is None:
        return Value(access=there and metered.soft, period=period)
    left = state.balance
    enough = left >= wanted if wanted else left > 0
    return Value(
        access=there and (metered.soft or enough),
        balance=left,
        usage=state.usage,
        overage=state.overage,
        available=EXACT.subtract(EXACT.add(left, state.usage), state.overage),
        period=period,
    )


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """One window of a history: the balance at its start, and what was used in it."""

    start_us: int
    end_us: int
    balance: Decimal
    overage: Decimal
    usage: Decimal


def history(metered: Metered, made_of: Facts, borders: Sequence[int]) -> list[Window]:
    """Return balance and usage of each window between borders.

    Args:
        metered: whose.
        made_of: all facts up to the last border.
        borders: rising instants, at or after the start of measuring.
    """
    found = []
    state = state_at(metered, made_of, borders[0])
    for end_us in borders[1:]:
        outcome = advance(state, made_of, end_us)
        used = NOTHING
        for segment in outcome.history:
            used = EXACT.add(used, segment.usage)
        window = Window(
            start_us=state.at_us,
            end_us=end_us,
            balance=state.balance,
            overage=state.overage,
            usage=used,
        )
        found.append(window)
        state = outcome.state
    return found


def check_reset(
    metered: Metered, by_hand: Sequence[HandReset], reset: HandReset, now_us: int
) -> HandReset:
    """Return the reset when it may be made.

    Raises:
        Invalid: it lies in the future, or before measuring begins.
        Conflict: not after the reset before it, or before the present usage period.
    """
    if not metered.measure_from_us < reset.at_us <= now_us:
        raise Invalid("a reset lies between the start of measuring and now", field="at")
    if any(reset.at_us <= other.at_us for other in by_hand):
        raise Conflict("a reset must come after the one before", field="at")
    if reset.at_us < periods(metered, by_hand, now_us)[-1].start_us:
        raise Conflict("a reset must not lie before the present usage period", field="at")
    return reset
