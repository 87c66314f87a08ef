"""What a check has to know before it may answer from memory, in one statement."""

from collections.abc import Collection, Sequence
from contextlib import closing
from functools import cache
from typing import Any

import msgspec
from sqlalchemy import (
    BindParameter,
    ColumnClause,
    CompoundSelect,
    Engine,
    bindparam,
    exc,
    literal_column,
    select,
    union_all,
)

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


class SqlVersions:
    """Reads versions from the control database; safe to share between threads.

    Each check in a request path reads them, and on an embedded database the statement itself is a
    twentieth of what a `Connection` around it costs: so the driver is given the compiled text. It
    is one statement for any number of tenants, which sees one state on every database.

    Args:
        engine: from `open_database`.
    """

    def __init__(self, engine: Engine) -> None:
        """Remember the engine."""
        self._engine = engine
        self._compiled = cache(self._compile)

    def of(self, tenants: Collection[str]) -> dict[str, Versions]:
        """Return the versions that concern each of some tenants; raises Unavailable."""
        known = {f"t{number}": tenant for number, tenant in enumerate(tenants)}
        try:
            rows = self._fetched(known)
        except (exc.DBAPIError, self._engine.dialect.loaded_dbapi.Error):
            with read(self._engine) as connection:  # a failure is told in our own words
                rows = connection.execute(_versions(len(known)), known).all()
        found: dict[str, int] = dict(rows)
        catalog = found.pop(_EVERYBODY, 0)
        return {tenant: Versions(catalog, found.get(tenant, 0)) for tenant in tenants}

    def _fetched(self, known: dict[str, str]) -> Sequence[Any]:
        compiled = self._compiled(len(known))
        bound, names = compiled.construct_params(known), compiled.positiontup
        given: Any = bound if names is None else tuple(bound[name] for name in names)
        with closing(self._engine.raw_connection()) as connection:
            cursor = connection.cursor()
            cursor.execute(str(compiled), given)
            return cursor.fetchall()

    def _compile(self, tenants: int) -> Any:
        return _versions(tenants).compile(self._engine)


_EVERYBODY = ""
"""In place of a tenant: the catalogs' version is one for all."""


def _versions(tenants: int) -> CompoundSelect[Any]:
    """Return what selects the catalogs' version, and the grants' of so many tenants."""
    wanted: list[BindParameter[str]] = [bindparam(f"t{number}") for number in range(tenants)]
    everybody: ColumnClause[str] = literal_column(f"'{_EVERYBODY}'")
    return union_all(
        select(everybody, VERSION.c.version),
        select(CHANGE.c.tenant, CHANGE.c.version).where(
            CHANGE.c.entitlement == ALL, CHANGE.c.tenant.in_(wanted)
        ),
    )
