"""People who sign in to the console with a name and a password (DECISIONS 32: argon2)."""

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    Engine,
    Integer,
    String,
    Table,
    Update,
    func,
    insert,
    select,
    update,
)

from tallybook.adapters.sql.access.version import bump
from tallybook.adapters.sql.database import read, write
from tallybook.adapters.sql.schema.declared import metadata
from tallybook.kernel.errors import Missing

USERS = Table(
    "console_user",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("password", String(255), nullable=False),
    Column("scopes", String(256), nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("ended_us", BigInteger),
    Column("epoch", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("locked_until_us", BigInteger, nullable=False),
    Column("last_login_us", BigInteger),
)
"""People. password: argon2id in its own notation. scopes: words with blanks between. epoch: grows
when all sessions end. failures: wrong passwords since the last right one. created_us, ended_us,
locked_until_us, last_login_us: microseconds UTC; NULL where it did not happen."""


class User(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who may sign in.

    Attributes:
        password: its argon2id hash.
        scopes: what the person may do, some of `admit.key.SCOPES`.
        ended_us: since when the person may not sign in; None while they may.
        epoch: sessions of an earlier one are over.
        failures: wrong passwords since the last right one.
        locked_until_us: before it no password is looked at.
        last_login_us: when the person last signed in; None if never.
    """

    tenant: str
    name: str
    password: str
    scopes: tuple[str, ...]
    created_us: int
    ended_us: int | None = None
    epoch: int = 0
    failures: int = 0
    locked_until_us: int = 0
    last_login_us: int | None = None


class SqlUsers:
    """The people of all tenants.

    Args:
        engine: from `open_database`.
    """

    def __init__(self, engine: Engine) -> None:
        """Use a control database that `open_database` made."""
        self._engine = engine

    def add(self, user: User) -> None:
        """Store a person; raises Conflict where the tenant has one of this name."""
        row = msgspec.structs.asdict(user) | {"scopes": " ".join(user.scopes)}
        with write(self._engine) as connection:
            connection.execute(insert(USERS), row)
            bump(connection)

    def listed(self, tenant: str) -> list[User]:
        """Return the people of a tenant by name, those who may no longer sign in too."""
        question = select(USERS).where(USERS.c.tenant == tenant).order_by(USERS.c.name)
        with read(self._engine) as connection:
            return [user_of(dict(row)) for row in connection.execute(question).mappings()]

    def counted(self) -> dict[str, int]:
        """Return how many people of each tenant may sign in."""
        question = select(USERS.c.tenant, func.count()).where(USERS.c.ended_us.is_(None))
        with read(self._engine) as connection:
            rows = connection.execute(question.group_by(USERS.c.tenant)).all()
        return {str(tenant): int(count) for tenant, count in rows}

    def get(self, tenant: str, name: str) -> User:
        """Return one person; raises Missing."""
        question = select(USERS).where(USERS.c.tenant == tenant, USERS.c.name == name)
        with read(self._engine) as connection:
            row = connection.execute(question).mappings().first()
        if row is None:
            raise Missing(f"there is no user '{name}'", field="name")
        return user_of(dict(row))

    def change(self, user: User) -> None:
        """Store password, scopes, end and epoch; sessions of earlier epochs are over."""
        values: dict[str, object] = {
            "password": user.password,
            "scopes": " ".join(user.scopes),
            "ended_us": user.ended_us,
            "epoch": user.epoch,
            "failures": user.failures,
            "locked_until_us": user.locked_until_us,
        }
        with write(self._engine) as connection:
            connection.execute(_where(user).values(**values))
            bump(connection)

    def failed(self, user: User, until_us: int) -> None:
        """Count a wrong password; no other is looked at before an instant."""
        change = _where(user).values(failures=USERS.c.failures + 1, locked_until_us=until_us)
        with write(self._engine) as connection:
            connection.execute(change)

    def entered(self, user: User, now_us: int) -> None:
        """Note that the person signed in."""
        change = _where(user).values(failures=0, locked_until_us=0, last_login_us=now_us)
        with write(self._engine) as connection:
            connection.execute(change)


def _where(user: User) -> Update:
    return update(USERS).where(USERS.c.tenant == user.tenant, USERS.c.name == user.name)


def user_of(row: dict[str, object]) -> User:
    """Return a person of a row of `USERS`."""
    fields = {str(name): value for name, value in row.items()}  # the driver's names are no `str`
    return msgspec.convert(fields | {"scopes": str(row["scopes"]).split()}, User)
