"""Thresholds that a value crosses, and when a wallet is topped up by itself.

Source: docs/algorithms/wallets.md
"""

from collections.abc import Iterable
from decimal import ROUND_FLOOR, Decimal
from typing import Literal

from tallybook.catalog.entitlement import Recharge
from tallybook.kernel.decimals import EXACT

Direction = Literal["up", "down"]
CROSSED_MAX = 1_000
"""Repeated steps told at once; the ones nearest to the present value are kept."""


def crossed(
    direction: Direction,
    thresholds: Iterable[Decimal],
    before: Decimal,
    now: Decimal,
    step: Decimal | None = None,
) -> list[Decimal]:
    """Return the thresholds from a value, excluded, to the next one, included; rising.

    Args:
        direction: only crossings this way count.
        thresholds: in any order, at least one where there is a `step`.
        before: value at the time before.
        now: value now.
        step: repeats beyond the last threshold in the direction; above zero.
    """
    if direction == "down":
        mirrored = [-threshold for threshold in thresholds]
        found = crossed("up", mirrored, -before, -now, step)
        return [-threshold for threshold in reversed(found)]
    rising = sorted(set(thresholds))
    found = [threshold for threshold in rising if before < threshold <= now]
    return found if step is None else found + _steps(rising[-1], step, before, now)


def _steps(last: Decimal, step: Decimal, before: Decimal, now: Decimal) -> list[Decimal]:
    """Return last + n × step, n >= 1, above one value and not above another."""
    newest = _whole(EXACT.subtract(now, last), step)
    oldest = max(0, _whole(EXACT.subtract(before, last), step), newest - CROSSED_MAX)
    return [EXACT.fma(step, Decimal(n), last) for n in range(oldest + 1, newest + 1)]


def _whole(distance: Decimal, step: Decimal) -> int:
    return int(EXACT.divide(distance, step).to_integral_value(ROUND_FLOOR))


def recharge_due(
    rule: Recharge, balance: Decimal, unbilled: Decimal, on_its_way: Decimal
) -> Decimal | None:
    """Return what to top up now, or None.

    Args:
        rule: of the wallet.
        balance: what can be drawn.
        unbilled: what was used but not billed yet, tax included, in the wallet's unit.
        on_its_way: top-ups asked for and not there yet.
    """
    ongoing = EXACT.add(EXACT.subtract(balance, unbilled), on_its_way)
    if ongoing > rule.at:
        return None
    wanted = rule.add
    if rule.to is not None:
        wanted = EXACT.subtract(rule.to, ongoing)
    assert wanted is not None, "a checked rule says add or to"
    if rule.least is not None:
        wanted = max(wanted, rule.least)
    return wanted if rule.most is None else min(wanted, rule.most)
