"""Which events edges add up before they send them, in the control database."""

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Integer,
    String,
    Table,
    Text,
    select,
)

from tallybook.adapters.sql.database import read, write
from tallybook.adapters.sql.rows import replace_rows
from tallybook.adapters.sql.schema.declared import metadata
from tallybook.collect.aggregate.rule import EdgeRule, RuleSet, checked
from tallybook.kernel.errors import Corrupt

RULES = Table(
    "edge_rules",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("edge", String(128), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("changed_us", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
)
"""One row for all edges of a tenant (edge '') and one for each edge with rules of its own.
version: 1 and up, never used twice. changed_us: microseconds UTC. body: the rules as JSON; '' where
the edge's own rules were taken back."""


class StoredEdgeRules(msgspec.Struct, frozen=True, kw_only=True):
    """Rules as they are stored.

    Attributes:
        edge: whose they are; '' for all edges.
        version: 0 where none were ever declared.
        rules: in order.
    """

    edge: str
    version: int
    changed_us: int = 0
    rules: tuple[EdgeRule, ...] = ()

    def told(self) -> RuleSet:
        """Return what the edge is told; the version names whose rules they are."""
        if not self.version:
            return RuleSet()
        version = f"{self.edge}:{self.version}" if self.edge else str(self.version)
        return RuleSet(version=version, rules=self.rules)


class SqlEdgeRules:
    """The rules of all tenants.

    Args:
        engine: from `open_database`.
    """

    def __init__(self, engine: Engine) -> None:
        """Remember the engine."""
        self._engine = engine

    def of(self, tenant: str, edge: str) -> StoredEdgeRules:
        """Return the rules that an edge goes by: its own, else those for all edges.

        Args:
            tenant: whose.
            edge: its name; '' asks for those for all.
        """
        with read(self._engine) as connection:
            own = _stored(connection, tenant, edge)
            if own is not None and own[1]:
                return _rules(edge, own)
            shared = _stored(connection, tenant, "") if edge else None
        return _rules("", shared) if shared is not None else StoredEdgeRules(edge="", version=0)

    def put(
        self,
        tenant: str,
        edge: str,
        rules: tuple[EdgeRule, ...] | None,
        now_us: int,
    ) -> StoredEdgeRules:
        """Replace rules; None takes an edge's own back, so that those for all count again.

        Args:
            tenant: whose.
            edge: its name; '' for all.
            rules: checked here.
            now_us: for the record.

        Raises:
            Invalid: a rule cannot be.
        """
        body = "" if rules is None else msgspec.json.encode(checked(rules)).decode()
        with write(self._engine) as connection:
            found = _stored(connection, tenant, edge)
            before = found[0] if found is not None else 0
            row = {
                "tenant": tenant,
                "edge": edge,
                "version": before + 1,
                "changed_us": now_us,
                "body": body,
            }
            replace_rows(connection, RULES, [row])
        return StoredEdgeRules(
            edge=edge, version=before + 1, changed_us=now_us, rules=tuple(rules or ())
        )


def _stored(connection: Connection, tenant: str, edge: str) -> tuple[int, str, int] | None:
    question = select(RULES.c.version, RULES.c.body, RULES.c.changed_us).where(
        RULES.c.tenant == tenant, RULES.c.edge == edge
    )
    row = connection.execute(question).one_or_none()
    return (row.version, row.body, row.changed_us) if row is not None else None


def _rules(edge: str, stored: tuple[int, str, int]) -> StoredEdgeRules:
    version, body, changed_us = stored
    try:
        rules = msgspec.json.decode(body, type=tuple[EdgeRule, ...]) if body else ()
    except msgspec.MsgspecError as error:
        raise Corrupt(f"the rules of edge '{edge}' cannot be read: {error}") from error
    return StoredEdgeRules(edge=edge, version=version, changed_us=changed_us, rules=rules)
