"""A whole file of intervals as events, and how many of its intervals do not count, and why."""

from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from typing import Literal

from tallybook.collect.intervals import columns, nem12
from tallybook.collect.intervals.columns import Columns
from tallybook.collect.intervals.interval import TYPE, bad_event, interval_event
from tallybook.collect.spool import encode_event
from tallybook.kernel.errors import Invalid, Unavailable

FileForm = Literal["nem12", "csv"]
FILE_BYTES_MAX = 64 * 1024 * 1024


class IntervalFile:
    """Reads one file.

    Args:
        content: all of it.
        form: of the file.
        source: of the events.
        kind: their type.
        told: where a CSV file keeps what is needed.
        qualities: of NEM12, that count.

    Attributes:
        left_out: reason -> how many intervals did not count; filled while it is read.
        bad: records that went to quarantine.
    """

    def __init__(
        self,
        content: bytes,
        form: FileForm,
        source: str,
        kind: str = TYPE,
        *,
        told: Columns | None = None,
        qualities: tuple[str, ...] = nem12.QUALITIES,
    ) -> None:
        """Check that it is text."""
        try:
            self._lines = content.decode("utf-8-sig").splitlines(keepends=True)
        except UnicodeDecodeError as error:
            raise Invalid(f"the file is not UTF-8: {error}", field="file") from error
        self._digest = sha256(content).hexdigest()[:16]
        self._form = form
        self._source = source
        self._kind = kind
        self._told = told
        self._qualities = qualities
        self.left_out: Counter[str] = Counter()
        self.bad = 0

    def check_whole(self) -> None:
        """Raise Unavailable where the file shows that it was cut off."""
        if self._form == "nem12" and not nem12.is_whole(self._lines):
            raise Unavailable("the file has no 900 record at its end; it was cut off")
        if self._form == "csv" and self._lines and not self._lines[-1].endswith("\n"):
            raise Unavailable("the file's last line has no line end; it may be cut off")

    def pieces(self) -> Iterator[bytes]:
        """Yield events as wire JSON.

        Raises:
            Invalid: the file is not of its form.
        """
        if self._form == "nem12":
            found = nem12.rows(self._lines, self._qualities)
        else:
            assert self._told is not None, "CSV needs its columns"
            found = columns.rows(self._lines, self._told)
        for row in found:
            self.left_out.update(row.left_out)
            if row.problem is not None:
                self.bad += 1
                event = bad_event(row, self._source, self._form, self._digest)
                yield encode_event(event)
            for interval in row.intervals:
                yield encode_event(interval_event(interval, self._source, self._kind))
