"""What rating and invoicing need of the stored usage, in their own words."""

from collections.abc import Iterator
from typing import Protocol

from tallybook.meter.usage import Counters, StoredEvent, Touched, Usage, UsageQuery


class UsageReader(Protocol):
    """Answers questions about usage, for any snapshot."""

    def head(self) -> int:
        """Return the newest snapshot: a cut that contains everything in the lake now."""
        ...

    def usage(self, query: UsageQuery) -> list[Usage]:
        """Return the exact aggregates of a query, ordered by window, owner, subject, group."""
        ...

    def events(self, query: UsageQuery, after_cut: int = 0) -> Iterator[StoredEvent]:
        """Yield the very events a query counts, those with commit_seq > `after_cut` only.

        Ordered by (time, source, id).
        """
        ...

    def subjects(self, tenant: str, event_type: str, cut: int) -> list[tuple[str, int]]:
        """Return every subject of a type with the time of its first event, microseconds UTC."""
        ...

    def touched(
        self, tenant: str, event_type: str, after: int, cut: int, *, before_us: int | None = None
    ) -> list[Touched]:
        """Return the subjects of a type's accepted events of the commits after one, up to another.

        Only events of times before `before_us` are looked at, where given. Ordered by subject.
        """
        ...


class EventAccounts(Protocol):
    """Answers how many events came in and what became of them (guarantee 7)."""

    def counters(self, tenant: str) -> Counters:
        """Return what the lake's commits counted: every acknowledged event falls in one class."""
        ...

    def stored(self, tenant: str, cut: int) -> Counters:
        """Return what is found by counting rows: `accepted` and `quarantined` only."""
        ...

    def by_type(self, tenant: str, cut: int) -> dict[str, int]:
        """Return accepted events by CloudEvents type, counted from rows."""
        ...
