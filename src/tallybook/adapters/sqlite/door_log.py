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
series tenant  whose; '' in rows of an older version that were not written since
tally  tenant, door, reason  whose, where, what became of it
tally  count, last_us, example  how often, when last, and to which series
====== ======= =======================================================================
"""

import fcntl
import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar
from uuid import uuid4

import msgspec

from tallybook.adapters.sqlite.event_log import SqliteEventLog
from tallybook.kernel.errors import Corrupt, Unavailable
from tallybook.transport.ports import Batch

TENANT_SERIES_MAX = 1_000_000
"""Most series of one tenant that have a standing."""
SERIES_MAX = 4_000_000
"""Most series of all tenants together that have one."""
CROWDED_SHARE, ROOMY_SHARE = 0.95, 0.9
"""Above the first, series that are long unseen are forgotten until the second is reached."""
_LOOKUP_MAX = 500
_OF_TENANT = "series:"
_TABLES = (
    (
        "CREATE TABLE IF NOT EXISTS series ("
        " key BLOB PRIMARY KEY, seen_us INTEGER NOT NULL, body BLOB NOT NULL,"
        " tenant TEXT NOT NULL DEFAULT '') WITHOUT ROWID"
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
        room: how many more series of its tenant may have a standing.
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


class SeriesBounds(msgspec.Struct, frozen=True, kw_only=True):
    """Most series of one tenant, and of all tenants together, that have a standing."""

    tenant: int = TENANT_SERIES_MAX
    all: int = SERIES_MAX


T = TypeVar("T")


class SqliteDoorLog:
    """The shared partition, opened when it is first used and again when it was replaced.

    One object serves one thread at a time.

    Args:
        path: the partition's file; `….lock` beside it keeps repair and writers apart.
        now_us: tells the time.
        aside: renames a damaged file, so that a new one can take its place.
        bounds: how many series may have a standing.

    Raises, from every method:
        Unavailable: the disk refuses, or the file is damaged and not yet replaced; nothing of
            the call has happened.
    """

    def __init__(
        self,
        path: Path,
        now_us: Callable[[], int],
        aside: Callable[[Path, Corrupt], None],
        bounds: SeriesBounds | None = None,
    ) -> None:
        """Open nothing yet."""
        self._bounds = bounds or SeriesBounds()
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
        return self._used(lambda log: log.write(asking, self._now_us(), self._bounds))

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

        Those of a tenant that has many, and those of all where there are many of all. A series
        that comes back begins with a baseline again. `before_us` must be a day ago at least: then
        nothing is counted twice (`collect.doors.standing`).

        Returns:
            How many were forgotten.
        """

        def forgotten(log: _Tables) -> int:
            gone = sum(
                log.forget_unseen(before_us, most, tenant)
                for tenant, known in log.tenants().items()
                if (most := _too_many(known, self._bounds.tenant))
            )
            if most := _too_many(log.series(), self._bounds.all):
                gone += log.forget_unseen(before_us, most)
            return gone

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


