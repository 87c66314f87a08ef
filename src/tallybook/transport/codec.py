"""A log row's payload: Arrow columns, compressed, with a version.

Layout: b'TBR', one version byte, then a zstd frame (level 1, with content checksum) around an
Arrow IPC stream of one record batch. The pump appends the columns without parsing JSON again
(DECISIONS 4).
"""

import threading
from typing import Protocol

import pyarrow as pa
import zstandard

from tallybook.kernel.errors import Corrupt

_MAGIC = b"TBR\x01"
PAYLOAD_BYTES_MAX = 1 << 30
"""Most bytes a payload may unpack to."""


class _Own(threading.local):
    """A thread's own compressor and decompressor: to make one costs as much as to unpack a row."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(level=1, write_checksum=True)
        self.decompressor = zstandard.ZstdDecompressor()


_OWN = _Own()


class Columns(Protocol):
    """Events that can be had as Arrow columns."""

    def __len__(self) -> int:
        """Return how many events there are."""
        ...

    def to_batch(self) -> pa.RecordBatch:
        """Return the columns."""
        ...


def encode(rows: Columns) -> bytes:
    """Return the payload of these events; never empty."""
    assert len(rows) > 0, "an empty log row"
    batch = rows.to_batch()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return _MAGIC + _OWN.compressor.compress(memoryview(sink.getvalue()))


def decode(payload: bytes) -> pa.Table:
    """Return the columns of a payload.

    Raises:
        Corrupt: it is no payload, of a later version, or damaged.
    """
    if payload[:4] != _MAGIC:
        raise Corrupt("a log row is of an unknown format; was it written by a later version?")
    try:
        body = _OWN.decompressor.decompress(
            memoryview(payload)[4:], max_output_size=PAYLOAD_BYTES_MAX
        )
        with pa.ipc.open_stream(body) as reader:
            return reader.read_all()
    except (zstandard.ZstdError, pa.ArrowException, OSError, MemoryError) as error:
        raise Corrupt(f"a log row cannot be read: {error}") from error


def unpacked_bytes(payload: bytes | None) -> int:
    """Return how much memory a payload's columns take, as far as it says; 0 for a damaged one."""
    if payload is None or payload[:4] != _MAGIC:
        return 0
    try:
        return min(PAYLOAD_BYTES_MAX, max(0, zstandard.frame_content_size(payload[4:22])))
    except zstandard.ZstdError:
        return 0
