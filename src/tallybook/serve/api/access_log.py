"""The server's own requests in combined log format, which the agent can read back (and bill).

Lines are collected and written every half second by a thread of their own, whole lines in one
append, so that no request waits for the disk and processes do not mix their lines.
"""

import os
import threading
import time
from pathlib import Path

import structlog

from tallybook.serve.api.common.rounds import Rounds

FLUSH_SECONDS = 0.5
LINES_MAX = 100_000
"""Most lines kept while the disk refuses; then the oldest are dropped, and counted in the log."""

_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
_UNSAFE = {i: f"\\x{i:02x}" for i in [*range(32), 127]} | {ord('"'): '\\"', ord("\\"): "\\\\"}


class AccessLog:
    """Writes lines to a file that others may rotate.

    Args:
        path: opened for each flush, so a renamed file gets a successor.
    """

    def __init__(self, path: Path) -> None:
        """Start the writing thread."""
        self._path = path
        self._lines: list[str] = []
        self._lock = threading.Lock()
        self._second = (-1, "")
        self._rounds = Rounds(self.flush, FLUSH_SECONDS, "access-log")
        self._rounds.start()

    def add(
        self, client: str, request: str, status: int, size: int, referer: str, agent: str
    ) -> None:
        """Queue one line.

        Args:
            client: address.
            request: such as 'GET /x HTTP/1.1'.
            status: HTTP status.
            size: bytes of the body.
            referer: header, '' for none.
            agent: header, '' for none.
        """
        line = (
            f'{client} - - [{self._moment()}] "{safe(request)}" {status} {size or "-"}'
            f' "{safe(referer) or "-"}" "{safe(agent) or "-"}"\n'
        )
        with self._lock:
            self._lines.append(line)

    def flush(self) -> None:
        """Write what is queued; keep it where the disk refuses."""
        with self._lock:
            taken, self._lines = self._lines, []
        if not taken:
            return
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
            try:
                os.write(descriptor, "".join(taken).encode())
            finally:
                os.close(descriptor)
        except OSError as error:
            log = structlog.get_logger("access")
            log.warning("access_log.not_written", error=str(error), lines=len(taken))
            with self._lock:
                self._lines = (taken + self._lines)[-LINES_MAX:]

    def close(self) -> None:
        """Write what is queued and end the thread."""
        self._rounds.close()
        self.flush()

    def _moment(self) -> str:
        second = int(time.time())
        known, text = self._second
        if known != second:
            t = time.gmtime(second)
            clock = f"{t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02} +0000"
            text = f"{t.tm_mday:02}/{_MONTHS[t.tm_mon - 1]}/{t.tm_year}:{clock}"
            self._second = (second, text)
        return text


def safe(text: str) -> str:
    """Return a header or path that cannot end its quotes or its line."""
    if text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return text.translate(_UNSAFE)
