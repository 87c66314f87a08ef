"""Read, decide, write: a host reading, the next lines of a file."""

from collections.abc import Iterable
from typing import TypeVar

import msgspec

from tallybook.collect.fileid import origin_of
from tallybook.collect.following import Followed
from tallybook.collect.formats.choice import LogFormat, Reading
from tallybook.collect.host import HostState, host_round
from tallybook.collect.ports import (
    HostReader,
    Intake,
    LineSource,
    Packing,
)
from tallybook.collect.spool import cut, encode_event
from tallybook.kernel.errors import Corrupt
from tallybook.transport.ports import Batch

T = TypeVar("T")

HOST_CURSOR = "host"
CHUNK_BYTES_MAX = 32 * 1024
"""How much of a file is in memory at once; keeps the agent small through any backlog."""


class LinesRead(msgspec.Struct, frozen=True):
    """How many lines one step brought into the spool, and what a person should know."""

    lines: int
    notes: tuple[str, ...]


def file_cursor(name: str) -> str:
    """Return the name of the cursor that keeps how far a file was read."""
    return f"file:{name}"


def take_reading(reader: HostReader, intake: Intake, gap_after_us: int) -> int:
    """Read the host once and spool its events with the new baselines; return how many events."""
    known = intake.cursor(HOST_CURSOR)
    state = decoded(known, HostState) if known is not None else None
    found = host_round(reader.read(), state, gap_after_us)
    pieces = [encode_event(event) for event in found.events]
    return intake.take(pieces, {HOST_CURSOR: encoded(found.state)})


def read_lines(
    source: LineSource, form: LogFormat, own_source: str | None, intake: Intake
) -> LinesRead:
    """Spool the next lines of a file together with the new position; 0 lines is up to date.

    Args:
        source: the file.
        form: the format of its lines.
        own_source: the events' source, None for the file's fingerprint.
        intake: where events and position go, in one transaction.
    """
    cursor = file_cursor(source.name)
    known = intake.cursor(cursor)
    followed = decoded(known, Followed) if known is not None else Followed()
    chunk = source.read(followed, CHUNK_BYTES_MAX)
    if chunk.lines:
        origin = origin_of(chunk.fingerprint, own_source)
        at = chunk.followed.find(chunk.fingerprint)
        reading = Reading(form, origin, at.heading if at is not None else "")
        pieces = [p for line in chunk.lines if (p := reading.piece(line)) is not None]
        after = chunk.followed.headed(chunk.fingerprint, reading.heading)
        intake.take(pieces, {cursor: encoded(after)})
    return LinesRead(len(chunk.lines), chunk.notes)


def packed(pieces: Iterable[bytes], packing: Packing) -> list[Batch]:
    """Return events as the batches of spool rows."""
    return [Batch(len(batch), packing.pack(batch)) for batch in cut(pieces)]


def encoded(state: msgspec.Struct) -> str:
    """Return what a source remembers as the text of a cursor."""
    return msgspec.json.encode(state).decode()


def decoded(text: str, kind: type[T]) -> T:
    """Return what a source remembered; raises Corrupt."""
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.MsgspecError as error:
        raise Corrupt(f"the spool keeps a position that cannot be read: {error}") from error
