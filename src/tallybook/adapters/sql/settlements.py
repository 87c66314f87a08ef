"""Payments, credit notes and the ledger, in the control database.

Money is BIGINT minor units, instants BIGINT microseconds UTC. A credit note's canonical JSON is
inserted once; only its state changes. Every change moves the version of the customer's account on.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

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
    UniqueConstraint,
    case,
    func,
    or_,
    select,
    tuple_,
)

from tallybook.adapters.sql import accounts
from tallybook.adapters.sql.books import BALANCE, LEDGER, SqlBooks, touch
from tallybook.adapters.sql.database import read, write
from tallybook.adapters.sql.invoices import (
    INVOICE,
    SqlInvoiceTransaction,
    heads_of,
)
from tallybook.adapters.sql.prepaid import rows as prepaid
from tallybook.adapters.sql.rows import add_rows
from tallybook.adapters.sql.schema.declared import metadata
from tallybook.invoice.document import number_place
from tallybook.invoice.ledger.holdings import Credit, PendingExtra
from tallybook.kernel.book.entry import Entry
from tallybook.kernel.errors import Missing
from tallybook.settle.receivable.credit_note import NoteHead, StoredNote
from tallybook.settle.receivable.payment import Payment
from tallybook.settle.receivable.ports import Balance, KindBalance
from tallybook.settle.receivable.standing import Moves, Standing

_PAYMENT = Table(
    "payment",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("id", String(64), primary_key=True),
    Column("customer", String(128), nullable=False),
    Column("received_us", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
    Index("payment_customer", "tenant", "customer", "id"),
)
"""Payments, refunds and uses of credit; body: see `settle.receivable.payment.Payment`."""

_PAYS = Table(
    "payment_allocation",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("invoice", String(64), primary_key=True),
    Column("payment", String(64), primary_key=True),
)
"""Which payments paid which invoices, by their ids."""

_NOTE = Table(
    "credit_note",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("id", String(64), primary_key=True),
    Column("series", String(32), nullable=False),
    Column("ordinal", BigInteger, nullable=False),
    Column("number", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("invoice", String(64), nullable=False),
    Column("invoice_number", String(64), nullable=False),
    Column("customer", String(128), nullable=False),
    Column("currency", String(3), nullable=False),
    Column("total_minor", BigInteger, nullable=False),
    Column("reduces_minor", BigInteger, nullable=False),
    Column("credited_minor", BigInteger, nullable=False),
    Column("refund_minor", BigInteger, nullable=False),
    Column("issued_us", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("body", Text, nullable=False),
    UniqueConstraint("tenant", "series", "ordinal"),
    Index("credit_note_invoice", "tenant", "invoice"),
    Index("credit_note_customer", "tenant", "customer"),
)
"""Credit notes; see `settle.receivable.credit_note.NoteHead`; body: the canonical JSON."""

_REPLACED = Table(
    "invoice_replaced",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("invoice", String(64), primary_key=True),
    Column("number", String(64), nullable=False),
)
"""By the id of a voided invoice: the number of the one that took its place."""

_HEAD = [column for column in _NOTE.c if column.name not in {"tenant", "series", "ordinal", "body"}]


class SqlSettlements:
    """`Settlements`, `Payments` and `Ledger` on the control database; safe between threads.

    Args:
        engine: from `open_database`.
    """

    def __init__(self, engine: Engine) -> None:
        """Remember the engine."""
        self._engine = engine

    @contextmanager
    def transaction(self, tenant: str) -> Iterator["SqlSettlementTransaction"]:
        """Open a write transaction, BEGIN IMMEDIATE on SQLite."""
        with write(self._engine) as connection:
            yield SqlSettlementTransaction(connection, tenant)

    def standing(self, tenant: str, customer: str, invoices: Sequence[str] = ()) -> Standing:
        """Return where a customer stands, as of one instant."""
        owed = (INVOICE.c.customer == customer) & (INVOICE.c.tenant == tenant)
        named = or_(INVOICE.c.id.in_(invoices), INVOICE.c.number.in_(invoices))
        wanted = or_(INVOICE.c.open_minor != 0, named) if invoices else INVOICE.c.open_minor != 0
        with read(self._engine) as connection:
            version = accounts.versions(connection, tenant, [customer]).get(customer, 0)
            heads = heads_of(connection, owed & wanted)
            held = accounts.holdings(connection, tenant, [customer])
            notes = _notes(connection, tenant, [head.id for head in heads])
        return Standing(
            customer=customer,
            version=version,
            invoices=tuple(heads),
            held=held.get(customer, accounts.NOBODY),
            notes=tuple(notes),
        )

    def extras(self, tenant: str, customer: str | None, invoice: str) -> list[PendingExtra]:
        """Return one-off charges that are on an invoice; those that wait for ''."""
        with read(self._engine) as connection:
            return accounts.extras_on(connection, tenant, customer, invoice)

    def charge(self, tenant: str, name: str) -> PendingExtra:
        """Return a one-off charge by its id."""
        with read(self._engine) as connection:
            found = accounts.extra_of(connection, tenant, name)
        if found is None:
            raise Missing(f"there is no one-off charge '{name}'", field="charge")
        return found

    def replaced_by(self, tenant: str, invoice: str) -> str | None:
        """Return the number that took the place of an invoice."""
        place = (_REPLACED.c.tenant == tenant) & (_REPLACED.c.invoice == invoice)
        with read(self._engine) as connection:
            return connection.execute(select(_REPLACED.c.number).where(place)).scalar()

    def credits(self, tenant: str) -> list[Credit]:
        """Return every credit of which something is left."""
        with read(self._engine) as connection:
            return accounts.credits_left(connection, tenant)

    def payment(self, tenant: str, name: str) -> Payment:
        """Return a payment by its id."""
        query = select(_PAYMENT.c.body).where(_PAYMENT.c.tenant == tenant, _PAYMENT.c.id == name)
        with read(self._engine) as connection:
            body = connection.execute(query).scalar()
        if body is None:
            raise Missing(f"there is no payment '{name}'", field="payment")
        return msgspec.json.decode(body, type=Payment)

    def payments(
        self,
        tenant: str,
        *,
        limit: int,
        after: str | None = None,
        customer: str | None = None,
        invoice: str | None = None,
    ) -> list[Payment]:
        """Return payments by id."""
        query = select(_PAYMENT.c.body).where(_PAYMENT.c.tenant == tenant)
        if invoice is not None:
            pays = (_PAYS.c.tenant == tenant) & (_PAYS.c.invoice == invoice)
            query = query.join(_PAYS, pays & (_PAYS.c.payment == _PAYMENT.c.id))
        if after is not None:
            query = query.where(_PAYMENT.c.id > after)
        if customer is not None:
            query = query.where(_PAYMENT.c.customer == customer)
        with read(self._engine) as connection:
            bodies = connection.execute(query.order_by(_PAYMENT.c.id).limit(limit)).scalars()
            return [msgspec.json.decode(body, type=Payment) for body in bodies]

    def credit_note(self, tenant: str, name: str) -> StoredNote:
        """Return a credit note by its id or number."""
        query = select(_NOTE).where(
            _NOTE.c.tenant == tenant, or_(_NOTE.c.id == name, _NOTE.c.number == name)
        )
        with read(self._engine) as connection:
            row = connection.execute(query).mappings().first()
        if row is None:
            raise Missing(f"there is no credit note '{name}'", field="credit_note")
        return StoredNote(head=_head(row), body=row["body"])

    def credit_notes(
        self,
        tenant: str,
        *,
        limit: int,
        after: str | None = None,
        customer: str | None = None,
        invoice: str | None = None,
    ) -> list[NoteHead]:
        """Return credit notes in the order of their numbers."""
        query = select(*_HEAD).where(_NOTE.c.tenant == tenant)
        order = (_NOTE.c.series, _NOTE.c.ordinal)
        if after is not None:
            query = query.where(tuple_(*order) > tuple_(*number_place(after)))
        if customer is not None:
            query = query.where(_NOTE.c.customer == customer)
        if invoice is not None:
            query = query.where(or_(_NOTE.c.invoice == invoice, _NOTE.c.invoice_number == invoice))
        with read(self._engine) as connection:
            rows = connection.execute(query.order_by(*order).limit(limit)).mappings()
            return [_head(row) for row in rows]

    def entries(
        self,
        tenant: str,
        *,
        limit: int,
        after: str | None = None,
        document: str | None = None,
        account: str | None = None,
    ) -> list[Entry]:
        """Return entries by id."""
        query = select(LEDGER).where(LEDGER.c.tenant == tenant)
        if after is not None:
            query = query.where(LEDGER.c.id > after)
        if document is not None:
            first, behind = f"{document}.", f"{document}/"
            query = query.where(LEDGER.c.id > first, LEDGER.c.id < behind)
        if account is not None:
            query = query.where(or_(LEDGER.c.debit == account, LEDGER.c.credit == account))
        with read(self._engine) as connection:
            rows = connection.execute(query.order_by(LEDGER.c.id).limit(limit)).mappings()
            return [_entry(row) for row in rows]

    def balances(
        self, tenant: str, account: str = "", *, limit: int | None = None, skip: int = 0
    ) -> list[Balance]:
        """Return accounts' balances, by name."""
        query = select(BALANCE.c.account, BALANCE.c.currency, BALANCE.c.balance_minor).where(
            BALANCE.c.tenant == tenant
        )
        if account:
            kind, colon, _ = account.partition(":")
            query = query.where(BALANCE.c.kind == kind) if colon else query
            # A prefix, spelled so that no character of it means anything.
            query = query.where(func.substr(BALANCE.c.account, 1, len(account)) == account)
        query = query.order_by(BALANCE.c.account, BALANCE.c.currency)
        if limit is not None:
            query = query.limit(limit).offset(skip)
        with read(self._engine) as connection:
            rows = connection.execute(query).all()
        found = [Balance(row.account, row.currency, int(row.balance_minor)) for row in rows]
        return sorted(found, key=lambda one: (one.account, one.currency))

    def kinds(self, tenant: str) -> list[KindBalance]:
        """Return what kinds of accounts add up to."""
        total = func.sum(BALANCE.c.balance_minor).label("total")
        used = func.sum(case((BALANCE.c.balance_minor != 0, 1), else_=0)).label("used")
        query = (
            select(BALANCE.c.kind, BALANCE.c.currency, total, used)
            .where(BALANCE.c.tenant == tenant)
            .group_by(BALANCE.c.kind, BALANCE.c.currency)
            .order_by(BALANCE.c.kind, BALANCE.c.currency)
        )
        with read(self._engine) as connection:
            rows = connection.execute(query).all()
        found = [KindBalance(r.kind, r.currency, int(r.total), int(r.used)) for r in rows]
        return sorted(found, key=lambda one: (one.kind, one.currency))


