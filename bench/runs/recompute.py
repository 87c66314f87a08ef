"""`python -m bench.runs.recompute FOLDER`: one meter's month from raw rows, without any roll-up."""

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

from bench.runs.common import last_month
from tallybook.adapters.delta.event_table import DeltaEventTable
from tallybook.adapters.duckdb.usage_reader import LakeUsageReader
from tallybook.catalog.meter import MeterSpec, check_meter
from tallybook.meter.usage import UsageQuery
from tallybook.meter.window import bounds

THREADS = 2
BYTES = MeterSpec(
    key="bytes",
    event_type="http.server.request",
    aggregation="SUM",
    value="$.bytes",
    group_by={"region": "$.region", "status": "$.status"},
)


def month_query(cut: int) -> UsageQuery:
    """Return the question: by customer and hour, the month before this one."""
    start, end = (int(moment.timestamp()) * 1_000_000 for moment in last_month())
    return UsageQuery(
        tenant="default",
        meter=check_meter(BYTES),
        bounds=bounds(start, end, "HOUR"),
        cut=cut,
        by_subject=True,
    )


def recompute(folder: Path) -> dict[str, float]:
    """Return seconds, events and peak memory of answering from raw rows."""
    table = DeltaEventTable(folder / "lake" / "events")
    with tempfile.TemporaryDirectory() as nowhere:
        reader = LakeUsageReader(table, Path(nowhere) / "rollups", threads=THREADS)
        query = month_query(reader.head())
        started = time.perf_counter()
        rows = reader.usage(query)
        spent = time.perf_counter() - started
    return {
        "seconds": spent,
        "events": sum(row.events for row in rows),
        "groups": len(rows),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


if __name__ == "__main__":
    print(json.dumps(recompute(Path(sys.argv[1]))))
