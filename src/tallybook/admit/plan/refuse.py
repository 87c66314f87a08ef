"""Why a request is refused by its limits, in words, with a stable code and when to come again."""

from typing import assert_never

from tallybook.admit.plan.decide import NEVER, Stop
from tallybook.admit.plan.headers import seconds
from tallybook.admit.plan.limit import Concurrency, Quota, Rate
from tallybook.kernel.errors import Invalid, TallybookError, Throttled


def refusal(stop: Stop, amount: int) -> TallybookError:
    """Return the error that tells why a request may not go on.

    Args:
        stop: the limit with the longest wait.
        amount: requests or events that it wanted.
    """
    limit = stop.bound.limit
    if stop.wait_ns == NEVER:
        message = (
            f"the limit '{limit.key}' never lets {amount} {limit.counts} through together, at most"
            f" {limit.size}; send smaller batches"
        )
        return Invalid(message, code="over-limit", field="body")
    wait = seconds(stop.wait_ns)
    match limit:
        case Rate():
            said = f"{limit.rate} {limit.counts} in {limit.seconds} s, {limit.size} at once"
            return Throttled(
                _reached(limit.key, said, wait), code="rate-limited", retry_after_seconds=wait
            )
        case Quota():
            said = f"{limit.limit} {limit.counts} a {limit.window}"
            return Throttled(
                _reached(limit.key, said, wait), code="quota-exceeded", retry_after_seconds=wait
            )
        case Concurrency():
            said = f"{limit.limit} requests at once"
            return Throttled(
                _reached(limit.key, said, wait), code="too-many-at-once", retry_after_seconds=wait
            )
        case never:
            assert_never(never)


def _reached(key: str, said: str, wait: int) -> str:
    return f"the limit '{key}' ({said}) is reached; come again in {wait} s"
