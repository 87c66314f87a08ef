"""The log partition that all front doors share: events, and where every series stands, together.

Any number of processes write it, one transaction at a time: SQLite's write lock orders them, so
the standings that a decision is made from are those it replaces. A process that lost its file to
an operator's repair (it was put aside as damaged) opens the one in its place.

====== ======= =======================================================================
table  column  meaning
====== ======= =======================================================================
series key     16 bytes: tenant and series
series seen_us time of the newest sample, microseconds UTC
series body    `collect.doors.standing.Standing` as JSON
tally  tenant, door, reason  whose, where, what became of it
tally  count, last_us, example  how often, when last, and to which series
====== ======= =======================================================================
"""

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar
from uuid import uuid4

import msgspec

from tallybook.adapters.sqlite.event_log import SqliteEventLog
from tallybook.kernel.errors import Corrupt, Unavailable
from tallybook.transport.ports import Batch

SERIES_MAX = 1_000_000
"""Most series of all tenants together that have a standing."""
CROWDED_SHARE, ROOMY_SHARE = 0.95, 0.9
"""Above the first, series that are long unseen are forgotten until the second is reached."""
_LOOKUP_MAX = 500
_TABLES = (
    (
        "CREATE TABLE IF NOT EXISTS series ("
        " key BLOB PRIMARY KEY, seen_us INTEGER NOT NULL, body BLOB NOT NULL) WITHOUT ROWID"
    ),
    (
        "CREATE TABLE IF NOT EXISTS tally ("
        " tenant TEXT NOT NULL, door TEXT NOT NULL, reason TEXT NOT NULL, count INTEGER NOT NULL,"
        " last_us INTEGER NOT NULL, example TEXT NOT NULL,"
        " PRIMARY KEY (tenant, door, reason)) WITHOUT ROWID"
    ),
)


class Addition(msgspec.Struct, frozen=True, kw_only=True):
    """What one request adds to the log, decided from the standings it read.

    Attributes:
        batches: its events.
        standings: key -> (newest sample's time, body), to replace.
        made: how many of them are new.
        tally: reason -> how often. examples: reason -> a series it happened to.
        cursors: named positions, to replace.
        answer: handed back to whoever asked.
    """

    batches: Sequence[Batch] = ()
    standings: Mapping[bytes, tuple[int, bytes]] = {}
    made: int = 0
    tally: Mapping[str, int] = {}
    examples: Mapping[str, str] = {}
    cursors: Mapping[str, str] = {}
    answer: object = None


class View(msgspec.Struct, frozen=True, kw_only=True):
    """What a request may know of the log when it decides.

    Attributes:
        standings: of the keys it asked for, as far as they exist.
        cursors: every named position.
        born_us: when this log began, microseconds UTC.
        room: how many more series may have a standing.
    """

    standings: Mapping[bytes, bytes]
    cursors: Mapping[str, str]
    born_us: int
    room: int


class Asking(Protocol):
    """A request that waits to be written."""

    @property
    def tenant(self) -> str:
        """Whose it is."""
        ...

    @property
    def door(self) -> str:
        """Through which door it came."""
        ...

    @property
    def keys(self) -> frozenset[bytes]:
        """The standings it must know."""
        ...

    def decide(self, view: View) -> Addition:
        """Return what it adds; a pure function of the view."""
        ...


class TallyRow(msgspec.Struct, frozen=True, kw_only=True):
    """How often something happened at a door."""

    door: str
    reason: str
    count: int
    last_us: int
    example: str


T = TypeVar("T")


