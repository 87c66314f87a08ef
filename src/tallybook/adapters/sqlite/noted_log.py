"""A worker's log partition with notes beside its rows: which edge sent them, under which number.

A note is appended in the transaction of the batch that it is about, so it is no less durable than
that, and stays until somebody has told it on.
"""

from collections.abc import Sequence
from pathlib import Path

from tallybook.adapters.sqlite.event_log import SqliteEventLog
from tallybook.transport.ports import Batch

_NOTES = (
    "CREATE TABLE IF NOT EXISTS note (place INTEGER PRIMARY KEY AUTOINCREMENT, body BLOB NOT NULL)"
)


class NotedLog(SqliteEventLog):
    """`EventLog` of an API worker.

    Args:
        path: the partition's file.
        readonly: for a look from elsewhere.
    """

    def __init__(self, path: Path, *, readonly: bool = False) -> None:
        """Open the file, and make the table of notes where it is absent."""
        super().__init__(path, readonly=readonly)
        if not readonly:
            with self._translated(), self._transaction():
                self._db.execute(_NOTES)

    def append_noted(self, batches: Sequence[Batch], notes: Sequence[bytes]) -> int:
        """Append batches and notes in one fsynced transaction; return the last offset."""
        with self._translated(), self._transaction():
            last = self._insert(batches)
            self._db.executemany("INSERT INTO note (body) VALUES (?)", [(note,) for note in notes])
        return last

    def notes(self, after: int, most: int) -> list[tuple[int, bytes]]:
        """Return places and notes, oldest first; [] for a log of before there were any."""
        with self._translated():
            known = "SELECT 1 FROM sqlite_master WHERE name = 'note'"
            if self._db.execute(known).fetchone() is None:
                return []
            return self._db.execute(
                "SELECT place, body FROM note WHERE place > ? ORDER BY place LIMIT ?", (after, most)
            ).fetchall()

    def forget_notes(self, upto: int) -> None:
        """Drop the notes up to a place: they were told on."""
        with self._translated(), self._transaction():
            self._db.execute("DELETE FROM note WHERE place <= ?", (upto,))
