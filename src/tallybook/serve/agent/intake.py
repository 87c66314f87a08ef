"""Where every source hands over what it has read: into the spool, with what it remembers."""

from collections.abc import Iterable, Mapping
from typing import Protocol

from tallybook.collect.flow import packed
from tallybook.collect.ports import Packing
from tallybook.kernel.errors import TallybookError
from tallybook.transport.ports import EventLog, LogState


class Room(Protocol):
    """Tells how full the spool is."""

    def state(self) -> LogState:
        """Return where the spool stands."""
        ...


class SpoolIntake:
    """`Intake` into a spool; the only writer of its cursors, which it keeps in memory.

    Args:
        spool: where batches and cursors go.
        packing: compresses batches.
        bytes_max: at this size the spool is full.
    """

    def __init__(self, spool: EventLog, packing: Packing, bytes_max: int) -> None:
        """Read what was kept by the run before."""
        self._spool = spool
        self._packing = packing
        self._bytes_max = bytes_max
        self._cursors = spool.cursors()

    def cursor(self, name: str) -> str | None:
        """Return what was kept under a name, None for nothing yet."""
        return self._cursors.get(name) or None

    def take(
        self, pieces: Iterable[bytes], cursors: Mapping[str, str], *, repeats: bool = False
    ) -> int:
        """Keep events and cursors in one transaction; return how many events came."""
        del repeats
        kept = list(pieces)
        try:
            self._spool.append(packed(kept, self._packing), cursors)
        except TallybookError:
            self._cursors = self._spool.cursors()  # whatever the disk has made of it
            raise
        self._cursors |= cursors
        return len(kept)

    def is_full(self) -> bool:
        """Whether reading must wait until the server has taken some."""
        return self._spool.state().stored_bytes >= self._bytes_max
