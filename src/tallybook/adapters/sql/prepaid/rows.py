"""Top-ups and draws in the control database; they change with the customer's account only.

Units are decimal text, money BIGINT minor units, instants BIGINT microseconds UTC.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import TypeVar

import msgspec
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Index,
    Integer,
    RowMapping,
    String,
    Table,
    false,
    or_,
    select,
)

from tallybook.adapters.sql.catalog import WALLET
from tallybook.adapters.sql.schema.declared import metadata
from tallybook.catalog.entitlement import TopUp, Wallet
from tallybook.invoice.funds import WalletInHand
from tallybook.invoice.ports import Spent
from tallybook.kernel.decimals import plain
from tallybook.settle.purse import (
    GivenUp,
    Purse,
    StoredDraw,
    StoredTopUp,
    Watch,
    next_us,
    returns,
)
from tallybook.settle.request import Request

TOP_UP = Table(
    "wallet_top_up",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("wallet", String(128), primary_key=True),
    Column("key", String(128), primary_key=True),
    Column("customer", String(128), nullable=False),
    Column("amount", String(64), nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("expires_us", BigInteger),
    Column("voided_us", BigInteger),
    Column("priority", Integer, nullable=False),
    Column("free", Boolean, nullable=False),
    Column("cost_minor", BigInteger, nullable=False),
    Column("recorded_us", BigInteger, nullable=False),
    Column("reason", String(16), nullable=False),
    Column("method", String(64), nullable=False),
    Column("reference", String(255), nullable=False),
    Index("wallet_top_up_customer", "tenant", "customer"),
)
"""Top-ups; see `settle.purse.StoredTopUp`. amount: units. Only voided_us is ever written again."""

DRAW = Table(
    "wallet_draw",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("wallet", String(128), primary_key=True),
    Column("document", String(64), primary_key=True),
    Column("step", String(16), primary_key=True),
    Column("customer", String(128), nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("amount", String(64), nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Index("wallet_draw_customer", "tenant", "customer"),
    Index("wallet_draw_document", "tenant", "document"),
)
"""Draws; see `settle.purse.StoredDraw`. amount: units, negative to give back."""

GIVEN_UP = Table(
    "wallet_given_up",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("wallet", String(128), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("customer", String(128), nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    Column("account", String(255), nullable=False),
    Index("wallet_given_up_customer", "tenant", "customer"),
)
"""Credit that can no longer be drawn, as it was posted; see `settle.purse.GivenUp`."""

WATCH = Table(
    "wallet_watch",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("wallet", String(128), primary_key=True),
    Column("customer", String(128), nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("ongoing", String(64), nullable=False),
    Column("cut", BigInteger, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("low", BigInteger, nullable=False),
    Column("recharges", BigInteger, nullable=False),
    Index("wallet_watch_customer", "tenant", "customer"),
)
"""How wallets stood when they were last looked at; see `settle.purse.Watch`."""

REQUEST = Table(
    "wallet_recharge",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("wallet", String(128), primary_key=True),
    Column("key", String(128), primary_key=True),
    Column("customer", String(128), nullable=False),
    Column("amount", String(64), nullable=False),
    Column("cost_minor", BigInteger, nullable=False),
    Column("asked_us", BigInteger, nullable=False),
    Column("trusted", Boolean, nullable=False),
    Column("state", String(16), nullable=False),
    Column("settled_us", BigInteger),
    Column("method", String(64), nullable=False),
    Column("reference", String(255), nullable=False),
    Column("reason", String(255), nullable=False),
    Index("wallet_recharge_customer", "tenant", "customer"),
)
"""Payments that rules of wallets asked for; see `settle.request.Request`. amount: units."""

_CUSTOMERS_MAX = 200
"""Customers named in a query; for more the whole tenant is read."""
_NAMED_MAX = 8
"""Customers by whose names wallets are looked for in the database; for more all are decoded."""
T = TypeVar("T")


def purses(
    connection: Connection, tenant: str, wallets: Sequence[Wallet], versions: Mapping[str, int]
) -> dict[str, Purse]:
    """Return wallets with all that happened to them.

    Args:
        connection: with an open transaction.
        tenant: whose.
        wallets: which.
        versions: of the customers' accounts; one that never changed may be absent.
    """
    if not wallets:
        return {}
    customers = {wallet.customer for wallet in wallets}
    ups = _by_wallet(map(_top_up, _rows(connection, TOP_UP, tenant, customers)))
    draws = _by_wallet(map(_draw, _rows(connection, DRAW, tenant, customers)))
    gone = _by_wallet(map(_given_up, _rows(connection, GIVEN_UP, tenant, customers)))
    watches = {row["wallet"]: _watch(row) for row in _rows(connection, WATCH, tenant, customers)}
    asked = _by_wallet(map(_request, _rows(connection, REQUEST, tenant, customers)))
    return {
        wallet.key: Purse(
            wallet=wallet,
            version=versions.get(wallet.customer, 0),
            top_ups=tuple(ups.get(wallet.key, ())),
            draws=tuple(draws.get(wallet.key, ())),
            given_up=tuple(gone.get(wallet.key, ())),
            watch=watches.get(wallet.key),
            requests=tuple(asked.get(wallet.key, ())),
        )
        for wallet in wallets
    }


def in_hand(
    connection: Connection, tenant: str, wallets: Sequence[Wallet], at_us: int
) -> dict[str, tuple[WalletInHand, ...]]:
    """Return what customers can draw from their wallets, by customer.

    Empty ones are left out, but for those that may run into debt.
    """
    found: dict[str, tuple[WalletInHand, ...]] = {}
    for purse in purses(connection, tenant, wallets, {}).values():
        balance = purse.now(at_us).balance
        if balance or purse.wallet.overdraft == "repay":
            hand = WalletInHand(wallet=purse.wallet, balance=balance, since_us=purse.since_us)
            customer = purse.wallet.customer
            found[customer] = (*found.get(customer, ()), hand)
    return found


def draw(connection: Connection, tenant: str, spent: Spent) -> None:
    """Store what an invoice took from wallets, after their newest draws and voidings.

    The transaction has found the account's version to be the one that the invoice was made with.
    """
    if not spent.wallets:
        return
    draws = _by_wallet(_draws_of(connection, tenant, spent.customer))
    ups = _by_wallet(map(_top_up, _rows(connection, TOP_UP, tenant, [spent.customer])))
    rows = [
        StoredDraw(
            wallet=used.wallet,
            customer=spent.customer,
            document=spent.invoice,
            step="",
            at_us=next_us(spent.at_us, ups.get(used.wallet, ()), draws.get(used.wallet, ())),
            amount=Decimal(used.units),
            amount_minor=used.amount_minor,
        )
        for used in spent.wallets
    ]
    insert_draws(connection, tenant, rows)


def give_back(
    connection: Connection, tenant: str, customer: str, document: str, at_us: int
) -> None:
    """Give back what a document drew from its customer's wallets, once.

    The caller moves the account's version on.
    """
    draws = _draws_of(connection, tenant, customer)
    insert_draws(connection, tenant, returns(draws, document, at_us))


def insert_draws(connection: Connection, tenant: str, draws: Iterable[StoredDraw]) -> None:
    """Insert draws."""
    rows = [
        {"tenant": tenant} | msgspec.structs.asdict(one) | {"amount": plain(one.amount)}
        for one in draws
    ]
    if rows:
        connection.execute(DRAW.insert(), rows)


def insert_top_ups(connection: Connection, tenant: str, found: Iterable[StoredTopUp]) -> None:
    """Insert top-ups."""
    rows = [
        {
            "tenant": tenant,
            "wallet": one.wallet,
            "customer": one.customer,
            "cost_minor": one.cost_minor,
            "recorded_us": one.recorded_us,
            "reason": one.reason,
            "method": one.method,
            "reference": one.reference,
        }
        | msgspec.structs.asdict(one.top_up)
        | {"amount": plain(one.top_up.amount)}
        for one in found
    ]
    if rows:
        connection.execute(TOP_UP.insert(), rows)


def void_top_up(connection: Connection, tenant: str, one: StoredTopUp) -> None:
    """Store from when on a top-up is taken back."""
    place = (
        (TOP_UP.c.tenant == tenant)
        & (TOP_UP.c.wallet == one.wallet)
        & (TOP_UP.c.key == one.top_up.key)
    )
    connection.execute(TOP_UP.update().where(place).values(voided_us=one.top_up.voided_us))


def insert_given_up(connection: Connection, tenant: str, found: Iterable[GivenUp]) -> None:
    """Insert what was given up."""
    rows = [{"tenant": tenant} | msgspec.structs.asdict(one) for one in found]
    if rows:
        connection.execute(GIVEN_UP.insert(), rows)


def put_requests(connection: Connection, tenant: str, found: Iterable[Request]) -> None:
    """Store requests in place of what they were."""
    for one in found:
        place = (
            (REQUEST.c.tenant == tenant)
            & (REQUEST.c.wallet == one.wallet)
            & (REQUEST.c.key == one.key)
        )
        row = {"tenant": tenant} | msgspec.structs.asdict(one) | {"amount": plain(one.amount)}
        connection.execute(REQUEST.delete().where(place))
        connection.execute(REQUEST.insert(), row)


def put_watch(connection: Connection, tenant: str, watch: Watch) -> None:
    """Store a watch in place of what it was."""
    place = (WATCH.c.tenant == tenant) & (WATCH.c.wallet == watch.wallet)
    row = {"tenant": tenant} | msgspec.structs.asdict(watch) | {"ongoing": plain(watch.ongoing)}
    connection.execute(WATCH.delete().where(place))
    connection.execute(WATCH.insert(), row)


def _draws_of(connection: Connection, tenant: str, customer: str) -> list[StoredDraw]:
    return [_draw(row) for row in _rows(connection, DRAW, tenant, [customer])]


def _rows(
    connection: Connection, table: Table, tenant: str, customers: Collection[str]
) -> list[RowMapping]:
    """Return the rows of customers in the order of their keys."""
    query = select(table).where(table.c.tenant == tenant)
    if len(customers) <= _CUSTOMERS_MAX:
        query = query.where(table.c.customer.in_(sorted(customers)))
    rows = connection.execute(query.order_by(*table.primary_key.columns)).mappings()
    return [row for row in rows if row["customer"] in customers]


Kept = TypeVar("Kept", StoredTopUp, StoredDraw, GivenUp, Request)


def _by_wallet(found: Iterable[Kept]) -> dict[str, list[Kept]]:
    kept: dict[str, list[Kept]] = {}
    for one in found:
        kept.setdefault(one.wallet, []).append(one)
    return kept


def _converted(row: RowMapping, type_: type[T]) -> T:
    """Return the struct whose fields are columns; decimals are read from text."""
    names: tuple[str, ...] = type_.__struct_fields__  # type: ignore[attr-defined]
    return msgspec.convert({name: row[name] for name in names}, type_)


def _top_up(row: RowMapping) -> StoredTopUp:
    return StoredTopUp(
        wallet=row["wallet"],
        customer=row["customer"],
        top_up=_converted(row, TopUp),
        cost_minor=row["cost_minor"],
        recorded_us=row["recorded_us"],
        reason=row["reason"],
        method=row["method"],
        reference=row["reference"],
    )


def _draw(row: RowMapping) -> StoredDraw:
    return _converted(row, StoredDraw)


def _given_up(row: RowMapping) -> GivenUp:
    return _converted(row, GivenUp)


def _request(row: RowMapping) -> Request:
    return _converted(row, Request)


def _watch(row: RowMapping) -> Watch:
    return _converted(row, Watch)


def balances(
    connection: Connection, tenant: str, customers: Collection[str], currency: str, at_us: int
) -> dict[str, tuple[WalletInHand, ...]]:
    """Return what customers can draw from their wallets in a currency, by customer.

    Wallets out of use, empty ones that make no debt, and customers without any, are left out.
    """
    query = select(WALLET.c.body).where(WALLET.c.tenant == tenant, ~WALLET.c.archived)
    if len(customers) <= _NAMED_MAX:
        # What the database can leave out is not decoded; what it finds is looked at below.
        named = (WALLET.c.body.contains(f'"{key}"', autoescape=True) for key in customers)
        query = query.where(or_(false(), *named))
    bodies = connection.execute(query.order_by(WALLET.c.key)).scalars()
    decode = msgspec.json.Decoder(Wallet).decode
    asked = set(customers)
    wallets = [
        wallet
        for wallet in map(decode, bodies)
        if wallet.customer in asked and wallet.currency == currency
    ]
    return in_hand(connection, tenant, wallets, at_us)


def tenants(connection: Connection) -> list[str]:
    """Return the tenants that have wallets in use."""
    query = select(WALLET.c.tenant).where(~WALLET.c.archived).distinct()
    return sorted(connection.execute(query).scalars())


def ended(connection: Connection, tenant: str, after_us: int, until_us: int) -> list[str]:
    """Return the wallets of which a top-up expired after one instant, up to another."""
    query = select(TOP_UP.c.wallet).where(
        TOP_UP.c.tenant == tenant,
        TOP_UP.c.expires_us > after_us,
        TOP_UP.c.expires_us <= until_us,
    )
    return sorted(set(connection.execute(query).scalars()))


def seen(connection: Connection, tenant: str) -> dict[str, int]:
    """Return the version of the account at which each watched wallet was looked at last."""
    query = select(WATCH.c.wallet, WATCH.c.version).where(WATCH.c.tenant == tenant)
    return {row.wallet: row.version for row in connection.execute(query)}
