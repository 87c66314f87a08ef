"""Use cases of the catalog: show a difference, apply it, change one thing."""

from collections.abc import Callable, Sequence

from tallybook.catalog.catalog import Catalog, Entry, entry_key, entry_kind, with_entries
from tallybook.catalog.change import Change, change_of, difference
from tallybook.catalog.check import check_references, check_stored
from tallybook.catalog.document import CatalogDocument
from tallybook.catalog.ports import CatalogStore
from tallybook.catalog.told import created_facts
from tallybook.kernel.book.fact import Fact
from tallybook.kernel.errors import Conflict

Keep = Callable[[Catalog, list[Change]], list[Change]]
"""Returns the changes that may be made to a catalog."""


def plan_apply(
    store: CatalogStore,
    tenant: str,
    document: CatalogDocument,
    *,
    prune: bool = False,
    keep: Keep | None = None,
) -> list[Change]:
    """Return what `apply` would write, and write nothing.

    Args:
        store: where the catalog is kept.
        tenant: whose catalog.
        document: what is declared.
        prune: archive what is not declared.
        keep: takes out changes that may not be made.

    Raises:
        Conflict: the catalog would contradict itself afterwards.
    """
    return _decided(store, tenant, document, keep, prune=prune)[0]


def apply(
    store: CatalogStore,
    tenant: str,
    document: CatalogDocument,
    *,
    prune: bool = False,
    keep: Keep | None = None,
    now_us: int | None = None,
) -> list[Change]:
    """Write what differs and return it; a second apply of the same document returns nothing.

    Args:
        store: where the catalog is kept.
        tenant: whose catalog.
        document: what is declared.
        prune: archive what is not declared.
        keep: takes out changes that may not be made.
        now_us: when it is told that subscriptions are new; None tells nothing.

    Raises:
        Conflict: the catalog would contradict itself, or was changed meanwhile.
    """
    changes, version = _decided(store, tenant, document, keep, prune=prune)
    if changes:
        entries = [change.entry for change in changes]
        facts = () if now_us is None else created_facts(store.load(tenant), entries, now_us)
        store.write(tenant, entries, version, facts)
    return changes


def put(
    store: CatalogStore,
    tenant: str,
    entries: Sequence[Entry],
    facts: Sequence[Fact] = (),
    seen: Catalog | None = None,
    now_us: int | None = None,
) -> list[Change]:
    """Write single things (create, change, archive) and return what differed.

    Args:
        store: where the catalog is kept.
        tenant: whose catalog.
        entries: as they shall be, an `Archive` to take one out of use; versions are given here.
        facts: to be told outside of what differs.
        seen: the catalog that the entries were decided from; None where nothing was read for it.
        now_us: when it is told that a subscription is new; None tells nothing.

    Raises:
        Conflict: the catalog would contradict itself, or was changed meanwhile.
        Missing: an archive names what is not there.
    """
    catalog = store.load(tenant)
    if seen is not None:
        _as_seen(catalog, seen, entries)
    changes = [c for entry in entries if (c := change_of(catalog, entry)) is not None]
    written = [change.entry for change in changes]
    check_stored(catalog, written)
    check_references(with_entries(catalog, written))
    if written:
        created = () if now_us is None else created_facts(catalog, written, now_us)
        store.write(tenant, written, catalog.version, (*facts, *created))
    return changes


def _as_seen(catalog: Catalog, seen: Catalog, entries: Sequence[Entry]) -> None:
    """Refuse entries that were decided from something else than what is stored now."""
    for entry in entries:
        kind, key = entry_kind(entry), entry_key(entry)
        if catalog.keys(kind).get(key) != seen.keys(kind).get(key):
            raise Conflict(f"{kind} {key} was changed meanwhile; decide again", field="key")


def written_with(catalog: Catalog, changes: Sequence[Change]) -> Catalog:
    """Return a catalog after changes."""
    return with_entries(catalog, [change.entry for change in changes])


def _decided(
    store: CatalogStore, tenant: str, document: CatalogDocument, keep: Keep | None, *, prune: bool
) -> tuple[list[Change], int]:
    catalog = store.load(tenant)
    changes = difference(catalog, document, prune=prune)
    if keep is not None:
        changes = keep(catalog, changes)
    written = [change.entry for change in changes]
    check_stored(catalog, written)
    check_references(with_entries(catalog, written))
    return changes, catalog.version
