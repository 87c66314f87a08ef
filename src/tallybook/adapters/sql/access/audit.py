"""The audit log in the control database: rows are added, never changed and never taken out."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Index,
    RowMapping,
    String,
    Table,
    Text,
    event,
    select,
    update,
)

from tallybook.adapters.sql.access.happening import acting, take
from tallybook.adapters.sql.access.recording import Recording, current, within
from tallybook.adapters.sql.database import read, write
from tallybook.adapters.sql.rows import add_rows, insert_rows
from tallybook.adapters.sql.schema.declared import metadata
from tallybook.admit.trail import Change, Entry, Head, Verdict, chained, verified
from tallybook.kernel.errors import Conflict
from tallybook.kernel.timestamps import SECOND_US

LOG = Table(
    "audit_log",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at_us", BigInteger, nullable=False),
    Column("actor", String(320), nullable=False),
    Column("action", String(64), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("subject", String(512), nullable=False),
    Column("route", String(512), nullable=False),
    Column("request_id", String(128), nullable=False),
    Column("before_json", Text),
    Column("after_json", Text),
    Column("asked", Text),
    Column("outcome", String(16), nullable=False),
    Column("previous", String(64), nullable=False),
    Column("digest", String(64), nullable=False),
    Index("audit_log_at", "tenant", "at_us"),
    Index("audit_log_kind", "tenant", "kind", "seq"),
)
"""Rows as in `admit.trail`. before_json, after_json, asked: JSON, NULL for nothing."""

HEAD = Table(
    "audit_head",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("seal", String(64), nullable=False),
)
"""The end of each tenant's log; whoever adds to the log holds this row."""

