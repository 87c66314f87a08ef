"""Usage plans, the limits of single keys, and how much of each key's use was reported."""

from collections.abc import Mapping, Sequence
from functools import partial

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Integer,
    RowMapping,
    String,
    Table,
    Text,
    func,
    select,
)

from tallybook.adapters.sql.access import version as versions
from tallybook.adapters.sql.access.recording import note
from tallybook.adapters.sql.database import read, write
from tallybook.adapters.sql.keys import KEYS
from tallybook.adapters.sql.outbox import add_facts
from tallybook.adapters.sql.rows import insert_rows, replace_rows
from tallybook.adapters.sql.schema.declared import metadata
from tallybook.admit.plan.limit import Limit
from tallybook.admit.plan.plan import UsagePlan
from tallybook.admit.plan.use import Reported, UsedKey
from tallybook.kernel.book.fact import Fact
from tallybook.kernel.errors import Conflict, Corrupt, Missing

PLANS = Table(
    "usage_plan",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("key", String(128), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("changed_us", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
)
"""Every version of every plan; the newest holds. changed_us: microseconds UTC. body: the plan as
JSON; '' where it was taken out of use."""

KEY_LIMITS = Table(
    "key_limits",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("key_id", String(64), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("changed_us", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
)
"""Limits of one key, in place of or on top of its plan's. body: a JSON array; '[]' for none."""

KEY_USE = Table(
    "key_use",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("key_id", String(64), primary_key=True),
    Column("route", String(64), primary_key=True),
    Column("status", String(8), primary_key=True),
    Column("generation", String(64), nullable=False),
    Column("requests", BigInteger, nullable=False),
    Column("events", BigInteger, nullable=False),
    Column("upto_us", BigInteger, nullable=False),
    Column("pending_requests", BigInteger, nullable=False),
    Column("pending_events", BigInteger, nullable=False),
    Column("pending_us", BigInteger, nullable=False),
)
"""Up to where use was reported as events, and up to where it is being reported: see
`admit.plan.use.Reported`. status: '2xx' and so on. Instants are microseconds UTC."""


class StoredPlan(msgspec.Struct, frozen=True):
    """A plan as it is stored; version 1 and up, never used twice."""

    plan: UsagePlan
    version: int
    changed_us: int


class StoredLimits(msgspec.Struct, frozen=True):
    """A key's own limits as they are stored; version 0 where there were never any."""

    limits: tuple[Limit, ...] = ()
    version: int = 0


class EveryPlan(msgspec.Struct, frozen=True):
    """What all processes know of limits.

    Attributes:
        plans: by tenant and key.
        own: limits by tenant and id of the API key.
        firsts: of a key that another one was rotated to, the id of the first of them all: they
            count as one.
    """

    plans: Mapping[tuple[str, str], UsagePlan]
    own: Mapping[tuple[str, str], tuple[Limit, ...]]
    firsts: Mapping[tuple[str, str], str] = {}


class SqlUsagePlans:
    """Plans and limits of all tenants.

    Args:
        engine: from `open_database`.
    """

    def __init__(self, engine: Engine) -> None:
        """Remember the engine."""
        self._engine = engine

    def version(self) -> int:
        """Return a number that grows with every change of plans, and of keys."""
        with read(self._engine) as connection:
            return versions.version(connection)

    def every(self) -> EveryPlan:
        """Return the plans and limits of all tenants, as they are now."""
        with read(self._engine) as connection:
            plans = _newest(connection)
            question = select(KEY_LIMITS).where(KEY_LIMITS.c.body != "[]")
            rows = connection.execute(question).all()
            firsts = _firsts(connection)
        return EveryPlan(
            {place: stored.plan for place, stored in plans.items()},
            {(row.tenant, row.key_id): _limits(row.body) for row in rows},
            firsts,
        )

    def first_of(self, tenant: str, key_id: str) -> str:
        """Return the id of the key under which a key counts: the first that it was rotated from."""
        with read(self._engine) as connection:
            return _firsts(connection, tenant).get((tenant, key_id), key_id)

    def check_known(self, tenant: str, key: str) -> str:
        """Return the key of a plan that is in use, or '' for none; raises Missing."""
        if key:
            with read(self._engine) as connection:
                if not _newest(connection, tenant, key):
                    raise Missing(f"there is no usage plan '{key}'", field="usage_plan")
        return key

    def listed(self, tenant: str) -> list[StoredPlan]:
        """Return the plans of a tenant that are in use, by key."""
        with read(self._engine) as connection:
            found = _newest(connection, tenant)
        return [found[place] for place in sorted(found)]

    def get(self, tenant: str, key: str) -> StoredPlan:
        """Return a plan; raises Missing."""
        with read(self._engine) as connection:
            found = _newest(connection, tenant, key)
        if not found:
            raise Missing(f"there is no usage plan '{key}'", field="key")
        return found[tenant, key]

    def put(
        self, tenant: str, plan: UsagePlan, now_us: int, expected: int | None = None
    ) -> StoredPlan:
        """Store a new version of a plan; a default one takes that from the one before.

        Args:
            tenant: whose.
            plan: checked.
            now_us: for the record.
            expected: the version that it replaces, 0 for none in use; None is any.

        Raises:
            Conflict: another version holds now ('version-changed').
        """
        with write(self._engine) as connection:
            stored = _newest(connection, tenant)
            before = stored.get((tenant, plan.key))
            _expect(before.version if before is not None else 0, expected)
            if plan.default:
                for other in stored.values():
                    if other.plan.default and other.plan.key != plan.key:
                        given_up = msgspec.structs.replace(other.plan, default=False)
                        _add(connection, tenant, given_up.key, _json(given_up), now_us)
            version = _add(connection, tenant, plan.key, _json(plan), now_us)
            versions.bump(connection)
        return StoredPlan(plan, version, now_us)

    def delete(self, tenant: str, key: str, now_us: int) -> None:
        """Take a plan out of use.

        Raises:
            Missing: there is none.
            Conflict: keys are on it ('in-use').
        """
        with write(self._engine) as connection:
            stored = _newest(connection, tenant, key)
            if not stored:
                raise Missing(f"there is no usage plan '{key}'", field="key")
            _check_unused(connection, tenant, key)
            _add(connection, tenant, key, "", now_us)
            versions.bump(connection)

    def apply(
        self,
        tenant: str,
        changes: Mapping[str, UsagePlan | None],
        now_us: int,
        expected: Mapping[str, int],
    ) -> None:
        """Store plans together, and take some out of use.

        Args:
            tenant: whose.
            changes: by key, as they shall be; None is out of use.
            now_us: for the record.
            expected: the versions of all plans in use from which this was decided.

        Raises:
            Conflict: others hold now ('version-changed'), or keys are on one ('in-use').
        """
        with write(self._engine) as connection:
            stored = _newest(connection, tenant)
            if {key: one.version for (_, key), one in stored.items()} != dict(expected):
                message = "usage plans were changed meanwhile; read them again"
                raise Conflict(message, code="version-changed")
            for key, plan in changes.items():
                before = stored.get((tenant, key))
                if plan is None:
                    _check_unused(connection, tenant, key)
                _add(connection, tenant, key, "" if plan is None else _json(plan), now_us)
                action = "archive" if plan is None else "change" if before else "create"
                told = (None if before is None else before.plan, plan)
                note(action, "usage-plan", key, partial(_same, told))
            versions.bump(connection)

    def limits_of(self, tenant: str, key_id: str) -> StoredLimits:
        """Return the limits of one key that stand in place of its plan's, or on top."""
        with read(self._engine) as connection:
            return _own(connection, tenant, key_id)

    def put_limits(
        self, tenant: str, key_id: str, limits: Sequence[Limit], now_us: int
    ) -> StoredLimits:
        """Replace the limits of one key."""
        with write(self._engine) as connection:
            before = _own(connection, tenant, key_id)
            row = {
                "tenant": tenant,
                "key_id": key_id,
                "version": before.version + 1,
                "changed_us": now_us,
                "body": _json(tuple(limits)),
            }
            replace_rows(connection, KEY_LIMITS, [row])
            versions.bump(connection)
        return StoredLimits(tuple(limits), before.version + 1)

    def tell(self, facts: Sequence[tuple[str, Fact]]) -> None:
        """Put facts of tenants into the outbox; those that are there already change nothing."""
        with write(self._engine) as connection:
            for tenant, fact in facts:
                add_facts(connection, tenant, [fact])


class SqlKeyUse:
    """Up to where the use of keys was reported.

    Args:
        engine: from `open_database`.
    """

    def __init__(self, engine: Engine) -> None:
        """Remember the engine."""
        self._engine = engine

    def reported(self) -> list[Reported]:
        """Return how far reporting is, of all keys."""
        with read(self._engine) as connection:
            rows = connection.execute(select(KEY_USE)).mappings()
            return [msgspec.convert({str(k): v for k, v in row.items()}, Reported) for row in rows]

    def of(self, tenant: str, key_id: str) -> list[Reported]:
        """Return how far reporting is, of one key."""
        question = select(KEY_USE).where(KEY_USE.c.tenant == tenant, KEY_USE.c.key_id == key_id)
        with read(self._engine) as connection:
            rows = connection.execute(question).mappings()
            return [msgspec.convert({str(k): v for k, v in row.items()}, Reported) for row in rows]

    def keys(self) -> dict[tuple[str, str], UsedKey]:
        """Return every key that ever was, by tenant and id."""
        question = select(
            KEYS.c.tenant, KEYS.c.id, KEYS.c.customer, KEYS.c.revoked_us, KEYS.c.expires_us
        )
        with read(self._engine) as connection:
            rows = connection.execute(question).mappings().all()
        return {(row["tenant"], row["id"]): _used(row) for row in rows}

    def put(self, rows: Sequence[Reported]) -> None:
        """Store how far reporting is, together."""
        with write(self._engine) as connection:
            replace_rows(connection, KEY_USE, [msgspec.structs.asdict(row) for row in rows])


def _used(row: RowMapping) -> UsedKey:
    ends = [at_us for at_us in (row["revoked_us"], row["expires_us"]) if at_us is not None]
    return UsedKey(row["customer"], min(ends, default=None))


def _newest(
    connection: Connection, tenant: str | None = None, key: str | None = None
) -> dict[tuple[str, str], StoredPlan]:
    """Return the newest version of plans that are in use, by tenant and key."""
    question = select(PLANS).order_by(PLANS.c.version)
    if tenant is not None:
        question = question.where(PLANS.c.tenant == tenant)
    if key is not None:
        question = question.where(PLANS.c.key == key)
    newest = {(row.tenant, row.key): row for row in connection.execute(question)}
    return {
        place: StoredPlan(_plan(row.body), row.version, row.changed_us)
        for place, row in newest.items()
        if row.body
    }


def _firsts(connection: Connection, tenant: str | None = None) -> dict[tuple[str, str], str]:
    """Return the first key of each that replaces another, by tenant and id."""
    question = select(KEYS.c.tenant, KEYS.c.id, KEYS.c.replaces).where(KEYS.c.replaces != "")
    if tenant is not None:
        question = question.where(KEYS.c.tenant == tenant)
    rows = connection.execute(question.order_by(KEYS.c.created_us, KEYS.c.id)).all()
    found: dict[tuple[str, str], str] = {}
    for row in rows:  # a key is made after the one that it replaces
        found[row.tenant, row.id] = found.get((row.tenant, row.replaces), row.replaces)
    return found


def _add(connection: Connection, tenant: str, key: str, body: str, now_us: int) -> int:
    question = select(func.max(PLANS.c.version)).where(PLANS.c.tenant == tenant, PLANS.c.key == key)
    version = (connection.execute(question).scalar() or 0) + 1
    row = {"tenant": tenant, "key": key, "version": version, "changed_us": now_us, "body": body}
    insert_rows(connection, PLANS, [row])
    return version


def _check_unused(connection: Connection, tenant: str, key: str) -> None:
    mine = (KEYS.c.tenant == tenant, KEYS.c.usage_plan == key, KEYS.c.revoked_us.is_(None))
    used = connection.execute(select(func.count()).where(*mine)).scalar()
    if used:
        message = f"{used} keys are on the usage plan '{key}'; put them on another first"
        raise Conflict(message, code="in-use", field="key")


def _same(told: tuple[object, object]) -> tuple[object, object]:
    return told


def _own(connection: Connection, tenant: str, key_id: str) -> StoredLimits:
    question = select(KEY_LIMITS).where(
        KEY_LIMITS.c.tenant == tenant, KEY_LIMITS.c.key_id == key_id
    )
    row = connection.execute(question).one_or_none()
    return StoredLimits() if row is None else StoredLimits(_limits(row.body), row.version)


def _expect(version: int, expected: int | None) -> None:
    if expected is not None and version != expected:
        message = f"version {version} holds now, not {expected}; read it again"
        raise Conflict(message, code="version-changed")


def _json(value: UsagePlan | tuple[Limit, ...]) -> str:
    return msgspec.json.encode(value).decode()


def _plan(body: str) -> UsagePlan:
    try:
        return msgspec.json.decode(body, type=UsagePlan)
    except msgspec.MsgspecError as error:
        raise Corrupt(f"a usage plan cannot be read: {error}") from error


def _limits(body: str) -> tuple[Limit, ...]:
    try:
        return msgspec.json.decode(body, type=tuple[Limit, ...])
    except msgspec.MsgspecError as error:
        raise Corrupt(f"the limits of a key cannot be read: {error}") from error
