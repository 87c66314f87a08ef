"""Customer rules followed: new subjects become customers with a subscription, before a run bills.

Idempotent by rule and subject: a subject that any customer ever owned is no newcomer.
Source: DECISIONS 19.
"""

from collections.abc import Iterator

from tallybook.catalog.catalog import Catalog, Entry
from tallybook.catalog.ports import CatalogStore
from tallybook.catalog.rule import CustomerRule, customer_key, follow
from tallybook.catalog.told import created_facts
from tallybook.invoice.ports import Parked
from tallybook.kernel.errors import Conflict, Refused
from tallybook.rate.ports import UsageReader

TRIES_MAX = 5
"""Tries against somebody who changes the catalog at the same time."""


def register_newcomers(
    store: CatalogStore, usage: UsageReader, tenant: str, cut: int, now_us: int | None = None
) -> list[Parked]:
    """Create customers and subscriptions for new subjects; return those that cannot be customers.

    Args:
        store: where the catalog is kept.
        usage: knows the subjects.
        tenant: whose.
        cut: snapshot of the subjects.
        now_us: when it is told that subscriptions are new; None tells nothing.

    Raises:
        Conflict: the catalog was changed meanwhile, `TRIES_MAX` times in a row.
    """
    for _ in range(TRIES_MAX - 1):
        try:
            return _register(store, usage, tenant, cut, now_us)
        except Conflict:
            continue
    return _register(store, usage, tenant, cut, now_us)


def newcomers(
    catalog: Catalog, usage: UsageReader, tenant: str, cut: int
) -> tuple[list[Entry], list[Parked]]:
    """Return the customers and subscriptions that new subjects become, and who cannot be one.

    Args:
        catalog: its rules, and who is there already.
        usage: knows the subjects.
        tenant: whose.
        cut: snapshot of the subjects.
    """
    entries: list[Entry] = []
    parked: list[Parked] = []
    taken = {span.subject for c in catalog.customers.values() for span in c.subjects}
    keys = set(catalog.customers) | set(catalog.subscriptions)
    for rule in _living(catalog):
        for subject, first_us in usage.subjects(tenant, rule.event_type, cut):
            if subject in taken or not subject.startswith(rule.subject_prefix):
                continue
            made, problem = _newcomer(rule, subject, first_us, keys)
            entries += made
            parked += problem
            taken.add(subject)
    return entries, parked


def _register(
    store: CatalogStore, usage: UsageReader, tenant: str, cut: int, now_us: int | None
) -> list[Parked]:
    catalog = store.load(tenant)
    entries, parked = newcomers(catalog, usage, tenant, cut)
    if entries:
        facts = () if now_us is None else created_facts(catalog, entries, now_us)
        store.write(tenant, entries, catalog.version, facts)
    return parked


def _living(catalog: Catalog) -> Iterator[CustomerRule]:
    for key, rule in sorted(catalog.rules.items()):
        if catalog.live("rule", key):
            yield rule


def _newcomer(
    rule: CustomerRule, subject: str, first_us: int, keys: set[str]
) -> tuple[list[Entry], list[Parked]]:
    """Return what a subject becomes, or why it cannot be a customer."""
    key = customer_key(rule, subject)
    if key in keys:
        message = f"subject '{subject}' would be customer '{key}', whose key is taken"
        return [], [Parked(customer=key, code="conflict", message=message)]
    try:
        made: list[Entry] = list(follow(rule, subject, first_us))
    except Refused as error:
        return [], [Parked(customer=key, code=error.code, message=error.message)]
    keys.add(key)
    return made, []
