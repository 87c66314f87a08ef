"""Work done again and again beside the requests, on a thread that ends before the process does."""

import threading
from collections.abc import Callable
from time import monotonic

import structlog

LAST_SECONDS = 5.0
"""How long `close` waits for a round that has begun."""


class Rounds:
    """Does something every so often, on a thread of its own.

    Args:
        do: one round; a bug in it is told, and the next round comes.
        seconds: from the start of a round to the start of the next; there is a rest between two,
            of a fifth of it at least.
        name: of the thread.

    Guarantees:
        No thread comes back from a database's code into an interpreter that is going away, which
        aborts the process: the interpreter waits for this one, and it ends by itself where nobody
        closed it.
    """

    def __init__(self, do: Callable[[], object], seconds: float, name: str) -> None:
        """Do nothing yet; `start` begins."""
        self._do = do
        self._seconds = seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=False)

    @property
    def ended(self) -> bool:
        """Whether no round shall begin any more; a long one looks at it between its parts."""
        return self._ended.is_set() or not threading.main_thread().is_alive()

    def start(self) -> None:
        """Begin the first round after a rest; where it was begun or closed already, do nothing."""
        if self._thread.ident is None and not self._ended.is_set():
            self._thread.start()

    def close(self) -> None:
        """End, once the round that has begun is done."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(LAST_SECONDS)

    def _run(self) -> None:
        rest = self._seconds
        while not self._ended.wait(rest) and not self.ended:
            begun = monotonic()
            try:
                self._do()
            except Exception:  # noqa: BLE001 - without its rounds the process would go on, and stale
                structlog.get_logger(self._thread.name).exception("rounds.bug")
            rest = max(self._seconds - (monotonic() - begun), self._seconds / 5)
