"""Invoices and where billing stands, in the control database (DECISIONS 27, 28, 30).

Money is BIGINT minor units, exact decimals and JSON are text, instants BIGINT microseconds UTC.
Every unique key starts with the tenant. A finalized invoice is inserted once and never updated,
but for its state and what is open of it.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Engine,
    Integer,
    Row,
    RowMapping,
    Select,
    String,
    Table,
    Text,
    UniqueConstraint,
    func,
    or_,
    select,
    tuple_,
)
from sqlalchemy.exc import IntegrityError

from tallybook.adapters.sql.books import SqlBooks
from tallybook.adapters.sql.database import read, write
from tallybook.adapters.sql.drafts import (
    SqlDrafts,
    claim,
    drafted,
    expect,
    parts,
    put_drafts,
    seen_of,
    standing,
)
from tallybook.adapters.sql.rows import insert_rows, replace_rows
from tallybook.adapters.sql.schema.declared import metadata
from tallybook.catalog.subscription import StoredPeriod
from tallybook.invoice.document import number_place
from tallybook.invoice.manifest import Billed, Group, Position
from tallybook.invoice.ports import (
    BillingRun,
    Books,
    InvoiceHead,
    Last,
    Part,
    Seen,
    StoredDraft,
    StoredInvoice,
    StoredLine,
)
from tallybook.invoice.record import group_text
from tallybook.invoice.state import Shown
from tallybook.kernel.errors import Missing

INVOICE = Table(
    "invoice",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("id", String(64), primary_key=True),
    Column("series", String(32), nullable=False),
    Column("ordinal", BigInteger, nullable=False),
    Column("number", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("customer", String(128), nullable=False),
    Column("customer_name", Text, nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("run", String(64), nullable=False),
    Column("currency", String(3), nullable=False),
    Column("total_minor", BigInteger, nullable=False),
    Column("lines", Integer, nullable=False),
    Column("issued_us", BigInteger, nullable=False),
    Column("due_us", BigInteger, nullable=False),
    Column("period_start_us", BigInteger, nullable=False),
    Column("period_end_us", BigInteger, nullable=False),
    Column("cut", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("payable_minor", BigInteger, nullable=False),
    Column("open_minor", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
    Column("line_records", Text, nullable=False),
    UniqueConstraint("tenant", "series", "ordinal"),
    UniqueConstraint("tenant", "customer", "sequence"),
    UniqueConstraint("tenant", "run", "customer"),
)
"""See `invoice.ports.StoredInvoice`. line_records: JSON array of its lines, which are written
once and read with their invoice, never without it."""

_SERIES = Table(
    "number_series",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("series", String(32), primary_key=True),
    Column("last", BigInteger, nullable=False),
)
_PERIOD = Table(
    "subscription_period",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("subscription", String(128), primary_key=True),
    Column("span", String(32), primary_key=True),
    Column("start_us", BigInteger, primary_key=True, autoincrement=False),
    Column("end_us", BigInteger, nullable=False),
    Column("closed", Boolean, nullable=False),
    Column("body", Text, nullable=False),
)
_BILLED = Table(
    "billed",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("subscription", String(128), primary_key=True),
    Column("charge", String(128), primary_key=True),
    Column("start_us", BigInteger, primary_key=True, autoincrement=False),
    Column("group_key", String(64), primary_key=True),
    Column("dimensions", Text, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("discount_minor", BigInteger, nullable=False),
    Column("forgiven_minor", BigInteger, nullable=False),
    Column("quantity", Text, nullable=False),
    Column("events", BigInteger, nullable=False),
    Column("digest", Text, nullable=False),
    Column("until_us", BigInteger, nullable=False),
    Column("cut", BigInteger, nullable=False),
    Column("invoice", String(64), nullable=False),
)
_RUN = Table(
    "billing_run",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("id", String(64), primary_key=True),
    Column("started_us", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
)
_decode_lines = msgspec.json.Decoder(tuple[StoredLine, ...]).decode
_HEAD = [column for column in INVOICE.c if column.name not in {"tenant", "body", "line_records"}]


class SqlInvoices:
    """`InvoiceStore` on the control database; safe to share between threads.

    Args:
        engine: from `open_database`.
    """

    def __init__(self, engine: Engine) -> None:
        """Remember the engine."""
        self._engine = engine

    @contextmanager
    def transaction(self, tenant: str) -> Iterator["SqlInvoiceTransaction"]:
        """Open a write transaction, BEGIN IMMEDIATE on SQLite."""
        with write(self._engine) as connection:
            yield SqlInvoiceTransaction(connection, tenant)

    @property
    def drafts(self) -> SqlDrafts:
        """Drafts, in the same database."""
        return SqlDrafts(self._engine)

    def books(self, tenant: str, part: Part | None = None) -> Books:
        """Return where billing stands, as of one instant."""
        with read(self._engine) as connection:
            if part is None:
                return Books(
                    periods=_periods(connection, tenant),
                    billed=_billed(connection, tenant),
                    last=_last(connection, tenant),
                )
            return Books(
                periods=_periods(connection, tenant, part.subscriptions),
                billed=_billed(connection, tenant, part.subscriptions),
                last=_last(connection, tenant, part.customers),
                versions=standing(connection, tenant, part.customers),
                done=_done(connection, tenant, part),
                recent=_recent(connection, tenant, part),
                seen=seen_of(connection, tenant, part.customers),
            )

    def invoice(self, tenant: str, name: str) -> StoredInvoice:
        """Return an invoice by its id or number."""
        named = or_(INVOICE.c.id == name, INVOICE.c.number == name)
        query = select(INVOICE).where(INVOICE.c.tenant == tenant, named)
        with read(self._engine) as connection:
            row = connection.execute(query).mappings().first()
            if row is None:
                raise Missing(f"there is no invoice '{name}'", field="invoice")
        lines = _decode_lines(row["line_records"])
        return StoredInvoice(head=_head(row), body=row["body"], lines=lines)

    def invoices(
        self,
        tenant: str,
        *,
        limit: int,
        after: str | None = None,
        customer: str | None = None,
        run: str | None = None,
        shown: Shown | None = None,
        newest: bool = False,
    ) -> list[InvoiceHead]:
        """Return invoices in the order of their numbers."""
        query = select(*_HEAD).where(INVOICE.c.tenant == tenant)
        order = (INVOICE.c.series, INVOICE.c.ordinal)
        if after is not None:
            place, border = tuple_(*order), tuple_(*number_place(after))
            query = query.where(place < border if newest else place > border)
        if customer is not None:
            query = query.where(INVOICE.c.customer == customer)
        if run is not None:
            query = query.where(INVOICE.c.run == run)
        if shown is not None:
            query = _shown(query, shown)
        query = query.order_by(*(c.desc() if newest else c for c in order)).limit(limit)
        with read(self._engine) as connection:
            return [_head(row) for row in connection.execute(query).mappings()]

    def runs(self, tenant: str, *, limit: int, name: str | None = None) -> list[BillingRun]:
        """Return billing runs, newest first."""
        query = select(_RUN.c.body).where(_RUN.c.tenant == tenant)
        if name is not None:
            query = query.where(_RUN.c.id == name)
        query = query.order_by(_RUN.c.started_us.desc(), _RUN.c.id).limit(limit)
        with read(self._engine) as connection:
            bodies = connection.execute(query).scalars().all()
        return [msgspec.json.decode(body, type=BillingRun) for body in bodies]


class SqlInvoiceTransaction:
    """`InvoiceTransaction` on one connection's open transaction."""

    def __init__(self, connection: Connection, tenant: str) -> None:
        """Write for a tenant."""
        self._connection = connection
        self._tenant = tenant
        self._books = SqlBooks(connection, tenant)

    @property
    def books(self) -> SqlBooks:
        """Ledger, outbox and accounts, in this transaction."""
        return self._books

    def take_numbers(self, series: str, count: int) -> int:
        """Return the first of the next numbers; the series' row is locked till the end."""
        place = (_SERIES.c.tenant == self._tenant) & (_SERIES.c.series == series)
        query = select(_SERIES.c.last).where(place).with_for_update()
        last = self._connection.execute(query).scalar()
        if last is None and self._began(series):
            last = 0
        elif last is None:  # somebody else began it meanwhile, and has committed
            last = self._connection.execute(query).scalar_one()
        self._connection.execute(_SERIES.update().where(place).values(last=last + count))
        return int(last) + 1

    def _began(self, series: str) -> bool:
        """Begin a series; return whether nobody else did."""
        row = {"tenant": self._tenant, "series": series, "last": 0}
        try:
            with self._connection.begin_nested():
                self._connection.execute(_SERIES.insert(), row)
        except IntegrityError:
            return False
        return True

    def add_invoices(self, invoices: Sequence[StoredInvoice]) -> None:
        """Insert invoices with their lines."""
        insert_rows(self._connection, INVOICE, [self._invoice_row(invoice) for invoice in invoices])

    def put_periods(self, periods: Sequence[StoredPeriod]) -> None:
        """Put periods in place of what they were."""
        rows = [
            {
                "tenant": self._tenant,
                "subscription": period.subscription,
                "span": period.interval,
                "start_us": period.start_us,
                "end_us": period.end_us,
                "closed": period.closed,
                "body": _json(period),
            }
            for period in periods
        ]
        replace_rows(self._connection, _PERIOD, rows)

    def put_billed(self, billed: Sequence[tuple[Position, Billed]]) -> None:
        """Put what is billed in place of what it was."""
        rows = [self._billed_row(position, one) for position, one in billed]
        replace_rows(self._connection, _BILLED, rows)

    def put_drafts(self, drafts: Sequence[StoredDraft]) -> None:
        """Put drafts in place of what they were."""
        put_drafts(self._connection, self._tenant, drafts)

    def expect(self, versions: Mapping[str, int]) -> None:
        """Check where billing stands of customers."""
        expect(self._connection, self._tenant, versions)

    def claim(self, versions: Mapping[str, int], seen: Mapping[str, Seen] | None = None) -> None:
        """Move on where billing stands of customers."""
        claim(self._connection, self._tenant, versions, seen or {})

    def put_run(self, run: BillingRun) -> None:
        """Put a run in place of what it was."""
        row = {"tenant": self._tenant, "id": run.id, "started_us": run.started_us}
        replace_rows(self._connection, _RUN, [row | {"body": _json(run)}])

    def _invoice_row(self, invoice: StoredInvoice) -> dict[str, object]:
        series, ordinal = number_place(invoice.head.number)
        head: dict[str, object] = msgspec.structs.asdict(invoice.head)
        place = {"tenant": self._tenant, "series": series, "ordinal": ordinal}
        lines = msgspec.json.encode(invoice.lines).decode()
        return head | place | {"body": invoice.body, "line_records": lines}

    def _billed_row(self, position: Position, one: Billed) -> dict[str, object]:
        group_key, dimensions = _group_place(one.group)
        return {
            "tenant": self._tenant,
            "subscription": position.subscription,
            "charge": position.charge,
            "start_us": position.start_us,
            "group_key": group_key,
            "dimensions": dimensions,
            "amount_minor": one.amount_minor,
            "discount_minor": one.discount_minor,
            "forgiven_minor": one.forgiven_minor,
            "quantity": one.quantity,
            "events": one.events,
            "digest": one.digest,
            "until_us": one.until_us,
            "cut": one.cut,
            "invoice": one.invoice,
        }


