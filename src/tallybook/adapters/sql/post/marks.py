"""What was told of things that nobody's command brings about: one number each.

A mark moves in the transaction of the fact that it stands for, so that nothing is told twice and
nothing is passed over.
"""

from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import BigInteger, Column, Engine, String, Table, select

from tallybook.adapters.sql.database import read, write
from tallybook.adapters.sql.outbox import add_facts
from tallybook.adapters.sql.rows import replace_rows
from tallybook.adapters.sql.schema.declared import metadata
from tallybook.kernel.book.fact import Fact

KEYS_AT_ONCE = 500

MARK = Table(
    "watch_mark",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("watch", String(32), primary_key=True),
    Column("subject", String(320), primary_key=True),
    Column("value", BigInteger, nullable=False),
)
"""Marks. watch: who keeps it, such as 'overdue'. subject: of what. value: what was told of it."""


class SqlMarks:
    """`Marks` in the control database."""

    def __init__(self, engine: Engine) -> None:
        """Use a control database that `open_database` made."""
        self._engine = engine

    def of(self, tenant: str, watch: str, subjects: Iterable[str]) -> dict[str, int]:
        """Return the marks of some subjects; one that was never marked is not among them."""
        wanted = sorted(set(subjects))
        found: dict[str, int] = {}
        with read(self._engine) as connection:
            for at in range(0, len(wanted), KEYS_AT_ONCE):
                some = wanted[at : at + KEYS_AT_ONCE]
                rows = connection.execute(
                    select(MARK.c.subject, MARK.c.value).where(
                        MARK.c.tenant == tenant, MARK.c.watch == watch, MARK.c.subject.in_(some)
                    )
                )
                found |= {row.subject: row.value for row in rows}
        return found

    def move(
        self, tenant: str, watch: str, marks: Mapping[str, int], facts: Sequence[Fact]
    ) -> None:
        """Write marks in place of what they were, and tell facts, in one transaction."""
        rows: list[dict[str, object]] = [
            {"tenant": tenant, "watch": watch, "subject": subject, "value": value}
            for subject, value in sorted(marks.items())
        ]
        with write(self._engine) as connection:
            replace_rows(connection, MARK, rows)
            add_facts(connection, tenant, facts)
