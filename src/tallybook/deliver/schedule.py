"""When a failed delivery is tried again: ever longer pauses, at random, for three days.

The pauses are those that the Standard Webhooks specification recommends: 5 seconds, 5 and 30
minutes, 2, 5, 10, 14, 20 and 24 hours, which together are a little more than three days. Of each
pause a random part is waited (full jitter), so that what failed together does not return together;
therefore more attempts than pauses are made, and the three days are always used up: the last
attempt is at their end.

Source: docs/guides/webhooks.md, Retries
"""

from tallybook.kernel.timestamps import HOUR_US, SECOND_US

PAUSES_US: tuple[int, ...] = tuple(
    seconds * SECOND_US
    for seconds in (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
)
"""Longest pause after the first, the second, … failed attempt; the last one for all further."""
HORIZON_US = sum(PAUSES_US)
"""How long a fact is tried: 3 days, 3:35:05."""
PAUSE_MIN_US = SECOND_US
ATTEMPTS_MIN = 6
"""Made before giving up, however late: a sender that stood still is not the endpoint's fault."""
RETRY_AFTER_MAX_US = 24 * HOUR_US
FURTHEST_US = RETRY_AFTER_MAX_US + HOUR_US
"""Further ahead nothing is ever put off: what is due later was put off by a clock that was ahead
of the time, and is due now."""


def next_due_us(
    tried: int, first_us: int, now_us: int, fraction: float, retry_after_us: int | None = None
) -> int | None:
    """Return when to try again after a failed attempt; None to give up.

    Args:
        tried: attempts so far, at least 1.
        first_us: when the first of them was.
        now_us: when the last of them failed.
        fraction: a random number from 0 to 1: which part of the pause is waited.
        retry_after_us: how long the endpoint asks to be left alone, honoured up to a day.
    """
    assert tried >= 1, "an attempt was made"
    end_us = first_us + HORIZON_US
    if now_us >= end_us and tried >= ATTEMPTS_MIN:
        return None
    pause_us = max(PAUSE_MIN_US, int(PAUSES_US[min(tried, len(PAUSES_US)) - 1] * fraction))
    asked_us = min(retry_after_us or 0, RETRY_AFTER_MAX_US)
    due_us = now_us + max(pause_us, asked_us)
    if now_us < end_us < due_us:
        return max(end_us, now_us + asked_us)
    return due_us
