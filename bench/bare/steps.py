"""Each step of the road by itself, one thread: decode, hash, durable append, Parquet, scan."""

import json
import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from bench.generator.bodies import Bodies
from bench.generator.plan import Plan

SECONDS = 1.0
PARQUET_ROWS = 40_000


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What a bare step handles.

    Attributes:
        rate: events a second, by the clock.
        cpu_us: processor microseconds an event.
    """

    rate: float
    cpu_us: float


def timed(step: Callable[[], int], seconds: float = SECONDS) -> Step:
    """Repeat a step that returns how many events it handled."""
    step()
    started, cpu, events = time.perf_counter(), time.process_time(), 0
    while (spent := time.perf_counter() - started) < seconds:
        events += step()
    used = time.process_time() - cpu
    return Step(rate=events / spent, cpu_us=used / events * 1e6)


def steps(plan: Plan, seconds: float = SECONDS) -> dict[str, Step]:
    """Return every step on the bodies of a plan."""
    batched = msgspec.structs.replace(plan, batch=max(plan.batch, 100))
    bodies = [body.content for body in islice(Bodies(batched), 8)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        return {
            "JSON split": split(bodies, seconds),
            "JSON decode": decode(bodies, seconds),
            "identity hash": digest(bodies, seconds),
            "fsync'd append": append(bodies, folder, seconds),
            "Parquet write": parquet(bodies, folder, seconds),
        }


def split(bodies: Sequence[bytes], seconds: float = SECONDS) -> Step:
    """Return finding the borders of a batch's events."""
    decoder = msgspec.json.Decoder(list[msgspec.Raw])
    return timed(lambda: sum(len(decoder.decode(body)) for body in bodies), seconds)


def decode(bodies: Sequence[bytes], seconds: float = SECONDS) -> Step:
    """Return decoding events into Python values."""
    return timed(lambda: sum(len(msgspec.json.decode(body)) for body in bodies), seconds)


def digest(bodies: Sequence[bytes], seconds: float = SECONDS) -> Step:
    """Return hashing sources and ids that are bytes already."""
    events = [event for body in bodies for event in msgspec.json.decode(body)]
    names = [(event["source"] + event["id"]).encode() for event in events]

    def step() -> int:
        for name in names:
            xxhash.xxh3_128_digest(name)
        return len(names)

    return timed(step, seconds)


def append(bodies: Sequence[bytes], folder: Path, seconds: float = SECONDS) -> Step:
    """Return appending the bodies as they are to a file, with an fsync after every four."""
    events = sum(len(msgspec.json.decode(body)) for body in bodies[:4])
    with (folder / "raw").open("ab") as file:

        def step() -> int:
            for body in bodies[:4]:
                file.write(body)
            file.flush()
            os.fsync(file.fileno())
            return events

        return timed(step, seconds)


def parquet(bodies: Sequence[bytes], folder: Path, seconds: float = SECONDS) -> Step:
    """Return writing the same events as text columns."""
    rows = [event for body in bodies for event in msgspec.json.decode(body)]
    texts = [{key: _text(value) for key, value in event.items()} for event in rows]
    table = pa.Table.from_pylist(texts)
    table = pa.concat_tables([table] * max(1, PARQUET_ROWS // table.num_rows))

    def step() -> int:
        pq.write_table(table, folder / "parquet", compression="zstd", compression_level=1)
        return table.num_rows

    return timed(step, seconds)


def scan(files: Sequence[str], seconds: float = SECONDS, threads: int = 1) -> Step:
    """Return reading time, subject and one value of a lake's files and adding up by hour."""
    import duckdb

    sql = (
        "SELECT subject, time_us // 3600000000 AS hour, count(*), sum(row_hash::HUGEINT)"
        " FROM read_parquet($files, union_by_name = true) GROUP BY ALL"
    )
    with duckdb.connect(config={"threads": threads}) as connection:

        def step() -> int:
            found = connection.execute(sql, {"files": list(files)}).fetchall()
            return sum(row[2] for row in found)

        return timed(step, seconds)


def sqlite_insert(texts: Sequence[bytes], folder: Path) -> Step:
    """Return storing texts as rows with a key, 500 a transaction, durable."""
    folder.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(folder / "bare.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE IF NOT EXISTS texts (id INTEGER PRIMARY KEY, text BLOB)")

    def step() -> int:
        for first in range(0, len(texts), 500):
            connection.execute("BEGIN IMMEDIATE")
            rows = [(text,) for text in texts[first : first + 500]]
            connection.executemany("INSERT INTO texts (text) VALUES (?)", rows)
            connection.execute("COMMIT")
        return len(texts)

    found = timed(step)
    connection.close()
    return found


class Began(msgspec.Struct, frozen=True):
    """What starting a process took, by the clock and of processors, seconds."""

    seconds: float
    cpu_seconds: float


def python_start(code: str = "pass", times: int = 5) -> Began:
    """Return an interpreter that runs some code and ends, the least of several."""
    found = []
    for _ in range(times):
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        spent, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        found.append((spent, used))
    return Began(min(spent for spent, _ in found), min(used for _, used in found))


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
