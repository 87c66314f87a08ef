"""The lake's event table.

| column | type | meaning |
|---|---|---|
| tenant, source, id, type | text, not null | identity and kind |
| subject | text or NULL | who used it |
| time_us, received_us | int64, µs UTC | event time and receipt time |
| ext | text or NULL | JSON object of the other attributes |
| data | text, not null | JSON text as received |
| problem | text or NULL | 'code: message' of a quarantined piece; NULL is an accepted event |
| flags | int32 | bit 0: a value was rounded to 12 decimals |
| id_hi, id_lo | int64 | 128-bit identity |
| row_hash | int64 | 63-bit hash of identity and content; summand of a digest |
| commit_seq | int64 | number of the lake commit; a snapshot is commit_seq <= N (DECISIONS 13) |
| partition, log_epoch, log_offset | int32, text, int64 | where in the log it was |
| n_…, t_… | DECIMAL(38,12), text | one typed column for each path of a meter (DECISIONS 11) |

A file that has a typed column has it complete: the pump fills every known column of every event,
and a compaction fills it for the files it rewrites. A file without it is read from `data`.
"""

from typing import Any

import pyarrow as pa

from tallybook.transport.rows import BASE

_COMMITTED: "list[pa.Field[Any]]" = [
    pa.field("commit_seq", pa.int64(), nullable=False),
    pa.field("partition", pa.int32(), nullable=False),
    pa.field("log_epoch", pa.string(), nullable=False),
    pa.field("log_offset", pa.int64(), nullable=False),
]

FIXED = pa.schema([*BASE, *_COMMITTED])
"""Columns of every lake file, in order; typed columns follow."""

FIXED_NAMES = frozenset(FIXED.names)


def typed_names(schema: pa.Schema) -> list[str]:
    """Return the typed columns of a table, sorted."""
    return sorted(name for name in schema.names if name not in FIXED_NAMES)


def typed_field(name: str) -> "pa.Field[Any]":
    """Return the Arrow field of a typed column."""
    return pa.field(name, pa.decimal128(38, 12) if name.startswith("n_") else pa.string())
