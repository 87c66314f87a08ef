"""Whether the server has exactly what was acknowledged, to the event."""

from decimal import Decimal

import msgspec

from bench.generator.plan import Sent


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """What a server says that it has.

    Attributes:
        received, accepted, duplicate, quarantined: events, as its status counts them.
        meters: key -> what the meter measures over all time.
    """

    received: int = 0
    accepted: int = 0
    duplicate: int = 0
    quarantined: int = 0
    meters: dict[str, Decimal] = {}


class Mismatch(Exception):
    """The server's totals are not what was sent: nothing measured with it counts."""


def differences(sent: Sent, before: Totals, after: Totals, *, resent: bool = False) -> list[str]:
    """Return every total that is not what the generator sent, in words; none where all agree.

    Args:
        sent: what was acknowledged, and nothing else was sent.
        before: totals when it began.
        after: totals when the lake had caught up.
        resent: whether connections broke, so that requests may have been stored twice: duplicates
            may then be more, and nothing else may.
    """
    wanted: dict[str, int] = {
        "received": sent.events,
        "accepted": sent.new,
        "duplicate": sent.duplicates,
        "quarantined": sent.bad,
    }
    found = {name: getattr(after, name) - getattr(before, name) for name in wanted}
    may_be_more = {"received", "duplicate"} if resent else set()
    wrong = [
        f"{name}: {found[name]:,} more, {number:,} were sent"
        for name, number in wanted.items()
        if found[name] < number or (found[name] > number and name not in may_be_more)
    ]
    parts = found["accepted"] + found["duplicate"] + found["quarantined"]
    if parts != found["received"]:
        wrong.append(f"received {found['received']:,} is not the sum of its parts, {parts:,}")
    for key, value in _measures(sent).items():
        grown = after.meters.get(key, Decimal(0)) - before.meters.get(key, Decimal(0))
        if grown != value:
            wrong.append(f"meter {key}: {grown:,} more, {value:,} were sent")
    return wrong


def _measures(sent: Sent) -> dict[str, int]:
    """Return what each meter must have gained; `requests` counts what `bytes` adds up."""
    return {"requests": sent.counts.get("bytes", 0), **sent.sums}


def check(sent: Sent, before: Totals, after: Totals, *, resent: bool = False) -> None:
    """Raise Mismatch where a total differs."""
    wrong = differences(sent, before, after, resent=resent)
    if wrong:
        raise Mismatch("; ".join(wrong))
