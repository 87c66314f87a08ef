"""Mapping rules of front doors in the control database."""

import threading
import time

import msgspec
from sqlalchemy import BigInteger, Column, Engine, Integer, String, Table, Text, delete, select

from tallybook.adapters.sql.database import read, write
from tallybook.adapters.sql.schema.declared import metadata
from tallybook.collect.doors.rules import NO_RULES, DoorRules

RULES = Table(
    "door_rules",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("door", String(32), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("changed_us", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
)
"""One row a tenant and door that has rules. version: 1 and up. changed_us: microseconds UTC.
body: `DoorRules` as JSON."""

FRESH_SECONDS = 1.0
"""How long rules are used before they are looked up again."""


class StoredRules(msgspec.Struct, frozen=True):
    """A door's rules as they are stored; version 0 is none."""

    version: int
    changed_us: int
    rules: DoorRules


_NONE = StoredRules(0, 0, NO_RULES)


class SqlDoorRules:
    """The rules of all tenants; safe to share between threads.

    Args:
        engine: from `open_database`.
    """

    def __init__(self, engine: Engine) -> None:
        """Remember the engine; what was read is kept for a second."""
        self._engine = engine
        self._known: dict[tuple[str, str], tuple[float, StoredRules]] = {}
        self._lock = threading.Lock()

    def get(self, tenant: str, door: str) -> StoredRules:
        """Return a door's rules as they are stored now."""
        query = select(RULES).where(RULES.c.tenant == tenant, RULES.c.door == door)
        with read(self._engine) as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            return _NONE
        rules = msgspec.json.decode(row.body, type=DoorRules)
        return StoredRules(row.version, row.changed_us, rules)

    def recent(self, tenant: str, door: str) -> DoorRules:
        """Return a door's rules, at most a second old."""
        now = time.monotonic()
        with self._lock:
            known = self._known.get((tenant, door))
        if known is not None and now - known[0] < FRESH_SECONDS:
            return known[1].rules
        found = self.get(tenant, door)
        with self._lock:
            if len(self._known) > 1000:
                self._known = {}
            self._known[tenant, door] = (now, found)
        return found.rules

    def put(self, tenant: str, door: str, rules: DoorRules, now_us: int) -> StoredRules:
        """Replace a door's rules."""
        mine = (RULES.c.tenant == tenant, RULES.c.door == door)
        with write(self._engine) as connection:
            before = connection.execute(select(RULES.c.version).where(*mine)).scalar()
            version = (before or 0) + 1
            connection.execute(delete(RULES).where(*mine))
            body = msgspec.json.encode(rules).decode()
            connection.execute(
                RULES.insert().values(
                    tenant=tenant, door=door, version=version, changed_us=now_us, body=body
                )
            )
        with self._lock:
            self._known.pop((tenant, door), None)
        return StoredRules(version, now_us, rules)

    def forget(self, tenant: str, door: str) -> None:
        """Go back to the defaults."""
        with write(self._engine) as connection:
            mine = (RULES.c.tenant == tenant, RULES.c.door == door)
            connection.execute(delete(RULES).where(*mine))
        with self._lock:
            self._known.pop((tenant, door), None)
