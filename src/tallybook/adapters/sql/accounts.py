"""What customers hold, in the control database: redeemed coupons, credits, one-off charges.

Money is BIGINT minor units, instants BIGINT microseconds UTC. Rows change only together with the
version of the customer's account (`books.touch`), so nothing is used twice.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

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
    select,
    tuple_,
)

from tallybook.adapters.sql.database import read
from tallybook.adapters.sql.prepaid import rows as prepaid
from tallybook.adapters.sql.rows import add_rows
from tallybook.adapters.sql.schema.declared import metadata
from tallybook.invoice.ledger.holdings import (
    Credit,
    Holdings,
    PendingExtra,
    Redemption,
    account_at,
)
from tallybook.invoice.manifest import Extra
from tallybook.invoice.ports import Account

ACCOUNT = Table(
    "customer_account",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("customer", String(128), primary_key=True),
    Column("version", BigInteger, nullable=False),
)
"""The version of what a customer has: every change of its funds moves it on; from 0, or no row."""

REDEMPTION = Table(
    "coupon_redemption",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("id", String(64), primary_key=True),
    Column("customer", String(128), nullable=False),
    Column("coupon", String(128), nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
    Index("redemption_customer", "tenant", "customer", "at_us"),
    Index("redemption_coupon", "tenant", "coupon"),
)
"""Redeemed coupons; body: see `invoice.ledger.holdings.Redemption`."""

CREDIT = Table(
    "customer_credit",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("source", String(64), primary_key=True),
    Column("number", String(255), nullable=False),
    Column("customer", String(128), nullable=False),
    Column("currency", String(3), nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("left_minor", BigInteger, nullable=False),
    Column("purpose", String(16), nullable=False),
    Index("credit_customer", "tenant", "customer", "at_us"),
)
"""Credits; see `invoice.ledger.holdings.Credit`."""

EXTRA = Table(
    "extra",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("id", String(64), primary_key=True),
    Column("customer", String(128), nullable=False),
    Column("currency", String(3), nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("batch", String(64), nullable=False),
    Column("invoice", String(64), nullable=False),
    Column("body", Text, nullable=False),
    Index("extra_customer", "tenant", "customer", "invoice"),
    Index("extra_invoice", "tenant", "invoice"),
)
"""One-off charges; invoice: '' while they wait; body: see `invoice.manifest.Extra`."""

NOBODY = Holdings()
_ROWS_AT_ONCE = 200
T = TypeVar("T")
H = TypeVar("H", Redemption, Credit, PendingExtra)


class SqlAccounts:
    """`Accounts` on the control database; safe to share between threads.

    Args:
        engine: from `open_database`.
    """

    def __init__(self, engine: Engine) -> None:
        """Remember the engine."""
        self._engine = engine

    def accounts(
        self, tenant: str, customers: Sequence[str], currency: str, at_us: int
    ) -> dict[str, Account]:
        """Return every asked customer's account at an instant, as of one state."""
        with read(self._engine) as connection:
            return accounts(connection, tenant, customers, currency, at_us)

    def charged(self, tenant: str) -> frozenset[str]:
        """Return the customers of whom a one-off charge waits to be billed."""
        waits = (EXTRA.c.tenant == tenant) & (EXTRA.c.invoice == "") & (EXTRA.c.batch == "")
        with read(self._engine) as connection:
            query = select(EXTRA.c.customer).where(waits).distinct()
            return frozenset(connection.execute(query).scalars())


def accounts(
    connection: Connection, tenant: str, customers: Sequence[str], currency: str, at_us: int
) -> dict[str, Account]:
    """Return accounts of customers; those without anything are the empty account."""
    if not customers:
        return {}
    asked = set(customers)
    known = versions(connection, tenant, asked)
    held = holdings(connection, tenant, asked)
    wallets = prepaid.balances(connection, tenant, asked, currency, at_us)
    return {
        customer: account_at(
            known.get(customer, 0),
            held.get(customer, NOBODY),
            wallets.get(customer, ()),
            currency,
            at_us,
        )
        for customer in customers
    }


def holdings(
    connection: Connection, tenant: str, customers: Collection[str]
) -> dict[str, Holdings]:
    """Return what customers hold, oldest first; those that hold nothing are left out.

    One-off charges that are billed are left out too.
    """
    redemptions = _by_customer(redemptions_of(connection, tenant, customers))
    credits_ = _by_customer(credits_of(connection, tenant, customers))
    extras = _by_customer(extras_of(connection, tenant, customers, ""))
    return {
        customer: Holdings(
            redemptions=tuple(redemptions.get(customer, ())),
            credits=tuple(credits_.get(customer, ())),
            extras=tuple(extras.get(customer, ())),
        )
        for customer in customers
        if customer in redemptions or customer in credits_ or customer in extras
    }


