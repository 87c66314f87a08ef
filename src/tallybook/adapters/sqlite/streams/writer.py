"""The router's side: records and cursor in one transaction, retention, replays."""

import sqlite3
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tallybook.adapters.sqlite.streams.file import StreamsFile, offset_of, place_of
from tallybook.route.record import DONE, Place
from tallybook.route.replay import Replay
from tallybook.route.stream import HOUR_US, LIVE, MB, Delivery, Keep, Moved

TRIM_ROWS = 5_000
"""Dropped in one transaction, so that consumers never wait long."""

_INSERT = (
    "INSERT INTO record (place, rule, version, commit_seq, key, appended_us, replay, envelope)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_MOVE = (
    "INSERT INTO reader VALUES (?, ?, ?)"
    " ON CONFLICT (name) DO UPDATE SET commit_seq = excluded.commit_seq, row = excluded.row"
)
_COUNT = (
    "INSERT INTO delivered VALUES (?, ?, ?)"
    " ON CONFLICT (tenant, rule) DO UPDATE SET records = records + excluded.records"
)


class SqliteStreamWriter:
    """`StreamWriter` on the streams file."""

    def __init__(self, file: StreamsFile) -> None:
        """Use an open file."""
        self._file = file

    def cursor(self, name: str) -> Place | None:
        """Return how far a reader of the lake has come."""
        with self._file.read() as db:
            row = db.execute(
                "SELECT commit_seq, row FROM reader WHERE name = ?", (name,)
            ).fetchone()
        return None if row is None else Place(*row)

    def append(
        self, found: Sequence[tuple[str, Sequence[Delivery]]], now_us: int, moved: Moved
    ) -> int:
        """Put records on their streams and move the cursor, in one durable transaction."""
        put = 0
        with self._file.write() as db:
            for tenant, deliveries in found:
                put += self._append(db, tenant, deliveries, now_us, moved)
            db.execute(_MOVE, (moved.name, moved.place.commit_seq, moved.place.row))
            if moved.name != LIVE:
                db.execute(
                    "UPDATE replay SET delivered = delivered + ? WHERE id = ?", (put, moved.name)
                )
        return put

    def _append(
        self,
        db: sqlite3.Connection,
        tenant: str,
        deliveries: Sequence[Delivery],
        now_us: int,
        moved: Moved,
    ) -> int:
        of_stream: dict[str, list[Delivery]] = {}
        for delivery in deliveries:
            of_stream.setdefault(delivery.stream, []).append(delivery)
        replay = "" if moved.name == LIVE else moved.name
        counts: Counter[str] = Counter()
        for name, mine in of_stream.items():
            sid, at = _made(db, tenant, name, self._file.keep, now_us)
            new = _noted(db, sid, mine)
            rows = [
                (place_of(sid, at + n), d.rule, d.version, d.record.commit_seq, d.record.key,
                 now_us, replay, d.envelope)
                for n, d in enumerate(new)
            ]  # fmt: skip
            db.executemany(_INSERT, rows)
            size = sum(len(d.envelope) for d in new)
            db.execute(
                "UPDATE stream SET next_offset = ?, bytes = bytes + ? WHERE sid = ?",
                (at + len(new), size, sid),
            )
            counts.update(d.rule for d in new)
        db.executemany(_COUNT, [(tenant, rule, n) for rule, n in counts.items()])
        return sum(counts.values())

    def trim(self, now_us: int) -> int:
        """Drop what is beyond its stream's retention, some of it; return how many records."""
        with self._file.read() as db:
            streams = db.execute(
                "SELECT sid, first_offset, next_offset, bytes, keep_hours, keep_mb FROM stream"
            ).fetchall()
        return sum(self._trim(now_us, *stream) for stream in streams)

    def _trim(
        self, now_us: int, sid: int, first: int, end: int, size: int, hours: int, mb: int
    ) -> int:
        oldest_us = now_us - hours * HOUR_US
        with self._file.read() as db:
            row = db.execute(
                "SELECT appended_us FROM record WHERE place = ?", (place_of(sid, first),)
            ).fetchone()
        if first >= end or row is None or (row[0] >= oldest_us and size <= mb * MB):
            return 0
        with self._file.write() as db:
            rows = db.execute(
                "SELECT place, appended_us, length(envelope), rule, commit_seq, key FROM record"
                " WHERE place BETWEEN ? AND ? ORDER BY place LIMIT ?",
                (place_of(sid, first), place_of(sid, end) - 1, TRIM_ROWS),
            ).fetchall()
            gone: list[Any] = []
            unfinished = _unfinished(db)
            for each in rows:
                if (each[1] >= oldest_us and size <= mb * MB) or each[4] in unfinished:
                    break
                gone.append(each)
                size -= each[2]
            _drop(db, sid, gone)
        return len(gone)

    def tell_broken(self, tenant: str, rule: str, version: int, reason: str) -> None:
        """Note why a rule version is parked; '' takes the note back."""
        with self._file.write() as db:
            db.execute("DELETE FROM parked WHERE tenant = ? AND rule = ?", (tenant, rule))
            if reason:
                db.execute(
                    "INSERT INTO parked VALUES (?, ?, ?, ?)", (tenant, rule, version, reason)
                )

    def broken(self, tenant: str) -> dict[str, tuple[int, str]]:
        """Return version and reason of every parked rule of a tenant, by key."""
        with self._file.read() as db:
            rows = db.execute(
                "SELECT rule, version, reason FROM parked WHERE tenant = ?", (tenant,)
            ).fetchall()
        return {rule: (version, reason) for rule, version, reason in rows}


