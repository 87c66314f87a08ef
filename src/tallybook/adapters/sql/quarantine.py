"""What people decided about quarantined events; the events themselves stay in the lake."""

from collections.abc import Sequence
from typing import Literal

import msgspec
from sqlalchemy import BigInteger, Column, Engine, String, Table, Text, insert, select

from tallybook.adapters.sql.database import metadata, read, write

Action = Literal["redriven", "dropped"]

DECISIONS = Table(
    "quarantine_decision",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("id", String(64), primary_key=True),
    Column("action", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("key_id", String(64), nullable=False),
    Column("decided_us", BigInteger, nullable=False),
)
"""One row a decided event. id: derived from the event's source and id. reason: why it was dropped,
or the id it was sent under. key_id: who decided. decided_us: microseconds UTC."""

_IN_MAX = 500


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided about one quarantined event.

    Attributes:
        id: of the quarantined event.
        reason: why it was dropped; for a redrive, what was corrected.
        key_id: the API key that decided.
    """

    tenant: str
    id: str
    action: Action
    reason: str
    key_id: str
    decided_us: int


class SqlQuarantine:
    """Decisions about quarantined events."""

    def __init__(self, engine: Engine) -> None:
        """Use a control database that `open_database` made."""
        self._engine = engine

    def decide(self, decision: Decision) -> None:
        """Record a decision; raises Conflict where one was made before."""
        with write(self._engine) as connection:
            connection.execute(insert(DECISIONS), msgspec.structs.asdict(decision))

    def decided(self, tenant: str, ids: Sequence[str]) -> dict[str, Decision]:
        """Return the decisions about these events, by id."""
        found: dict[str, Decision] = {}
        with read(self._engine) as connection:
            for start in range(0, len(ids), _IN_MAX):
                some = ids[start : start + _IN_MAX]
                question = select(DECISIONS).where(
                    DECISIONS.c.tenant == tenant, DECISIONS.c.id.in_(some)
                )
                for row in connection.execute(question).mappings():
                    found[row["id"]] = Decision(**row)
        return found

    def count(self, tenant: str) -> dict[str, int]:
        """Return how many events were redriven and how many dropped."""
        counts: dict[str, int] = {"redriven": 0, "dropped": 0}
        question = select(DECISIONS.c.action).where(DECISIONS.c.tenant == tenant)
        with read(self._engine) as connection:
            for action in connection.execute(question).scalars():
                counts[action] += 1
        return counts
