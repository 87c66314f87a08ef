"""Events as pieces of wire JSON, and pieces cut into batches.

A batch is what one request carries and one spool row keeps: a JSON array of CloudEvents
(`application/cloudevents-batch+json`), cut by count and by bytes. Nothing waits in memory to
fill a batch: what one round of collecting found is cut and spooled at once, so the age of a
batch is at most one interval.

Source: CloudEvents 1.0.2, JSON batch format; kernel.limits.
"""

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from tallybook.kernel.event import UsageEvent
from tallybook.kernel.limits import EVENT_BYTES_MAX

BATCH_EVENTS_MAX = 1000
BATCH_BYTES_MAX = 1024 * 1024
"""Before compression; far below what a server takes (kernel.limits.REQUEST_BYTES_MAX)."""


class _Wire(msgspec.Struct, omit_defaults=True):
    """The envelope's JSON members in the order they are written."""

    specversion: str
    type: str
    source: str
    id: str
    subject: str | None = None
    time: str | None = None
    datacontenttype: str | None = None
    dataschema: str | None = None
    data: msgspec.Raw = msgspec.Raw(b"null")


def encode_event(event: UsageEvent) -> bytes:
    """Return an event as CloudEvents JSON, its data byte for byte as it is."""
    wire = _Wire(
        event.specversion,
        event.type,
        event.source,
        event.id,
        event.subject,
        event.time,
        event.datacontenttype,
        event.dataschema,
        event.data,
    )
    encoded = msgspec.json.encode(wire)
    if not event.ext:
        return encoded
    return encoded[:-1] + b"," + msgspec.json.encode(event.ext)[1:]


def fits(piece: bytes) -> bool:
    """Whether an encoded event is within what a server takes."""
    return len(piece) <= EVENT_BYTES_MAX


def cut(
    pieces: Iterable[bytes],
    events_max: int = BATCH_EVENTS_MAX,
    bytes_max: int = BATCH_BYTES_MAX,
) -> Iterator[list[bytes]]:
    """Yield the pieces in order, in batches of at least one piece within both bounds."""
    batch: list[bytes] = []
    size = 0
    for piece in pieces:
        if batch and (len(batch) >= events_max or size + len(piece) > bytes_max):
            yield batch
            batch, size = [], 0
        batch.append(piece)
        size += len(piece) + 1
    if batch:
        yield batch


def joined(pieces: Sequence[bytes]) -> bytes:
    """Return a batch as one JSON array."""
    return b"[" + b",".join(pieces) + b"]"


def parted(array: bytes) -> list[bytes]:
    """Return the pieces of a batch; `joined` of them is the batch again."""
    return [bytes(piece) for piece in msgspec.json.decode(array, type=list[msgspec.Raw])]