class SqliteDoorLog:
    """The shared partition, opened when it is first used and again when it was replaced.

    One object serves one thread at a time.

    Args:
        path: the partition's file; `….lock` beside it keeps repair and writers apart.
        now_us: tells the time.
        aside: renames a damaged file, so that a new one can take its place.
        series_max: most series that have a standing.

    Raises, from every method:
        Unavailable: the disk refuses, or the file is damaged and not yet replaced; nothing of
            the call has happened.
    """

    def __init__(
        self,
        path: Path,
        now_us: Callable[[], int],
        aside: Callable[[Path, Corrupt], None],
        series_max: int = SERIES_MAX,
    ) -> None:
        """Open nothing yet."""
        self._series_max = series_max
        self._path = path
        self._now_us = now_us
        self._aside = aside
        self._log: _Tables | None = None

    def write(self, asking: Sequence[Asking]) -> list[object]:
        """Decide and write all requests in one fsynced transaction.

        Returns:
            One answer each; an exception in the place of a request whose decision failed: nothing
            of that request was written.

        Raises:
            Unavailable, Corrupt: nothing of any request was written.
        """
        return self._used(lambda log: log.write(asking, self._now_us(), self._series_max))

    def trim(self, upto: Callable[[str], int]) -> bool:
        """Drop rows up to the offset that is asked for with the log's epoch.

        Returns:
            Whether the log had to be begun anew: it is older than what the lake has of it, as a
            file of a backup is, and its standings would count again what the lake knows.
        """

        def trimmed(log: _Tables) -> bool:
            offset, state = upto(log.epoch), log.state()
            if offset > state.last_offset:
                log.begin_anew(self._now_us())
                return True
            if offset >= state.first_offset:
                log.trim(offset)
            return False

        return self._used(trimmed)

    def begin_anew(self) -> None:
        """Give the log another epoch, and forget where every series stands: it was restored."""
        self._used(lambda log: log.begin_anew(self._now_us()))

    def forget_unseen(self, before_us: int) -> int:
        """Forget series not seen since an instant, the longest unseen first, where they crowd.

        A series that comes back begins with a baseline again. `before_us` must be a day ago at
        least: then nothing is counted twice (`collect.doors.standing`).

        Returns:
            How many were forgotten.
        """

        def forgotten(log: _Tables) -> int:
            known = log.series()
            if known < self._series_max * CROWDED_SHARE:
                return 0
            return log.forget_unseen(before_us, known - int(self._series_max * ROOMY_SHARE))

        return self._used(forgotten)

    def cursors(self) -> dict[str, str]:
        """Return every named position."""
        return self._used(lambda log: log.cursors())

    def close(self) -> None:
        """Close the file."""
        if self._log is not None:
            self._log.close()
            self._log = None

    def _used(self, work: Callable[["_Tables"], T]) -> T:
        with self._locked(fcntl.LOCK_SH):
            if self._log is not None and not self._log.in_place():
                self.close()
            try:
                if self._log is None:
                    self._log = _Tables(self._path)
                    self._log.make(self._now_us())
                return work(self._log)
            except Corrupt as error:
                self.close()
                damage = error
            except BaseException:
                self.close()  # whatever it was: the next use starts from what is on disk
                raise
        self._put_aside(damage)
        raise Unavailable(f"{self._path} is damaged and was put aside; send again") from damage

    def _put_aside(self, damage: Corrupt) -> None:
        """Rename the file while nobody uses it; whoever comes first does it."""
        with self._locked(fcntl.LOCK_EX):
            if not _is_sound(self._path):
                self._aside(self._path, damage)

    @contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            lock = os.open(
                self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
        except OSError as error:
            raise Unavailable(f"{self._path}: {error}") from error
        try:
            fcntl.flock(lock, how)
            yield
        finally:
            os.close(lock)


def _is_sound(path: Path) -> bool:
    """Whether the file is whole, or was replaced by one that is."""
    try:
        log = _Tables(path)
    except Corrupt:
        return False
    try:
        return log.is_whole()
    finally:
        log.close()


class _Tables(SqliteEventLog):
    """The partition's file with its further tables."""

    born_us = 0

    def make(self, now_us: int) -> None:
        """Make what is absent."""
        with self._translated(), self._transaction():
            for statement in _TABLES:
                self._db.execute(statement)
            born = self._meta("born_us")
            if not born:
                born = str(now_us)
                self._put("meta", {"born_us": born, "series": "0"})
        self.born_us = int(born)

    def is_whole(self) -> bool:
        """Whether every page can be read."""
        try:
            with self._translated():
                return bool(self._db.execute("PRAGMA quick_check(1)").fetchone() == ("ok",))
        except Corrupt:
            return False

    def begin_anew(self, now_us: int) -> None:
        """Take another epoch, without standings."""
        epoch = uuid4().hex
        with self._translated(), self._transaction():
            self._db.execute("DELETE FROM series")
            self._put("meta", {"epoch": epoch, "born_us": str(now_us), "series": "0"})
        self.epoch, self.born_us = epoch, now_us

    def series(self) -> int:
        """Return how many series have a standing."""
        with self._translated():
            return int(self._meta("series", "0"))

    def forget_unseen(self, before_us: int, most: int) -> int:
        """Forget at most so many series that were not seen since an instant."""
        with self._translated(), self._transaction():
            gone = self._db.execute(
                "DELETE FROM series WHERE key IN"
                " (SELECT key FROM series WHERE seen_us < ? ORDER BY seen_us LIMIT ?)",
                (before_us, most),
            ).rowcount
            counts = {"series": int(self._meta("series", "0")) - gone}
            counts["forgotten"] = int(self._meta("forgotten", "0")) + gone
            self._put("meta", {name: str(count) for name, count in counts.items()})
        return gone

    def write(self, asking: Sequence[Asking], now_us: int, series_max: int) -> list[object]:
        """Decide and write all requests in one transaction."""
        with self._translated(), self._transaction():
            return [self._one(request, now_us, series_max) for request in asking]

    def _one(self, request: Asking, now_us: int, series_max: int) -> object:
        self._db.execute("SAVEPOINT one")
        try:
            addition = request.decide(self._view(request.keys, series_max))
            self._add(request, addition, now_us)
        except (sqlite3.Error, OSError):
            raise  # the disk's word is for all
        except Exception as error:  # noqa: BLE001  (the others' requests must not fail with it)
            self._db.execute("ROLLBACK TO one")
            self._db.execute("RELEASE one")
            return error
        self._db.execute("RELEASE one")
        return addition.answer

    def _view(self, keys: frozenset[bytes], series_max: int) -> View:
        wanted, found = sorted(keys), dict[bytes, bytes]()
        for at in range(0, len(wanted), _LOOKUP_MAX):
            some = wanted[at : at + _LOOKUP_MAX]
            marks = ",".join("?" * len(some))
            query = f"SELECT key, body FROM series WHERE key IN ({marks})"
            found.update(self._db.execute(query, some).fetchall())
        return View(
            standings=found,
            cursors=dict(self._db.execute("SELECT name, value FROM cursor").fetchall()),
            born_us=self.born_us,
            room=series_max - int(self._meta("series", "0")),
        )

    def _add(self, request: Asking, addition: Addition, now_us: int) -> None:
        if addition.batches:
            self._insert(addition.batches)
        self._db.executemany(
            "INSERT INTO series VALUES (?, ?, ?) ON CONFLICT (key)"
            " DO UPDATE SET seen_us = excluded.seen_us, body = excluded.body",
            [(key, seen, body) for key, (seen, body) in addition.standings.items()],
        )
        if addition.made:
            total = int(self._meta("series", "0")) + addition.made
            self._put("meta", {"series": str(total)})
        self._db.executemany(
            "INSERT INTO tally VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (tenant, door, reason)"
            " DO UPDATE SET count = count + excluded.count, last_us = excluded.last_us,"
            " example = CASE excluded.example WHEN '' THEN example ELSE excluded.example END",
            [
                (request.tenant, request.door, reason, count, now_us,
                 addition.examples.get(reason, ""))
                for reason, count in addition.tally.items()
                if count
            ],
        )  # fmt: skip
        self._put("cursor", addition.cursors)


class SeriesCount(msgspec.Struct, frozen=True, kw_only=True):
    """How many series of all tenants have a standing, may have one, and were forgotten."""

    known: int = 0
    most: int = SERIES_MAX
    forgotten: int = 0


def read_series(path: Path) -> SeriesCount:
    """Return how many series the front doors know."""
    rows = _looked(path, "SELECT name, value FROM meta WHERE name IN ('series', 'forgotten')")
    found = {name: int(value) for name, value in rows}
    return SeriesCount(known=found.get("series", 0), forgotten=found.get("forgotten", 0))


def read_reasons(path: Path) -> dict[tuple[str, str], int]:
    """Return (door, reason) -> how often, of all tenants together."""
    query = "SELECT door, reason, sum(count) FROM tally GROUP BY door, reason ORDER BY door, reason"
    return {(door, reason): count for door, reason, count in _looked(path, query)}


def _looked(path: Path, query: str, *given: str) -> list[tuple[Any, ...]]:
    """Return rows of the partition's file, [] where there is nothing yet."""
    if not path.exists():
        return []
    try:
        uri = f"{path.resolve().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=30)) as db:
            return db.execute(query, given).fetchall()
    except sqlite3.DatabaseError as error:
        if "no such table" in str(error):
            return []
        raise Unavailable(f"{path}: {error}") from error


def read_tally(path: Path, tenant: str) -> list[TallyRow]:
    """Return what happened at a tenant's doors, [] where nothing ever did."""
    rows = _looked(
        path,
        "SELECT door, reason, count, last_us, example FROM tally WHERE tenant = ?"
        " ORDER BY door, reason",
        tenant,
    )
    return [
        TallyRow(door=door, reason=reason, count=count, last_us=last, example=example)
        for door, reason, count, last, example in rows
    ]
