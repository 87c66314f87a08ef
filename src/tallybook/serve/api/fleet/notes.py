"""The notes that lie in log partitions, told to the control database in their order.

Who tells them twice changes nothing: each edge's record remembers how far every log was told
(`collect.sending.fleet`). So a worker tells its own partition's, and once, at its start, those of
all partitions: a killed one may have left some that nobody owns now.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from tallybook.adapters.sql.edge.edges import Sighting
from tallybook.adapters.sqlite.noted_log import NotedLog
from tallybook.kernel.errors import Unavailable
from tallybook.serve.worker.pipeline import DOORS_PARTITION, partition_numbers

AT_ONCE = 5_000

Keep = Callable[[Sequence[Sighting]], object]
"""Puts notes into the control database; raises Unavailable."""


def encoded(sighting: Sighting) -> bytes:
    """Return a note as it lies in the log."""
    return msgspec.json.encode(sighting)


class Notes:
    """The notes of this worker's partition, and what others have left.

    Args:
        log_dir: folder of the partitions.
        own: path of this worker's.
        forget: called with the place up to which this worker's notes are told.
    """

    def __init__(self, log_dir: Path, own: Path, forget: Callable[[int], None]) -> None:
        """Open nothing yet."""
        self._log_dir = log_dir
        self._own = own
        self._forget = forget
        self._log: NotedLog | None = None
        self._told = 0

    def tell(self, keep: Keep) -> None:
        """Tell what is new in this worker's partition; raises Unavailable."""
        if self._log is None:
            self._log = NotedLog(self._own, readonly=True)
        told = _told(self._log, self._told, keep)
        if told > self._told:
            self._told = told
            self._forget(told)

    def tell_all(self, keep: Keep) -> None:
        """Tell what lies in any partition; one that cannot be read is left to its owner."""
        for number in partition_numbers(self._log_dir):
            path = self._log_dir / f"p{number}.db"
            if number == DOORS_PARTITION or path == self._own:
                continue
            log = NotedLog(path, readonly=True)
            try:
                _told(log, 0, keep)
            finally:
                log.close()

    def close(self) -> None:
        """Close the file."""
        if self._log is not None:
            self._log.close()
            self._log = None


def _told(log: NotedLog, after: int, keep: Keep) -> int:
    """Tell everything after a place; return the place of the last."""
    while found := log.notes(after, AT_ONCE):
        keep([_sighting(body, log.epoch, place) for place, body in found])
        after = found[-1][0]
    return after


def _sighting(body: bytes, epoch: str, place: int) -> Sighting:
    try:
        found = msgspec.json.decode(body, type=Sighting)
    except msgspec.MsgspecError as error:
        raise Unavailable(f"a note in the log cannot be read: {error}") from error
    return Sighting(found.tenant, msgspec.structs.replace(found.seen, log=epoch, place=place))
