"""A small world around the real log, pump, lake and reader, on a folder of its own."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tallybook.adapters.delta.event_table import DeltaEventTable
from tallybook.adapters.duckdb.usage_reader import LakeUsageReader
from tallybook.adapters.runs.index import RunIndex
from tallybook.adapters.sqlite.event_log import SqliteEventLog
from tallybook.catalog.meter import Meter
from tallybook.kernel.jsonpath import column_path
from tallybook.store.flow import Pumped, catch_up, next_columns, pump_once
from tallybook.store.ports import LogPosition
from tallybook.transport.accept import AcceptLimits, accept
from tallybook.transport.codec import encode
from tallybook.transport.columns import ColumnSet
from tallybook.transport.ports import Batch

NOW_US = 1_795_000_000_000_000
Event = Mapping[str, Any]


class Road:
    """Everything between a request and an answer, without processes.

    Args:
        folder: empty, or one that an earlier Road left.
        partitions: how many log partitions.
    """

    def __init__(self, folder: Path, partitions: int = 1) -> None:
        """Open every part."""
        self.folder = folder
        self.logs = [SqliteEventLog(folder / "log" / f"p{i}.db") for i in range(partitions)]
        self.meters: list[Meter] = []
        self.open_lake()

    def open_lake(self) -> None:
        """Open lake and index anew, as after a restart."""
        self.table = DeltaEventTable(self.folder / "lake" / "events")
        self.index = RunIndex(self.folder / "lake" / "index")
        catch_up(self.index, self.table)
        self.reader = LakeUsageReader(self.table, self.folder / "lake" / "rollups", threads=1)

    def columns(self) -> ColumnSet:
        """Return the typed columns of the known meters."""
        names = {name for meter in self.meters for name in meter.columns()}
        return ColumnSet({name: column_path(name) for name in names})

    def send(self, events: Iterable[Event], partition: int = 0, tenant: str = "default") -> None:
        """Accept events durably, quarantining what is refused."""
        body = json.dumps(list(events)).encode()
        rows, _ = accept(tenant, body, NOW_US, self.columns(), AcceptLimits())
        self.logs[partition].append([Batch(len(rows), encode(rows))])

    def pump(self) -> Pumped | None:
        """Move everything acknowledged into the lake."""
        partitions = {LogPosition(log.epoch, i): log for i, log in enumerate(self.logs)}
        wanted = {name for meter in self.meters for name in meter.columns()}
        return pump_once(
            partitions, self.table, self.index, next_columns(wanted, self.table.typed_columns())
        )

    def roll(self, meters: Sequence[Meter], steps: int = 100, tenant: str = "default") -> None:
        """Build roll-ups, at most `steps` of each meter."""
        for meter in meters:
            for _ in range(steps):
                if not self.reader.rollups.build(tenant, meter):
                    break

    def close(self) -> None:
        """Close the logs."""
        for log in self.logs:
            log.close()


def event(event_id: str, time: str, subject: str | None, data: Any, **more: Any) -> dict[str, Any]:
    """Return a CloudEvents object of type 't' from source '/s'."""
    core = {
        "specversion": "1.0",
        "id": event_id,
        "source": "/s",
        "type": "t",
        "time": time,
        "data": data,
    }
    return {**core, **({"subject": subject} if subject is not None else {}), **more}