def _shown(query: Select[Any], shown: Shown) -> Select[Any]:
    if shown.state is not None:
        query = query.where(INVOICE.c.state == shown.state)
    if shown.due_before_us is not None:
        query = query.where(INVOICE.c.due_us < shown.due_before_us)
    if shown.due_from_us is not None:
        query = query.where(INVOICE.c.due_us >= shown.due_from_us)
    if shown.issued is not None:
        since, until = shown.issued
        query = query.where(INVOICE.c.issued_us >= since, INVOICE.c.issued_us < until)
    return query


@lru_cache(maxsize=65_536)
def _group_place(group: Group) -> tuple[str, str]:
    """Return dimension values as a key, for some databases bound the length of one, and as JSON."""
    dimensions = group_text(group)
    return hashlib.sha256(dimensions.encode()).hexdigest(), dimensions


def _json(value: msgspec.Struct) -> str:
    return msgspec.json.encode(value, order="sorted").decode()


def heads_of(connection: Connection, place: ColumnElement[bool]) -> list[InvoiceHead]:
    """Return the invoices for which a condition on their table holds, oldest first."""
    query = select(*_HEAD).where(place).order_by(INVOICE.c.issued_us, INVOICE.c.sequence)
    return [_head(row) for row in connection.execute(query).mappings()]