def versions(
    connection: Connection, tenant: str, customers: Collection[str], *, lock: bool = False
) -> dict[str, int]:
    """Return the versions of accounts; one that never changed is left out."""
    found: dict[str, int] = {}
    for part in _parts(sorted(customers)):
        query = select(ACCOUNT.c.customer, ACCOUNT.c.version).order_by(ACCOUNT.c.customer)
        query = query.where(ACCOUNT.c.tenant == tenant, ACCOUNT.c.customer.in_(part))
        rows = connection.execute(query.with_for_update() if lock else query)
        found |= {row.customer: row.version for row in rows}
    return found


def locked(connection: Connection, tenant: str, customer: str) -> int:
    """Return the version of an account, which nobody else changes till the end of the transaction.

    One that never changed has a row from now on: without it there would be nothing to lock.
    """
    known = versions(connection, tenant, [customer], lock=True)
    if customer not in known:
        row = {"tenant": tenant, "customer": customer, "version": 0}
        add_rows(connection, ACCOUNT, [row])
        known = versions(connection, tenant, [customer], lock=True)
    return known[customer]


def move_on(connection: Connection, tenant: str, customers: Sequence[str]) -> None:
    """Add one to the versions of accounts."""
    for part in _parts(customers):
        place = (ACCOUNT.c.tenant == tenant) & ACCOUNT.c.customer.in_(part)
        connection.execute(ACCOUNT.update().where(place).values(version=ACCOUNT.c.version + 1))


def begin(connection: Connection, tenant: str, customers: Sequence[str]) -> None:
    """Insert the first version of accounts."""
    rows = [{"tenant": tenant, "customer": customer, "version": 1} for customer in customers]
    if rows:
        connection.execute(ACCOUNT.insert(), rows)


def _parts(things: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(things), _ROWS_AT_ONCE):
        yield things[start : start + _ROWS_AT_ONCE]


def redemptions_of(
    connection: Connection, tenant: str, customers: Collection[str]
) -> list[Redemption]:
    """Return redeemed coupons, in the order in which they count."""
    query = select(REDEMPTION.c.body).where(_among(REDEMPTION, tenant, customers))
    ordered = query.order_by(REDEMPTION.c.at_us, REDEMPTION.c.id)
    decode = msgspec.json.Decoder(Redemption).decode
    found = [decode(body) for body in connection.execute(ordered).scalars()]
    return [one for one in found if one.customer in customers]


def credits_of(connection: Connection, tenant: str, customers: Collection[str]) -> list[Credit]:
    """Return credits, oldest first."""
    query = select(CREDIT).where(_among(CREDIT, tenant, customers))
    rows = connection.execute(query.order_by(CREDIT.c.at_us, CREDIT.c.source)).mappings()
    found = [_credit(row) for row in rows]
    return [one for one in found if one.customer in customers]


def credits_left(connection: Connection, tenant: str) -> list[Credit]:
    """Return every credit of which something is left, oldest first."""
    query = select(CREDIT).where(CREDIT.c.tenant == tenant, CREDIT.c.left_minor > 0)
    rows = connection.execute(query.order_by(CREDIT.c.at_us, CREDIT.c.source)).mappings()
    return [_credit(row) for row in rows]


def extras_of(
    connection: Connection, tenant: str, customers: Collection[str], invoice: str
) -> list[PendingExtra]:
    """Return the one-off charges that are on an invoice; those that wait for ''."""
    place = _among(EXTRA, tenant, customers) & (EXTRA.c.invoice == invoice)
    query = select(EXTRA).where(place).order_by(EXTRA.c.at_us, EXTRA.c.id)
    rows = connection.execute(query).mappings()
    return [_extra(row) for row in rows if row["customer"] in customers]


def extras_on(
    connection: Connection, tenant: str, customer: str | None, invoice: str
) -> list[PendingExtra]:
    """Return the one-off charges on an invoice, of one customer or of all, oldest first."""
    place = (EXTRA.c.tenant == tenant) & (EXTRA.c.invoice == invoice)
    if customer is not None:
        place &= EXTRA.c.customer == customer
    query = select(EXTRA).where(place).order_by(EXTRA.c.at_us, EXTRA.c.id)
    return [_extra(row) for row in connection.execute(query).mappings()]


def extra_of(connection: Connection, tenant: str, name: str) -> PendingExtra | None:
    """Return the one-off charge with this id; None where there is none."""
    query = select(EXTRA).where(EXTRA.c.tenant == tenant, EXTRA.c.id == name)
    row = connection.execute(query).mappings().first()
    return None if row is None else _extra(row)


def put_redemptions(connection: Connection, tenant: str, found: Iterable[Redemption]) -> None:
    """Put redemptions in place of what they were."""
    rows = [
        {
            "tenant": tenant,
            "id": one.id,
            "customer": one.customer,
            "coupon": one.coupon.key,
            "at_us": one.at_us,
            "body": msgspec.json.encode(one, order="sorted").decode(),
        }
        for one in found
    ]
    replace(connection, REDEMPTION, rows)


