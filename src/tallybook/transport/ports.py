"""What the road needs of a durable log.

Guarantees 1 and 8 of CONTRACTS stand on this port; tests/contract/event_log.py tries to break
every sentence here, for every adapter.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec


class Batch(msgspec.Struct, frozen=True):
    """What is appended: `events` events as one opaque payload.

    Attributes:
        events: how many events (and quarantined pieces) the payload holds, at least 1.
        payload: bytes of `transport.codec` (server) or compressed JSON (edge spool).
    """

    events: int
    payload: bytes


class LogRow(msgspec.Struct, frozen=True):
    """What is read back.

    Attributes:
        offset: position in the partition; grows, never repeats within an epoch, may skip.
        events: as appended.
        events_total: events ever appended to this partition up to and including this row.
        appended_us: when it was appended, microseconds UTC.
        payload: as appended; None where the stored bytes fail their checksum (DECISIONS 33).
    """

    offset: int
    events: int
    events_total: int
    appended_us: int
    payload: bytes | None


class LogState(msgspec.Struct, frozen=True, kw_only=True):
    """Where a partition stands.

    Attributes:
        epoch: changes whenever a log is created or restored; offsets of two epochs are unrelated.
        first_offset: oldest kept, or last_offset + 1 when nothing is kept.
        last_offset: newest ever appended, 0 before the first.
        events_total: events ever appended in this epoch.
        stored_bytes: payload bytes kept.
    """

    epoch: str
    first_offset: int
    last_offset: int
    events_total: int
    stored_bytes: int


class EventLog(Protocol):
    """One partition of a durable, append-only log. One writer; any number of readers.

    Raises, from every method:
        Unavailable: the disk or broker refuses; nothing of the call has happened, retry.
    """

    def append(self, batches: Sequence[Batch], cursors: Mapping[str, str] | None = None) -> int:
        """Append all batches in order, together with named cursors, or nothing.

        A cursor that is set to '' is forgotten.

        Returns:
            The offset of the last batch.

        Guarantees:
            On return it is on stable storage (fsync, or all in-sync replicas). Batches and
            cursors are one transaction, so a reader's position and what it read never part.
        """
        ...

    def read(self, after: int, rows_max: int, bytes_max: int | None = None) -> list[LogRow]:
        """Return up to `rows_max` rows with offset > `after`, oldest first.

        Args:
            after: an offset; 0 is the beginning.
            rows_max: at least 1.
            bytes_max: no row follows the one with which payloads reach so many bytes.
        """
        ...

    def trim(self, upto: int) -> None:
        """Drop rows with offset <= `upto` for good. Offsets are not reused."""
        ...

    def state(self) -> LogState:
        """Return where the partition stands now."""
        ...

    def cursors(self) -> dict[str, str]:
        """Return every cursor: a consumer group's offset, a file's read position, a baseline."""
        ...
