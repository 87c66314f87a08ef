"""Rules of routing in the control database: every version, for what they delivered names them."""

from typing import Any

import msgspec
from sqlalchemy import BigInteger, Column, Engine, Integer, String, Table, Text, func, select

from tallybook.adapters.sql.database import read, write
from tallybook.adapters.sql.schema.declared import metadata
from tallybook.route.rule import Rule

RULES = Table(
    "route_rule",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("rule_key", String(64), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("state", String(16), nullable=False),
    Column("pattern", Text, nullable=False),
    Column("targets", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("since_seq", BigInteger, nullable=False),
    Column("made_us", BigInteger, nullable=False),
    Column("made_by", String(64), nullable=False),
)
"""One row a version; none is ever changed. targets: JSON list of stream names. since_seq: the first
lake commit it routes. made_us: microseconds UTC."""


class SqlRules:
    """`RuleStore` in the control database.

    Args:
        engine: from `open_database`.
    """

    def __init__(self, engine: Engine) -> None:
        """Remember the engine."""
        self._engine = engine

    def version(self) -> int:
        """Return how many versions there are: they only ever become more."""
        with read(self._engine) as connection:
            return connection.execute(select(func.count()).select_from(RULES)).scalar_one()

    def rules(self, tenant: str) -> list[Rule]:
        """Return the newest version of every rule of a tenant that is not deleted, by key."""
        newest: dict[str, Rule] = {rule.key: rule for rule in self._some(RULES.c.tenant == tenant)}
        return [rule for rule in newest.values() if rule.state != "deleted"]

    def history(self, tenant: str, key: str) -> list[Rule]:
        """Return all versions of a rule, oldest first; none for an unknown one."""
        return self._some((RULES.c.tenant == tenant) & (RULES.c.rule_key == key))

    def all_versions(self) -> list[Rule]:
        """Return every version of every rule of every tenant, by tenant, key and version."""
        return self._some(None)

    def add(self, *rules: Rule) -> None:
        """Store versions, all or none; raises Conflict where one of a number is there already."""
        with write(self._engine) as connection:
            connection.execute(RULES.insert(), [_row(rule) for rule in rules])

    def _some(self, where: Any) -> list[Rule]:
        asked = select(RULES).order_by(RULES.c.tenant, RULES.c.rule_key, RULES.c.version)
        if where is not None:
            asked = asked.where(where)
        with read(self._engine) as connection:
            return [_rule(dict(row)) for row in connection.execute(asked).mappings()]


def _row(rule: Rule) -> dict[str, Any]:
    row = msgspec.structs.asdict(rule)
    row["rule_key"] = row.pop("key")
    row["targets"] = msgspec.json.encode(rule.targets).decode()
    return row


def _rule(row: dict[str, Any]) -> Rule:
    row["key"] = row.pop("rule_key")
    row["targets"] = msgspec.json.decode(row["targets"], type=tuple[str, ...])
    return Rule(**row)
