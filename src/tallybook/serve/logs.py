"""Logs of the server's processes: one event a line on standard error, never with local variables.

A terminal gets text, anything else JSON. Keys, requests' bodies and headers are never logged.
"""

import logging
import os
import sys
import threading
from typing import Any

import structlog

from tallybook.serve.api.gateway.line import REQUEST_ID


def _request(_logger: object, _method: str, event: Any) -> Any:
    """Name the request that a line is about."""
    name = REQUEST_ID.get()
    if name:
        event.setdefault("request_id", name)
    return event


def configure() -> None:
    """Set up structlog for this process."""
    lines = Lines(sys.stderr.fileno())
    terminal = sys.stderr.isatty()
    plain = structlog.dev.ConsoleRenderer(
        colors=terminal, exception_formatter=structlog.dev.plain_traceback
    )
    shown = [plain] if terminal else [structlog.processors.format_exc_info, _json()]
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            _request,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *shown,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=lambda *_: lines,
        cache_logger_on_first_use=True,
    )


class Lines:
    """A structlog logger that writes whole lines; a full disk under it stops no work.

    Lines that cannot be written are counted, and the count comes before the first that can be.

    Args:
        descriptor: where to, usually standard error.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lost = 0
        self._lock = threading.Lock()

    def msg(self, text: str) -> None:
        """Write a line, or count it as lost."""
        with self._lock:
            told = f"({self._lost} log lines could not be written)\n" if self._lost else ""
            try:
                os.write(self._descriptor, f"{told}{text}\n".encode(errors="replace"))
            except OSError:
                self._lost += 1
            else:
                self._lost = 0

    debug = info = warning = error = critical = exception = fatal = log = msg


def _json() -> structlog.processors.JSONRenderer:
    return structlog.processors.JSONRenderer()
