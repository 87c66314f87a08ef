"""Leases: records handed out among the members of a group, answered, and set aside."""

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from tallybook.adapters.sqlite.streams.file import StreamsFile, place_of, sid_of
from tallybook.adapters.sqlite.streams.groups import gid_of
from tallybook.adapters.sqlite.streams.reader import RECORD, record_of, records_after
from tallybook.route.ports import Answer, Answered, DeadLetter, GroupAt, Handed
from tallybook.route.sharing import (
    PENDING_MAX,
    Decided,
    GroupTerms,
    Pending,
    ended,
    failed,
    lease_lost,
    singled_out,
)
from tallybook.route.stream import StreamRecord, expired

_PENDING = "SELECT offset, batch, lease, until_us, attempts, expiries, reason FROM pending"
_NAMES = ("offset", "batch", "lease", "until_us", "attempts", "expiries", "reason")


class _Opened(msgspec.Struct, frozen=True, kw_only=True):
    """A group within a transaction."""

    sid: int
    gid: int
    stream: str
    next_offset: int
    next_batch: int
    terms: GroupTerms
    first_kept: int


class SqliteShares:
    """`Shares` and `DeadLetters` on the streams file."""

    def __init__(self, file: StreamsFile) -> None:
        """Use an open file."""
        self._file = file

    def lease(self, at: GroupAt, lease: str, limit: int, now_us: int) -> Handed | None:
        """Hand out one batch; None where nothing is there now."""
        if not self._anything(at, now_us):
            return None
        with self._file.write() as db:
            group = _open(db, at)
            _refuse_loss(db, group)
            while (batch := _free_batch(db, group, now_us)) and batch[0].lease:
                _decide(
                    db, group, batch, ended(batch, group.terms, now_us, group.next_batch), now_us
                )
                group = _open(db, at)
            if group.terms.ordered and _busy(db, group, now_us):
                return None
            rows = batch[:limit] if batch else _fresh(db, group, limit)
            if not rows:
                return None
            until_us = now_us + group.terms.lease_seconds * 1_000_000
            leased = [_leased(row, lease, until_us, group.next_batch) for row in rows]
            _put(db, group.gid, leased)
            _count_batches(db, group.gid, 1)
            records = _records(db, group, [row.offset for row in leased])
        attempts = {row.offset: row.attempts for row in leased if row.attempts}
        return Handed(lease=lease, until_us=until_us, records=records, attempts=attempts)

    def _anything(self, at: GroupAt, now_us: int) -> bool:
        """Whether something may be handed out: a look that locks nobody out."""
        with self._file.read() as db:
            sid = sid_of(db, at.tenant, at.stream)
            gid = gid_of(db, sid, at.group)
            return bool(
                db.execute(
                    "SELECT (SELECT g.next_offset < s.next_offset FROM member_group g"
                    " JOIN stream s ON s.sid = g.sid WHERE g.gid = ?)"
                    " OR EXISTS (SELECT 1 FROM pending WHERE gid = ? AND until_us <= ?)",
                    (gid, gid, now_us),
                ).fetchone()[0]
            )

    def acknowledge(self, at: GroupAt, answer: Answer, now_us: int) -> Answered:
        """Take records off the group's list; what is off already is left alone."""
        del now_us
        with self._file.write() as db:
            group = _open(db, at)
            mine, lost = _answered(db, group.gid, answer)
            done = [(group.gid, row.offset) for row in mine]
            db.executemany("DELETE FROM pending WHERE gid = ? AND offset = ?", done)
            db.executemany("DELETE FROM dead WHERE gid = ? AND offset = ? AND redriven", done)
            db.execute(
                "UPDATE member_group SET acknowledged = acknowledged + ? WHERE gid = ?",
                (len(done), group.gid),
            )
            if answer.release:
                db.execute(
                    "UPDATE pending SET lease = '', until_us = 0 WHERE gid = ? AND lease = ?",
                    (group.gid, answer.lease),
                )
        return Answered(done=[row.offset for row in mine], lost=lost)

    def fail(self, at: GroupAt, answer: Answer, now_us: int) -> Answered:
        """Set a batch, or some of its records, aside to be tried again in smaller parts."""
        with self._file.write() as db:
            group = _open(db, at)
            mine, lost = _answered(db, group.gid, answer)
            if not mine:
                return Answered(done=[], lost=lost)
            decide = failed if answer.offsets is None and answer.up_to is None else singled_out
            decided = decide(mine, answer.reason, group.terms, now_us, group.next_batch)
            _decide(db, group, mine, decided, now_us)
        dead = [row.offset for row in decided.dead]
        return Answered(done=[row.offset for row in mine], lost=lost, dead=dead)

    def extend(self, at: GroupAt, lease: str, now_us: int) -> int:
        """Give a lease its whole time again; return until when."""
        with self._file.write() as db:
            group = _open(db, at)
            until_us = now_us + group.terms.lease_seconds * 1_000_000
            sql = "UPDATE pending SET until_us = ? WHERE gid = ? AND lease = ? AND lease <> ''"
            extended = db.execute(sql, (until_us, group.gid, lease)).rowcount
        if not extended:
            raise lease_lost()
        return until_us

    def dead_letters(self, at: GroupAt, after: int, limit: int) -> list[DeadLetter]:
        """Return dead letters by offset."""
        with self._file.read() as db:
            gid = gid_of(db, sid_of(db, at.tenant, at.stream), at.group)
            rows = db.execute(
                "SELECT offset, rule, version, commit_seq, appended_us, replay, envelope,"
                " reason, attempts, dead_us FROM dead"
                " WHERE gid = ? AND NOT redriven AND offset > ? ORDER BY offset LIMIT ?",
                (gid, after, limit),
            ).fetchall()
        return [
            DeadLetter(record=record_of(row), reason=reason, attempts=attempts, dead_us=dead_us)
            for *row, reason, attempts, dead_us in rows
        ]

    def redrive(self, at: GroupAt, offsets: Sequence[int] | None, now_us: int) -> int:
        """Hand dead letters out again, each alone; return how many."""
        del now_us
        with self._file.write() as db:
            group = _open(db, at)
            dead = db.execute(
                "SELECT offset FROM dead WHERE gid = ? AND NOT redriven ORDER BY offset",
                (group.gid,),
            ).fetchall()
            wanted = [o for (o,) in dead if offsets is None or o in set(offsets)]
            rows = [Pending(offset=o, batch=group.next_batch + n) for n, o in enumerate(wanted)]
            _put(db, group.gid, rows)
            _count_batches(db, group.gid, len(rows))
            db.executemany(
                "UPDATE dead SET redriven = 1 WHERE gid = ? AND offset = ?",
                [(group.gid, offset) for offset in wanted],
            )
        return len(wanted)