class SqlSettlementTransaction:
    """`SettlementTransaction` on one connection's open transaction."""

    def __init__(self, connection: Connection, tenant: str) -> None:
        """Write for a tenant."""
        self._connection = connection
        self._tenant = tenant
        self._books = SqlBooks(connection, tenant)
        self._invoices = SqlInvoiceTransaction(connection, tenant)

    @property
    def invoices(self) -> SqlInvoiceTransaction:
        """Writes of billing, in this transaction."""
        return self._invoices

    def put_extras(self, extras: Sequence[PendingExtra]) -> None:
        """Insert one-off charges."""
        accounts.insert_extras(self._connection, self._tenant, extras)

    def replace(self, invoice: str, by: str) -> None:
        """Insert what took an invoice's place."""
        row = {"tenant": self._tenant, "invoice": invoice, "number": by}
        self._connection.execute(_REPLACED.insert(), row)

    def settle(self, moves: Moves) -> None:
        """Write what a command does."""
        connection, tenant = self._connection, self._tenant
        touch(connection, tenant, {moves.customer: moves.version})
        self._books.post(moves.entries)
        self._books.tell(moves.facts)
        for one in moves.changed:
            place = (INVOICE.c.tenant == tenant) & (INVOICE.c.id == one.invoice)
            values = {"state": one.state, "open_minor": one.open_minor}
            connection.execute(INVOICE.update().where(place).values(values))
        accounts.put(connection, tenant, moves.held)
        accounts.replace(connection, _PAYMENT, [self._payment(one) for one in moves.payments])
        add_rows(connection, _PAYS, [row for one in moves.payments for row in self._pays(one)])
        accounts.replace(connection, _NOTE, [self._note(one) for one in moves.notes])
        for gone in moves.returned:
            prepaid.give_back(connection, tenant, moves.customer, gone.invoice, gone.at_us)

    def _payment(self, payment: Payment) -> dict[str, object]:
        return {
            "tenant": self._tenant,
            "id": payment.id,
            "customer": payment.customer,
            "received_us": payment.received_us,
            "body": msgspec.json.encode(payment, order="sorted").decode(),
        }

    def _pays(self, payment: Payment) -> Iterator[dict[str, object]]:
        for one in payment.allocations:
            yield {"tenant": self._tenant, "invoice": one.invoice, "payment": payment.id}

    def _note(self, stored: StoredNote) -> dict[str, object]:
        series, ordinal = number_place(stored.head.number)
        head: dict[str, object] = msgspec.structs.asdict(stored.head)
        place = {"tenant": self._tenant, "series": series, "ordinal": ordinal}
        return head | place | {"body": stored.body}


def _notes(connection: Connection, tenant: str, invoices: Sequence[str]) -> list[StoredNote]:
    """Return the credit notes of invoices, in the order of their numbers."""
    if not invoices:
        return []
    query = select(_NOTE).where(_NOTE.c.tenant == tenant, _NOTE.c.invoice.in_(invoices))
    rows = connection.execute(query.order_by(_NOTE.c.series, _NOTE.c.ordinal)).mappings()
    return [StoredNote(head=_head(row), body=row["body"]) for row in rows]


def _head(row: RowMapping) -> NoteHead:
    return msgspec.convert({name: row[name] for name in NoteHead.__struct_fields__}, NoteHead)


def _entry(row: RowMapping) -> Entry:
    return msgspec.convert({name: row[name] for name in Entry.__struct_fields__}, Entry)
