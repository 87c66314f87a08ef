"""Drafts, and the versions of where billing stands, in the control database.

Instants are BIGINT microseconds UTC. A draft's row stays when it became an invoice, so that a run
makes no second one.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Index,
    String,
    Table,
    Text,
    UniqueConstraint,
    func,
    select,
)

from tallybook.adapters.sql.accounts import ACCOUNT
from tallybook.adapters.sql.database import read
from tallybook.adapters.sql.rows import replace_rows
from tallybook.adapters.sql.schema.declared import metadata
from tallybook.invoice.ports import Seen, StoredDraft, Waiting
from tallybook.kernel.errors import Conflict, Missing

DRAFT = Table(
    "invoice_draft",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("id", String(64), primary_key=True),
    Column("run", String(64), nullable=False),
    Column("customer", String(128), nullable=False),
    Column("state", String(16), nullable=False),
    Column("finalize_us", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
    UniqueConstraint("tenant", "run", "customer"),
    Index("draft_due", "state", "finalize_us"),
    Index("draft_of_customer", "tenant", "customer", "state"),
)
"""Drafts; body: see `invoice.ports.StoredDraft`."""

STANDING = Table(
    "billing_version",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("customer", String(128), primary_key=True),
    Column("version", BigInteger, nullable=False),
)
"""Version of where billing stands of a payer: every invoice, draft or void moves it on."""

SEEN = Table(
    "billing_seen",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("customer", String(128), primary_key=True),
    Column("terms", String(64), nullable=False),
    Column("cut", BigInteger, nullable=False),
)
"""Of payers at whom a run has looked, and nothing else since: see `invoice.ports.Seen`."""

KEYS_AT_ONCE = 500
"""Keys in one question, below every database's bound on parameters."""

T = TypeVar("T")


