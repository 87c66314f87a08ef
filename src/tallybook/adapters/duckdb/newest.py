"""The newest rows of a kind, from the files that may hold them.

Files are read from the newest times on, until no other can hold a row that belongs on the page. So
a page costs what it shows where events come in the order of their times; what is rare is looked for
in all files.
"""

from collections.abc import Sequence

from tallybook.adapters.duckdb.answers import event_of
from tallybook.adapters.duckdb.lake_files import portions
from tallybook.adapters.duckdb.source import LakeSource
from tallybook.meter.sql import Sql
from tallybook.meter.usage import StoredEvent
from tallybook.store.ports import LakeFile


def newest(
    source: LakeSource, sql: Sql, files: Sequence[LakeFile], limit: int
) -> list[StoredEvent]:
    """Return the rows of a statement by (time, source, id), newest first.

    Args:
        source: reads files.
        sql: its rows are those of `pieces.EVENT`, in that order, at most `limit` of them.
        files: all that may hold such rows.
        limit: how many rows at most.
    """
    found: list[StoredEvent] = []
    for some in portions(sorted(files, key=lambda file: file.time_max, reverse=True)):
        if len(found) >= limit and found[-1].time_us > some[0].time_max:
            break
        found += [event_of(row) for row in source.read(sql, some)]
        found = sorted(found, key=_place, reverse=True)[:limit]
    return found


def _place(event: StoredEvent) -> tuple[int, str, str]:
    return event.time_us, event.source, event.id
