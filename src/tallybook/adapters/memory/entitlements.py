"""Grants and resets by hand, in dicts: the fake for flows, held to the SQL store's suite."""

from collections.abc import Sequence

from msgspec.structs import replace

from tallybook.catalog.entitlement import Grant
from tallybook.kernel.errors import Conflict, Missing
from tallybook.settle.entitlement import HandReset
from tallybook.settle.ports import EntitlementFacts


class MemoryEntitlements:
    """`EntitlementStore` in memory."""

    def __init__(self) -> None:
        """Start empty."""
        self._facts: dict[tuple[str, str], EntitlementFacts] = {}
        self._changed: dict[str, int] = {}

    def facts(self, tenant: str, entitlements: Sequence[str]) -> dict[str, EntitlementFacts]:
        """Return what was granted and reset, by the entitlement's key."""
        return {key: self._facts.get((tenant, key), EntitlementFacts()) for key in entitlements}

    def changed(self, tenant: str) -> int:
        """Return a number that grows with every change of the tenant's."""
        return self._changed.get(tenant, 0)

    def add_grant(self, tenant: str, entitlement: str, grant: Grant, expected: int) -> None:
        """Append a grant."""
        known = self._expected(tenant, entitlement, expected)
        if any(other.key == grant.key for other in known.grants):
            message = f"{entitlement} has a grant '{grant.key}' already"
            raise Conflict(message, code="exists", field="key")
        self._put_grants(tenant, entitlement, known, (*known.grants, grant))

    def void_grant(self, tenant: str, entitlement: str, grant: Grant, expected: int) -> None:
        """Store the voiding of a grant."""
        known = self._expected(tenant, entitlement, expected)
        others = tuple(other for other in known.grants if other.key != grant.key)
        if len(others) == len(known.grants):
            raise Missing(f"{entitlement} has no grant '{grant.key}'", field="grant")
        self._put_grants(tenant, entitlement, known, (*others, grant))

    def add_reset(self, tenant: str, entitlement: str, reset: HandReset, expected: int) -> None:
        """Append a reset by hand."""
        known = self._expected(tenant, entitlement, expected)
        if any(other.at_us == reset.at_us for other in known.resets):
            raise Conflict(f"{entitlement} was reset at that instant already")
        resets = tuple(sorted((*known.resets, reset)))
        self._put(tenant, entitlement, replace(known, resets=resets))

    def _expected(self, tenant: str, entitlement: str, expected: int) -> EntitlementFacts:
        known = self._facts.get((tenant, entitlement), EntitlementFacts())
        if known.version != expected:
            raise Conflict(f"{entitlement} was changed meanwhile; look at it and decide again")
        return known

    def _put_grants(
        self, tenant: str, entitlement: str, known: EntitlementFacts, grants: tuple[Grant, ...]
    ) -> None:
        ordered = tuple(sorted(grants, key=lambda grant: grant.key))
        self._put(tenant, entitlement, replace(known, grants=ordered))

    def _put(self, tenant: str, entitlement: str, facts: EntitlementFacts) -> None:
        self._facts[tenant, entitlement] = replace(facts, version=facts.version + 1)
        self._changed[tenant] = self.changed(tenant) + 1
