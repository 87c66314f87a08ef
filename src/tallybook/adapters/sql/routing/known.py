"""Rules that are read again only when there are new ones."""

from tallybook.route.ports import RuleStore
from tallybook.route.rule import Rule


class KnownRules:
    """`RuleStore` that remembers all versions of another one, for a reader that asks often.

    Versions are never changed, only added: their number tells whether there are new ones. It is
    asked first, so that a version stored meanwhile is read again rather than missed.
    """

    def __init__(self, store: RuleStore) -> None:
        """Know nothing yet."""
        self._store = store
        self._seen = -1
        self._known: list[Rule] = []

    def version(self) -> int:
        """Return how many versions there are."""
        return self._store.version()

    def rules(self, tenant: str) -> list[Rule]:
        """Return the newest version of every rule of a tenant that is not deleted."""
        return self._store.rules(tenant)

    def history(self, tenant: str, key: str) -> list[Rule]:
        """Return all versions of a rule, oldest first."""
        return self._store.history(tenant, key)

    def all_versions(self) -> list[Rule]:
        """Return every version of every rule, by tenant, key and version."""
        version = self._store.version()
        if version != self._seen:
            self._known, self._seen = self._store.all_versions(), version
        return self._known

    def add(self, *rules: Rule) -> None:
        """Store versions, all or none."""
        self._store.add(*rules)
