"""A log partition in one SQLite file: the server's log and the edge's spool.

WAL with synchronous=FULL: a returned `append` has been fsynced. AUTOINCREMENT: an offset never
repeats, also after everything was trimmed (DECISIONS 5). Every payload carries its own checksum,
because SQLite does not notice a flipped bit (DECISIONS 33).
"""

import sqlite3
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from uuid import uuid4

from tallybook.kernel.errors import Corrupt, Unavailable
from tallybook.transport.ports import Batch, LogRow, LogState

_FORMAT = 1
_SCHEMA = """
CREATE TABLE batch (
    offset INTEGER PRIMARY KEY AUTOINCREMENT,
    events INTEGER NOT NULL,
    events_total INTEGER NOT NULL,
    appended_us INTEGER NOT NULL,
    crc INTEGER NOT NULL,
    payload BLOB NOT NULL
);
CREATE TABLE cursor (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""


class SqliteEventLog:
    """`EventLog` on one SQLite file.

    Args:
        path: the file; made with its folder when absent, unless `readonly`.
        readonly: for readers beside the one writer; the file must exist.

    Raises:
        Unavailable: the file cannot be opened or written.
        Corrupt: the file is no such log, or of a later format.
    """

    def __init__(self, path: Path, *, readonly: bool = False) -> None:
        """Open the file, and make its tables when it is new."""
        self.path = path
        with self._translated():
            if readonly:
                uri = f"{path.resolve().as_uri()}?mode=ro"
                self._db = sqlite3.connect(uri, uri=True, check_same_thread=False, timeout=30)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._db = sqlite3.connect(path, check_same_thread=False, timeout=30)
            self._db.isolation_level = None
            if not readonly:
                self._prepare()
            self.epoch = self._meta("epoch")
            self._inode = path.stat().st_ino
        if self._meta("format") != str(_FORMAT):
            raise Corrupt(f"{path} is a log of another format; use the version that wrote it")

    def append(self, batches: Sequence[Batch], cursors: Mapping[str, str] | None = None) -> int:
        """Append all batches and cursors in one fsynced transaction; return the last offset."""
        with self._translated(), self._transaction():
            last = self._insert(batches)
            self._put("cursor", cursors or {})
        return last

    def _insert(self, batches: Sequence[Batch]) -> int:
        """Append within the open transaction."""
        total, last = self._last()
        now = self._now_us()
        for batch in batches:
            total += batch.events
            row = (batch.events, total, now, zlib.crc32(batch.payload), batch.payload)
            inserted = self._db.execute(
                "INSERT INTO batch (events, events_total, appended_us, crc, payload)"
                " VALUES (?, ?, ?, ?, ?)",
                row,
            )
            last = inserted.lastrowid or last
        self._put("meta", {"events_total": str(total), "last_offset": str(last)})
        return last

    def read(self, after: int, rows_max: int, bytes_max: int | None = None) -> list[LogRow]:
        """Return up to `rows_max` rows after an offset; a damaged one has no payload."""
        with self._translated(), closing(self._db.cursor()) as found:
            found.execute(
                "SELECT offset, events, events_total, appended_us, crc, payload FROM batch"
                " WHERE offset > ? ORDER BY offset LIMIT ?",
                (after, rows_max),
            )
            rows, size = [], 0
            for offset, events, total, at, crc, payload in found:
                intact = payload if zlib.crc32(payload) == crc else None
                rows.append(LogRow(offset, events, total, at, intact))
                size += len(payload)
                if bytes_max is not None and size >= bytes_max:
                    break
        return rows

    def newest(self) -> int:
        """Return the last offset held, 0 for none."""
        with self._translated():
            found = self._db.execute("SELECT max(offset) FROM batch").fetchone()[0]
        return int(found or 0)

    def trim(self, upto: int) -> None:
        """Drop rows up to and including an offset."""
        with self._translated(), self._transaction():
            self._db.execute("DELETE FROM batch WHERE offset <= ?", (upto,))

    def state(self) -> LogState:
        """Return where the partition stands."""
        with self._translated():
            self._db.execute("BEGIN")
            try:
                total, last = self._last()
                first, stored = self._db.execute(
                    "SELECT min(offset), coalesce(sum(length(payload)), 0) FROM batch"
                ).fetchone()
            finally:
                self._db.execute("COMMIT")
        return LogState(
            epoch=self.epoch,
            first_offset=first or last + 1,
            last_offset=last,
            events_total=total,
            stored_bytes=stored,
        )

    def events_upto(self, offset: int) -> int:
        """Return how many events were ever appended up to and including an offset."""
        with self._translated():
            row = self._db.execute(
                "SELECT events_total - events FROM batch WHERE offset > ? ORDER BY offset LIMIT 1",
                (offset,),
            ).fetchone()
            return int(row[0]) if row else self._last()[0]

    def last_before(self, us: int) -> int:
        """Return the newest offset up to which all was appended before an instant; 0 for none."""
        with self._translated():
            kept = self._db.execute(
                "SELECT min(offset) FROM batch WHERE appended_us >= ?", (us,)
            ).fetchone()[0]
            return int(kept) - 1 if kept is not None else self._last()[1]

    def raw(self, offset: int) -> bytes:
        """Return a row's stored bytes as they are, checksum or not; b'' where it is gone."""
        with self._translated():
            row = self._db.execute(
                "SELECT payload FROM batch WHERE offset = ?", (offset,)
            ).fetchone()
            return bytes(row[0]) if row else b""

    def cursors(self) -> dict[str, str]:
        """Return every cursor."""
        with self._translated():
            return dict(self._db.execute("SELECT name, value FROM cursor").fetchall())

    def in_place(self) -> bool:
        """Whether the file that was opened still stands under its name."""
        try:
            return self.path.stat().st_ino == self._inode
        except FileNotFoundError:
            return False
        except OSError as error:
            raise Unavailable(f"{self.path}: {error}") from error

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _prepare(self) -> None:
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("PRAGMA wal_autocheckpoint=4000")
        # Some builds of SQLite overwrite with zeros what is trimmed: half of all that is written.
        self._db.execute("PRAGMA secure_delete=OFF")
        with self._transaction():
            known = self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone()
            if known is None:
                for statement in _SCHEMA.split(";"):
                    self._db.execute(statement)
                self._put("meta", {"format": str(_FORMAT), "epoch": uuid4().hex})

    def _now_us(self) -> int:
        return time.time_ns() // 1000

    def _meta(self, name: str, default: str = "") -> str:
        row = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return str(row[0]) if row else default

    def _last(self) -> tuple[int, int]:
        return int(self._meta("events_total", "0")), int(self._meta("last_offset", "0"))

    def _put(self, table: str, values: Mapping[str, str]) -> None:
        assert table in {"meta", "cursor"}, table
        statement = {
            "meta": "INSERT INTO meta VALUES (?, ?)",
            "cursor": "INSERT INTO cursor VALUES (?, ?)",
        }[table] + " ON CONFLICT (name) DO UPDATE SET value = excluded.value"
        self._db.executemany(statement, [(n, text) for n, text in values.items() if text])
        forgotten = [(name,) for name, text in values.items() if not text]
        if forgotten and table == "cursor":
            self._db.executemany("DELETE FROM cursor WHERE name = ?", forgotten)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        self._commit()

    def _commit(self) -> None:
        try:
            self._db.execute("COMMIT")
        except sqlite3.Error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            if "malformed" in str(error) or "not a database" in str(error):
                raise Corrupt(f"{self.path}: {error}") from error
            raise Unavailable(f"{self.path}: {error}") from error
        except OSError as error:
            raise Unavailable(f"{self.path}: {error}") from error
