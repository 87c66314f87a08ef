"""The catalog in the control database.

One table a kind, all of the same shape; `body` is the checked value as JSON. A row of a meter or
plan is one version.

======== ======= ==== =====================================================
column   type    null meaning
======== ======= ==== =====================================================
tenant   text    no   whose
key      text    no   stable name
version  integer no   1 and up for meters and plans, 1 for everything else
archived boolean no   out of use; the same in all versions of a key
body     text    no   JSON, sorted keys
======== ======= ==== =====================================================
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import msgspec
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Engine,
    Integer,
    String,
    Table,
    Text,
    Update,
    and_,
    bindparam,
    select,
)

from tallybook.adapters.sql.access.recording import note
from tallybook.adapters.sql.database import read, write
from tallybook.adapters.sql.outbox import add_facts
from tallybook.adapters.sql.schema.declared import metadata
from tallybook.catalog.catalog import (
    KIND_OF,
    Archive,
    Catalog,
    Entry,
    Kind,
    entry_key,
    entry_kind,
    with_entries,
)
from tallybook.catalog.check import check_stored
from tallybook.catalog.customer import Seller
from tallybook.catalog.meter import Meter
from tallybook.catalog.plan import Plan
from tallybook.kernel.book.fact import Fact
from tallybook.kernel.errors import Conflict
from tallybook.meter.usage import Ownership

_CACHE_TENANTS_MAX = 64


def _table(name: str) -> Table:
    return Table(
        name,
        metadata,
        Column("tenant", String(128), primary_key=True),
        Column("key", String(255), primary_key=True),
        Column("version", Integer, primary_key=True),
        Column("archived", Boolean, nullable=False, default=False),
        Column("body", Text, nullable=False),
    )


_TABLES: dict[Kind, Table] = {
    "tax": _table("tax"),
    "coupon": _table("coupon"),
    "entitlement": _table("entitlement"),
    "wallet": _table("wallet"),
    "seller": _table("seller"),
    "meter": _table("meter"),
    "plan": _table("plan"),
    "customer": _table("customer"),
    "subscription": _table("subscription"),
    "rule": _table("customer_rule"),
}
WALLET = _TABLES["wallet"]
"""Wallets, for what reads them together with what they hold."""
VERSION = Table(
    "catalog_version",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("version", BigInteger, nullable=False),
)
"""One row: the version of all catalogs, for what reads it together with others."""


class SqlCatalog:
    """`CatalogStore` on the control database; safe to share between threads.

    Args:
        engine: from `open_database`.
    """

    def __init__(self, engine: Engine) -> None:
        """Remember the engine; what was loaded is kept until the version moves on."""
        self._engine = engine
        self._loaded: dict[str, Catalog] = {}

    def version(self) -> int:
        """Return a number that grows with every change of any tenant."""
        with read(self._engine) as connection:
            return _version(connection)

    def load(self, tenant: str) -> Catalog:
        """Return everything of a tenant, as of one instant."""
        with read(self._engine) as connection:
            version = _version(connection)
            known = self._loaded.get(tenant)
            if known is not None and known.version == version:
                return known
            catalog = _load(connection, tenant, version)
        if len(self._loaded) >= _CACHE_TENANTS_MAX:
            self._loaded = {}
        self._loaded[tenant] = catalog
        return catalog

    def loaded(self, tenant: str, version: int) -> Catalog | None:
        """Return a tenant's catalog where this very version of it was loaded; reads nothing."""
        known = self._loaded.get(tenant)
        return known if known is not None and known.version == version else None

    def write(
        self,
        tenant: str,
        entries: Sequence[Entry],
        expected: int | None = None,
        facts: Sequence[Fact] = (),
    ) -> int:
        """Write all entries and facts, and move the version on, in one transaction."""
        with write(self._engine) as connection:
            version = _version(connection, lock=True)
            if expected not in {None, version}:
                raise Conflict("the catalog was changed meanwhile; load it and decide again")
            known = self._loaded.get(tenant)
            fresh = known is not None and known.version == version
            stored = known if known and fresh else _load(connection, tenant, version)
            check_stored(stored, entries)
            _store(connection, tenant, stored, entries)
            _note(stored, entries)
            add_facts(connection, tenant, facts)
            moved = version + 1
            connection.execute(VERSION.update().values(version=moved))
        self._loaded[tenant] = msgspec.structs.replace(with_entries(stored, entries), version=moved)
        return moved

    def meters(self, tenant: str) -> list[Meter]:
        """Return the newest version of every meter in use, by key."""
        return self.load(tenant).live_meters()

    def meter(self, tenant: str, key: str, version: int | None = None) -> Meter:
        """Return one version of a meter, the newest where none is named; raises Missing."""
        return self.load(tenant).meter(key, version)

    def tenants(self, kind: Kind = "plan") -> list[str]:
        """Return the tenants that have something of a kind; with plans, those that sell."""
        column = _TABLES[kind].c.tenant
        with read(self._engine) as connection:
            query = select(column).distinct().order_by(column)
            return list(connection.execute(query).scalars())

    def all_meters(self) -> list[tuple[str, Meter]]:
        """Return every version of every meter of every tenant."""
        table = _TABLES["meter"]
        query = select(table.c.tenant, table.c.body).order_by(
            table.c.tenant, table.c.key, table.c.version
        )
        with read(self._engine) as connection:
            rows = connection.execute(query).all()
        return [(row.tenant, msgspec.json.decode(row.body, type=Meter)) for row in rows]

    def ownerships(self, tenant: str) -> list[Ownership]:
        """Return which subject belongs to which customer in use, and when."""
        catalog = self.load(tenant)
        return [
            Ownership(span.subject, customer.key, span.start_us, span.end_us)
            for customer in catalog.customers.values()
            if catalog.live("customer", customer.key)
            for span in customer.subjects
        ]


