"""`Post` and `PostReader` in the control database.

What a transaction decides from is locked until it ends (rows that another one has in hand are
passed over, so that several senders share the work); SQLite has one writer anyway.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Select,
    and_,
    delete,
    exists,
    func,
    or_,
    select,
    tuple_,
    update,
)

from tallybook.adapters.sql.database import read, write
from tallybook.adapters.sql.outbox import FACT_TOLD, OUTBOX, add_aside, add_facts, fact_of
from tallybook.adapters.sql.post.tables import (
    ATTEMPT,
    DELIVERY,
    ENDPOINT,
    attempt_of,
    attempt_row,
    delivery_of,
    delivery_row,
    endpoint_of,
    endpoint_row,
)
from tallybook.adapters.sql.rows import add_rows, insert_rows, replace_rows
from tallybook.deliver.delivery import Attempt, Delivery
from tallybook.deliver.endpoint import Endpoint
from tallybook.deliver.ports import Asked, Figures, Ready, ready_of
from tallybook.deliver.schedule import FURTHEST_US
from tallybook.deliver.state import OPEN
from tallybook.deliver.steps import Written
from tallybook.kernel.book.fact import Fact
from tallybook.kernel.errors import Missing

IDS_AT_ONCE = 500


class SqlPost:
    """Endpoints, deliveries and attempts."""

    def __init__(self, engine: Engine) -> None:
        """Use a control database that `open_database` made."""
        self._engine = engine

    @contextmanager
    def writing(self) -> Iterator["SqlPostTransaction"]:
        """Open a transaction."""
        with write(self._engine) as connection:
            yield SqlPostTransaction(connection)

    def waits(self) -> bool:
        """Return whether there are facts that nobody was asked about yet."""
        one = select(FACT_TOLD.c.id).where(FACT_TOLD.c.told_us.is_(None)).limit(1)
        with read(self._engine) as connection:
            return connection.execute(one).first() is not None

    def ready(self, now_us: int) -> list[Ready]:
        """Return the endpoints of which something is due."""
        columns = (ENDPOINT.c.tenant, ENDPOINT.c.id, ENDPOINT.c.state, ENDPOINT.c.succeeded_us)
        due = exists().where(
            DELIVERY.c.tenant == ENDPOINT.c.tenant,
            DELIVERY.c.endpoint == ENDPOINT.c.id,
            _is_due(now_us),
        )
        with read(self._engine) as connection:
            rows = connection.execute(select(*columns).where(due))
            return [ready_of(*row) for row in rows]

    def release(self, holder: str, now_us: int) -> int:
        """End the leases whose name begins with the holder's."""
        change = (
            update(DELIVERY)
            .where(
                DELIVERY.c.due_us.is_not(None), DELIVERY.c.lease.startswith(holder, autoescape=True)
            )
            .values(lease="", due_us=now_us)
        )
        with write(self._engine) as connection:
            return connection.execute(change).rowcount

    def forget(self, before_us: int, limit: int) -> int:
        """Drop what ended before an instant."""
        with write(self._engine) as connection:
            gone = _forget_deliveries(connection, before_us, limit)
            return gone + _forget_facts(connection, before_us, limit - gone)

    def endpoints(self, tenant: str) -> list[Endpoint]:
        """Return the endpoints of a tenant, oldest first."""
        with read(self._engine) as connection:
            return _endpoints(connection, _all_endpoints(tenant))

    def deliveries(self, tenant: str, asked: Asked) -> list[Delivery]:
        """Return deliveries, newest fact first."""
        question = _asked(tenant, asked)
        with read(self._engine) as connection:
            rows = connection.execute(question).mappings()
            return [delivery_of(row) for row in rows]

    def delivery(self, tenant: str, id: str) -> tuple[Delivery, Fact, list[Attempt]]:
        """Return a delivery with its fact and attempts."""
        with read(self._engine) as connection:
            held = _held(connection, tenant, [id], lock=False)
            if not held:
                raise Missing(f"there is no delivery {id}", field="id")
            made = connection.execute(
                select(ATTEMPT)
                .where(ATTEMPT.c.tenant == tenant, ATTEMPT.c.delivery == id)
                .order_by(ATTEMPT.c.number)
            ).mappings()
            return (*held[0], [attempt_of(row) for row in made])

    def facts(self, tenant: str, since_us: int, after: str, limit: int) -> list[Fact]:
        """Return facts since an instant, by id."""
        question = (
            select(OUTBOX)
            .where(OUTBOX.c.tenant == tenant, OUTBOX.c.id > after, OUTBOX.c.at_us >= since_us)
            .order_by(OUTBOX.c.id)
            .limit(limit)
        )
        with read(self._engine) as connection:
            return [fact_of(dict(row)) for row in connection.execute(question).mappings()]

    def figures(self) -> Figures:
        """Return how delivering is."""
        open_ = (DELIVERY.c.due_us.is_not(None),)
        waits = select(func.count()).select_from(FACT_TOLD).where(FACT_TOLD.c.told_us.is_(None))
        states = select(
            ENDPOINT.c.state,
            func.count(),
            func.sum(ENDPOINT.c.delivered_total),
            func.sum(ENDPOINT.c.failed_total),
        ).group_by(ENDPOINT.c.state)
        with read(self._engine) as connection:
            facts = connection.execute(waits).scalar_one()
            waiting, oldest = connection.execute(
                select(func.count(), func.min(DELIVERY.c.at_us)).where(*open_)
            ).one()
            rows = [tuple(row) for row in connection.execute(states)]
        return Figures(
            facts=facts,
            waiting=waiting,
            oldest_us=oldest,
            endpoints={state: count for state, count, _, _ in rows},
            delivered=sum(int(delivered) for _, _, delivered, _ in rows),
            failed=sum(int(failed) for *_, failed in rows),
        )


