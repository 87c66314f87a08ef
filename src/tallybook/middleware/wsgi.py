"""Counts the requests of a WSGI application."""

from collections.abc import Callable, Iterable, Iterator, MutableMapping
from typing import Any

from tallybook.middleware.journal import Journal
from tallybook.middleware.request import CLIENT_GONE, Counted, SubjectOf

Environ = MutableMapping[str, Any]
App = Callable[[Any, Any], Iterable[bytes]]


class MeteredWSGI:
    """A WSGI application whose requests are counted into a journal.

    Args:
        app: the application.
        journal: where lines go; a path makes one.
        subject: says who used it, from the environment; None is the client's address.
    """

    def __init__(self, app: App, journal: Journal | str, subject: SubjectOf | None = None) -> None:
        """Wrap the application."""
        self._app = app
        self._journal = Journal(journal) if isinstance(journal, str) else journal
        self._subject = subject

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """Answer a request; it is counted when the server closes the answer."""
        counted = Counted(self._journal, environ.get("REMOTE_ADDR"), _data(environ))

        def started(status: str, headers: Any, *more: Any) -> Any:
            counted.status = int(status[:3])
            write = start_response(status, headers, *more)

            def written(block: bytes) -> Any:
                counted.bytes += len(block)
                return write(block)

            return written

        try:
            found = self._app(environ, started)
        except BaseException:
            self._end(counted, environ, 500)
            raise
        return _Answer(found, counted, lambda status: self._end(counted, environ, status))

    def _end(self, counted: Counted, environ: Environ, otherwise: int) -> None:
        if self._subject is not None:
            counted.name_subject(self._subject, environ)
        counted.end(otherwise)


class _Answer:
    """The body of an answer; counted as it is taken, and ended when it is closed."""

    def __init__(self, body: Iterable[bytes], counted: Counted, end: Callable[[int], None]) -> None:
        self._body = body
        self._counted = counted
        self._end = end
        self._failed = False

    def __iter__(self) -> Iterator[bytes]:
        try:
            for block in self._body:
                self._counted.bytes += len(block)
                yield block
        except Exception:
            self._failed = True
            raise

    def close(self) -> None:
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            self._end(500 if self._failed else CLIENT_GONE)


def _data(environ: Environ) -> dict[str, Any]:
    query = environ.get("QUERY_STRING")
    path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    return {
        "method": environ["REQUEST_METHOD"],
        "path": (path or "/") + (f"?{query}" if query else ""),
        "protocol": environ.get("SERVER_PROTOCOL"),
        "referer": environ.get("HTTP_REFERER"),
        "user_agent": environ.get("HTTP_USER_AGENT"),
    }
