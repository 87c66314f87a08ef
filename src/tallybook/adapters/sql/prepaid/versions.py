"""What a check has to know before it may answer from memory, in one statement."""

from contextlib import closing
from typing import Any

import msgspec
from sqlalchemy import Engine, bindparam, exc, select

from tallybook.adapters.sql.catalog import VERSION
from tallybook.adapters.sql.database import read
from tallybook.adapters.sql.prepaid.entitlements import ALL, CHANGE


class Versions(msgspec.Struct, frozen=True):
    """How new what is stored is, as of one instant.

    Attributes:
        catalog: as `SqlCatalog.version` tells.
        grants: of one tenant, as `SqlEntitlements.changed` tells.
    """

    catalog: int
    grants: int


_CATALOG = select(VERSION.c.version).scalar_subquery()
_GRANTS = (
    select(CHANGE.c.version)
    .where(CHANGE.c.tenant == bindparam("tenant"), CHANGE.c.entitlement == ALL)
    .scalar_subquery()
)
_BOTH = select(_CATALOG, _GRANTS)


class SqlVersions:
    """Reads versions from the control database; safe to share between threads.

    Each check in a request path reads them, and on an embedded database the statement itself is a
    twentieth of what a `Connection` around it costs: so the driver is given the compiled text. It
    is one statement, which sees one state on every database.

    Args:
        engine: from `open_database`.
    """

    def __init__(self, engine: Engine) -> None:
        """Remember the engine."""
        self._engine = engine
        self._both = _BOTH.compile(engine)

    def of(self, tenant: str) -> Versions:
        """Return the versions that concern a tenant; raises Unavailable."""
        known = self._both.construct_params({"tenant": tenant})
        names = self._both.positiontup
        given: Any = known if names is None else tuple(known[name] for name in names)
        try:
            with closing(self._engine.raw_connection()) as connection:
                cursor = connection.cursor()
                cursor.execute(str(self._both), given)
                ((catalog, grants),) = cursor.fetchall()
        except (exc.DBAPIError, self._engine.dialect.loaded_dbapi.Error):
            return self._read(tenant)  # again, where a failure is told in our own words
        return Versions(catalog or 0, grants or 0)

    def _read(self, tenant: str) -> Versions:
        with read(self._engine) as connection:
            catalog, grants = connection.execute(_BOTH, {"tenant": tenant}).one()
        return Versions(catalog or 0, grants or 0)
