"""Streams, and records by offset."""

import sqlite3
from collections.abc import Sequence
from typing import Any

from tallybook.adapters.sqlite.streams.file import StreamsFile, offset_of, place_of, sid_of
from tallybook.kernel.errors import Missing
from tallybook.route.ports import Check
from tallybook.route.stream import Keep, KeepChange, Stream, StreamRecord

_STREAM = (
    "SELECT tenant, name, first_offset, next_offset, bytes, keep_hours, keep_mb, created_us"
    " FROM stream"
)
RECORD = "SELECT place, rule, version, commit_seq, appended_us, replay, envelope FROM record"
READ_BYTES_MAX = 16 * 1024 * 1024
"""Of the envelopes of one answer; at least one record is always answered."""


def record_of(row: Any) -> StreamRecord:
    """Return a record from its row."""
    place, rule, version, seq, appended_us, replay, envelope = row
    return StreamRecord(
        offset=offset_of(place),
        rule=rule,
        version=version,
        commit_seq=seq,
        appended_us=appended_us,
        replay=replay,
        envelope=bytes(envelope),
    )


def records_after(db: sqlite3.Connection, sid: int, after: int, limit: int) -> list[StreamRecord]:
    """Return the records after an offset that are kept, within the bound of one answer."""
    rows = db.execute(
        f"{RECORD} WHERE place > ? AND place < ? ORDER BY place LIMIT ?",
        (place_of(sid, after), place_of(sid + 1, 0), limit),
    )
    found: list[StreamRecord] = []
    size = 0
    for row in rows:
        size += len(row[-1])
        if found and size > READ_BYTES_MAX:
            break
        found.append(record_of(row))
    return found


class SqliteStreamReader:
    """`StreamReader` on the streams file."""

    def __init__(self, file: StreamsFile) -> None:
        """Use an open file."""
        self._file = file

    def streams(self, tenant: str) -> list[Stream]:
        """Return the streams of a tenant, by name."""
        with self._file.read() as db:
            rows = db.execute(f"{_STREAM} WHERE tenant = ? ORDER BY name", (tenant,)).fetchall()
        return [_stream(row) for row in rows]

    def stream(self, tenant: str, name: str) -> Stream:
        """Return one stream; raises Missing."""
        with self._file.read() as db:
            return _one(db, tenant, name)

    def read(self, tenant: str, name: str, after: int, limit: int) -> list[StreamRecord]:
        """Return the records after an offset that are still kept."""
        with self._file.read() as db:
            return records_after(db, sid_of(db, tenant, name), after, limit)

    def set_keep(
        self, tenant: str, name: str, change: KeepChange, now_us: int, check: Check[Stream] = None
    ) -> Stream:
        """Change how long a stream keeps records; makes the stream where it is not there."""
        with self._file.write() as db:
            stored = _found(db, tenant, name)
            if check is not None:
                check(stored)
            keep = change.of(self._file.keep if stored is None else stored.keep)
            db.execute(
                "INSERT INTO stream (tenant, name, first_offset, next_offset, bytes, keep_hours,"
                " keep_mb, created_us) VALUES (?, ?, 1, 1, 0, ?, ?, ?) ON CONFLICT (tenant, name)"
                " DO UPDATE SET keep_hours = excluded.keep_hours, keep_mb = excluded.keep_mb",
                (tenant, name, keep.keep_hours, keep.keep_mb, now_us),
            )
            return _one(db, tenant, name)

    def make(self, tenant: str, names: Sequence[str], now_us: int) -> None:
        """Make streams that are not there yet, so that groups can wait for their first record."""
        keep = self._file.keep
        with self._file.write() as db:
            db.executemany(
                "INSERT INTO stream (tenant, name, first_offset, next_offset, bytes, keep_hours,"
                " keep_mb, created_us) VALUES (?, ?, 1, 1, 0, ?, ?, ?) ON CONFLICT DO NOTHING",
                [(tenant, name, keep.keep_hours, keep.keep_mb, now_us) for name in names],
            )

    def delivered(self, tenant: str) -> dict[str, int]:
        """Return how many records each rule has put on streams, by key; '' is `unmatched`."""
        with self._file.read() as db:
            rows = db.execute("SELECT rule, records FROM delivered WHERE tenant = ?", (tenant,))
            return dict(rows.fetchall())

    def tenants(self) -> list[str]:
        """Return every tenant that has a stream."""
        with self._file.read() as db:
            rows = db.execute("SELECT DISTINCT tenant FROM stream ORDER BY tenant").fetchall()
        return [tenant for (tenant,) in rows]


def _one(db: sqlite3.Connection, tenant: str, name: str) -> Stream:
    found = _found(db, tenant, name)
    if found is None:
        raise Missing(f"there is no stream '{name}'", field="stream")
    return found


def _found(db: sqlite3.Connection, tenant: str, name: str) -> Stream | None:
    row = db.execute(f"{_STREAM} WHERE tenant = ? AND name = ?", (tenant, name)).fetchone()
    return None if row is None else _stream(row)


def _stream(row: Any) -> Stream:
    tenant, name, first, end, size, hours, mb, created_us = row
    return Stream(
        tenant=tenant,
        name=name,
        first_offset=first,
        next_offset=end,
        bytes=size,
        keep=Keep(keep_hours=hours, keep_mb=mb),
        created_us=created_us,
    )