def _head(row: RowMapping) -> InvoiceHead:
    return msgspec.convert({name: row[name] for name in InvoiceHead.__struct_fields__}, InvoiceHead)


def _rows(
    connection: Connection, query: Select[Any], column: Column[Any], keys: Sequence[str] | None
) -> Iterator[Row[Any]]:
    """Yield the rows of a query, of these keys only, asked in parts; None for all."""
    if keys is None:
        yield from connection.execute(query)
        return
    for part in parts(keys):
        yield from connection.execute(query.where(column.in_(part)))


def _periods(
    connection: Connection, tenant: str, of: Sequence[str] | None = None
) -> dict[str, tuple[StoredPeriod, ...]]:
    query = select(_PERIOD.c.body).where(_PERIOD.c.tenant == tenant)
    ordered = query.order_by(_PERIOD.c.subscription, _PERIOD.c.start_us, _PERIOD.c.span)
    decode = msgspec.json.Decoder(StoredPeriod).decode
    found: dict[str, list[StoredPeriod]] = {}
    for row in _rows(connection, ordered, _PERIOD.c.subscription, of):
        period = decode(row.body)
        found.setdefault(period.subscription, []).append(period)
    return {subscription: tuple(periods) for subscription, periods in found.items()}


def _billed(
    connection: Connection, tenant: str, of: Sequence[str] | None = None
) -> dict[Position, dict[Group, Billed]]:
    decode = msgspec.json.Decoder(tuple[str | None, ...]).decode
    found: dict[Position, dict[Group, Billed]] = {}
    query = select(_BILLED).where(_BILLED.c.tenant == tenant)
    for row in _rows(connection, query, _BILLED.c.subscription, of):
        position = Position(row.subscription, row.charge, row.start_us)
        group = decode(row.dimensions)
        found.setdefault(position, {})[group] = Billed(
            group=group,
            amount_minor=row.amount_minor,
            discount_minor=row.discount_minor,
            forgiven_minor=row.forgiven_minor,
            quantity=row.quantity,
            events=row.events,
            digest=row.digest,
            until_us=row.until_us,
            cut=row.cut,
            invoice=row.invoice,
        )
    return found


