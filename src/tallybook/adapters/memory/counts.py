"""Counts in the memory of one process, shared by any number of users as if they were processes."""

import secrets
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from tallybook.admit.plan.decide import FRESH, Held, Place

T = TypeVar("T")


class SharedCounts:
    """What users count together."""

    def __init__(self) -> None:
        """Nothing is counted yet."""
        self.lock = threading.Lock()
        self.values: dict[bytes, Held] = {}
        self.users: list[MemoryCounts] = []
        self.generation = secrets.token_hex(16)


class MemoryCounts:
    """`Counts` in memory.

    Args:
        shared: the same for all users.
    """

    def __init__(self, shared: SharedCounts) -> None:
        """Count along."""
        self._shared = shared
        self._own: dict[bytes, Held] = {}
        with shared.lock:
            shared.users.append(self)

    @property
    def generation(self) -> str:
        """Names what is counted together."""
        return self._shared.generation

    def close(self) -> None:
        """End, and take along what is this user's own."""
        with self._shared.lock:
            self._shared.users.remove(self)

    def change(
        self, places: Sequence[Place], decide: Callable[[list[Held]], tuple[list[Held] | None, T]]
    ) -> T:
        """Change counts together; see `Counts`."""
        with self._shared.lock:
            after, answer = decide([self._held(place) for place in places])
            for place, values in zip(places, after or (), strict=False):
                kept = self._own if place.own else self._shared.values
                kept[place.name] = values
        return answer

    def read(self, places: Sequence[Place]) -> list[Held]:
        """Return counts as they are now; see `Counts`."""
        with self._shared.lock:
            return [self._held(place) for place in places]

    def sync(self) -> None:
        """There is no disk."""

    def _held(self, place: Place) -> Held:
        if not place.own:
            return self._shared.values.get(place.name, FRESH)
        mine = self._own.get(place.name, FRESH)
        others = [user._own for user in self._shared.users if user is not self]  # noqa: SLF001
        return (mine[0], sum(own.get(place.name, FRESH)[0] for own in others), *mine[2:])
