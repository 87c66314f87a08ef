"""Where every source hands over what it has read: into the spool, with what it remembers.

Events that a rule takes go into windows first. Open windows are cursors of the spool like the
sources' positions, so events, positions and windows change in one transaction: a crash neither
loses a line nor counts it twice.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from tallybook.collect.aggregate.fold import (
    Closed,
    Folded,
    Tally,
    closed_after,
    crowded,
    due,
    fold,
    kept_in_mind,
)
from tallybook.collect.aggregate.rule import RuleSet, compiled
from tallybook.collect.aggregate.window import Window, cursor_of, window_event
from tallybook.collect.flow import decoded, encoded, packed
from tallybook.collect.ports import Packing
from tallybook.collect.spool import encode_event
from tallybook.kernel.errors import TallybookError
from tallybook.transport.ports import EventLog

WINDOWS_MAX = 8000
"""Open windows in memory; the oldest minutes are closed early where there are more."""

CLOSED_AT_ONCE = 250
"""Windows that become events in one transaction, so that a minute's thousands are not in memory
twice."""

_WINDOW_PREFIX = "window:"
_CLOSED_CURSOR = "windows-closed"


class ClosedWindows(msgspec.Struct, frozen=True):
    """How far windows are closed, by rule and version; what the cursor keeps."""

    rules: dict[str, Closed] = {}


class SpoolIntake:
    """`Intake` into a spool; the only writer of its cursors, which it keeps in memory.

    Args:
        spool: where batches and cursors go.
        packing: compresses batches.
        bytes_max: at this size the spool is full.
        edge: the edge's name, part of the identity of what is added up here.
        windows_max: how many windows may be open.

    Attributes:
        bytes_max: as given; may be changed at any time.
        version: of the rules that are followed.
    """

    def __init__(
        self,
        spool: EventLog,
        packing: Packing,
        bytes_max: int,
        edge: str = "edge",
        windows_max: int = WINDOWS_MAX,
    ) -> None:
        """Read what was kept by the run before."""
        self._spool = spool
        self._packing = packing
        self.bytes_max = bytes_max
        self._edge = edge
        self._windows_max = windows_max
        self.version = ""
        self._rules = compiled(RuleSet())
        self._cursors: dict[str, str] = {}
        self._tally = Tally()
        self._load()

    @property
    def windows(self) -> int:
        """How many windows are open."""
        return len(self._tally.windows)

    def follow(self, rules: RuleSet) -> None:
        """Add up by these rules from now on; open windows of others close in their time."""
        self._rules = compiled(rules)
        self.version = rules.version

    def cursor(self, name: str) -> str | None:
        """Return what was kept under a name, None for nothing yet."""
        return self._cursors.get(name) or None

    def take(
        self, pieces: Iterable[bytes], cursors: Mapping[str, str], *, repeats: bool = False
    ) -> int:
        """Keep events and cursors in one transaction; return how many events came."""
        came = list(pieces)
        rules = {} if repeats else self._rules
        if not rules:
            self._append(came, cursors)
            return len(came)
        folded = fold(came, rules, self.version, self._tally)
        grown = {**self._tally.windows, **folded.windows}
        self._keep(folded, cursors, crowded(grown, self._windows_max))
        return len(came)

    def close_windows(self, now_us: int) -> int:
        """Spool the windows whose time is over; return how many.

        Args:
            now_us: an instant up to which everything was read.
        """
        windows = due(self._tally, now_us)
        for at in range(0, len(windows), CLOSED_AT_ONCE):
            some = windows[at : at + CLOSED_AT_ONCE]
            self._keep(Folded([], {}, self._tally.closed), {}, some)
        return len(windows)

    def used_share(self) -> float:
        """Return how much of the spool's room is in use; from 1 on it is full."""
        return self._spool.state().stored_bytes / self.bytes_max

    def _keep(self, folded: Folded, cursors: Mapping[str, str], closing: Sequence[Window]) -> None:
        """Write changed windows and close some, with everything else, in one transaction."""
        windows = {**self._tally.windows, **folded.windows}
        changed = {cursor_of(i): encoded(window) for i, window in folded.windows.items()}
        for window in closing:
            del windows[window.identity]
            changed[cursor_of(window.identity)] = ""
        closed = kept_in_mind(closed_after(folded.closed, closing))
        if closed != self._tally.closed:
            changed[_CLOSED_CURSOR] = encoded(ClosedWindows(closed))
        made = [encode_event(window_event(window, self._edge)) for window in closing]
        self._append([*folded.passed, *made], cursors, changed)
        self._tally = Tally(windows, closed)

    def _append(
        self,
        pieces: Sequence[bytes],
        cursors: Mapping[str, str],
        windows: Mapping[str, str] | None = None,
    ) -> None:
        try:
            self._spool.append(packed(pieces, self._packing), {**cursors, **(windows or {})})
        except TallybookError:
            self._load()  # whatever the disk has made of it
            raise
        self._cursors |= cursors

    def _load(self) -> None:
        kept = self._spool.cursors()
        windows = [
            decoded(text, Window)
            for name, text in kept.items()
            if name.startswith(_WINDOW_PREFIX) and text
        ]
        closed = kept.get(_CLOSED_CURSOR)
        self._cursors = {n: t for n, t in kept.items() if not n.startswith(_WINDOW_PREFIX)}
        self._tally = Tally(
            {window.identity: window for window in windows},
            decoded(closed, ClosedWindows).rules if closed else {},
        )
