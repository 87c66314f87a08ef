"""A log partition in memory: the fake for flows, and a spool for tests. Nothing survives it."""

import time
import zlib
from collections.abc import Mapping, Sequence
from itertools import accumulate
from uuid import uuid4

from tallybook.transport.ports import Batch, LogRow, LogState


class MemoryEventLog:
    """`EventLog` in a list. It keeps every promise of the port but durability."""

    def __init__(self) -> None:
        """An empty log of a new epoch."""
        self.epoch = uuid4().hex
        self._rows: list[tuple[LogRow, int]] = []
        self._cursors: dict[str, str] = {}
        self._last = 0
        self._total = 0

    def append(self, batches: Sequence[Batch], cursors: Mapping[str, str] | None = None) -> int:
        """Append all batches and cursors; return the last offset."""
        now = time.time_ns() // 1000
        for batch in batches:
            self._last += 1
            self._total += batch.events
            row = LogRow(self._last, batch.events, self._total, now, batch.payload)
            self._rows.append((row, zlib.crc32(batch.payload)))
        self._cursors |= cursors or {}
        self._cursors = {name: text for name, text in self._cursors.items() if text}
        return self._last

    def read(self, after: int, rows_max: int, bytes_max: int | None = None) -> list[LogRow]:
        """Return up to `rows_max` rows after an offset; a damaged one has no payload."""
        found = [pair for pair in self._rows if pair[0].offset > after][:rows_max]
        sizes = accumulate(len(row.payload or b"") for row, _ in found)
        few = sum(bytes_max is None or size < bytes_max for size in sizes)
        return [_checked(row, crc) for row, crc in found[: few + 1]]

    def trim(self, upto: int) -> None:
        """Drop rows up to and including an offset."""
        self._rows = [pair for pair in self._rows if pair[0].offset > upto]

    def state(self) -> LogState:
        """Return where the log stands."""
        return LogState(
            epoch=self.epoch,
            first_offset=self._rows[0][0].offset if self._rows else self._last + 1,
            last_offset=self._last,
            events_total=self._total,
            stored_bytes=sum(len(row.payload or b"") for row, _ in self._rows),
        )

    def cursors(self) -> dict[str, str]:
        """Return every cursor."""
        return dict(self._cursors)

    def damage(self, offset: int) -> None:
        """Flip a bit of a stored payload, as a disk may."""
        for at, (row, crc) in enumerate(self._rows):
            if row.offset == offset and row.payload:
                flipped = bytes([row.payload[0] ^ 1]) + row.payload[1:]
                fields = (row.offset, row.events, row.events_total, row.appended_us)
                self._rows[at] = (LogRow(*fields, flipped), crc)


def _checked(row: LogRow, crc: int) -> LogRow:
    if row.payload is None or zlib.crc32(row.payload) == crc:
        return row
    return LogRow(row.offset, row.events, row.events_total, row.appended_us, None)
