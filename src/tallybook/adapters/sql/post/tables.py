"""Tables of delivering, and how their rows become values. Instants are BIGINT microseconds UTC."""

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    RowMapping,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from tallybook.adapters.sql.schema.declared import metadata
from tallybook.deliver.delivery import Attempt, Delivery
from tallybook.deliver.endpoint import Endpoint, Secret
from tallybook.kernel.errors import Corrupt

ENDPOINT = Table(
    "delivery_endpoint",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("id", String(64), primary_key=True),
    Column("channel", String(32), nullable=False),
    Column("address", Text, nullable=False),
    Column("description", String(255), nullable=False),
    Column("kinds", Text, nullable=False),
    Column("customers", Text, nullable=False),
    Column("secrets", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("failing_since_us", BigInteger, nullable=True),
    Column("failures", Integer, nullable=False),
    Column("succeeded_us", BigInteger, nullable=True),
    Column("failed_us", BigInteger, nullable=True),
    Column("delivered_total", BigInteger, nullable=False),
    Column("failed_total", BigInteger, nullable=False),
)
"""Endpoints; see `deliver.endpoint.Endpoint`. kinds, customers, secrets: JSON arrays; a secret is
encrypted."""

DELIVERY = Table(
    "delivery",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("id", String(64), primary_key=True),
    Column("endpoint", String(64), nullable=False),
    Column("fact", String(64), nullable=False),
    Column("kind", String(64), nullable=False),
    Column("customer", String(128), nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("due_us", BigInteger, nullable=True),
    Column("attempts", Integer, nullable=False),
    Column("tried", Integer, nullable=False),
    Column("first_us", BigInteger, nullable=True),
    Column("ended_us", BigInteger, nullable=True, index=True),
    Column("lease", String(64), nullable=False),
    UniqueConstraint("tenant", "fact", "endpoint", name="delivery_of_fact"),
    Index("delivery_due", "tenant", "endpoint", "due_us"),
    Index("delivery_log", "tenant", "endpoint", "at_us"),
)
"""Deliveries; see `deliver.delivery.Delivery`. due_us: NULL once it has ended."""

ATTEMPT = Table(
    "delivery_attempt",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("delivery", String(64), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at_us", BigInteger, nullable=False),
    Column("took_us", BigInteger, nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("code", Integer, nullable=True),
    Column("text", Text, nullable=False),
    Column("error", Text, nullable=False),
)
"""Attempts; see `deliver.delivery.Attempt`."""

_LISTS = ("kinds", "customers", "secrets")


def endpoint_row(tenant: str, endpoint: Endpoint) -> dict[str, object]:
    """Return an endpoint as a row."""
    row = {"tenant": tenant} | msgspec.structs.asdict(endpoint)
    return row | {name: msgspec.json.encode(row[name]).decode() for name in _LISTS}


def endpoint_of(row: RowMapping) -> Endpoint:
    """Return a row as an endpoint; raises Corrupt."""
    fields = {name: row[name] for name in Endpoint.__struct_fields__}
    try:
        fields["kinds"] = msgspec.json.decode(row["kinds"], type=tuple[str, ...])
        fields["customers"] = msgspec.json.decode(row["customers"], type=tuple[str, ...])
        fields["secrets"] = msgspec.json.decode(row["secrets"], type=tuple[Secret, ...])
    except msgspec.MsgspecError as error:
        raise Corrupt(f"endpoint {row['id']} cannot be read: {error}") from error
    return Endpoint(**fields)


def delivery_row(tenant: str, delivery: Delivery) -> dict[str, object]:
    """Return a delivery as a row."""
    return {"tenant": tenant} | msgspec.structs.asdict(delivery)


def delivery_of(row: RowMapping) -> Delivery:
    """Return a row as a delivery."""
    return Delivery(**{name: row[name] for name in Delivery.__struct_fields__})


def attempt_row(tenant: str, attempt: Attempt) -> dict[str, object]:
    """Return an attempt as a row; a database that keeps no NUL gets none."""
    row = {"tenant": tenant} | msgspec.structs.asdict(attempt)
    return row | {"text": attempt.text.replace("\0", "�")}


def attempt_of(row: RowMapping) -> Attempt:
    """Return a row as an attempt."""
    return Attempt(**{name: row[name] for name in Attempt.__struct_fields__})
