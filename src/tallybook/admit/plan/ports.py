"""What usage plans need of the outside world."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from tallybook.admit.plan.decide import Held, Place

T = TypeVar("T")

Change = Callable[[list[Held]], tuple[list[Held] | None, T]]
"""From counts to what they shall be, None as they are, and an answer."""


class Counts(Protocol):
    """Counts that all processes of a server share; they outlive each of them."""

    def change(self, places: Sequence[Place], decide: Change[T]) -> T:
        """Change counts together, while nobody else reads or changes them to decide.

        Args:
            places: which; no two alike.
            decide: called once with the counts in this order; it only computes.

        Returns:
            The answer of `decide`, once the change is there for all.

        Raises:
            Unavailable: the counts cannot be reached; nothing was changed.

        Guarantees: a process that is killed in here has changed each count wholly or not at all.
        """
        ...

    def read(self, places: Sequence[Place]) -> list[Held]:
        """Return counts as they are now, each by itself."""
        ...

    def sync(self) -> None:
        """Return once what was changed before is on the disk."""
        ...

    @property
    def generation(self) -> str:
        """Names these counts; others have taken their place where it changes."""
        ...
