"""The typed columns that an API worker fills, followed through catalog changes."""

import threading
import time
from collections.abc import Callable

from tallybook.catalog.meter import Meter
from tallybook.kernel.errors import Unavailable
from tallybook.transport.columns import ColumnSet

CHECK_SECONDS = 1.0


class ColumnWatch:
    """Returns the columns of all meters; notices a change within a second.

    A column that a worker does not know yet is filled by the pump, so a late notice costs time
    and never a value.

    Args:
        version: returns the catalog's version, cheaply.
        meters: returns every meter version of every tenant.
        columns_max: most columns filled here.
    """

    def __init__(
        self,
        version: Callable[[], int],
        meters: Callable[[], list[tuple[str, Meter]]],
        columns_max: int,
    ) -> None:
        """Read the catalog once."""
        self._version = version
        self._meters = meters
        self._columns_max = columns_max
        self._seen = version()
        self._columns = self._read()
        self._checked = time.monotonic()
        self._lock = threading.Lock()

    def __call__(self) -> ColumnSet:
        """Return the columns to fill now."""
        if time.monotonic() - self._checked > CHECK_SECONDS and self._lock.acquire(blocking=False):
            try:
                self._check()
            finally:
                self._lock.release()
        return self._columns

    def _check(self) -> None:
        self._checked = time.monotonic()
        try:
            version = self._version()
            if version != self._seen:
                self._columns = self._read()
                self._seen = version
        except Unavailable:
            # Accepting goes on while the control database is busy; the pump fills what is missing.
            self._checked = time.monotonic()

    def _read(self) -> ColumnSet:
        found = {
            name: path for _, meter in self._meters() for name, path in meter.columns().items()
        }
        return ColumnSet(dict(sorted(found.items())[: self._columns_max]))
