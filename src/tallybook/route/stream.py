"""Outbound streams: records in the order they were routed, each at an offset of its own.

Offsets of a stream begin at 1, have no holes and never repeat, also after everything was trimmed.
"""

import msgspec

from tallybook.kernel.errors import Conflict, Invalid
from tallybook.route.record import Place, Record

KEEP_HOURS_DEFAULT = 7 * 24
KEEP_MB_DEFAULT = 1024
HOURS_MAX = 24 * 3650
MB_MAX = 1 << 20
HOUR_US = 3_600_000_000
MB = 1024 * 1024


class KeepChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to become of a stream's retention; what is absent stays as it is."""

    keep_hours: int | None = None
    keep_mb: int | None = None

    def of(self, keep: "Keep") -> "Keep":
        """Return the retention with what is asked for; raises Invalid."""
        hours = keep.keep_hours if self.keep_hours is None else self.keep_hours
        mb = keep.keep_mb if self.keep_mb is None else self.keep_mb
        return checked_keep(Keep(keep_hours=hours, keep_mb=mb))


class Keep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long a stream keeps records; what comes first counts.

    Attributes:
        keep_hours: since a record was routed.
        keep_mb: of all envelopes together.
    """

    keep_hours: int = KEEP_HOURS_DEFAULT
    keep_mb: int = KEEP_MB_DEFAULT


def checked_keep(keep: Keep) -> Keep:
    """Return a retention within bounds; raises Invalid."""
    if not 1 <= keep.keep_hours <= HOURS_MAX:
        raise Invalid(f"keep_hours must be 1 to {HOURS_MAX}", field="keep_hours")
    if not 1 <= keep.keep_mb <= MB_MAX:
        raise Invalid(f"keep_mb must be 1 to {MB_MAX}", field="keep_mb")
    return keep


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """An outbound stream.

    Attributes:
        first_offset: the oldest record kept; `next_offset` where none is.
        next_offset: what the next record gets.
        bytes: of the envelopes kept.
    """

    tenant: str
    name: str
    first_offset: int = 1
    next_offset: int = 1
    bytes: int = 0
    keep: Keep = Keep()
    created_us: int = 0

    @property
    def tag(self) -> str:
        """Names what somebody may change of it: another one where that changed."""
        return f'"{self.keep.keep_hours}h-{self.keep.keep_mb}mb"'

    @property
    def records(self) -> int:
        """How many records are kept."""
        return self.next_offset - self.first_offset


class StreamRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A record on a stream.

    Attributes:
        rule, version: which rule put it here, and in which version; '' and 0 on `unmatched`.
        commit_seq: the lake commit that brought the event.
        replay: the replay that put it here, '' for none.
        envelope: the event, a CloudEvent in JSON.
    """

    offset: int
    rule: str
    version: int
    commit_seq: int
    appended_us: int
    replay: str
    envelope: bytes


class Delivery(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A record that is to be put on a stream; once for each (record, rule, stream)."""

    stream: str
    rule: str
    version: int
    record: Record
    envelope: bytes


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """A cursor that moves in the same transaction as what it delivered.

    Attributes:
        name: `LIVE`, or a replay's id.
        place: up to where everything is delivered.
    """

    name: str
    place: Place


LIVE = "live"


def expired(stream: str, lost_from: int, lost_upto: int) -> Conflict:
    """Return the refusal of a reader that retention overtook: what was lost, and what to do."""
    count = lost_upto - lost_from + 1
    message = (
        f"stream {stream} no longer has {count} records of this group's, offsets {lost_from} to"
        f" {lost_upto}: retention dropped them unread."
        ' Accept the loss with seek {"to": "after-loss"}, and replay the rule to get them again'
    )
    return Conflict(message, code="records-expired")
