"""The bare minimum on this machine: what each step costs when nothing else is done."""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from bench.load import Plan, bodies


def rate(step: Callable[[], int], seconds: float = 1.0) -> float:
    """Return how many events a second a step handles, over `seconds`."""
    started, events = time.perf_counter(), 0
    while (spent := time.perf_counter() - started) < seconds:
        events += step()
    return events / spent


def bounds() -> dict[str, float]:
    """Return events a second of each bare step, one thread."""
    body, count = next(bodies(Plan(host="", port=0, key="")))
    events = msgspec.json.decode(body)
    decoder = msgspec.json.Decoder(list[msgspec.Raw])
    names = [(event["source"] + event["id"]).encode() for event in events]
    table = pa.Table.from_pylist([{k: str(v) for k, v in event.items()} for event in events] * 20)

    def decode() -> int:
        decoder.decode(body)
        return count

    def digest() -> int:
        for name in names:
            xxhash.xxh3_128_digest(name)
        return count

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "raw"
        with path.open("ab") as file:

            def append() -> int:
                file.write(body * 4)
                file.flush()
                os.fsync(file.fileno())
                return count * 4

            raw = rate(append)

        def parquet() -> int:
            pq.write_table(table, Path(folder) / "p", compression="zstd")
            return table.num_rows

        return {
            "JSON split only": rate(decode),
            "identity hash only": rate(digest),
            "raw fsync'd append of the same bytes": raw,
            "Parquet write only": rate(parquet),
        }
