"""The balances that a process keeps, found by what they are of and by whose events touch them.

Following the lake works on few of many balances: a round looks up those whose subjects have new
events, and those that were put meanwhile; it never walks all of them, and whoever checks waits for
no longer than one of these steps.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence

from tallybook.meter.usage import Kind
from tallybook.settle.access.kept import Kept

Key = tuple[str, str]
"""Tenant, and key of an entitlement."""

AT_ONCE = 500
"""Subjects that are looked up before somebody else may."""


class Place:
    """One entitlement's kept balance, and how new its terms are known to be.

    Attributes:
        kept: the balance; its terms never change: other terms are another place.
        changed: the tenant's version of grants at which the terms were compared.
        version: the catalog's, likewise.
    """

    __slots__ = ("changed", "kept", "version")

    def __init__(self, kept: Kept, changed: int, version: int) -> None:
        """Keep it."""
        self.kept = kept
        self.changed = changed
        self.version = version


class Places:
    """Kept balances; safe for threads.

    Args:
        most: how many; the one asked for longest ago makes room.

    Guarantees:
        Of every place, usage is counted up to its own snapshot, and up to the one that `get` tells;
        neither goes back while the place is kept.
    """

    def __init__(self, most: int) -> None:
        """Keep nothing yet."""
        self._most = most
        self._lock = threading.Lock()
        self._places: OrderedDict[Key, Place] = OrderedDict()
        self._owned: dict[Kind, dict[str, set[Key]]] = {}
        self._since: set[Key] = set()
        self._cut = 0

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._places)

    def get(self, key: Key) -> tuple[Place | None, int]:
        """Return a place, and a snapshot up to which it counts everything."""
        with self._lock:
            place = self._places.get(key)
            if place is not None:
                self._places.move_to_end(key)
            return place, self._cut

    def put(self, key: Key, place: Place) -> None:
        """Keep a balance, unless following or the one that is kept is past its snapshot already."""
        with self._lock:
            if not self._places:
                self._cut = place.kept.cut
            known = self._places.get(key)
            if place.kept.cut < (self._cut if known is None else max(self._cut, known.kept.cut)):
                return
            self._remove(key)
            self._places[key] = place
            self._since.add(key)
            for kind, subject in _owners(key, place):
                self._owned.setdefault(kind, {}).setdefault(subject, set()).add(key)
            if len(self._places) > self._most:
                self._remove(next(iter(self._places)))

    def replace(self, place: Place, known: Kept, kept: Kept) -> None:
        """Keep a balance of the same terms in place of one that is still there."""
        with self._lock:
            if place.kept is known:
                place.kept = kept

    def renew(self, place: Place, kept: Kept) -> None:
        """Keep a balance of the same terms, of a newer snapshot."""
        with self._lock:
            place.kept = kept

    def begin(self) -> tuple[int, list[Kind]]:
        """Begin a round; return the snapshot from which it goes on, and of which events."""
        with self._lock:
            self._since = set()
            return self._cut, sorted(self._owned)

    def touched(self, kind: Kind, subjects: Sequence[str], head: int) -> list[Place]:
        """Return the places of subjects that do not count everything up to a snapshot."""
        found: dict[Key, Place] = {}
        for start in range(0, len(subjects), AT_ONCE):
            with self._lock:
                for key in self._keys(kind, subjects[start : start + AT_ONCE]):
                    place = self._places[key]
                    if place.kept.cut < head:
                        found[key] = place
        return list(found.values())

    def publish(self, head: int) -> None:
        """End a round: all that are touched count everything up to a snapshot.

        What was put since it began, as of an older one, may have been missed, and is forgotten.
        """
        with self._lock:
            for key in self._since:
                place = self._places.get(key)
                if place is not None and place.kept.cut < head:
                    self._remove(key)
            self._since = set()
            self._cut = head

    def _keys(self, kind: Kind, subjects: Iterable[str]) -> Iterable[Key]:
        owned = self._owned.get(kind, {})
        for subject in subjects:
            yield from owned.get(subject, ())

    def _remove(self, key: Key) -> None:
        place = self._places.pop(key, None)
        for kind, subject in () if place is None else _owners(key, place):
            owned = self._owned[kind]
            owned[subject].discard(key)
            if not owned[subject]:
                del owned[subject]
            if not owned:
                del self._owned[kind]


def _owners(key: Key, place: Place) -> list[tuple[Kind, str]]:
    """Return whose events touch a place, each once."""
    terms = place.kept.terms
    kind = (key[0], terms.meter.event_type)
    return [(kind, subject) for subject in {owned.subject for owned in terms.owners}]