def _version(connection: Connection, *, lock: bool = False) -> int:
    query = select(VERSION.c.version)
    found = connection.execute(query.with_for_update() if lock else query).scalar()
    if found is None and lock:
        connection.execute(VERSION.insert().values(id=1, version=0))
    return found or 0


def _load(connection: Connection, tenant: str, version: int) -> Catalog:
    archived: set[tuple[Kind, str]] = set()
    for kind, table in _TABLES.items():
        query = select(table.c.key).where(table.c.tenant == tenant, table.c.archived)
        archived |= {(kind, key) for key in connection.execute(query).scalars()}
    entries: list[Entry] = [
        thing
        for type_, kind in KIND_OF.items()
        for thing in _things(connection, kind, tenant, type_)
    ]
    catalog = with_entries(Catalog(version=version), entries)
    return msgspec.structs.replace(catalog, archived=frozenset(archived))


def _things(
    connection: Connection, kind: Kind, tenant: str, type_: type[object]
) -> Iterator[Entry]:
    table = _TABLES[kind]
    query = select(table.c.body).where(table.c.tenant == tenant)
    bodies = connection.execute(query.order_by(table.c.key, table.c.version)).scalars()
    decode = msgspec.json.Decoder(type_).decode
    for body in bodies:
        yield decode(body)  # type: ignore[misc]  # the type is one of the kinds'


def _store(connection: Connection, tenant: str, stored: Catalog, entries: Iterable[Entry]) -> None:
    """Write rows by kind: many at once where they are new."""
    inserts: dict[Kind, list[dict[str, object]]] = {}
    updates: dict[Kind, list[dict[str, object]]] = {}
    seen: set[tuple[Kind, str, int]] = set()
    for entry in entries:
        kind, key = entry_kind(entry), entry_key(entry)
        if isinstance(entry, Archive):
            _archive(connection, kind, tenant, key, archived=True)
            continue
        if (kind, key) in stored.archived:
            _archive(connection, kind, tenant, key, archived=False)
        if isinstance(entry, Seller):
            connection.execute(_TABLES[kind].delete().where(_TABLES[kind].c.tenant == tenant))
        place = (kind, key, entry.version if isinstance(entry, Meter | Plan) else 1)
        known = place in seen or (kind != "seller" and _is_stored(stored, *place))
        seen.add(place)
        (updates if known else inserts).setdefault(kind, []).append(_row(tenant, place, entry))
    for kind, rows in inserts.items():
        connection.execute(_TABLES[kind].insert(), rows)
    for kind, rows in updates.items():
        connection.execute(_update(_TABLES[kind]), rows)


def _note(stored: Catalog, entries: Iterable[Entry]) -> None:
    """Say what is changed to whoever asked for it."""
    for entry in entries:
        kind, key = entry_kind(entry), entry_key(entry)
        known = stored.keys(kind).get(key)
        before = known[-1] if isinstance(known, tuple) else known
        if isinstance(entry, Archive):
            action = "archive"
        else:
            action = "create" if before is None else "change"
        was = (kind, key) in stored.archived
        note(action, kind, key, partial(_told, before, entry, was_archived=was))


def _told(before: object, entry: Entry, *, was_archived: bool) -> tuple[object, object]:
    """Return a thing before and after, each with whether it is out of use."""
    archived = isinstance(entry, Archive)
    after = before if archived else entry
    was = None if before is None else msgspec.to_builtins(before) | {"archived": was_archived}
    now = None if after is None else msgspec.to_builtins(after) | {"archived": archived}
    return was, now


def _row(tenant: str, place: tuple[Kind, str, int], entry: Entry) -> dict[str, object]:
    body = msgspec.json.encode(entry, order="sorted").decode()
    _, key, version = place
    row = {"tenant": tenant, "key": key, "version": version, "archived": False, "body": body}
    return row | {f"at_{name}": row[name] for name in ("tenant", "key", "version")}


def _update(table: Table) -> Update:
    columns = table.c
    at = and_(
        columns.tenant == bindparam("at_tenant"),
        columns.key == bindparam("at_key"),
        columns.version == bindparam("at_version"),
    )
    return table.update().where(at).values(body=bindparam("body"))


def _is_stored(stored: Catalog, kind: Kind, key: str, version: int) -> bool:
    if kind == "meter":
        return any(meter.version == version for meter in stored.meters.get(key, ()))
    if kind == "plan":
        return any(plan.version == version for plan in stored.plans.get(key, ()))
    return key in stored.keys(kind)


def _archive(connection: Connection, kind: Kind, tenant: str, key: str, *, archived: bool) -> None:
    table = _TABLES[kind]
    at = and_(table.c.tenant == tenant, table.c.key == key)
    connection.execute(table.update().where(at).values(archived=archived))
