"""Which batch is sent next: what was read just now, or what an outage left behind.

Two lanes over one spool. A batch younger than a minute is *live* and goes first, so that balances
and alarms of the present do not wait for the past. Everything older is *backlog*: oldest first,
and for a share of the time only, so that a thousand edges that come back together neither drown
the server nor fill their own links. The lane follows from a batch's age alone, so a killed agent
needs to remember nothing. The order of delivery changes no result: identity and time are the
event's own.
"""

import msgspec

from tallybook.kernel.timestamps import SECOND_US

LIVE_SECONDS = 60
SHARE_DEFAULT = 0.3


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How fast the backlog may be sent.

    Attributes:
        share: of the time, 0 < share <= 1; 1 does not hold the backlog back.
        events_per_second: at most so many events of backlog a second; 0 is without this bound.
    """

    share: float = SHARE_DEFAULT
    events_per_second: int = 0

    def rest_seconds(self, took_seconds: float, events: int) -> float:
        """Return how long backlog waits after a batch of it was sent.

        Args:
            took_seconds: from its first byte to its acknowledgement.
            events: in it.
        """
        assert 0 < self.share <= 1
        by_share = max(0.0, took_seconds) * (1 / self.share - 1)
        if not self.events_per_second:
            return by_share
        return max(by_share, events / self.events_per_second - max(0.0, took_seconds))


def live_from_us(now_us: int) -> int:
    """Return the instant from which on a spooled batch is live."""
    return now_us - LIVE_SECONDS * SECOND_US