def _too_many(known: int, bound: int) -> int:
    """Return how many series are to go so that there is room again; 0 where there is."""
    return known - int(bound * ROOMY_SHARE) if known >= bound * CROWDED_SHARE else 0


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
            columns = {row[1] for row in self._db.execute("PRAGMA table_info(series)")}
            if "tenant" not in columns:  # of an older version
                self._db.execute("ALTER TABLE series ADD COLUMN tenant TEXT NOT NULL DEFAULT ''")
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
            self._db.execute("DELETE FROM meta WHERE name GLOB ?", (f"{_OF_TENANT}*",))
            self._put("meta", {"epoch": epoch, "born_us": str(now_us), "series": "0"})
        self.epoch, self.born_us = epoch, now_us

    def series(self) -> int:
        """Return how many series have a standing."""
        with self._translated():
            return int(self._meta("series", "0"))

    def tenants(self) -> dict[str, int]:
        """Return how many series of each tenant have a standing."""
        query = "SELECT name, value FROM meta WHERE name GLOB ?"
        with self._translated():
            found = self._db.execute(query, (f"{_OF_TENANT}*",)).fetchall()
        return {name.removeprefix(_OF_TENANT): int(value) for name, value in found}

    def forget_unseen(self, before_us: int, most: int, tenant: str | None = None) -> int:
        """Forget at most so many series not seen since an instant; of all tenants unless named."""
        with self._translated(), self._transaction():
            gone = Counter(
                whose
                for (whose,) in self._db.execute(
                    "DELETE FROM series WHERE key IN (SELECT key FROM series"
                    " WHERE seen_us < ? AND ? IN ('', tenant) ORDER BY seen_us LIMIT ?)"
                    " RETURNING tenant",
                    (before_us, tenant or "", most),
                )
            )
            for whose, count in gone.items():
                self._count(whose, -count)
            forgotten = int(self._meta("forgotten", "0")) + gone.total()
            self._put("meta", {"forgotten": str(forgotten)})
        return gone.total()

    def _count(self, tenant: str, more: int) -> None:
        """Count series of a tenant, and of all."""
        names = ("series", f"{_OF_TENANT}{tenant}")
        counts = {name: max(0, int(self._meta(name, "0")) + more) for name in names}
        self._put("meta", {name: str(count) for name, count in counts.items()})

    def write(self, asking: Sequence[Asking], now_us: int, bounds: SeriesBounds) -> list[object]:
        """Decide and write all requests in one transaction."""
        with self._translated(), self._transaction():
            return [self._one(request, now_us, bounds) for request in asking]

    def _one(self, request: Asking, now_us: int, bounds: SeriesBounds) -> object:
        self._db.execute("SAVEPOINT one")
        try:
            addition = request.decide(self._view(request, bounds))
            self._add(request, addition, now_us)
        except (sqlite3.Error, OSError):
            raise  # the disk's word is for all
        except Exception as error:  # noqa: BLE001  (the others' requests must not fail with it)
            self._db.execute("ROLLBACK TO one")
            self._db.execute("RELEASE one")
            return error
        self._db.execute("RELEASE one")
        return addition.answer

    def _view(self, request: Asking, bounds: SeriesBounds) -> View:
        wanted, found = sorted(request.keys), dict[bytes, bytes]()
        for at in range(0, len(wanted), _LOOKUP_MAX):
            some = wanted[at : at + _LOOKUP_MAX]
            marks = ",".join("?" * len(some))
            query = f"SELECT key, body FROM series WHERE key IN ({marks})"
            found.update(self._db.execute(query, some).fetchall())
        return View(
            standings=found,
            cursors=dict(self._db.execute("SELECT name, value FROM cursor").fetchall()),
            born_us=self.born_us,
            room=min(
                bounds.tenant - int(self._meta(f"{_OF_TENANT}{request.tenant}", "0")),
                bounds.all - int(self._meta("series", "0")),
            ),
        )

    def _add(self, request: Asking, addition: Addition, now_us: int) -> None:
        if addition.batches:
            self._insert(addition.batches)
        self._db.executemany(
            "INSERT INTO series VALUES (?, ?, ?, ?) ON CONFLICT (key)"
            " DO UPDATE SET seen_us = excluded.seen_us, body = excluded.body",
            [(key, seen, body, request.tenant) for key, (seen, body) in addition.standings.items()],
        )
        if addition.made:
            self._count(request.tenant, addition.made)
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
    """How many series of all tenants have a standing, may have one, and were forgotten.

    Attributes:
        fullest: the tenant that has the most, '' for none.
        fullest_known: how many it has.
        fullest_most: how many a tenant may have.
    """

    known: int = 0
    most: int = SERIES_MAX
    forgotten: int = 0
    fullest: str = ""
    fullest_known: int = 0
    fullest_most: int = TENANT_SERIES_MAX


def read_series(path: Path) -> SeriesCount:
    """Return how many series the front doors know."""
    query = "SELECT name, value FROM meta WHERE name IN ('series', 'forgotten') OR name GLOB ?"
    found = {name: int(value) for name, value in _looked(path, query, f"{_OF_TENANT}*")}
    tenants = [name for name in found if name.startswith(_OF_TENANT)]
    fullest = max(tenants, key=lambda name: (found[name], name), default="")
    return SeriesCount(
        known=found.get("series", 0),
        forgotten=found.get("forgotten", 0),
        fullest=fullest.removeprefix(_OF_TENANT),
        fullest_known=found.get(fullest, 0),
    )


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
