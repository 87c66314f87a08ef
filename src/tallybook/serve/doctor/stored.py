"""Looks at what is stored: control database, log partitions, lake, quarantine."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import make_url

from tallybook.adapters.sql.schema import newest
from tallybook.adapters.sqlite.event_log import SqliteEventLog
from tallybook.compose import TENANT, World, open_control
from tallybook.kernel.errors import Corrupt
from tallybook.serve.doctor.finding import Finding, error, good, note, warning
from tallybook.serve.doctor.folder import clock
from tallybook.serve.worker.pipeline import DOORS_PARTITION, Lag, lag, partition_numbers
from tallybook.settings import Settings
from tallybook.transport import places

BEHIND_WARN = 1_000_000
ROWS_AT_ONCE = 256


def installation() -> Iterator[Finding]:
    """Tell whether all that can be compiled was."""
    about = "installation"
    if places.COMPILED:
        yield good(about, "large batches are read by the compiled pass")
        return
    text = "built without a C compiler: accepting large batches costs half as much again"
    yield note(about, text, "install a C compiler, and then tallybook again, if that matters")


def control(settings: Settings) -> Iterator[Finding]:
    """Check the control database: an embedded one page by page, a shared one by asking it."""
    if settings.control.url:
        open_control(settings).dispose()
        shown = make_url(settings.control.url).render_as_string(hide_password=True)
        yield good("control database", f"{shown} answers, with schema {newest()}")
        return
    path = settings.control_db
    if not path.exists():
        yield note("control database", "not made yet")
        return
    try:
        with sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=30) as db:
            verdict = [str(row[0]) for row in db.execute("PRAGMA quick_check(5)")]
    except sqlite3.Error as failure:
        raise Corrupt(f"{path}: {failure}") from failure
    if verdict == ["ok"]:
        yield good("control database", f"{path.name} is sound")
    else:
        advice = "stop the server, keep the file, and restore control.db from a backup"
        yield error("control database", "; ".join(verdict), advice)


def log(settings: Settings) -> Iterator[Finding]:
    """Read every log row that is kept, and look for what was put aside."""
    numbers = partition_numbers(settings.log_dir)
    for number in numbers:
        yield from _partition(settings.log_dir / f"p{number}.db", number)
    for path in sorted(settings.log_dir.glob("*.db.damaged-*")):
        advice = "agents send again what was not acknowledged; keep the file for a closer look"
        yield error("log", f"{path.name} was damaged and put aside", advice)
    parked = sorted((settings.log_dir / "parked").glob("*"))
    if parked:
        advice = "ask the senders to send again from their spool; then move the files away"
        text = f"{len(parked)} damaged log rows are parked in {settings.log_dir / 'parked'}"
        yield error("log", text, advice)
    if not numbers:
        yield note("log", "no partition yet")


def _partition(path: Path, number: int) -> Iterator[Finding]:
    opened = SqliteEventLog(path, readonly=True)
    rows, damaged, after, last_us, back = 0, [], 0, 0, 0
    try:
        while batch := opened.read(after, ROWS_AT_ONCE):
            after = batch[-1].offset
            rows += len(batch)
            damaged += [row.offset for row in batch if row.payload is None]
            for row in batch:
                back += row.appended_us < last_us
                last_us = row.appended_us
    finally:
        opened.close()
    if damaged:
        text = f"{_named(number)}: rows {_listed(damaged)} fail their checksum"
        advice = "they are parked when the pump reads them; senders must send them again"
        yield error("log", text, advice)
    else:
        yield good("log", f"{_named(number)}: {rows} rows kept, all sound")
    if back:
        text = f"{_named(number)}: the clock jumped back {back} times while events came in"
        yield warning("clock", text, "let a time service slew the clock instead of stepping it")


def _named(number: int) -> str:
    """Return what a partition is called before people."""
    return f"partition {number}" + (" (front doors)" if number == DOORS_PARTITION else "")


def _listed(offsets: list[int]) -> str:
    more = f" and {len(offsets) - 10} more" if len(offsets) > 10 else ""
    return ", ".join(map(str, offsets[:10])) + more


def pipeline(world: World) -> Iterator[Finding]:
    """Look how far the lake is behind the log."""
    for part in lag(world.settings, world.table):
        yield _behind(part)


def _behind(part: Lag) -> Finding:
    about, name = "pipeline", _named(part.partition)
    if part.problem:
        advice = "keep the file; a restart puts a damaged log aside and goes on with a new one"
        return error(about, f"{name} cannot be read: {part.problem}", advice)
    if part.events_behind == 0:
        return good(about, f"{name}: everything acknowledged is in the lake")
    text = f"{name}: {part.events_behind:,} acknowledged events are not in the lake yet"
    if part.events_behind > BEHIND_WARN:
        return warning(about, text, "give the pump more processor, or wait until it has caught up")
    return note(about, text, "the pump brings them within seconds while a server runs")


def lake(world: World) -> Iterator[Finding]:
    """Compare the lake's counters with its rows, and tell the dedupe horizon."""
    cut = world.usage.head()
    before, rows = world.usage.counters(TENANT), world.usage.stored(TENANT, cut)
    after = world.usage.counters(TENANT)
    accepted = before.accepted <= rows.accepted <= after.accepted
    quarantined = before.quarantined <= rows.quarantined <= after.quarantined
    if accepted and quarantined:
        yield good("lake", f"{rows.accepted:,} events at commit {cut}, as the commits counted")
    else:
        text = f"commits counted {before.accepted:,} events, {rows.accepted:,} are found"
        yield error("lake", text, "`tallybook reconcile` names what differs; keep the folder")
    horizon = "horizon: an event's identity is remembered for as long as it is in the lake"
    yield note("duplicates", horizon)
    if before.id_conflict:
        text = f"{before.id_conflict:,} events came again with other content; the first counts"
        where = world.settings.lake_dir / "conflicts.jsonl"
        yield warning("duplicates", text, f"see {where}: a sender reuses ids")
    newest = world.usage.recent(TENANT, limit=1)
    yield clock(newest[0].received_us if newest else None)


def quarantine(world: World) -> Iterator[Finding]:
    """Count what waits for a decision."""
    total = world.usage.counters(TENANT).quarantined
    decided = sum(world.quarantine.count(TENANT).values())
    if total > decided:
        text = f"{total - decided:,} pieces wait for a decision"
        yield note("quarantine", text, "`tallybook quarantine list` shows why")
    else:
        yield good("quarantine", "nothing waits for a decision")
