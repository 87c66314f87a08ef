"""Sends a whole file once: its lines as events, in batches, with retries of the same bytes.

Ids follow from the file, so a run that was killed is simply repeated. A last line without a line
end may be cut off in the middle of a number; it is left unread and told, unless its format shows
that it is whole or the caller says that the file is.
"""

import gzip
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from random import SystemRandom
from typing import BinaryIO, cast

import msgspec

from tallybook.adapters.files.lines import LineFile, first_lines
from tallybook.adapters.http.sender import ZstdPacking
from tallybook.collect.backoff import wait_seconds
from tallybook.collect.fileid import Origin, fingerprint, origin_of
from tallybook.collect.formats.choice import LOG_NAMES, LogFormat, Reading, ends_whole, log_format
from tallybook.collect.formats.tables import (
    Fields,
    logical_rows,
    parse_event,
    parse_objects,
    parse_rows,
)
from tallybook.collect.intervals.columns import Columns
from tallybook.collect.intervals.files import FILE_BYTES_MAX, FileForm, IntervalFile
from tallybook.collect.intervals.interval import TYPE as INTERVAL_TYPE
from tallybook.collect.intervals.nem12 import QUALITIES
from tallybook.collect.lines import Line, text_of
from tallybook.collect.ports import EventSender, Receipt
from tallybook.collect.spool import cut
from tallybook.kernel.errors import Invalid, Unavailable

INTERVAL_FORMATS = ("nem12", "intervals")
FORMATS = (*LOG_NAMES, "ndjson", "cloudevents", "csv", *INTERVAL_FORMATS)
INTERVAL_SOURCE = "meter:intervals"
"""What the agent calls the same files, so that reading one twice changes nothing."""
STDIN = "-"
_RETRY_CAP_SECONDS = 10.0


