"""What is known of a request when its answer has ended, as the data of an event."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from tallybook.middleware.journal import Journal

_LOG = logging.getLogger("tallybook")
TYPE = "http.server.request"
CLIENT_GONE = 499
"""nginx's status of a request whose client went away before the answer ended."""

SubjectOf = Callable[[Mapping[str, Any]], str | None]
"""Says who used it, from the ASGI scope or the WSGI environment."""

_KNOWN = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})


class Counted:
    """One request while it is answered."""

    def __init__(self, journal: Journal, subject: str | None, data: dict[str, Any]) -> None:
        """Keep what the request says."""
        if data["method"] not in _KNOWN:
            data["method"] = "_OTHER"
        self._journal = journal
        self.subject = subject
        self._data = data
        self._ended = False
        self.status = 0
        self.bytes = 0

    def name_subject(self, subject: SubjectOf, scope: Mapping[str, Any]) -> None:
        """Ask who used it; an application's answer never fails because nobody can tell."""
        try:
            self.subject = subject(scope)
        except Exception:  # noqa: BLE001 - the request was answered, and counts
            _LOG.exception("who used it cannot be told; the request counts without a subject")

    def end(self, otherwise: int) -> None:
        """Write the line, once.

        Args:
            otherwise: the status where no answer was begun.
        """
        if self._ended:
            return
        self._ended = True
        data = {**self._data, "status": self.status or otherwise, "bytes": self.bytes}
        self._journal.event(TYPE, data, subject=self.subject)
