"""Grants and resets by hand, in the control database: appended, never deleted."""

from collections.abc import Iterable, Sequence

import msgspec
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Engine,
    RowMapping,
    String,
    Table,
    Text,
    and_,
    select,
)

from tallybook.adapters.sql.database import read, write
from tallybook.adapters.sql.schema.declared import metadata
from tallybook.catalog.entitlement import Grant
from tallybook.kernel.errors import Conflict, Missing
from tallybook.settle.entitlement import HandReset
from tallybook.settle.ports import EntitlementFacts

GRANT = Table(
    "entitlement_grant",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("entitlement", String(255), primary_key=True),
    Column("key", String(128), primary_key=True),
    Column("body", Text, nullable=False),
)
"""Grants; body: JSON of `catalog.entitlement.Grant`; only its voiding is ever written again."""

RESET = Table(
    "entitlement_reset",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("entitlement", String(255), primary_key=True),
    Column("at_us", BigInteger, primary_key=True, autoincrement=False),
    Column("keep_anchor", Boolean, nullable=False),
    Column("keep_overage", Boolean),
)
"""Resets by hand; keep_overage: NULL for as the entitlement says."""

CHANGE = Table(
    "entitlement_change",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("entitlement", String(255), primary_key=True),
    Column("version", BigInteger, nullable=False),
)
"""The version of an entitlement's grants and resets; that of '' is of all of the tenant."""

ALL = ""
"""In place of an entitlement: all of the tenant's."""
_KEYS_MAX = 500


class SqlEntitlements:
    """`EntitlementStore` on the control database; safe to share between threads.

    Args:
        engine: from `open_database`.
    """

    def __init__(self, engine: Engine) -> None:
        """Remember the engine."""
        self._engine = engine

    def facts(self, tenant: str, entitlements: Sequence[str]) -> dict[str, EntitlementFacts]:
        """Return what was granted and reset, by the entitlement's key."""
        wanted = set(entitlements)
        with read(self._engine) as connection:
            versions = {
                row["entitlement"]: row["version"]
                for row in _rows(connection, CHANGE, tenant, wanted)
            }
            grants: dict[str, list[Grant]] = {}
            for row in _rows(connection, GRANT, tenant, wanted):
                grants.setdefault(row["entitlement"], []).append(_grant(row))
            resets: dict[str, list[HandReset]] = {}
            for row in _rows(connection, RESET, tenant, wanted):
                resets.setdefault(row["entitlement"], []).append(_reset(row))
        return {
            key: EntitlementFacts(
                version=versions.get(key, 0),
                grants=tuple(grants.get(key, ())),
                resets=tuple(resets.get(key, ())),
            )
            for key in entitlements
        }

    def changed(self, tenant: str) -> int:
        """Return a number that grows with every change of the tenant's."""
        with read(self._engine) as connection:
            return _version(connection, tenant, ALL)

    def add_grant(self, tenant: str, entitlement: str, grant: Grant, expected: int) -> None:
        """Append a grant."""
        with write(self._engine) as connection:
            _move_on(connection, tenant, entitlement, expected)
            known = select(GRANT.c.key).where(_place(tenant, entitlement, grant.key))
            if connection.execute(known).scalar() is not None:
                message = f"{entitlement} has a grant '{grant.key}' already"
                raise Conflict(message, code="exists", field="key")
            row = {"tenant": tenant, "entitlement": entitlement, "key": grant.key}
            connection.execute(GRANT.insert(), row | {"body": _json(grant)})

    def void_grant(self, tenant: str, entitlement: str, grant: Grant, expected: int) -> None:
        """Store the voiding of a grant."""
        with write(self._engine) as connection:
            _move_on(connection, tenant, entitlement, expected)
            change = GRANT.update().where(_place(tenant, entitlement, grant.key))
            if not connection.execute(change.values(body=_json(grant))).rowcount:
                raise Missing(f"{entitlement} has no grant '{grant.key}'", field="grant")

    def add_reset(self, tenant: str, entitlement: str, reset: HandReset, expected: int) -> None:
        """Append a reset by hand."""
        row = {"tenant": tenant, "entitlement": entitlement} | msgspec.structs.asdict(reset)
        with write(self._engine) as connection:
            _move_on(connection, tenant, entitlement, expected)
            connection.execute(RESET.insert(), row)


def _place(tenant: str, entitlement: str, key: str) -> ColumnElement[bool]:
    return and_(
        GRANT.c.tenant == tenant,
        GRANT.c.entitlement == entitlement,
        GRANT.c.key == key,
    )


def _version(connection: Connection, tenant: str, entitlement: str, *, lock: bool = False) -> int:
    query = select(CHANGE.c.version).where(
        CHANGE.c.tenant == tenant, CHANGE.c.entitlement == entitlement
    )
    return connection.execute(query.with_for_update() if lock else query).scalar() or 0


def _move_on(connection: Connection, tenant: str, entitlement: str, expected: int) -> None:
    """Move an entitlement's version on, and the tenant's; raises Conflict."""
    for key in (ALL, entitlement):
        version = _version(connection, tenant, key, lock=True)
        if key and version != expected:
            raise Conflict(f"{entitlement} was changed meanwhile; look at it and decide again")
        place = (CHANGE.c.tenant == tenant) & (CHANGE.c.entitlement == key)
        if version:
            connection.execute(CHANGE.update().where(place).values(version=version + 1))
        else:
            row = {"tenant": tenant, "entitlement": key, "version": 1}
            connection.execute(CHANGE.insert(), row)


def _rows(
    connection: Connection, table: Table, tenant: str, wanted: Iterable[str]
) -> list[RowMapping]:
    """Return the rows of entitlements in the order of their keys."""
    keys = set(wanted)
    query = select(table).where(table.c.tenant == tenant)
    if len(keys) <= _KEYS_MAX:
        query = query.where(table.c.entitlement.in_(sorted(keys)))
    rows = connection.execute(query.order_by(*table.primary_key.columns)).mappings()
    return [row for row in rows if row["entitlement"] in keys]


def _grant(row: RowMapping) -> Grant:
    return msgspec.json.decode(row["body"], type=Grant)


def _reset(row: RowMapping) -> HandReset:
    return HandReset(row["at_us"], row["keep_anchor"], row["keep_overage"])


def _json(grant: Grant) -> str:
    return msgspec.json.encode(grant, order="sorted").decode()
