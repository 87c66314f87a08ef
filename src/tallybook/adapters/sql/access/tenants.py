"""Tenants that an operator made. The first one, `default`, needs no row."""

import msgspec
from sqlalchemy import BigInteger, Column, Engine, String, Table, insert, select, update

from tallybook.adapters.sql.access.version import bump
from tallybook.adapters.sql.database import read, write
from tallybook.adapters.sql.schema.declared import metadata
from tallybook.kernel.errors import Missing

TENANTS = Table(
    "tenant",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("name", String(255), nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("closed_us", BigInteger),
)
"""Tenants. created_us, closed_us: microseconds UTC; closed_us is NULL while it is open."""


class Tenant(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody whose data nobody else sees.

    Attributes:
        tenant: its id.
        name: for people.
        closed_us: since when its keys are refused; None while they are good.
    """

    tenant: str
    name: str
    created_us: int
    closed_us: int | None = None


class SqlTenants:
    """All tenants.

    Args:
        engine: from `open_database`.
    """

    def __init__(self, engine: Engine) -> None:
        """Use a control database that `open_database` made."""
        self._engine = engine

    def add(self, tenant: Tenant) -> None:
        """Store a tenant; raises Conflict where there is one of this id."""
        with write(self._engine) as connection:
            connection.execute(insert(TENANTS), msgspec.structs.asdict(tenant))
            bump(connection)

    def listed(self) -> list[Tenant]:
        """Return all tenants by id."""
        with read(self._engine) as connection:
            rows = connection.execute(select(TENANTS).order_by(TENANTS.c.tenant)).mappings()
            return [msgspec.convert(_texts(dict(row)), Tenant) for row in rows]

    def get(self, tenant: str) -> Tenant:
        """Return one tenant; raises Missing."""
        with read(self._engine) as connection:
            question = select(TENANTS).where(TENANTS.c.tenant == tenant)
            row = connection.execute(question).mappings().first()
        if row is None:
            raise Missing(f"there is no tenant '{tenant}'", field="tenant")
        return msgspec.convert(_texts(dict(row)), Tenant)

    def close(self, tenant: str, now_us: int | None) -> None:
        """Refuse a tenant's keys from now on; None opens it again. Raises Missing."""
        change = update(TENANTS).where(TENANTS.c.tenant == tenant).values(closed_us=now_us)
        with write(self._engine) as connection:
            if not connection.execute(change).rowcount:
                raise Missing(f"there is no tenant '{tenant}'", field="tenant")
            bump(connection)


def _texts(row: dict[str, object]) -> dict[str, object]:
    """Return a row under plain names; the driver's are no `str`."""
    return {str(name): value for name, value in row.items()}
