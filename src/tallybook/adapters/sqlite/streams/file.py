"""The file: its tables, transactions, and errors in our own words.

| table | holds |
|---|---|
| stream | one row a stream: where it begins and ends, its size, its retention |
| record | one row a record; `place` is the stream's number and the offset in one integer |
| reader | cursors of the router, live and of replays |
| replay, parked | what was asked to be routed again; rules that cannot be used |
| delivered | how many records each rule put on streams |
| member_group, pending, dead | groups, what they were handed, what they could not process |
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tallybook.kernel.errors import Corrupt, Missing, Unavailable
from tallybook.route.stream import Keep

_FORMAT = "1"
_OFFSET_BITS = 40
_OFFSET_MASK = (1 << _OFFSET_BITS) - 1
_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE stream (
    sid INTEGER PRIMARY KEY AUTOINCREMENT, tenant TEXT NOT NULL, name TEXT NOT NULL,
    first_offset INTEGER NOT NULL, next_offset INTEGER NOT NULL, bytes INTEGER NOT NULL,
    keep_hours INTEGER NOT NULL, keep_mb INTEGER NOT NULL, created_us INTEGER NOT NULL,
    UNIQUE (tenant, name)
);
CREATE TABLE record (
    place INTEGER PRIMARY KEY, rule TEXT NOT NULL, version INTEGER NOT NULL,
    commit_seq INTEGER NOT NULL, key BLOB NOT NULL, appended_us INTEGER NOT NULL,
    replay TEXT NOT NULL, envelope BLOB NOT NULL
);
CREATE TABLE once (
    sid INTEGER NOT NULL, rule TEXT NOT NULL, commit_seq INTEGER NOT NULL, key BLOB NOT NULL,
    PRIMARY KEY (sid, rule, commit_seq, key)
) WITHOUT ROWID;
CREATE TABLE reader (
    name TEXT PRIMARY KEY, commit_seq INTEGER NOT NULL, row INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE replay (
    tenant TEXT NOT NULL, id TEXT NOT NULL, rule TEXT NOT NULL, version INTEGER NOT NULL,
    from_seq INTEGER NOT NULL, upto_seq INTEGER NOT NULL, from_us INTEGER,
    delivered INTEGER NOT NULL, asked_by TEXT NOT NULL, asked_us INTEGER NOT NULL,
    done_us INTEGER, reason TEXT NOT NULL, PRIMARY KEY (tenant, id)
) WITHOUT ROWID;
CREATE TABLE parked (
    tenant TEXT NOT NULL, rule TEXT NOT NULL, version INTEGER NOT NULL, reason TEXT NOT NULL,
    PRIMARY KEY (tenant, rule)
) WITHOUT ROWID;
CREATE TABLE delivered (
    tenant TEXT NOT NULL, rule TEXT NOT NULL, records INTEGER NOT NULL, PRIMARY KEY (tenant, rule)
) WITHOUT ROWID;
CREATE TABLE member_group (
    gid INTEGER PRIMARY KEY AUTOINCREMENT, sid INTEGER NOT NULL, name TEXT NOT NULL,
    next_offset INTEGER NOT NULL, next_batch INTEGER NOT NULL, lease_seconds INTEGER NOT NULL,
    attempts_max INTEGER NOT NULL, ordered INTEGER NOT NULL, created_us INTEGER NOT NULL,
    acknowledged INTEGER NOT NULL, lost INTEGER NOT NULL, UNIQUE (sid, name)
);
CREATE TABLE pending (
    gid INTEGER NOT NULL, offset INTEGER NOT NULL, batch INTEGER NOT NULL, lease TEXT NOT NULL,
    until_us INTEGER NOT NULL, attempts INTEGER NOT NULL, expiries INTEGER NOT NULL,
    reason TEXT NOT NULL, PRIMARY KEY (gid, offset)
) WITHOUT ROWID;
CREATE INDEX pending_free ON pending (gid, until_us);
CREATE INDEX pending_lease ON pending (gid, lease);
CREATE TABLE dead (
    gid INTEGER NOT NULL, offset INTEGER NOT NULL, rule TEXT NOT NULL, version INTEGER NOT NULL,
    commit_seq INTEGER NOT NULL, appended_us INTEGER NOT NULL, replay TEXT NOT NULL,
    envelope BLOB NOT NULL, reason TEXT NOT NULL, attempts INTEGER NOT NULL,
    dead_us INTEGER NOT NULL, redriven INTEGER NOT NULL, PRIMARY KEY (gid, offset)
) WITHOUT ROWID
"""


def place_of(sid: int, offset: int) -> int:
    """Return the key of a stream's record."""
    return sid << _OFFSET_BITS | offset


def offset_of(place: int) -> int:
    """Return the offset in a record's key."""
    return place & _OFFSET_MASK


class StreamsFile:
    """The file, for all threads of one process.

    Args:
        path: made with its folder when absent.
        keep: how long new streams keep records.

    Raises:
        Unavailable: it cannot be opened or written.
        Corrupt: it is no such file, or of another format.
    """

    def __init__(self, path: Path, keep: Keep | None = None) -> None:
        """Open the file, and make its tables when it is new."""
        self.path = path
        self.keep = keep or Keep()
        self._lock = threading.RLock()
        with self._translated():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = self._connect()
            self._watch = self._connect()
            self._prepare()

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, check_same_thread=False, timeout=30)
        db.isolation_level = None
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute("PRAGMA wal_autocheckpoint=4000")
        db.execute("PRAGMA cache_size=-16384")
        return db

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Open one write transaction; durable when the block ends, else rolled back."""
        with self._lock, self._translated():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Open one read transaction: everything in the block sees the same state."""
        with self._lock, self._translated():
            self._db.execute("BEGIN")
            try:
                yield self._db
            finally:
                self._db.execute("COMMIT")

    def changes(self) -> int:
        """Return a number that differs after any process has changed the file; very cheap."""
        with self._translated():
            return int(self._watch.execute("PRAGMA data_version").fetchone()[0])

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()
            self._watch.close()

    def _prepare(self) -> None:
        with self.write() as db:
            known = db.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone()
            if known is None:
                for statement in _SCHEMA.split(";"):
                    db.execute(statement)
                db.execute("INSERT INTO meta VALUES ('format', ?)", (_FORMAT,))
            row = db.execute("SELECT value FROM meta WHERE name = 'format'").fetchone()
        if row is None or row[0] != _FORMAT:
            raise Corrupt(f"{self.path} is of another format; use the version that wrote it")

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


def sid_of(db: sqlite3.Connection, tenant: str, name: str) -> int:
    """Return a stream's number; raises Missing."""
    found = db.execute("SELECT sid FROM stream WHERE tenant = ? AND name = ?", (tenant, name))
    row: Any = found.fetchone()
    if row is None:
        raise Missing(f"there is no stream '{name}'", field="stream")
    return int(row[0])
