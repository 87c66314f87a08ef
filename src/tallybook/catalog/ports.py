"""What the catalog needs of a store: read it whole, write what was decided."""

from collections.abc import Sequence
from typing import Protocol

from tallybook.catalog.catalog import Catalog, Entry
from tallybook.kernel.book.fact import Fact


class CatalogStore(Protocol):
    """Keeps the catalog of every tenant.

    Raises, from every method:
        Unavailable: the store cannot be reached; nothing of the call has happened.
    """

    def version(self) -> int:
        """Return a number that grows with every change of any tenant; cheap to poll."""
        ...

    def load(self, tenant: str) -> Catalog:
        """Return everything of a tenant, as of one instant; empty for an unknown tenant."""
        ...

    def write(
        self,
        tenant: str,
        entries: Sequence[Entry],
        expected: int | None = None,
        facts: Sequence[Fact] = (),
    ) -> int:
        """Write all entries, and what is to be told of them, in one transaction.

        Returns:
            The new version.

        Args:
            tenant: whose.
            entries: a meter or plan version that is stored already must not change its meaning.
            expected: refuse where the version is no longer this.
            facts: to be told outside; one whose id is there already is left out.

        Raises:
            Conflict: the version moved on; load and decide again.
        """
        ...
