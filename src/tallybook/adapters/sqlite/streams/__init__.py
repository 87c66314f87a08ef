"""Outbound streams, replays and groups in one SQLite file, `streams.db` of the data folder.

WAL with synchronous=FULL: what returned is on stable storage. Everything that belongs together
(records and cursor; lease and pending rows) is one transaction, begun with BEGIN IMMEDIATE, so
that API processes and the router agree whatever is killed when.
"""

from tallybook.adapters.sqlite.streams.file import StreamsFile
from tallybook.adapters.sqlite.streams.groups import SqliteGroups
from tallybook.adapters.sqlite.streams.reader import SqliteStreamReader
from tallybook.adapters.sqlite.streams.shares import SqliteShares
from tallybook.adapters.sqlite.streams.writer import SqliteReplays, SqliteStreamWriter

__all__ = [
    "SqliteGroups",
    "SqliteReplays",
    "SqliteShares",
    "SqliteStreamReader",
    "SqliteStreamWriter",
    "StreamsFile",
]