def put_credits(connection: Connection, tenant: str, found: Iterable[Credit]) -> None:
    """Put credits in place of what they were."""
    rows = [{"tenant": tenant} | msgspec.structs.asdict(one) for one in found]
    replace(connection, CREDIT, rows)


def put_extras(connection: Connection, tenant: str, found: Iterable[PendingExtra]) -> None:
    """Put one-off charges in place of what they were."""
    replace(connection, EXTRA, _extra_rows(tenant, found))


def insert_extras(connection: Connection, tenant: str, found: Iterable[PendingExtra]) -> None:
    """Insert one-off charges."""
    rows = _extra_rows(tenant, found)
    if rows:
        connection.execute(EXTRA.insert(), rows)


def _extra_rows(tenant: str, found: Iterable[PendingExtra]) -> list[dict[str, object]]:
    return [
        {
            "tenant": tenant,
            "id": one.extra.id,
            "customer": one.customer,
            "currency": one.currency,
            "at_us": one.at_us,
            "batch": one.batch,
            "invoice": one.invoice,
            "body": msgspec.json.encode(one.extra, order="sorted").decode(),
        }
        for one in found
    ]


def put(connection: Connection, tenant: str, held: Holdings) -> None:
    """Put what customers hold in place of what it was."""
    put_redemptions(connection, tenant, held.redemptions)
    put_credits(connection, tenant, held.credits)
    put_extras(connection, tenant, held.extras)


def held_by(
    connection: Connection,
    tenant: str,
    redemptions: Sequence[str],
    credits_: Sequence[str],
    extras: Sequence[str],
) -> Holdings:
    """Return things by their ids, locked till the end of the transaction."""
    return Holdings(
        redemptions=tuple(redemptions_by_id(connection, tenant, redemptions)),
        credits=tuple(credits_by_source(connection, tenant, credits_)),
        extras=tuple(extras_by_id(connection, tenant, extras)),
    )


def by_id(connection: Connection, table: Table, tenant: str, ids: Sequence[str]) -> list[Any]:
    """Return the rows of a table with these ids, its second key column, locked till the end."""
    column = list(table.primary_key.columns)[1]
    found: list[Any] = []
    for part in _parts(ids):
        query = select(table).where(table.c.tenant == tenant, column.in_(part)).with_for_update()
        found += connection.execute(query).mappings()
    return found


def replace(connection: Connection, table: Table, rows: Sequence[Mapping[str, object]]) -> None:
    """Delete the rows with these keys and insert them anew: the same on every database."""
    names = [column.name for column in table.primary_key.columns]
    for part in _parts(rows):
        keys = [[row[name] for name in names] for row in part]
        place = tuple_(*(table.c[name] for name in names))
        connection.execute(table.delete().where(place.in_(keys)))
    if rows:
        connection.execute(table.insert(), [dict(row) for row in rows])


def redemptions_by_id(connection: Connection, tenant: str, ids: Sequence[str]) -> list[Redemption]:
    """Return redemptions, locked till the end of the transaction."""
    rows = by_id(connection, REDEMPTION, tenant, ids)
    return [msgspec.json.decode(row["body"], type=Redemption) for row in rows]


def credits_by_source(connection: Connection, tenant: str, ids: Sequence[str]) -> list[Credit]:
    """Return credits, locked till the end of the transaction."""
    rows = by_id(connection, CREDIT, tenant, ids)
    return [_credit(row) for row in rows]


def extras_by_id(connection: Connection, tenant: str, ids: Sequence[str]) -> list[PendingExtra]:
    """Return one-off charges, locked till the end of the transaction."""
    return [_extra(row) for row in by_id(connection, EXTRA, tenant, ids)]


def _credit(row: RowMapping) -> Credit:
    return msgspec.convert({name: row[name] for name in Credit.__struct_fields__}, Credit)


def _extra(row: RowMapping) -> PendingExtra:
    return PendingExtra(
        customer=row["customer"],
        currency=row["currency"],
        at_us=row["at_us"],
        batch=row["batch"],
        invoice=row["invoice"],
        extra=msgspec.json.decode(row["body"], type=Extra),
    )


def _among(table: Table, tenant: str, customers: Collection[str]) -> Any:
    """Return a condition that holds for rows of the customers; for many, of all customers."""
    mine = table.c.tenant == tenant
    few = len(customers) <= _ROWS_AT_ONCE
    return mine & table.c.customer.in_(sorted(customers)) if few else mine


def _by_customer(found: Iterable[H]) -> dict[str, list[H]]:
    kept: dict[str, list[H]] = {}
    for one in found:
        kept.setdefault(one.customer, []).append(one)
    return kept
