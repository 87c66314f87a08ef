"""Where the values of events stand in the body of a request (ADR 0021).

Found by the compiled pass of `_places.c`. Where the package was built without a C compiler,
there is none, and `transport.spelled` finds fewer of them, slower.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tallybook.kernel.jsonpath import Path, steps
from tallybook.kernel.limits import ATTRIBUTE_CHARS_MAX

try:
    from tallybook.transport._places import Finder
except ImportError:  # built without a compiler
    COMPILED = False
else:
    COMPILED = True

ATTRIBUTES = ("id", "source", "type", "subject", "time")
"""Attributes that have a column of their own, in the order of their rows."""
TYPE, TIME, DATA = ATTRIBUTES.index("type"), ATTRIBUTES.index("time"), len(ATTRIBUTES)
"""Rows of the places: attributes, data, and then the typed columns."""


class Places(NamedTuple):
    """Where each column's values stand in a body.

    Attributes:
        starts, ends: shape (rows, n); -1 for a value that an event has not. Texts of attributes
            stand without their quotes, values at paths with them.
        declared: whether an event says of itself that its data is JSON; shape (n,).
        events: where the events start; shape (n,).
    """

    starts: npt.NDArray[np.signedinteger]
    ends: npt.NDArray[np.signedinteger]
    declared: npt.NDArray[np.bool_]
    events: npt.NDArray[np.signedinteger]


class Find:
    """Finds where the values of events stand, and those at paths.

    Args:
        paths: of the typed columns.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        """Compile the paths."""
        self._finder = Finder(tuple(steps(path) for path in paths))

    def __call__(self, body: bytes, events_max: int, event_bytes_max: int) -> Places | None:
        """Return where the values of a body stand; None where it takes another road.

        Args:
            body: a JSON array of events.
            events_max: most events it may have.
            event_bytes_max: most bytes of one.
        """
        found = self._finder.find(body, events_max, event_bytes_max, ATTRIBUTE_CHARS_MAX)
        if found is None:
            return None
        count, starts, ends, declared = found
        begins = np.frombuffer(starts, np.int32).reshape(-1, count)
        return Places(
            begins[:-1],
            np.frombuffer(ends, np.int32).reshape(-1, count)[:-1],
            np.frombuffer(declared, np.bool_),
            begins[-1],
        )

    def takes(self, event: bytes, bytes_max: int) -> bool:
        """Whether an event, a JSON value, need not take another road."""
        body = b"[" + event + b"]"
        return self._finder.find(body, 1, bytes_max, ATTRIBUTE_CHARS_MAX) is not None


def finding(paths: Iterable[Path]) -> Find | None:
    """Return what finds values of events and at paths; None where nothing is compiled."""
    return Find(paths) if COMPILED else None


def joined(parts: Sequence[tuple[Places, int]]) -> Places:
    """Return the places of bodies that stand behind each other.

    Args:
        parts: each with how many bytes stand before its body.
    """
    if len(parts) == 1:
        return parts[0][0]
    return Places(
        np.concatenate([_moved(one.starts, by) for one, by in parts], axis=1),
        np.concatenate([_moved(one.ends, by) for one, by in parts], axis=1),
        np.concatenate([one.declared for one, _ in parts]),
        np.concatenate([one.events + by for one, by in parts]),
    )


def _moved(places: "npt.NDArray[np.signedinteger]", by: int) -> "npt.NDArray[np.signedinteger]":
    moved = places + np.int32(by)
    moved[places < 0] = -1
    return moved
