"""How an edge is, from what is known of it: for lists, for the doctor, for figures."""

from typing import Literal

from tallybook.collect.sending.fleet import EdgeRecord
from tallybook.kernel.timestamps import SECOND_US

SILENT_SECONDS = 300
BEHIND_SECONDS = 120

Condition = Literal["live", "behind", "silent"]
"""silent: nothing was heard for five minutes; behind: batches wait for more than two."""


def silent_seconds(record: EdgeRecord, now_us: int) -> int:
    """Return how long ago the edge was last heard of."""
    return max(0, now_us - record.last_seen_us) // SECOND_US


def condition(record: EdgeRecord, now_us: int) -> Condition:
    """Return how an edge is."""
    if silent_seconds(record, now_us) > SILENT_SECONDS:
        return "silent"
    return "behind" if record.lag_seconds() > BEHIND_SECONDS else "live"


def missing(record: EdgeRecord) -> int:
    """Return how many batches left the edge and did not arrive."""
    return sum(one.missing_count() for one in record.incarnations)
