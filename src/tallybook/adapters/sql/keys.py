"""API keys: random texts of which only an HMAC-SHA-256 is stored (DECISIONS 32)."""

import hmac

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
    func,
    insert,
    select,
    update,
)

from tallybook.adapters.sql.database import metadata, read, write
from tallybook.admit.key import ApiKey
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

VERSION = Table(
    "api_key_version",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("version", BigInteger, nullable=False),
)
"""One row: grows with every change of a key, cheap to poll."""

SHOWN_CHARS = 8


def key_digest(secret: bytes, key: str) -> str:
    """Return what is stored of a key: hex of HMAC-SHA-256 under the server's secret."""
    return hmac.digest(secret, key.encode(), "sha256").hex()


class SqlKeys:
    """The keys of all tenants."""

    def __init__(self, engine: Engine) -> None:
        """Use a control database that `open_database` made."""
        self._engine = engine

    def version(self) -> int:
        """Return a number that grows with every change."""
        with read(self._engine) as connection:
            return connection.execute(select(VERSION.c.version)).scalar() or 0

    def good(self) -> list[ApiKey]:
        """Return every key that is not revoked."""
        with read(self._engine) as connection:
            rows = connection.execute(select(KEYS).where(KEYS.c.revoked_us.is_(None))).mappings()
            return [_key(dict(row)) for row in rows]

    def listed(self, tenant: str) -> list[ApiKey]:
        """Return every key of a tenant, oldest first."""
        question = select(KEYS).where(KEYS.c.tenant == tenant).order_by(KEYS.c.created_us)
        with read(self._engine) as connection:
            return [_key(dict(row)) for row in connection.execute(question).mappings()]

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
        row = _row(key)
        with write(self._engine) as connection:
            if (
                only_if_first
                and connection.execute(select(func.count()).select_from(KEYS)).scalar()
            ):
                return False
            connection.execute(insert(KEYS), row)
            self._bump(connection)
        return True

    def revoke(self, tenant: str, key_id: str, now_us: int) -> None:
        """Refuse a key from now on; raises Missing where there is none that is good."""
        change = (
            update(KEYS)
            .where(KEYS.c.tenant == tenant, KEYS.c.id == key_id, KEYS.c.revoked_us.is_(None))
            .values(revoked_us=now_us)
        )
        with write(self._engine) as connection:
            if not connection.execute(change).rowcount:
                raise Missing(f"there is no good key {key_id}")
            self._bump(connection)

    @staticmethod
    def _bump(connection: Connection) -> None:
        if not connection.execute(update(VERSION).values(version=VERSION.c.version + 1)).rowcount:
            connection.execute(insert(VERSION), {"id": 1, "version": 1})


def _row(key: ApiKey) -> dict[str, object]:
    subjects = msgspec.json.encode(key.subjects).decode()
    return msgspec.structs.asdict(key) | {"scopes": " ".join(key.scopes), "subjects": subjects}


def _key(row: dict[str, object]) -> ApiKey:
    subjects = msgspec.json.decode(str(row["subjects"]))
    parts = {"scopes": str(row["scopes"]).split(), "subjects": subjects}
    fields = {str(name): value for name, value in row.items()}  # the driver's names are no `str`
    return msgspec.convert(fields | parts, ApiKey)
