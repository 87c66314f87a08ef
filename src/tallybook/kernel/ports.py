"""What every flow may ask of the outside world: the time, and fresh ids."""

from typing import Protocol


class Clock(Protocol):
    """Tells the time."""

    def now_us(self) -> int:
        """Return the present instant, microseconds UTC."""
        ...


class Ids(Protocol):
    """Makes fresh ids."""

    def new(self, prefix: str) -> str:
        """Return an id never returned before: a UUIDv7 with a type prefix."""
        ...
