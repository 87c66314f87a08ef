"""What people decided about quarantined events; the events themselves stay in the lake."""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from sqlalchemy import BigInteger, Column, Engine, String, Table, Text, func, insert, select

from tallybook.adapters.sql.database import read, write
from tallybook.adapters.sql.schema.declared import metadata

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

TRACES = Table(
    "quarantine_trace",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("id", String(64), primary_key=True),
    Column("code", String(64), nullable=False),
    Column("message", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("event_id", Text, nullable=False),
    Column("before", Text, nullable=False),
    Column("after", Text, nullable=False),
)
"""What a decision was about, one row each. before: the piece as it was received. after: the event
that was sent in its place, '' where it was dropped."""

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


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """What a decision was about.

    Attributes:
        code, message: why the piece was in quarantine.
        source, event_id: of the piece.
        before: as it was received. after: what was sent in its place, '' where it was dropped.
    """

    code: str
    message: str
    source: str
    event_id: str
    before: str
    after: str = ""


class SqlQuarantine:
    """Decisions about quarantined events."""

    def __init__(self, engine: Engine) -> None:
        """Use a control database that `open_database` made."""
        self._engine = engine

    def decide(self, decision: Decision, trace: Trace) -> None:
        """Record a decision and what it was about; raises Conflict where one was made before."""
        about = {"tenant": decision.tenant, "id": decision.id} | msgspec.structs.asdict(trace)
        with write(self._engine) as connection:
            connection.execute(insert(DECISIONS), msgspec.structs.asdict(decision))
            connection.execute(insert(TRACES), about)

    def decisions(
        self, tenant: str, limit: int, before: tuple[int, str] | None = None
    ) -> list[tuple[Decision, Trace | None]]:
        """Return decisions, newest first; those of earlier versions have no trace.

        Args:
            tenant: whose.
            limit: most rows.
            before: only strictly before this (time, id): the cursor of a page.
        """
        d = DECISIONS.c
        same = (TRACES.c.tenant == d.tenant) & (TRACES.c.id == d.id)
        names = Trace.__struct_fields__
        asked = (
            select(DECISIONS, *(TRACES.c[name] for name in names))
            .select_from(DECISIONS.outerjoin(TRACES, same))
            .where(d.tenant == tenant)
            .order_by(d.decided_us.desc(), d.id.desc())
            .limit(limit)
        )
        if before is not None:
            earlier = (d.decided_us == before[0]) & (d.id < before[1])
            asked = asked.where((d.decided_us < before[0]) | earlier)
        with read(self._engine) as connection:
            rows = [dict(row) for row in connection.execute(asked).mappings()]
        return [_told(row, names) for row in rows]

    def codes(self, tenant: str) -> dict[tuple[str, str], int]:
        """Return how many decisions there are by code and action; '' is an unknown code."""
        code = func.coalesce(TRACES.c.code, "")
        same = (TRACES.c.tenant == DECISIONS.c.tenant) & (TRACES.c.id == DECISIONS.c.id)
        asked = (
            select(code, DECISIONS.c.action, func.count())
            .select_from(DECISIONS.outerjoin(TRACES, same))
            .where(DECISIONS.c.tenant == tenant)
            .group_by(code, DECISIONS.c.action)
        )
        with read(self._engine) as connection:
            return {(row[0], row[1]): int(row[2]) for row in connection.execute(asked)}

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


def _told(row: dict[str, Any], names: tuple[str, ...]) -> tuple[Decision, Trace | None]:
    trace = {name: row.pop(name) for name in names}
    return Decision(**row), None if trace["code"] is None else Trace(**trace)