class Upload(msgspec.Struct, kw_only=True):
    """What is sent, and what became of it; filled while the file is read.

    Attributes:
        lines: events sent, whole or for quarantine; rows of a table, elements of an array.
        accepted: stored by the server; quarantined: kept by it with a problem.
        blank: empty lines of a table, which say nothing.
        unfinished_bytes: of a last line that was left unread, 0 where there is none.
        left_out: reason -> intervals of meters that do not count.
        source: of the events that do not bring their own.
    """

    lines: int = 0
    accepted: int = 0
    quarantined: int = 0
    blank: int = 0
    unfinished_bytes: int = 0
    left_out: dict[str, int] = {}
    source: str = ""


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What the caller says about the file.

    Attributes:
        form: one of `FORMATS`.
        pattern: of a declared log format; so is log_subject.
        source: of the events; None is the fingerprint of the first line, of meters one for all.
        columns: where a CSV file of meters keeps what is needed.
        kind: type of the events of meters.
        qualities: of NEM12, that count.
        fields: where a table keeps what an event needs; None for other formats.
        complete: the last line is whole, whether or not it has a line end.
    """

    form: str
    pattern: str | None = None
    log_subject: str | None = None
    source: str | None = None
    fields: Fields | None = None
    columns: Columns | None = None
    kind: str = INTERVAL_TYPE
    qualities: tuple[str, ...] = QUALITIES
    complete: bool = False

    def check(self) -> None:
        """Raise Invalid where the format cannot be read, before anything is sent."""
        if self.form in LOG_NAMES:
            log_format(self.form, self.pattern, self.log_subject)
        elif self.pattern is not None:
            raise Invalid("only nginx, apache and envoy logs have a pattern", field="pattern")


class FileUpload:
    """The events of one open file.

    Args:
        file: opened for reading bytes.
        told: what the caller says about it.
    """

    def __init__(self, file: BinaryIO, told: Told) -> None:
        """Read nothing yet."""
        self._file = file
        self._told = told
        self.result = Upload()

    def pieces(self) -> Iterator[bytes]:
        """Yield wire JSON, one event a line.

        Raises:
            Invalid: the file has no heading, or is no array.
        """
        if self._told.form == "cloudevents" and _starts_array(self._file):
            yield from _elements(self._file)
            return
        if self._told.form in INTERVAL_FORMATS:
            yield from self._intervals()
            return
        reader = LineFile(self._file)
        lines = self._rows(reader)
        heading = next(lines, None) if self._told.form == "csv" else None
        first = first_lines(lines, headed=self._told.form == "w3c")
        if not first:
            self._note_unfinished(reader)
            return
        form = self._format(heading)
        reading = Reading(form, self._origin(heading, first))
        for line in chain(first, lines):
            if (piece := reading.piece(line)) is not None:
                yield piece
        last = self._last(reader, form)
        if last is not None and (piece := reading.piece(last)) is not None:
            yield piece

    def _intervals(self) -> Iterator[bytes]:
        told = self._told
        self.result.source = told.source or INTERVAL_SOURCE
        content = self._file.read(FILE_BYTES_MAX + 1)
        if len(content) > FILE_BYTES_MAX:
            raise Invalid(f"a file of meters has at most {FILE_BYTES_MAX >> 20} MiB", field="file")
        form: FileForm = "nem12" if told.form == "nem12" else "csv"
        work = IntervalFile(
            content, form, self.result.source, told.kind,
            told=told.columns, qualities=told.qualities,
        )  # fmt: skip
        if not told.complete:
            try:
                work.check_whole()
            except Unavailable as error:
                message = f"{error.message}; if it is whole, add --complete"
                raise Invalid(message, field="file") from error
        yield from work.pieces()
        self.result.left_out = dict(work.left_out)

    def _rows(self, reader: LineFile) -> Iterator[Line]:
        """Yield what becomes an event: every line of a log, rows of a table without blanks."""
        if self._told.form in LOG_NAMES:
            yield from reader
            return
        for line in logical_rows(reader) if self._told.form == "csv" else reader:
            if line.content.strip():
                yield line
            else:
                self.result.blank += 1

    def _format(self, heading: Line | None) -> LogFormat:
        name, fields = self._told.form, self._told.fields
        if name in LOG_NAMES:
            return log_format(name, self._told.pattern, self._told.log_subject)
        if name == "cloudevents":
            return LogFormat(name, parse_event, complete_at_end=True)
        assert fields is not None, "tables need fields"
        if heading is None:
            return LogFormat(name, parse_objects(fields), complete_at_end=True)
        parse = parse_rows(fields, text_of(heading.content))
        return LogFormat(name, parse, complete_at_end=False)

    def _origin(self, heading: Line | None, first: Sequence[Line]) -> Origin:
        known_by = [line.content for line in (heading, *first) if line is not None]
        origin = origin_of(fingerprint(*known_by), self._told.source)
        self.result.source = origin.source
        return origin

    def _last(self, reader: LineFile, form: LogFormat) -> Line | None:
        """Return a last line without a line end, where it is whole."""
        last = reader.unfinished
        if last is not None and (self._told.complete or ends_whole(last, form)):
            return last
        self._note_unfinished(reader)
        return None

    def _note_unfinished(self, reader: LineFile) -> None:
        if reader.unfinished is not None:
            self.result.unfinished_bytes = reader.unfinished.length


def upload(
    work: FileUpload,
    sender: EventSender,
    retry_seconds: float,
    progress: Callable[[Upload], None],
) -> Upload:
    """Send everything; return what became of it.

    Args:
        work: the file.
        sender: where it goes.
        retry_seconds: how long to try again while the server is away.
        progress: told after every batch.

    Raises:
        Refused: the server will not take it; what was sent before stays.
        Unavailable: the server stayed away for `retry_seconds`.
    """
    packing, result = ZstdPacking(), work.result
    for batch in cut(work.pieces()):
        receipt = _sent(packing.pack(batch), len(batch), sender, retry_seconds)
        result.lines += len(batch)
        result.accepted += receipt.stored
        result.quarantined += receipt.quarantined
        progress(result)
    return result


def _sent(payload: bytes, events: int, sender: EventSender, retry_seconds: float) -> Receipt:
    deadline = time.monotonic() + retry_seconds
    failures = 0
    while True:
        try:
            return sender.send(payload, events)
        except Unavailable as error:
            failures += 1
            asked = error.retry_after_seconds
            wait = wait_seconds(failures, SystemRandom().random(), asked, _RETRY_CAP_SECONDS)
            if time.monotonic() + wait > deadline:
                raise
            time.sleep(wait)


@contextmanager
def opened(name: str) -> Iterator[BinaryIO]:
    """Open a file, a gzip-compressed file, or `-` for standard input.

    Raises:
        Invalid: it cannot be read.
    """
    if name == STDIN:
        yield sys.stdin.buffer
        return
    try:
        with Path(name).open("rb") as raw:
            if not _is_gzip(raw):
                yield raw
                return
            with gzip.open(raw) as plain:
                yield cast("BinaryIO", plain)
    except (OSError, EOFError) as error:
        raise Invalid(f"{name}: {_why(error)}", field="file") from error


def _why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _is_gzip(raw: BinaryIO) -> bool:
    magic = raw.read(2)
    raw.seek(0)
    return magic == b"\x1f\x8b"


def _starts_array(file: BinaryIO) -> bool:
    peek = getattr(file, "peek", None)
    head = peek(64) if peek is not None else b""
    return bytes(head).lstrip().startswith(b"[")


def _elements(file: BinaryIO) -> list[bytes]:
    try:
        elements = msgspec.json.decode(file.read(), type=list[msgspec.Raw])
    except msgspec.MsgspecError as error:
        raise Invalid(f"the file is not a JSON array of events: {error}", field="file") from error
    return [bytes(element) for element in elements]
