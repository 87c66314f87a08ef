"""Events that the server refused, kept beside the spool for a person to look at.

`refused.ndjson` holds the events alone, so that `tallybook ingest refused.ndjson --format
cloudevents` sends them again once the reason is gone; `refused-reasons.ndjson` says why, one line
for each.
"""

import errno
import os
import time
from pathlib import Path

import msgspec

from tallybook.kernel.errors import TallybookError, Unavailable
from tallybook.kernel.timestamps import format_us


class RefusedFile:
    """`Parking` in two files of a folder."""

    def __init__(self, folder: Path) -> None:
        """Nothing is made before the first refusal."""
        self.events = folder / "refused.ndjson"
        self.reasons = folder / "refused-reasons.ndjson"

    def park(self, piece: bytes, error: TallybookError) -> None:
        """Append one event and its reason; on return both are on stable storage."""
        reason = {
            "at": format_us(time.time_ns() // 1000),
            "code": error.code,
            "message": error.message,
            "event": msgspec.Raw(piece),
        }
        _append(self.events, piece)
        _append(self.reasons, msgspec.json.encode(reason))

    def count(self) -> int:
        """Return how many events are parked."""
        try:
            with self.events.open("rb") as file:
                return sum(1 for _ in file)
        except FileNotFoundError:
            return 0


def _append(path: Path, line: bytes) -> None:
    try:
        with path.open("ab", buffering=0) as file:
            whole = file.tell()
            try:
                if file.write(line + b"\n") != len(line) + 1:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(file.fileno())
            except OSError:
                file.truncate(whole)  # half a line would spoil the next
                raise
    except OSError as error:
        raise Unavailable(f"{path}: {error.strerror or error}") from error