def _unfinished(db: sqlite3.Connection) -> set[int]:
    """Return the commits that are begun: what is known of them keeps them from being put twice."""
    rows = db.execute("SELECT commit_seq FROM reader WHERE row < ?", (DONE,))
    return {seq for (seq,) in rows}


def _drop(db: sqlite3.Connection, sid: int, gone: Sequence[Any]) -> None:
    if not gone:
        return
    last = gone[-1][0]
    db.execute("DELETE FROM record WHERE place BETWEEN ? AND ?", (gone[0][0], last))
    db.executemany(
        "DELETE FROM once WHERE sid = ? AND rule = ? AND commit_seq = ? AND key = ?",
        [(sid, rule, seq, key) for _, _, _, rule, seq, key in gone],
    )
    db.execute(
        "UPDATE stream SET first_offset = ?, bytes = bytes - ? WHERE sid = ?",
        (offset_of(last) + 1, sum(each[2] for each in gone), sid),
    )


def _made(
    db: sqlite3.Connection, tenant: str, name: str, keep: Keep, now_us: int
) -> tuple[int, int]:
    """Return number and next offset of a stream, made where it is not there."""
    db.execute(
        "INSERT INTO stream (tenant, name, first_offset, next_offset, bytes, keep_hours, keep_mb,"
        " created_us) VALUES (?, ?, 1, 1, 0, ?, ?, ?) ON CONFLICT DO NOTHING",
        (tenant, name, keep.keep_hours, keep.keep_mb, now_us),
    )
    row = db.execute(
        "SELECT sid, next_offset FROM stream WHERE tenant = ? AND name = ?", (tenant, name)
    ).fetchone()
    return int(row[0]), int(row[1])


def _noted(db: sqlite3.Connection, sid: int, deliveries: Sequence[Delivery]) -> list[Delivery]:
    """Note what a stream gets, and return it: all, but for what it has of the record and rule."""
    before = db.total_changes
    db.execute("SAVEPOINT noting")
    _note(db, sid, deliveries)
    new = list(deliveries)
    if db.total_changes - before < len(new):
        db.execute("ROLLBACK TO noting")
        there = _there(db, sid, deliveries)
        new = [d for d in new if (d.rule, d.record.commit_seq, d.record.key) not in there]
        _note(db, sid, new)
    db.execute("RELEASE noting")
    return new


def _note(db: sqlite3.Connection, sid: int, deliveries: Sequence[Delivery]) -> None:
    rows = [(sid, d.rule, d.record.commit_seq, d.record.key) for d in deliveries]
    db.executemany("INSERT OR IGNORE INTO once VALUES (?, ?, ?, ?)", rows)


def _there(
    db: sqlite3.Connection, sid: int, deliveries: Sequence[Delivery]
) -> set[tuple[str, int, bytes]]:
    of_rule: dict[str, list[int]] = {}
    for d in deliveries:
        of_rule.setdefault(d.rule, []).append(d.record.commit_seq)
    there: set[tuple[str, int, bytes]] = set()
    for rule, seqs in of_rule.items():
        rows = db.execute(
            "SELECT rule, commit_seq, key FROM once"
            " WHERE sid = ? AND rule = ? AND commit_seq BETWEEN ? AND ?",
            (sid, rule, min(seqs), max(seqs)),
        )
        there.update(rows.fetchall())
    return there


_REPLAY = (
    "SELECT p.tenant, p.id, p.rule, p.version, p.from_seq, p.upto_seq, p.from_us, p.delivered,"
    " p.asked_by, p.asked_us, p.done_us, p.reason, coalesce(r.commit_seq, 0), coalesce(r.row, 0)"
    " FROM replay p LEFT JOIN reader r ON r.name = p.id"
)


class SqliteReplays:
    """`Replays` on the streams file."""

    def __init__(self, file: StreamsFile) -> None:
        """Use an open file."""
        self._file = file

    def ask(self, replay: Replay) -> None:
        """Store a new replay."""
        row = (
            replay.tenant, replay.id, replay.rule, replay.version, replay.from_seq,
            replay.upto_seq, replay.from_us, replay.delivered, replay.asked_by, replay.asked_us,
            replay.done_us, replay.reason,
        )  # fmt: skip
        with self._file.write() as db:
            db.execute(f"INSERT INTO replay VALUES ({', '.join('?' * len(row))})", row)

    def replays(self, tenant: str, rule: str) -> list[Replay]:
        """Return the replays of a rule, newest first."""
        where = " WHERE p.tenant = ? AND p.rule = ? ORDER BY p.asked_us DESC, p.id DESC"
        with self._file.read() as db:
            return [_replay(row) for row in db.execute(_REPLAY + where, (tenant, rule))]

    def running(self) -> list[Replay]:
        """Return the replays of all tenants that have not ended, oldest first."""
        where = " WHERE p.done_us IS NULL ORDER BY p.asked_us, p.id"
        with self._file.read() as db:
            return [_replay(row) for row in db.execute(_REPLAY + where)]

    def end(self, tenant: str, id: str, now_us: int, reason: str) -> None:
        """Note that a replay has ended, early where there is a reason."""
        with self._file.write() as db:
            db.execute(
                "UPDATE replay SET done_us = ?, reason = ? WHERE tenant = ? AND id = ?",
                (now_us, reason, tenant, id),
            )


def _replay(row: Any) -> Replay:
    names = ("tenant", "id", "rule", "version", "from_seq", "upto_seq", "from_us", "delivered")
    more = ("asked_by", "asked_us", "done_us", "reason")
    values = dict(zip((*names, *more), row, strict=False))
    return Replay(place=Place(*row[12:]), **values)