def _open(db: sqlite3.Connection, at: GroupAt) -> _Opened:
    sid = sid_of(db, at.tenant, at.stream)
    gid = gid_of(db, sid, at.group)
    row: Any = db.execute(
        "SELECT g.next_offset, g.next_batch, g.lease_seconds, g.attempts_max, g.ordered,"
        " s.first_offset FROM member_group g JOIN stream s ON s.sid = g.sid WHERE g.gid = ?",
        (gid,),
    ).fetchone()
    return _Opened(
        sid=sid,
        gid=gid,
        stream=at.stream,
        next_offset=row[0],
        next_batch=row[1],
        terms=GroupTerms(lease_seconds=row[2], attempts_max=row[3], ordered=bool(row[4])),
        first_kept=row[5],
    )


def _refuse_loss(db: sqlite3.Connection, group: _Opened) -> None:
    """Tell a group that retention overtook it; raises Conflict."""
    (oldest,) = db.execute(
        "SELECT min(offset) FROM pending WHERE gid = ? AND offset < ?"
        " AND offset NOT IN (SELECT offset FROM dead WHERE gid = ?)",
        (group.gid, group.first_kept, group.gid),
    ).fetchone()
    lost_from = min(group.next_offset, group.next_offset if oldest is None else oldest)
    if lost_from < group.first_kept:
        raise expired(group.stream, lost_from, group.first_kept - 1)


def _pending(rows: Iterable[Any]) -> list[Pending]:
    return [Pending(**dict(zip(_NAMES, row, strict=True))) for row in rows]


