"""API keys: random texts of which only an HMAC-SHA-256 is stored (DECISIONS 32)."""

import hmac
from collections.abc import Callable, Mapping

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Select,
    String,
    Table,
    Text,
    UniqueConstraint,
    func,
    insert,
    or_,
    select,
    update,
)

from tallybook.adapters.sql.access import version as versions
from tallybook.adapters.sql.access.tenants import TENANTS
from tallybook.adapters.sql.access.users import USERS, User, user_of
from tallybook.adapters.sql.database import read, write
from tallybook.adapters.sql.outbox import add_facts
from tallybook.adapters.sql.schema.declared import metadata
from tallybook.admit.key import ApiKey
from tallybook.admit.told import created_fact, revoked_fact
from tallybook.kernel.book.fact import Fact
from tallybook.kernel.errors import Missing

KEYS = Table(
    "api_key",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("id", String(64), primary_key=True),
    Column("name", String(128), nullable=False),
    Column("shown", String(16), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("scopes", String(256), nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("revoked_us", BigInteger),
    Column("subjects", Text, nullable=False),
    Column("customer", String(255), nullable=False, server_default=""),
    Column("usage_plan", String(128), nullable=False, server_default=""),
    Column("expires_us", BigInteger),
    Column("last_used_us", BigInteger),
    Column("replaces", String(64), nullable=False, server_default=""),
    Column("successor", String(64), nullable=False, server_default=""),
    # The one unique key without a tenant: the tenant is a property of the key (DECISIONS 18).
    UniqueConstraint("digest", name="api_key_digest"),
)
"""Keys. shown: first characters, for people. digest: hex of the HMAC. scopes: words with blanks
between. subjects: a JSON array of texts. created_us, revoked_us, expires_us, last_used_us:
microseconds UTC; NULL where it did not happen or never will. replaces, successor: ids, ''."""


class Known(msgspec.Struct, frozen=True):
    """Everybody who may come in, as of one instant.

    Attributes:
        keys: not revoked; some may be over.
        closed: tenants whose keys are refused.
        users: people who may sign in.
    """

    keys: list[ApiKey]
    closed: frozenset[str]
    users: list[User]


def key_digest(secret: bytes, key: str) -> str:
    """Return what is stored of a key: hex of HMAC-SHA-256 under the server's secret."""
    return hmac.digest(secret, key.encode("utf-8", "surrogatepass"), "sha256").hex()


class SqlKeys:
    """The keys of all tenants."""

    def __init__(self, engine: Engine) -> None:
        """Use a control database that `open_database` made."""
        self._engine = engine

    def version(self) -> int:
        """Return a number that grows with every change."""
        with read(self._engine) as connection:
            return versions.version(connection)

    def good(self) -> list[ApiKey]:
        """Return every key that is not revoked."""
        with read(self._engine) as connection:
            return _good(connection)

    def known(self) -> Known:
        """Return everybody who may come in."""
        closed = select(TENANTS.c.tenant).where(TENANTS.c.closed_us.is_not(None))
        users = select(USERS).where(USERS.c.ended_us.is_(None))
        with read(self._engine) as connection:
            return Known(
                _good(connection),
                frozenset(connection.execute(closed).scalars()),
                [user_of(dict(row)) for row in connection.execute(users).mappings()],
            )

    def listed(self, tenant: str) -> list[ApiKey]:
        """Return every key of a tenant, oldest first."""
        question = select(KEYS).where(KEYS.c.tenant == tenant)
        with read(self._engine) as connection:
            rows = connection.execute(question.order_by(KEYS.c.created_us, KEYS.c.id)).mappings()
            return [_key(dict(row)) for row in rows]

    def get(self, tenant: str, key_id: str) -> ApiKey:
        """Return one key of a tenant, a revoked one too; raises Missing."""
        with read(self._engine) as connection:
            row = connection.execute(_one(tenant, key_id)).mappings().first()
        if row is None:
            raise Missing(f"there is no key {key_id}", field="id")
        return _key(dict(row))

    def add(self, key: ApiKey, *, only_if_first: bool = False) -> bool:
        """Store a key.

        Args:
            key: with its digest.
            only_if_first: do nothing where any key was ever stored.

        Returns:
            Whether it was stored.

        Raises:
            Conflict: its text or id is taken.
        """
        with write(self._engine) as connection:
            if (
                only_if_first
                and connection.execute(select(func.count()).select_from(KEYS)).scalar()
            ):
                return False
            connection.execute(insert(KEYS), _row(key))
            add_facts(connection, key.tenant, [created_fact(key)])
            versions.bump(connection)
        return True

    def rotate(self, old: ApiKey, new: ApiKey) -> None:
        """Store a key's end and its successor; raises Missing where it was ended meanwhile."""
        change = (
            update(KEYS)
            .where(
                KEYS.c.tenant == old.tenant,
                KEYS.c.id == old.id,
                KEYS.c.revoked_us.is_(None),
                KEYS.c.successor == "",
            )
            .values(expires_us=old.expires_us, successor=old.successor)
        )
        with write(self._engine) as connection:
            if not connection.execute(change).rowcount:
                raise Missing(f"there is no good key {old.id}")
            connection.execute(insert(KEYS), _row(new))
            add_facts(connection, new.tenant, [created_fact(new)])
            versions.bump(connection)

    def change(self, key: ApiKey) -> None:
        """Store what of a key may change: name, usage plan and end; raises Missing."""
        values = {"name": key.name, "usage_plan": key.usage_plan, "expires_us": key.expires_us}
        self._update(key.tenant, key.id, values)

    def revoke(self, tenant: str, key_id: str, now_us: int) -> None:
        """Refuse a key from now on; raises Missing where there is none that is good."""
        self._update(tenant, key_id, {"revoked_us": now_us}, revoked_fact)

    def used(self, last: Mapping[tuple[str, str], int]) -> None:
        """Note when keys were last used; an instant before the one known changes nothing.

        Args:
            last: (tenant, id) -> microseconds UTC, to the minute.
        """
        column = KEYS.c.last_used_us
        with write(self._engine) as connection:
            for (tenant, key_id), at_us in sorted(last.items()):
                connection.execute(
                    update(KEYS)
                    .where(
                        KEYS.c.tenant == tenant,
                        KEYS.c.id == key_id,
                        or_(column.is_(None), column < at_us),
                    )
                    .values(last_used_us=at_us)
                )

    def _update(
        self,
        tenant: str,
        key_id: str,
        values: Mapping[str, object],
        told: Callable[[ApiKey], Fact] | None = None,
    ) -> None:
        change = (
            update(KEYS)
            .where(KEYS.c.tenant == tenant, KEYS.c.id == key_id, KEYS.c.revoked_us.is_(None))
            .values(**values)
        )
        with write(self._engine) as connection:
            if not connection.execute(change).rowcount:
                raise Missing(f"there is no good key {key_id}", field="id")
            if told is not None:
                row = connection.execute(_one(tenant, key_id)).mappings().one()
                add_facts(connection, tenant, [told(_key(dict(row)))])
            versions.bump(connection)


def _one(tenant: str, key_id: str) -> "Select[tuple[object, ...]]":
    return select(KEYS).where(KEYS.c.tenant == tenant, KEYS.c.id == key_id)


def _good(connection: Connection) -> list[ApiKey]:
    rows = connection.execute(select(KEYS).where(KEYS.c.revoked_us.is_(None))).mappings()
    return [_key(dict(row)) for row in rows]


def _row(key: ApiKey) -> dict[str, object]:
    subjects = msgspec.json.encode(key.subjects).decode()
    return msgspec.structs.asdict(key) | {"scopes": " ".join(key.scopes), "subjects": subjects}


def _key(row: dict[str, object]) -> ApiKey:
    subjects = msgspec.json.decode(str(row["subjects"]))
    parts = {"scopes": str(row["scopes"]).split(), "subjects": subjects}
    fields = {str(name): value for name, value in row.items()}  # the driver's names are no `str`
    return msgspec.convert(fields | parts, ApiKey)
