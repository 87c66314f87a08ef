"""Logs of the server's processes: one event a line on standard error, never with local variables.

A terminal gets text, anything else JSON. Keys, requests' bodies and headers are never logged.
"""

import logging
import sys

import structlog


def configure() -> None:
    """Set up structlog for this process."""
    terminal = sys.stderr.isatty()
    plain = structlog.dev.ConsoleRenderer(
        colors=terminal, exception_formatter=structlog.dev.plain_traceback
    )
    shown = [plain] if terminal else [structlog.processors.format_exc_info, _json()]
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *shown,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def _json() -> structlog.processors.JSONRenderer:
    return structlog.processors.JSONRenderer()
