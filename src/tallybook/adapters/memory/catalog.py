"""The catalog in a dict: the fake for flows, held to the same contract suite as the SQL store."""

from collections.abc import Callable, Sequence

import msgspec

from tallybook.catalog.catalog import Catalog, Entry, with_entries
from tallybook.catalog.check import check_stored
from tallybook.kernel.book.fact import Fact
from tallybook.kernel.errors import Conflict


class MemoryCatalog:
    """`CatalogStore` in memory."""

    def __init__(self, tell: Callable[[str, Sequence[Fact]], None] | None = None) -> None:
        """Start empty; facts of a tenant go to `tell`, or nowhere."""
        self._tell = tell
        self._version = 0
        self._tenants: dict[str, Catalog] = {}

    def version(self) -> int:
        """Return a number that grows with every change."""
        return self._version

    def load(self, tenant: str) -> Catalog:
        """Return everything of a tenant."""
        catalog = self._tenants.get(tenant, Catalog())
        return msgspec.structs.replace(catalog, version=self._version)

    def write(
        self,
        tenant: str,
        entries: Sequence[Entry],
        expected: int | None = None,
        facts: Sequence[Fact] = (),
    ) -> int:
        """Write all entries or none."""
        if expected not in {None, self._version}:
            raise Conflict("the catalog was changed meanwhile; load it and decide again")
        catalog = self.load(tenant)
        check_stored(catalog, entries)
        if facts and self._tell is not None:
            self._tell(tenant, facts)
        self._tenants[tenant] = with_entries(catalog, entries)
        self._version += 1
        return self._version