def _last(connection: Connection, tenant: str, of: Sequence[str] | None = None) -> dict[str, Last]:
    other = INVOICE.alias("other")
    newest = (
        select(func.max(other.c.sequence))
        .where(other.c.tenant == tenant, other.c.customer == INVOICE.c.customer)
        .scalar_subquery()
    )
    query = select(INVOICE.c.customer, INVOICE.c.sequence, INVOICE.c.id, INVOICE.c.run)
    query = query.where(INVOICE.c.tenant == tenant, INVOICE.c.sequence == newest)
    rows = _rows(connection, query, INVOICE.c.customer, of)
    return {row.customer: Last(row.sequence, row.id, row.run) for row in rows}


def _done(connection: Connection, tenant: str, part: Part) -> frozenset[str]:
    """Return which of the customers have an invoice or a draft of a run."""
    if not part.run:
        return frozenset()
    query = select(INVOICE.c.customer).where(INVOICE.c.tenant == tenant, INVOICE.c.run == part.run)
    invoiced = [
        row.customer for row in _rows(connection, query, INVOICE.c.customer, part.customers)
    ]
    return frozenset((*invoiced, *drafted(connection, tenant, part.run, part.customers)))


def _recent(connection: Connection, tenant: str, part: Part) -> dict[str, int]:
    """Return how many invoices customers got since an instant."""
    query = (
        select(INVOICE.c.customer, func.count().label("invoices"))
        .where(INVOICE.c.tenant == tenant, INVOICE.c.issued_us >= part.since_us)
        .group_by(INVOICE.c.customer)
    )
    rows = _rows(connection, query, INVOICE.c.customer, part.customers)
    return {row.customer: row.invoices for row in rows}