PENDING = Table(
    "audit_pending",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("id", String(64), primary_key=True),
    Column("at_us", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
)
"""Changes whose request has not ended. body: JSON of `admit.trail.Change`."""

ATTEMPTS = 3
STALE_US = 600 * SECOND_US
"""A request that did not end for so long has died."""
_PAGE = 1000
_DECODE = msgspec.json.Decoder(Change).decode
_TEXTS = {"actor": 320, "action": 64, "kind": 64, "subject": 512, "route": 512, "request_id": 128}


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows are wanted, newest first.

    Attributes:
        kind, subject, actor, action: exactly these, '' for all.
        start_us, end_us: from, to before; None is open.
        before_seq: only rows before this place.
    """

    kind: str = ""
    subject: str = ""
    actor: str = ""
    action: str = ""
    start_us: int | None = None
    end_us: int | None = None
    before_seq: int | None = None


class SqlAudit:
    """The audit logs of all tenants.

    Args:
        engine: from `open_database`; every write transaction of it carries from now on the note
            of the recording that it commits within, or else the rows of what it changed.
        secret: the server's.
        now_us: the present instant.
    """

    def __init__(self, engine: Engine, secret: bytes, now_us: Callable[[], int]) -> None:
        """Watch the engine."""
        self._now_us = now_us
        self._engine = engine
        self._secret = secret
        event.listen(engine, "commit", self._committing)
        event.listen(engine, "rollback", self._rolled_back)

    @staticmethod
    def acting(actor: str, route: str) -> AbstractContextManager[None]:
        """Say who changes what the block changes, where no request does."""
        return acting(actor, route)

    def add(self, tenant: str, changes: Sequence[Change], at_us: int) -> None:
        """Add rows in a transaction of their own."""
        self._end(tenant, changes, at_us, None)

    def finish(self, recording: Recording, changes: Sequence[Change], at_us: int) -> None:
        """Add the rows of a request that ended, and forget that it was pending."""
        if changes or recording.commits:
            self._end(recording.tenant, changes, at_us, recording.id)

    def settle_old(self, now_us: int) -> int:
        """Add what is pending of requests that died; return how many there were."""
        question = select(PENDING).where(PENDING.c.at_us < now_us - STALE_US)
        with read(self._engine) as connection:
            rows = connection.execute(question.limit(_PAGE)).mappings().all()
        for row in rows:
            change = msgspec.structs.replace(_DECODE(row["body"]), outcome="unknown")
            self._end(row["tenant"], [change], row["at_us"], row["id"])
        return len(rows)

    def listed(self, tenant: str, asked: Question, limit: int) -> list[Entry]:
        """Return rows, newest first."""
        columns = LOG.c
        query = select(LOG).where(columns.tenant == tenant)
        for name in ("kind", "subject", "actor", "action"):
            wanted = getattr(asked, name)
            if wanted:
                query = query.where(columns[name] == wanted)
        if asked.start_us is not None:
            query = query.where(columns.at_us >= asked.start_us)
        if asked.end_us is not None:
            query = query.where(columns.at_us < asked.end_us)
        if asked.before_seq is not None:
            query = query.where(columns.seq < asked.before_seq)
        with read(self._engine) as connection:
            rows = connection.execute(query.order_by(columns.seq.desc()).limit(limit)).mappings()
            return [_entry(row) for row in rows]

    def verified(self, tenant: str) -> Verdict:
        """Return whether a tenant's log hangs together, as of one instant."""
        with read(self._engine) as connection:
            head = _head(connection, tenant) or Head()
            return verified(self._secret, tenant, _entries(connection, tenant), head)

    def _end(self, tenant: str, changes: Sequence[Change], at_us: int, pending: str | None) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with within(None), write(self._engine) as connection:
                    self._append(connection, tenant, changes, at_us)
                    if pending is not None:
                        connection.execute(
                            PENDING.delete().where(
                                PENDING.c.tenant == tenant, PENDING.c.id == pending
                            )
                        )
            except Conflict:  # two wrote the first row of a tenant at once, or waited crosswise
                if attempt == ATTEMPTS:
                    raise
            else:
                return

    def _append(
        self, connection: Connection, tenant: str, changes: Sequence[Change], at_us: int
    ) -> None:
        if not changes:
            return
        head = _head(connection, tenant, lock=True) or begin_log(connection, tenant)
        fitting = [_fitting(change) for change in changes]
        entries, end = chained(self._secret, tenant, head, fitting, at_us)
        insert_rows(connection, LOG, [_row(entry) for entry in entries])
        values = {"seq": end.seq, "digest": end.digest, "seal": end.seal}
        connection.execute(update(HEAD).where(HEAD.c.tenant == tenant).values(**values))

    def _committing(self, connection: Connection) -> None:
        """Put into a write transaction that is about to commit what it changed, and who asked.

        The rows of a tenant are the last thing that is locked, in the order of the tenants.
        """
        happened = take(connection)
        recording = current()
        if not _writes(connection):
            return
        if recording is None or recording.draft is None:
            for tenant, changes in happened.items():
                self._append(connection, tenant, changes, self._now_us())
            return
        at_us, staged = recording.at_us, recording.staged
        recording.staged = []
        recording.facts += staged
        self._append(connection, recording.tenant, staged, at_us)
        if not recording.commits and not recording.covers(recording.draft):
            body = msgspec.json.encode(recording.draft).decode()
            row = {"tenant": recording.tenant, "id": recording.id, "at_us": at_us, "body": body}
            insert_rows(connection, PENDING, [row])
        recording.commits += 1

    @staticmethod
    def _rolled_back(connection: Connection) -> None:
        take(connection)
        recording = current()
        if recording is not None:
            recording.staged = []


def _writes(connection: Connection) -> bool:
    """Whether the connection's transaction is one of `database.write`."""
    options = connection.get_execution_options()
    if connection.dialect.name == "sqlite":
        return bool(options.get("immediate"))
    return options.get("isolation_level") == "READ COMMITTED"


def _head(connection: Connection, tenant: str, *, lock: bool = False) -> Head | None:
    query = select(HEAD).where(HEAD.c.tenant == tenant)
    row = connection.execute(query.with_for_update() if lock else query).first()
    return None if row is None else Head(seq=row.seq, digest=row.digest, seal=row.seal)


def begin_log(connection: Connection, tenant: str) -> Head:
    """Return the end of a log that may just begin, locked; whoever begins it too waits here."""
    values = msgspec.structs.asdict(Head())
    add_rows(connection, HEAD, [{"tenant": tenant, **values}])
    return _head(connection, tenant, lock=True) or Head()


def _entries(connection: Connection, tenant: str) -> Iterator[Entry]:
    after = 0
    while True:
        query = select(LOG).where(LOG.c.tenant == tenant, LOG.c.seq > after)
        rows = connection.execute(query.order_by(LOG.c.seq).limit(_PAGE)).mappings().all()
        yield from (_entry(row) for row in rows)
        if len(rows) < _PAGE:
            return
        after = rows[-1]["seq"]


def _fitting(change: Change) -> Change:
    """Return the change with texts that fit their columns."""
    long = {
        name: text[:chars]
        for name, chars in _TEXTS.items()
        if len(text := getattr(change, name)) > chars
    }
    return msgspec.structs.replace(change, **long) if long else change


def _row(entry: Entry) -> dict[str, object]:
    change = msgspec.structs.asdict(entry.change)
    return {
        "tenant": entry.tenant,
        "seq": entry.seq,
        "at_us": entry.at_us,
        "before_json": change.pop("before"),
        "after_json": change.pop("after"),
        **change,
        "previous": entry.previous,
        "digest": entry.digest,
    }


def _entry(row: RowMapping) -> Entry:
    texts = {name: row[name] for name in (*_TEXTS, "asked", "outcome")}
    change = Change(before=row["before_json"], after=row["after_json"], **texts)
    places = {name: row[name] for name in ("tenant", "seq", "at_us", "previous", "digest")}
    return Entry(change=change, **places)
