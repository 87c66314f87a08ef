"""The circuit breaker: whether anything is sent at all just now.

*closed*: batches flow; a failure is waited out with full jitter. *open*: after three failures in a
row nothing is sent until the wait is over. *half-open*: then one batch is tried, the newest one; it
closes the circuit or opens it again for longer. It never gives up.
"""

from typing import Literal

import msgspec

from tallybook.collect.backoff import CAP_SECONDS, wait_seconds

OPEN_AFTER = 3
"""Failures in a row."""

Circuit = Literal["closed", "open", "half-open"]


class Breaker(msgspec.Struct, frozen=True):
    """What is known of the server's health.

    Attributes:
        failures: in a row.
        retry_at: monotonic seconds before which nothing is sent.
    """

    failures: int = 0
    retry_at: float = 0.0

    def circuit(self, now: float) -> Circuit:
        """Return the state at an instant (monotonic seconds)."""
        if self.failures < OPEN_AFTER:
            return "closed"
        return "open" if now < self.retry_at else "half-open"

    def wait_seconds(self, now: float) -> float:
        """Return how long nothing may be sent; 0 where something may."""
        return max(0.0, self.retry_at - now) if self.failures else 0.0

    def failed(
        self,
        now: float,
        fraction: float,
        retry_after_seconds: int | None = None,
        cap_seconds: float = CAP_SECONDS,
    ) -> "Breaker":
        """Return what is known after one more failure; see `backoff.wait_seconds`."""
        failures = self.failures + 1
        wait = wait_seconds(failures, fraction, retry_after_seconds, cap_seconds)
        return Breaker(failures, now + wait)

    def hurried(self, now: float, seconds_max: float) -> "Breaker":
        """Return the same with a shorter wait: the end is near, and this is the last chance."""
        return Breaker(self.failures, min(self.retry_at, now + seconds_max))
