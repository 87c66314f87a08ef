"""The road between log and lake, as any process sees it: partitions, lag, trim marks."""

import time
from pathlib import Path

import msgspec

from tallybook.adapters.delta.event_table import DeltaEventTable
from tallybook.adapters.sqlite.event_log import SqliteEventLog
from tallybook.kernel.errors import TallybookError, Unavailable
from tallybook.settings import Settings
from tallybook.store.ports import LogPosition

POLL_SECONDS = 0.05
DOORS_PARTITION = 256
"""The partition that the front doors of all workers share: the first after the workers' own."""


class Lag(msgspec.Struct, frozen=True, kw_only=True):
    """One partition, and how far the lake is behind it.

    Attributes:
        partition: number. epoch: of its log.
        last_offset: newest appended.
        lake_offset: newest contained in the lake.
        events_behind: acknowledged events that no query sees yet.
        stored_bytes: payload bytes kept in the log.
        problem: why the partition cannot be read, '' when it can.
    """

    partition: int
    epoch: str = ""
    last_offset: int = 0
    lake_offset: int = 0
    events_behind: int = 0
    stored_bytes: int = 0
    problem: str = ""


def events_dir(settings: Settings) -> Path:
    """Return the folder of the lake's event table."""
    return settings.lake_dir / "events"


def partition_numbers(log_dir: Path) -> list[int]:
    """Return the numbers of the partitions that exist."""
    names = [path.stem[1:] for path in log_dir.glob("p*.db")]
    return sorted(int(name) for name in names if name.isdigit())


def lag(settings: Settings, table: DeltaEventTable | None = None) -> list[Lag]:
    """Return every partition with how far the lake is behind it."""
    lake = table if table is not None else DeltaEventTable(events_dir(settings))
    lake.refresh()
    return [_lag(settings.log_dir, number, lake) for number in partition_numbers(settings.log_dir)]


def _lag(log_dir: Path, number: int, lake: DeltaEventTable) -> Lag:
    try:
        log = SqliteEventLog(log_dir / f"p{number}.db", readonly=True)
    except TallybookError as error:
        return Lag(partition=number, problem=str(error))
    try:
        state = log.state()
        contained = lake.offset(LogPosition(state.epoch, number))
        return Lag(
            partition=number,
            epoch=state.epoch,
            last_offset=state.last_offset,
            lake_offset=contained,
            events_behind=state.events_total - log.events_upto(contained),
            stored_bytes=state.stored_bytes,
        )
    except TallybookError as error:
        return Lag(partition=number, problem=str(error))
    finally:
        log.close()


def caught_up(settings: Settings, table: DeltaEventTable | None = None) -> bool:
    """Whether everything acknowledged before this call is in the lake."""
    return all(found.events_behind == 0 for found in lag(settings, table) if not found.problem)


def doors_log(log_dir: Path) -> Path:
    """Return the file of the partition that the front doors share."""
    return log_dir / f"p{DOORS_PARTITION}.db"


def trim_mark(log_dir: Path, number: int) -> Path:
    """Return the file by which the pump tells a partition's writer what it may trim."""
    return log_dir / f"p{number}.trim"


def mark_text(epoch: str, upto: int) -> str:
    """Return what a trim mark says: offsets mean nothing without the epoch of their log."""
    return f"{epoch} {upto}"


def read_trim_mark(path: Path, epoch: str) -> int:
    """Return the offset up to which a log may be trimmed, 0 where nothing was said of this epoch.

    A log that took a damaged one's place starts at offset 1 again: the old log's mark would trim
    what the lake has never seen.
    """
    try:
        said, _, upto = path.read_text().partition(" ")
    except FileNotFoundError:
        return 0
    return int(upto) if said == epoch and upto.isdecimal() and upto.isascii() else 0


def await_contained(settings: Settings, seconds: float) -> None:
    """Wait until the lake holds everything that was acknowledged before this call.

    Raises:
        Unavailable: it does not within `seconds`; the pump is behind or not running.
    """
    table = DeltaEventTable(events_dir(settings))
    wanted = {
        LogPosition(found.epoch, found.partition): found.last_offset
        for found in lag(settings, table)
        if not found.problem
    }
    deadline = time.monotonic() + seconds
    while any(table.offset(position) < offset for position, offset in wanted.items()):
        if time.monotonic() > deadline:
            message = f"the lake is still behind the log after {seconds:g} seconds; try again later"
            raise Unavailable(message, code="lake-behind")
        time.sleep(POLL_SECONDS)
        table.refresh()
