"""Answers to remember under an `Idempotency-Key`: same key and body, first answer again."""

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    Engine,
    Integer,
    LargeBinary,
    String,
    Table,
    delete,
    insert,
    select,
    update,
)

from tallybook.adapters.sql.database import read, write
from tallybook.adapters.sql.schema.declared import metadata
from tallybook.kernel.errors import Conflict

ANSWERS = Table(
    "idempotency",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("status", Integer),
    Column("content_type", String(128)),
    Column("body", LargeBinary),
    Column("created_us", BigInteger, nullable=False, index=True),
)
"""Remembered answers. digest: SHA-256 of API key, path and body. status, content_type, body: the
first answer, NULL while it is being made. created_us: microseconds UTC."""

STALE_US = 60 * 1_000_000
"""A request that did not answer for so long was killed; its key may be taken over."""


class Remembered(msgspec.Struct, frozen=True):
    """The first answer."""

    status: int
    content_type: str
    body: bytes


class SqlIdempotency:
    """Remembered answers of all tenants."""

    def __init__(self, engine: Engine) -> None:
        """Use a control database that `open_database` made."""
        self._engine = engine

    def begin(self, tenant: str, key: str, digest: str, now_us: int) -> Remembered | None:
        """Claim a key, or return the answer that was given under it.

        Raises:
            Conflict: the key was used with another body, or its first request still runs.
        """
        mine = (ANSWERS.c.tenant == tenant, ANSWERS.c.key == key)
        with write(self._engine) as connection:
            row = connection.execute(select(ANSWERS).where(*mine)).mappings().first()
            if row is None:
                values = {"tenant": tenant, "key": key, "digest": digest, "created_us": now_us}
                connection.execute(insert(ANSWERS), values)
                return None
            if row["digest"] != digest:
                message = "this Idempotency-Key was used with another request; choose a fresh one"
                raise Conflict(message, code="idempotency-key-reused", field="Idempotency-Key")
            if row["status"] is not None:
                return Remembered(row["status"], row["content_type"], row["body"])
            if row["created_us"] > now_us - STALE_US:
                message = "the first request with this Idempotency-Key is still running"
                raise Conflict(message, code="idempotency-key-busy", field="Idempotency-Key")
            connection.execute(update(ANSWERS).where(*mine).values(created_us=now_us))
        return None

    def finish(self, tenant: str, key: str, answer: Remembered) -> None:
        """Keep the answer to a claimed key."""
        change = update(ANSWERS).where(ANSWERS.c.tenant == tenant, ANSWERS.c.key == key)
        with write(self._engine) as connection:
            connection.execute(change.values(**msgspec.structs.asdict(answer)))

    def release(self, tenant: str, key: str) -> None:
        """Give a claimed key back, because its request failed and may be sent again."""
        mine = (ANSWERS.c.tenant == tenant, ANSWERS.c.key == key, ANSWERS.c.status.is_(None))
        with write(self._engine) as connection:
            connection.execute(delete(ANSWERS).where(*mine))

    def forget(self, before_us: int) -> int:
        """Drop answers older than an instant; return how many."""
        old = delete(ANSWERS).where(ANSWERS.c.created_us < before_us)
        with read(self._engine) as connection:
            first = select(ANSWERS.c.key).where(ANSWERS.c.created_us < before_us).limit(1)
            if connection.execute(first).first() is None:
                return 0
        with write(self._engine) as connection:
            return connection.execute(old).rowcount
