"""What a counter grew by, judged by evidence and never guessed upward.

| seen | believed |
|---|---|
| for the first time | 0; the value becomes the baseline |
| the same incarnation, higher | the difference |
| the same incarnation, a little lower (idle and iowait jitter) | 0; the higher value stays |
| the same incarnation, below half | 0; the lower value becomes the baseline, and it is reported |
| another incarnation (boot, interface index, disk sequence) | the whole value: it began at 0 |

Without the last two, the differences add up to last - first, however the readings are cut; with
other incarnations, to the sum of each one's growth.

Source: node_exporter #1686 and PR #2067 (small falls are no resets); DECISIONS 22.
"""

from decimal import Decimal
from typing import Literal

import msgspec

from tallybook.kernel.decimals import EXACT

Judgement = Literal["first", "forward", "jitter", "fell", "reset"]


class Baseline(msgspec.Struct, frozen=True):
    """What a counter stood at when it was last believed.

    Attributes:
        incarnation: changes when, and only when, the counter has started again at 0.
        value: the highest believed.
        seen_us: when it was last seen, microseconds UTC.
    """

    incarnation: str
    value: Decimal
    seen_us: int


class Step(msgspec.Struct, frozen=True):
    """The growth since the baseline, why it is believed, and the baseline from now on."""

    growth: Decimal
    judgement: Judgement
    baseline: Baseline


def advance(known: Baseline | None, now: Baseline) -> Step:
    """Return the growth from the known baseline to a new reading.

    Args:
        known: None where this counter was never seen.
        now: the reading; its value is not negative.
    """
    assert now.value >= 0, "a counter is never negative"
    if known is None:
        return Step(Decimal(0), "first", now)
    if known.incarnation != now.incarnation:
        return Step(now.value, "reset", now)
    if now.value >= known.value:
        return Step(EXACT.subtract(now.value, known.value), "forward", now)
    if now.value * 2 >= known.value:
        kept = Baseline(known.incarnation, known.value, now.seen_us)
        return Step(Decimal(0), "jitter", kept)
    return Step(Decimal(0), "fell", now)
