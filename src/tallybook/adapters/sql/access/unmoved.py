"""A change that was decided from what its caller saw is made of that, or not at all (`If-Match`).

What a caller saw is compared with what is there before the change begins; within the transaction
that makes the change, just before it commits, the audit log is asked whether anybody changed the
same thing in between. Whoever changes something through routes, pages or commands leaves a row in
the very transaction of the change, so the second of two writers sees the row of the first: one that
decided with `If-Match` is rolled back. On SQLite there is one writer at a time; on other databases
every writer takes the log's head before it commits: one that decided with `If-Match` alone, all
others together. So a row that is not there yet is of a writer that commits afterwards.
"""

import msgspec
from sqlalchemy import Connection, Engine, event, func, select

from tallybook.adapters.sql.access.audit import HEAD, LOG, PENDING, begin_log
from tallybook.adapters.sql.access.recording import Recording, Seen, current
from tallybook.adapters.sql.database import read
from tallybook.admit.trail import Change
from tallybook.kernel.errors import Conflict

_CHANGE = msgspec.json.Decoder(Change)


def moved() -> Conflict:
    """Return the refusal of a change to what is another thing now."""
    message = "it is not what If-Match says any more; read it, and decide again"
    return Conflict(message, code="precondition-failed", field="If-Match")


class Unmoved:
    """Watches transactions of changes that were decided from what was seen.

    Args:
        engine: of the control database; its audit log watches it too.
    """

    def __init__(self, engine: Engine) -> None:
        """Watch the engine."""
        self._engine = engine
        event.listen(engine, "commit", self._committing)

    def seen(self, tenant: str) -> Seen:
        """Return how far a tenant's log is, before anything is compared."""
        with read(self._engine) as connection:
            seq = connection.execute(
                select(func.max(LOG.c.seq)).where(LOG.c.tenant == tenant)
            ).scalar()
            pending = connection.execute(select(PENDING.c.id).where(PENDING.c.tenant == tenant))
            return Seen(seq or 0, frozenset(pending.scalars()))

    @staticmethod
    def _committing(connection: Connection) -> None:
        recording = current()
        if recording is None or recording.draft is None or not _writes(connection):
            return
        if recording.seen is None:
            if connection.dialect.name != "sqlite":
                _take_head(connection, recording.tenant, alone=False)
            return
        if recording.moved or _changed(connection, recording, recording.seen, recording.draft):
            recording.moved = True  # whoever tries again is refused again
            raise moved()
        recording.seen = None  # what follows is of this change itself


def _writes(connection: Connection) -> bool:
    options = connection.get_execution_options()
    if connection.dialect.name == "sqlite":
        return bool(options.get("immediate"))
    return options.get("isolation_level") == "READ COMMITTED"


def _take_head(connection: Connection, tenant: str, *, alone: bool) -> None:
    """Lock the head of a tenant's log until the transaction ends; it is made where none is."""
    head = select(HEAD.c.seq).where(HEAD.c.tenant == tenant).with_for_update(read=not alone)
    if connection.execute(head).first() is None:
        begin_log(connection, tenant)


def _changed(connection: Connection, recording: Recording, seen: Seen, draft: Change) -> bool:
    tenant = recording.tenant
    _take_head(connection, tenant, alone=True)
    rows = (
        select(LOG.c.kind, LOG.c.subject, LOG.c.request_id)
        .where(LOG.c.tenant == tenant, LOG.c.seq > seen.seq)
        .order_by(LOG.c.seq.desc())
    )
    same = (draft.kind, draft.subject)
    for place, row in enumerate(connection.execute(rows)):
        own = place < len(recording.facts) and row.request_id == draft.request_id
        if (row.kind, row.subject) == same and not own:
            return True
    begun = select(PENDING.c.id, PENDING.c.body).where(PENDING.c.tenant == tenant)
    others = [
        _CHANGE.decode(row.body)
        for row in connection.execute(begun)
        if row.id not in seen.pending and row.id != recording.id
    ]
    return any((other.kind, other.subject) == same for other in others)
