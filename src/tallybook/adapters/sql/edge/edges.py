"""Edges, as their requests showed them: one row each, folded from the notes of their parcels."""

from collections.abc import Iterator, Sequence

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    String,
    Table,
    Text,
    Update,
    delete,
    func,
    insert,
    select,
    update,
)

from tallybook.adapters.sql.database import read, write
from tallybook.adapters.sql.schema.declared import metadata
from tallybook.collect.sending.fleet import EdgeRecord, Seen, noted
from tallybook.kernel.errors import Corrupt, Missing

EDGES_MAX = 10_000
"""Of one tenant. Whoever has a key can make up names; beyond this new ones are not listed."""

EDGES = Table(
    "edge",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("last_seen_us", BigInteger, nullable=False),
    Column("record", Text, nullable=False),
)
"""Edges. last_seen_us: microseconds UTC. record: JSON of `collect.sending.fleet.EdgeRecord`."""


class Sighting(msgspec.Struct, frozen=True):
    """One request of an edge, of a tenant."""

    tenant: str
    seen: Seen


class SqlEdges:
    """What is known of each edge."""

    def __init__(self, engine: Engine) -> None:
        """Keep the engine."""
        self._engine = engine

    def note(self, sightings: Sequence[Sighting]) -> int:
        """Fold requests into what is known; return how many edges are new.

        One transaction, in which each row is read before it is written: several processes may
        note the same edge.
        """
        by_edge: dict[tuple[str, str], list[Seen]] = {}
        for one in sightings:
            by_edge.setdefault((one.tenant, one.seen.note.parcel.edge), []).append(one.seen)
        new = 0
        with write(self._engine) as connection:
            for (tenant, name), came in sorted(by_edge.items(), key=lambda pair: pair[0]):
                known = _record(connection, tenant, name, lock=True)
                record = known
                for seen in came:
                    record = noted(record, seen)
                assert record is not None
                if known is not None:
                    connection.execute(_change(tenant, record))
                elif _count(connection, tenant) < EDGES_MAX:
                    connection.execute(insert(EDGES), _row(tenant, record))
                    new += 1
        return new

    def tenants(self) -> list[str]:
        """Return the tenants that have edges."""
        asked = select(EDGES.c.tenant).distinct().order_by(EDGES.c.tenant)
        with read(self._engine) as connection:
            return list(connection.execute(asked).scalars())

    def listed(self, tenant: str, limit: int, after: str | None = None) -> list[EdgeRecord]:
        """Return up to `limit` edges by name, from the one after `after`."""
        asked = select(EDGES.c.record).where(EDGES.c.tenant == tenant)
        if after is not None:
            asked = asked.where(EDGES.c.name > after)
        with read(self._engine) as connection:
            rows = connection.execute(asked.order_by(EDGES.c.name).limit(limit)).scalars()
            return [_decoded(text) for text in rows]

    def everybody(self) -> Iterator[EdgeRecord]:
        """Yield the edges of all tenants, for whoever runs the server."""
        asked = select(EDGES.c.record).order_by(EDGES.c.tenant, EDGES.c.name)
        with read(self._engine) as connection:
            for text in connection.execute(asked).scalars():
                yield _decoded(text)

    def get(self, tenant: str, name: str) -> EdgeRecord:
        """Return one edge; raises Missing."""
        with read(self._engine) as connection:
            found = _record(connection, tenant, name)
        if found is None:
            raise Missing(f"no edge '{name}' was ever seen", field="name")
        return found

    def forget(self, tenant: str, name: str) -> None:
        """Take an edge off the list until it is seen again; raises Missing."""
        gone = delete(EDGES).where(EDGES.c.tenant == tenant, EDGES.c.name == name)
        with write(self._engine) as connection:
            if not connection.execute(gone).rowcount:
                raise Missing(f"no edge '{name}' was ever seen", field="name")


def _record(
    connection: Connection, tenant: str, name: str, *, lock: bool = False
) -> EdgeRecord | None:
    asked = select(EDGES.c.record).where(EDGES.c.tenant == tenant, EDGES.c.name == name)
    text = connection.execute(asked.with_for_update() if lock else asked).scalar()
    return None if text is None else _decoded(text)


def _decoded(text: str) -> EdgeRecord:
    try:
        return msgspec.json.decode(text, type=EdgeRecord)
    except msgspec.MsgspecError as error:
        raise Corrupt(f"what is known of an edge cannot be read: {error}") from error


def _count(connection: Connection, tenant: str) -> int:
    asked = select(func.count()).select_from(EDGES).where(EDGES.c.tenant == tenant)
    return int(connection.execute(asked).scalar_one())


def _row(tenant: str, record: EdgeRecord) -> dict[str, object]:
    return {"tenant": tenant, "name": record.name, **_values(record)}


def _values(record: EdgeRecord) -> dict[str, object]:
    text = msgspec.json.encode(record).decode()
    return {"last_seen_us": record.last_seen_us, "record": text}


def _change(tenant: str, record: EdgeRecord) -> Update:
    mine = (EDGES.c.tenant == tenant, EDGES.c.name == record.name)
    return update(EDGES).where(*mine).values(**_values(record))
