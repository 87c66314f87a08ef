"""Groups of consumers: made, moved, taken away, counted."""

import sqlite3
from typing import Any

from tallybook.adapters.sqlite.streams.file import StreamsFile, place_of, sid_of
from tallybook.kernel.errors import Conflict, Invalid, Missing
from tallybook.route.ports import Check, NewGroup, Start
from tallybook.route.sharing import Group, GroupTerms

_GROUP = """
SELECT s.tenant, s.name, g.name, g.next_offset, g.lease_seconds, g.attempts_max, g.ordered,
    g.created_us, g.acknowledged, g.lost,
    (SELECT count(*) FROM pending p WHERE p.gid = g.gid),
    (SELECT count(*) FROM dead d WHERE d.gid = g.gid AND NOT d.redriven),
    s.next_offset - g.next_offset
FROM member_group g JOIN stream s ON s.sid = g.sid
"""


def gid_of(db: sqlite3.Connection, sid: int, name: str) -> int:
    """Return a group's number; raises Missing."""
    row = db.execute(
        "SELECT gid FROM member_group WHERE sid = ? AND name = ?", (sid, name)
    ).fetchone()
    if row is None:
        raise Missing(f"there is no group '{name}' on this stream; create it first", field="group")
    return int(row[0])


class SqliteGroups:
    """`Groups` on the streams file."""

    def __init__(self, file: StreamsFile) -> None:
        """Use an open file."""
        self._file = file

    def create(self, new: NewGroup) -> Group:
        """Make a group; raises Missing without the stream, Conflict where it is there."""
        with self._file.write() as db:
            sid = sid_of(db, new.tenant, new.stream)
            at = _offset(db, sid, new.at)
            made = db.execute(
                "INSERT INTO member_group (sid, name, next_offset, next_batch, lease_seconds,"
                " attempts_max, ordered, created_us, acknowledged, lost)"
                " VALUES (?, ?, ?, 1, ?, ?, ?, ?, 0, 0) ON CONFLICT DO NOTHING",
                (sid, new.name, at, new.terms.lease_seconds, new.terms.attempts_max,
                 new.terms.ordered, new.now_us),
            )  # fmt: skip
            if not made.rowcount:
                raise Conflict(f"group '{new.name}' is there already", code="group-exists")
            return _one(db, sid, new.name)

    def groups(self, tenant: str, stream: str) -> list[Group]:
        """Return the groups of a stream, by name; of all streams where it is ''."""
        with self._file.read() as db:
            rows = db.execute(
                f"{_GROUP} WHERE s.tenant = ? AND ? IN ('', s.name) ORDER BY s.name, g.name",
                (tenant, stream),
            ).fetchall()
        return [_group(row) for row in rows]

    def group(self, tenant: str, stream: str, name: str) -> Group:
        """Return one group; raises Missing."""
        with self._file.read() as db:
            sid = sid_of(db, tenant, stream)
            gid_of(db, sid, name)
            return _one(db, sid, name)

    def seek(
        self, tenant: str, stream: str, name: str, at: Start, check: Check[Group] = None
    ) -> Group:
        """Move a group; what it was handed and had not acknowledged is forgotten."""
        with self._file.write() as db:
            sid = sid_of(db, tenant, stream)
            gid = gid_of(db, sid, name)
            if check is not None:
                check(_one(db, sid, name))
            if at.to == "after-loss":
                _accept_loss(db, sid, gid)
            else:
                offset = _offset(db, sid, at)
                db.execute("DELETE FROM pending WHERE gid = ?", (gid,))
                db.execute("UPDATE dead SET redriven = 0 WHERE gid = ?", (gid,))
                db.execute("UPDATE member_group SET next_offset = ? WHERE gid = ?", (offset, gid))
            return _one(db, sid, name)

    def delete(self, tenant: str, stream: str, name: str, check: Check[Group] = None) -> None:
        """Take a group away with everything it had; raises Missing."""
        with self._file.write() as db:
            sid = sid_of(db, tenant, stream)
            gid = gid_of(db, sid, name)
            if check is not None:
                check(_one(db, sid, name))
            for table in ("pending", "dead", "member_group"):
                db.execute(f"DELETE FROM {table} WHERE gid = ?", (gid,))


def _accept_loss(db: sqlite3.Connection, sid: int, gid: int) -> None:
    """Forget what retention dropped, and only that; it is counted."""
    (first,) = db.execute("SELECT first_offset FROM stream WHERE sid = ?", (sid,)).fetchone()
    gone = db.execute(
        "DELETE FROM pending WHERE gid = ? AND offset < ? AND offset NOT IN"
        " (SELECT offset FROM dead WHERE gid = ?)",
        (gid, first, gid),
    ).rowcount
    db.execute(
        "UPDATE member_group SET lost = lost + ? + max(0, ? - next_offset),"
        " next_offset = max(next_offset, ?) WHERE gid = ?",
        (gone, first, first, gid),
    )


def _offset(db: sqlite3.Connection, sid: int, at: Start) -> int:
    first, end = db.execute(
        "SELECT first_offset, next_offset FROM stream WHERE sid = ?", (sid,)
    ).fetchone()
    match at.to:
        case "earliest":
            return int(first)
        case "latest":
            return int(end)
        case "offset":
            if not first <= at.offset <= end:
                message = f"the stream keeps offsets {first} to {end - 1}; {end} is the next one"
                raise Invalid(message, field="offset")
            return at.offset
        case "time":
            return _first_since(db, sid, (int(first), int(end)), at.time_us)
        case _:
            message = "to is one of earliest, latest, time, offset; after-loss where one seeks"
            raise Invalid(message, field="to")


def _first_since(db: sqlite3.Connection, sid: int, kept: tuple[int, int], us: int) -> int:
    """Return the first offset routed at or after an instant; offsets are in that order."""
    low, high = kept
    while low < high:
        middle = (low + high) // 2
        (at_us,) = db.execute(
            "SELECT appended_us FROM record WHERE place = ?", (place_of(sid, middle),)
        ).fetchone()
        low, high = (low, middle) if at_us >= us else (middle + 1, high)
    return low


def _one(db: sqlite3.Connection, sid: int, name: str) -> Group:
    return _group(db.execute(f"{_GROUP} WHERE g.sid = ? AND g.name = ?", (sid, name)).fetchone())


def _group(row: Any) -> Group:
    tenant, stream, name, at, seconds, attempts, ordered, created, acked, lost, *counts = row
    pending, dead, ahead = counts
    terms = GroupTerms(lease_seconds=seconds, attempts_max=attempts, ordered=bool(ordered))
    return Group(
        tenant=tenant,
        stream=stream,
        name=name,
        next_offset=at,
        terms=terms,
        created_us=created,
        acknowledged=acked,
        lost=lost,
        pending=pending,
        dead=dead,
        lag=pending + ahead,
    )