class SqlPostTransaction:
    """`PostTransaction` on one connection's open transaction."""

    def __init__(self, connection: Connection) -> None:
        """Use an open write transaction."""
        self._connection = connection

    def waiting(self, limit: int) -> dict[str, list[Fact]]:
        """Return facts that nobody was asked about yet, and lock them."""
        rows = self._connection.execute(
            select(FACT_TOLD.c.tenant, FACT_TOLD.c.id)
            .where(FACT_TOLD.c.told_us.is_(None))
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        ids: dict[str, list[str]] = {}
        for row in rows:
            ids.setdefault(row.tenant, []).append(row.id)
        return {tenant: self._facts(tenant, some) for tenant, some in sorted(ids.items())}

    def endpoints(self, tenant: str, ids: Sequence[str] | None = None) -> list[Endpoint]:
        """Return endpoints, locked: named ones for change, all of them against removal."""
        question = _all_endpoints(tenant)
        if ids is None:
            return _endpoints(self._connection, question.with_for_update(read=True))
        named = question.where(ENDPOINT.c.id.in_(ids))
        return _endpoints(self._connection, named.with_for_update())

    def due(self, tenant: str, endpoint: str, now_us: int, limit: int) -> list[Delivery]:
        """Return deliveries whose time has come, and lock them."""
        rows = self._connection.execute(
            select(DELIVERY)
            .where(
                DELIVERY.c.tenant == tenant,
                DELIVERY.c.endpoint == endpoint,
                _is_due(now_us),
            )
            .order_by(DELIVERY.c.due_us, DELIVERY.c.id)
            .limit(limit)
            .with_for_update(skip_locked=True)
        ).mappings()
        return [delivery_of(row) for row in rows]

    def held(self, tenant: str, ids: Sequence[str]) -> list[tuple[Delivery, Fact]]:
        """Return deliveries with their facts, and lock them."""
        return _held(self._connection, tenant, ids, lock=True)

    def put(self, tenant: str, written: Written, now_us: int) -> None:
        """Write what was decided."""
        connection = self._connection
        add_facts(connection, tenant, written.facts)
        add_aside(connection, tenant, written.aside, now_us)
        replace_rows(connection, ENDPOINT, [endpoint_row(tenant, e) for e in written.endpoints])
        if written.removed:
            connection.execute(
                delete(ENDPOINT).where(
                    ENDPOINT.c.tenant == tenant, ENDPOINT.c.id.in_(written.removed)
                )
            )
        add_rows(connection, DELIVERY, [delivery_row(tenant, d) for d in written.begun])
        replace_rows(connection, DELIVERY, [delivery_row(tenant, d) for d in written.deliveries])
        insert_rows(connection, ATTEMPT, [attempt_row(tenant, a) for a in written.attempts])
        self._cancel(tenant, written.cancelled, now_us)
        for some in _parted(written.fanned):
            connection.execute(
                update(FACT_TOLD)
                .where(FACT_TOLD.c.tenant == tenant, FACT_TOLD.c.id.in_(some))
                .values(told_us=now_us)
            )

    def _cancel(self, tenant: str, endpoints: Sequence[str], now_us: int) -> None:
        if not endpoints:
            return
        self._connection.execute(
            update(DELIVERY)
            .where(
                DELIVERY.c.tenant == tenant,
                DELIVERY.c.endpoint.in_(endpoints),
                DELIVERY.c.state.in_(sorted(OPEN)),
            )
            .values(state="cancelled", due_us=None, ended_us=now_us, lease="")
        )

    def _facts(self, tenant: str, ids: Sequence[str]) -> list[Fact]:
        found = self._connection.execute(
            select(OUTBOX)
            .where(OUTBOX.c.tenant == tenant, OUTBOX.c.id.in_(ids))
            .order_by(OUTBOX.c.at_us, OUTBOX.c.id)
        )
        return [fact_of(dict(row)) for row in found.mappings()]


def _is_due(now_us: int) -> "ColumnElement[bool]":
    due_us = DELIVERY.c.due_us
    return or_(due_us <= now_us, due_us > now_us + FURTHEST_US)


def _all_endpoints(tenant: str) -> "Select[tuple[object, ...]]":
    question = select(ENDPOINT).where(ENDPOINT.c.tenant == tenant)
    return question.order_by(ENDPOINT.c.created_us, ENDPOINT.c.id)


def _endpoints(connection: Connection, question: "Select[tuple[object, ...]]") -> list[Endpoint]:
    return [endpoint_of(row) for row in connection.execute(question).mappings()]


def _parted(ids: Sequence[str]) -> Iterable[Sequence[str]]:
    return (ids[at : at + IDS_AT_ONCE] for at in range(0, len(ids), IDS_AT_ONCE))


def _held(
    connection: Connection, tenant: str, ids: Sequence[str], *, lock: bool
) -> list[tuple[Delivery, Fact]]:
    """Return deliveries with their facts, by id."""
    found: list[tuple[Delivery, Fact]] = []
    for some in _parted(sorted(ids)):
        question = (
            select(DELIVERY)
            .where(DELIVERY.c.tenant == tenant, DELIVERY.c.id.in_(some))
            .order_by(DELIVERY.c.id)
        )
        locked = question.with_for_update() if lock else question
        deliveries = [delivery_of(row) for row in connection.execute(locked).mappings()]
        wanted = {one.fact for one in deliveries}
        facts = connection.execute(
            select(OUTBOX).where(OUTBOX.c.tenant == tenant, OUTBOX.c.id.in_(wanted))
        ).mappings()
        by_id = {row["id"]: fact_of(dict(row)) for row in facts}
        found += [(one, by_id[one.fact]) for one in deliveries]
    return found


def _asked(tenant: str, asked: Asked) -> "Select[tuple[object, ...]]":
    question = select(DELIVERY).where(DELIVERY.c.tenant == tenant)
    if asked.endpoint is not None:
        question = question.where(DELIVERY.c.endpoint == asked.endpoint)
    if asked.states:
        question = question.where(DELIVERY.c.state.in_(asked.states))
    if asked.kind is not None:
        question = question.where(DELIVERY.c.kind == asked.kind)
    if asked.since_us is not None:
        question = question.where(DELIVERY.c.at_us >= asked.since_us)
    if asked.before is not None:
        at_us, name = asked.before
        older = and_(DELIVERY.c.at_us == at_us, DELIVERY.c.id < name)
        question = question.where(or_(DELIVERY.c.at_us < at_us, older))
    newest = (DELIVERY.c.at_us.desc(), DELIVERY.c.id.desc())
    return question.order_by(*newest).limit(asked.limit)


def _forget_deliveries(connection: Connection, before_us: int, limit: int) -> int:
    keys = [
        (row.tenant, row.id)
        for row in connection.execute(
            select(DELIVERY.c.tenant, DELIVERY.c.id)
            .where(DELIVERY.c.ended_us < before_us)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
    ]
    if keys:
        made = tuple_(ATTEMPT.c.tenant, ATTEMPT.c.delivery)
        connection.execute(delete(ATTEMPT).where(made.in_(keys)))
        connection.execute(
            delete(DELIVERY).where(tuple_(DELIVERY.c.tenant, DELIVERY.c.id).in_(keys))
        )
    return len(keys)


def _forget_facts(connection: Connection, before_us: int, limit: int) -> int:
    on_its_way = exists().where(
        DELIVERY.c.tenant == FACT_TOLD.c.tenant, DELIVERY.c.fact == FACT_TOLD.c.id
    )
    keys = [
        (row.tenant, row.id)
        for row in connection.execute(
            select(FACT_TOLD.c.tenant, FACT_TOLD.c.id)
            .where(FACT_TOLD.c.told_us < before_us, ~on_its_way)
            .limit(max(limit, 0))
        )
    ]
    if keys:
        for table in (OUTBOX, FACT_TOLD):
            connection.execute(delete(table).where(tuple_(table.c.tenant, table.c.id).in_(keys)))
    return len(keys)