def _free_batch(db: sqlite3.Connection, group: _Opened, now_us: int) -> list[Pending]:
    """Return the free records of the batch with the oldest free record."""
    row = db.execute(
        "SELECT batch FROM pending WHERE gid = ? AND until_us <= ? ORDER BY offset LIMIT 1",
        (group.gid, now_us),
    ).fetchone()
    if row is None:
        return []
    where = " WHERE gid = ? AND batch = ? AND until_us <= ? ORDER BY offset"
    return _pending(db.execute(_PENDING + where, (group.gid, row[0], now_us)))


def _busy(db: sqlite3.Connection, group: _Opened, now_us: int) -> bool:
    """Whether something of an ordered group is out, or waits for its next attempt."""
    sql = "SELECT 1 FROM pending WHERE gid = ? AND until_us > ? LIMIT 1"
    return db.execute(sql, (group.gid, now_us)).fetchone() is not None


def _fresh(db: sqlite3.Connection, group: _Opened, limit: int) -> list[Pending]:
    """Return records that were never handed out, and move the group past them."""
    (out,) = db.execute("SELECT count(*) FROM pending WHERE gid = ?", (group.gid,)).fetchone()
    limit = min(limit, PENDING_MAX - out)
    if limit <= 0:
        return []
    found = records_after(db, group.sid, group.next_offset - 1, limit)
    if found:
        sql = "UPDATE member_group SET next_offset = ? WHERE gid = ?"
        db.execute(sql, (found[-1].offset + 1, group.gid))
    return [Pending(offset=record.offset, batch=group.next_batch) for record in found]


def _leased(row: Pending, lease: str, until_us: int, batch: int) -> Pending:
    return msgspec.structs.replace(row, lease=lease, until_us=until_us, batch=batch)


def _count_batches(db: sqlite3.Connection, gid: int, used: int) -> None:
    sql = "UPDATE member_group SET next_batch = next_batch + ? WHERE gid = ?"
    db.execute(sql, (used, gid))


def _put(db: sqlite3.Connection, gid: int, rows: Sequence[Pending]) -> None:
    db.executemany(
        "INSERT OR REPLACE INTO pending VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [(gid, *msgspec.structs.astuple(row)) for row in rows],
    )


def _answered(db: sqlite3.Connection, gid: int, answer: Answer) -> tuple[list[Pending], list[int]]:
    """Return the records an answer is about, and those that somebody else has by now."""
    where = " WHERE gid = ? AND lease = ? AND lease <> '' ORDER BY offset"
    mine = _pending(db.execute(_PENDING + where, (gid, answer.lease)))
    if answer.up_to is not None:
        return [row for row in mine if row.offset <= answer.up_to], []
    if answer.offsets is None:
        return mine, []
    wanted = set(answer.offsets)
    found = [row for row in mine if row.offset in wanted]
    others = sorted(wanted - {row.offset for row in found})
    sql = "SELECT 1 FROM pending WHERE gid = ? AND offset = ?"
    return found, [o for o in others if db.execute(sql, (gid, o)).fetchone() is not None]


def _decide(
    db: sqlite3.Connection, group: _Opened, rows: Sequence[Pending], what: Decided, now_us: int
) -> None:
    """Write what becomes of records; dead letters keep their own copy, past retention."""
    bury = [row.offset for row in what.dead]
    records = {r.offset: r for r in _records(db, group, bury)}
    db.executemany(
        "DELETE FROM pending WHERE gid = ? AND offset = ?", [(group.gid, r.offset) for r in rows]
    )
    _put(db, group.gid, what.kept)
    _count_batches(db, group.gid, len(what.kept) + 2)
    db.executemany(
        "INSERT OR REPLACE INTO dead VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)",
        [
            (
                group.gid,
                *msgspec.structs.astuple(records[row.offset]),
                row.reason,
                row.attempts,
                now_us,
            )
            for row in what.dead
        ],
    )


def _records(db: sqlite3.Connection, group: _Opened, offsets: Sequence[int]) -> list[StreamRecord]:
    """Return records by offset; a redriven dead letter from its own copy."""
    found = []
    for offset in offsets:
        row = db.execute(f"{RECORD} WHERE place = ?", (place_of(group.sid, offset),)).fetchone()
        row = (
            row
            or db.execute(
                "SELECT offset, rule, version, commit_seq, appended_us, replay, envelope"
                " FROM dead WHERE gid = ? AND offset = ?",
                (group.gid, offset),
            ).fetchone()
        )
        found.append(record_of(row))
    return found
