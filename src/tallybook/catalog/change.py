"""What an apply would do: the difference between what is stored and what is declared.

Pure: a list of changes, shown first and written as it was shown. Nothing declared, no change;
applied twice, the second time changes nothing. A changed meter or plan is a new version.
"""

from collections.abc import Iterator
from typing import Literal

import msgspec

from tallybook.catalog.catalog import KINDS, Archive, Catalog, Entry, Kind, entry_key, entry_kind
from tallybook.catalog.customer import Customer, Seller
from tallybook.catalog.document import CatalogDocument
from tallybook.catalog.entitlement import check_entitlement
from tallybook.catalog.meter import Meter
from tallybook.catalog.plan import Plan
from tallybook.catalog.subscription import Subscription, check_subscription
from tallybook.kernel.errors import Conflict, Missing

Action = Literal["create", "update", "new-version", "archive", "restore"]


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that an apply writes.

    Attributes:
        details: one line for each field that differs, 'field: old -> new'.
        entry: what is written.
    """

    action: Action
    kind: Kind
    key: str
    entry: Entry
    details: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the change on one line, for people."""
        more = f" ({'; '.join(self.details)})" if self.details else ""
        return f"{self.action} {self.kind} {self.key}{more}"


def difference(catalog: Catalog, document: CatalogDocument, *, prune: bool) -> list[Change]:
    """Return what an apply of the document would write, in the order it must be written.

    Args:
        catalog: as stored.
        document: as declared.
        prune: archive what is in use and not declared; else absence means nothing.
    """
    declared = list(_declared(catalog, document))
    changes = [change for entry in declared if (change := change_of(catalog, entry)) is not None]
    if prune:
        changes += _pruned(catalog, {(entry_kind(entry), entry_key(entry)) for entry in declared})
    return changes


def change_of(catalog: Catalog, entry: Entry) -> Change | None:
    """Return the change that makes the catalog hold this thing, or None where it does already.

    Args:
        catalog: as stored.
        entry: as it shall be; the version of a meter or plan is given here.

    Raises:
        Conflict: a plan would change its currency.
        Missing: an archive names what is not there.
    """
    kind, key = entry_kind(entry), entry_key(entry)
    if isinstance(entry, Archive):
        return _archive(catalog, entry)
    stored = _stored(catalog, entry)
    restored = (kind, key) in catalog.archived
    if stored is None:
        return Change(action="create", kind=kind, key=key, entry=entry)
    action, placed = _placed(stored, entry)
    details = tuple(_differences(stored, placed))
    if not details and not restored:
        return None
    if not details:
        return Change(action="restore", kind=kind, key=key, entry=placed)
    return Change(action=action, kind=kind, key=key, entry=placed, details=details)


def _declared(catalog: Catalog, document: CatalogDocument) -> Iterator[Entry]:
    if document.seller is not None:
        yield document.seller
    yield from document.taxes
    yield from document.meters
    yield from document.plans
    yield from document.coupons
    yield from document.customers
    zones = {customer.key: customer.zone for customer in catalog.customers.values()}
    zones |= {customer.key: customer.zone for customer in document.customers}
    for subscription in document.subscriptions:
        name = _zone(f"subscription {subscription.key}", subscription.customer, zones)
        yield check_subscription(subscription, name)
    for entitlement in document.entitlements:
        name = _zone(f"entitlement {entitlement.feature}", entitlement.customer, zones)
        yield check_entitlement(entitlement, name)
    yield from document.wallets
    yield from document.rules


def _zone(who: str, customer: str, zones: dict[str, str]) -> str:
    if customer not in zones:
        raise Conflict(
            f"{who} refers to customer '{customer}', which is not there", field="customer"
        )
    return zones[customer]


def _archive(catalog: Catalog, entry: Archive) -> Change | None:
    if entry.key not in catalog.keys(entry.kind):
        raise Missing(f"there is no {entry.kind} '{entry.key}'", field="key")
    if not catalog.live(entry.kind, entry.key):
        return None
    return Change(action="archive", kind=entry.kind, key=entry.key, entry=entry)


def _stored(catalog: Catalog, entry: Entry) -> Entry | None:
    if isinstance(entry, Seller):
        return catalog.seller
    found = catalog.keys(entry_kind(entry)).get(entry_key(entry))
    stored: Entry | None = found[-1] if isinstance(found, tuple) else found  # type: ignore[assignment]
    return stored


def _placed(stored: Entry, entry: Entry) -> tuple[Action, Entry]:
    """Return how the thing is written: with the next version where its meaning changes."""
    if isinstance(entry, Meter) and isinstance(stored, Meter):
        same = entry.same_definition(stored)
        version = stored.version if same else stored.version + 1
        return _versioned(same), msgspec.structs.replace(entry, version=version)
    if isinstance(entry, Plan) and isinstance(stored, Plan):
        _keeps_for_good(stored, entry)
        same = msgspec.structs.replace(entry, version=stored.version) == stored
        version = stored.version if same else stored.version + 1
        return _versioned(same), msgspec.structs.replace(entry, version=version)
    if isinstance(entry, Subscription) and isinstance(stored, Subscription):
        return "update", _as_decided(stored, entry)
    if isinstance(entry, Customer) and isinstance(stored, Customer):
        return "update", msgspec.structs.replace(entry, rule=entry.rule or stored.rule)
    return "update", entry


def _keeps_for_good(stored: Plan, entry: Plan) -> None:
    """Refuse a version that another version's subscriptions could not move to."""
    if entry.currency != stored.currency:
        message = (
            f"plan {entry.key} is in {stored.currency}; make another plan for {entry.currency}, "
            f"or give prices under currencies.{entry.currency}"
        )
        raise Conflict(message, field="currency")
    if entry.kind != stored.kind:
        message = f"plan {entry.key} is of kind {stored.kind} for good; make another plan"
        raise Conflict(message, field="kind")


def _as_decided(stored: Subscription, entry: Subscription) -> Subscription:
    """Return a subscription as declared, with what commands decided about it since.

    A declaration names no amendments.
    """
    amendments = entry.amendments or stored.amendments
    return msgspec.structs.replace(entry, amendments=amendments, rule=entry.rule or stored.rule)


def _versioned(same: bool) -> Action:  # noqa: FBT001 - the one question is in the name
    return "update" if same else "new-version"


def _differences(stored: Entry, entry: Entry) -> Iterator[str]:
    old, new = msgspec.to_builtins(stored), msgspec.to_builtins(entry)
    for field in new:
        if field != "version" and old.get(field) != new[field]:
            yield f"{field}: {_short(old.get(field))} -> {_short(new[field])}"


def _short(value: object) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 120 else f"{text[:117]}..."


def _pruned(catalog: Catalog, declared: set[tuple[Kind, str]]) -> list[Change]:
    """Archive what is not declared; what a living rule made stays with its rule."""
    rules = {key for kind, key in declared if kind == "rule"}
    return [
        Change(action="archive", kind=kind, key=key, entry=Archive(kind, key))
        for kind in reversed(KINDS)
        if kind != "seller"
        for key, thing in catalog.keys(kind).items()
        if (kind, key) not in declared
        and catalog.live(kind, key)
        and getattr(thing, "rule", "") not in rules
    ]