def parts(keys: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield keys in parts that fit into one question."""
    for start in range(0, len(keys), KEYS_AT_ONCE):
        yield keys[start : start + KEYS_AT_ONCE]


class SqlDrafts:
    """`DraftStore` on the control database; safe to share between threads."""

    def __init__(self, engine: Engine) -> None:
        """Remember the engine, from `open_database`."""
        self._engine = engine

    def draft(self, tenant: str, name: str) -> StoredDraft:
        """Return a draft by its id."""
        query = select(DRAFT.c.body).where(DRAFT.c.tenant == tenant, DRAFT.c.id == name)
        with read(self._engine) as connection:
            body = connection.execute(query).scalar()
        if body is None:
            raise Missing(f"there is no draft '{name}'", field="invoice")
        return msgspec.json.decode(body, type=StoredDraft)

    def drafts(
        self,
        tenant: str,
        *,
        limit: int,
        after: str | None = None,
        customer: str | None = None,
        run: str | None = None,
    ) -> list[StoredDraft]:
        """Return open drafts in the order of their ids."""
        query = select(DRAFT.c.body).where(DRAFT.c.tenant == tenant, DRAFT.c.state == "open")
        if after is not None:
            query = query.where(DRAFT.c.id > after)
        if customer is not None:
            query = query.where(DRAFT.c.customer == customer)
        if run is not None:
            query = query.where(DRAFT.c.run == run)
        with read(self._engine) as connection:
            bodies = connection.execute(query.order_by(DRAFT.c.id).limit(limit)).scalars().all()
        decode = msgspec.json.Decoder(StoredDraft).decode
        return [decode(body) for body in bodies]

    def open_of(self, tenant: str, customers: Sequence[str]) -> dict[str, tuple[StoredDraft, ...]]:
        """Return the open drafts of customers."""
        found: dict[str, tuple[StoredDraft, ...]] = {}
        decode = msgspec.json.Decoder(StoredDraft).decode
        query = select(DRAFT.c.body).where(DRAFT.c.tenant == tenant, DRAFT.c.state == "open")
        with read(self._engine) as connection:
            for part in parts(customers):
                some = query.where(DRAFT.c.customer.in_(part)).order_by(DRAFT.c.id)
                for draft in map(decode, connection.execute(some).scalars()):
                    found[draft.customer] = (*found.get(draft.customer, ()), draft)
        return found

    def waiting(self, tenant: str, *, limit: int, after: str = "") -> list[Waiting]:
        """Return open drafts without their bodies, with the versions of what they are made from."""
        stands = (STANDING.c.tenant == DRAFT.c.tenant) & (STANDING.c.customer == DRAFT.c.customer)
        has = (ACCOUNT.c.tenant == DRAFT.c.tenant) & (ACCOUNT.c.customer == DRAFT.c.customer)
        query = (
            select(
                DRAFT.c.id,
                DRAFT.c.customer,
                func.coalesce(STANDING.c.version, 0).label("books"),
                func.coalesce(ACCOUNT.c.version, 0).label("account"),
            )
            .select_from(DRAFT.outerjoin(STANDING, stands).outerjoin(ACCOUNT, has))
            .where(DRAFT.c.tenant == tenant, DRAFT.c.state == "open", DRAFT.c.id > after)
            .order_by(DRAFT.c.id)
            .limit(limit)
        )
        with read(self._engine) as connection:
            rows = connection.execute(query).all()
        return [
            Waiting(id=row.id, customer=row.customer, books=row.books, account=row.account)
            for row in rows
        ]

    def drafts_due(self, now_us: int, limit: int) -> list[tuple[str, str]]:
        """Return tenant and id of open drafts whose time has come."""
        query = (
            select(DRAFT.c.tenant, DRAFT.c.id)
            .where(DRAFT.c.state == "open", DRAFT.c.finalize_us <= now_us)
            .order_by(DRAFT.c.finalize_us, DRAFT.c.tenant, DRAFT.c.id)
            .limit(limit)
        )
        with read(self._engine) as connection:
            return [(row.tenant, row.id) for row in connection.execute(query)]


def put_drafts(connection: Connection, tenant: str, drafts: Sequence[StoredDraft]) -> None:
    """Put drafts in place of what they were."""
    for part in parts(drafts):
        place = (DRAFT.c.tenant == tenant) & DRAFT.c.id.in_([draft.id for draft in part])
        connection.execute(DRAFT.delete().where(place))
        connection.execute(DRAFT.insert(), [_row(tenant, draft) for draft in part])


def _row(tenant: str, draft: StoredDraft) -> dict[str, object]:
    return {
        "tenant": tenant,
        "id": draft.id,
        "run": draft.run,
        "customer": draft.customer,
        "state": draft.state,
        "finalize_us": draft.finalize_us,
        "body": msgspec.json.encode(draft).decode(),
    }


def drafted(
    connection: Connection, tenant: str, run: str, customers: Sequence[str]
) -> Iterator[str]:
    """Yield which of the customers have a draft of a run, whatever became of it."""
    query = select(DRAFT.c.customer).where(DRAFT.c.tenant == tenant, DRAFT.c.run == run)
    for part in parts(customers):
        yield from connection.execute(query.where(DRAFT.c.customer.in_(part))).scalars()


def standing(
    connection: Connection, tenant: str, customers: Sequence[str], *, lock: bool = False
) -> dict[str, int]:
    """Return the versions of where billing stands; a customer that is not there has none."""
    found: dict[str, int] = {}
    for part in parts(customers):
        query = select(STANDING.c.customer, STANDING.c.version).where(
            STANDING.c.tenant == tenant, STANDING.c.customer.in_(part)
        )
        query = query.with_for_update() if lock else query
        found.update((row.customer, row.version) for row in connection.execute(query))
    return found


def seen_of(connection: Connection, tenant: str, customers: Sequence[str]) -> dict[str, Seen]:
    """Return what is known of payers at whom a run has looked."""
    found: dict[str, Seen] = {}
    for part in parts(customers):
        query = select(SEEN.c.customer, SEEN.c.terms, SEEN.c.cut).where(
            SEEN.c.tenant == tenant, SEEN.c.customer.in_(part)
        )
        rows = connection.execute(query)
        found.update((row.customer, Seen(terms=row.terms, cut=row.cut)) for row in rows)
    return found


def expect(connection: Connection, tenant: str, versions: Mapping[str, int]) -> dict[str, int]:
    """Return the versions that are stored; raises Conflict where one is not the expected one."""
    known = standing(connection, tenant, sorted(versions), lock=True)
    for customer, version in versions.items():
        if known.get(customer, 0) != version:
            message = f"{customer} was billed by somebody else meanwhile; decide again"
            raise Conflict(message, code="books-moved")
    return known


def claim(
    connection: Connection, tenant: str, versions: Mapping[str, int], seen: Mapping[str, Seen]
) -> None:
    """Move versions on; raises Conflict where one is not the expected one."""
    known = expect(connection, tenant, versions)
    for part in parts(sorted(known)):
        place = (STANDING.c.tenant == tenant) & STANDING.c.customer.in_(part)
        connection.execute(STANDING.update().where(place).values(version=STANDING.c.version + 1))
    new = [
        {"tenant": tenant, "customer": customer, "version": 1}
        for customer in sorted(versions.keys() - known.keys())
    ]
    if new:
        connection.execute(STANDING.insert(), new)
    for part in parts(sorted(versions.keys() - seen.keys())):
        place = (SEEN.c.tenant == tenant) & SEEN.c.customer.in_(part)
        connection.execute(SEEN.delete().where(place))
    rows = [
        {"tenant": tenant, "customer": customer, "terms": one.terms, "cut": one.cut}
        for customer, one in sorted(seen.items())
    ]
    replace_rows(connection, SEEN, rows)
