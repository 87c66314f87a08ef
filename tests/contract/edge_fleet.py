"""What the control database knows of edges and their certificates, on every database."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine

from tallybook.adapters.sql.database import open_database
from tallybook.adapters.sql.edge.certificates import Certificate, SqlCertificates
from tallybook.adapters.sql.edge.edges import Sighting, SqlEdges
from tallybook.collect.sending.fleet import Seen
from tallybook.collect.sending.parcel import Note, Parcel
from tallybook.kernel.errors import Conflict, Missing
from tests.support.databases import KINDS


@pytest.fixture(params=KINDS)
def engine(request: pytest.FixtureRequest, new_database: Callable[[str], str]) -> Iterator[Engine]:
    made = open_database(new_database(request.param))
    yield made
    made.dispose()


def sighting(name: str, number: int, tenant: str = "t") -> Sighting:
    parcel = Parcel(edge=name, incarnation="life", number=number)
    return Sighting(tenant, Seen(note=Note(parcel, number), at_us=number, stored=True))


def test_each_tenant_has_its_own_edges_in_the_order_of_their_names(engine: Engine) -> None:
    edges = SqlEdges(engine)
    names = ["b", "a", "C"]
    assert edges.note([*(sighting(name, 1) for name in names), sighting("a", 1, "u")]) == 4
    assert edges.note([sighting("a", 2)]) == 0
    found = [record.name for record in edges.listed("t", 10)]
    assert sorted(found) == sorted(names)
    first = edges.listed("t", 1)[0].name
    assert [record.name for record in edges.listed("t", 10, first)] == found[1:]
    assert edges.get("t", "a").last_seen_us == 2
    assert edges.get("u", "a").last_seen_us == 1
    edges.forget("t", "a")
    with pytest.raises(Missing):
        edges.get("t", "a")
    assert edges.get("u", "a").name == "a"


def test_two_workers_note_the_same_edge_and_lose_nothing(engine: Engine) -> None:
    edges = SqlEdges(engine)
    edges.note([sighting("a", 1)])

    def note(numbers: range) -> None:
        for number in numbers:
            for _ in range(20):
                try:
                    edges.note([sighting("a", number)])
                    break
                except Conflict:  # rolled back for another: the watch tells again a second later
                    continue

    with ThreadPoolExecutor(2) as workers:
        list(workers.map(note, (range(2, 20, 2), range(3, 20, 2))))
    (one,) = edges.get("t", "a").incarnations
    assert one.received == ((1, 19),)


def test_certificates_by_edge_and_by_number(engine: Engine) -> None:
    kept = SqlCertificates(engine)
    for at, (tenant, name) in enumerate([("t", "a"), ("t", "a"), ("t", "b"), ("u", "a")], 1):
        kept.add(
            Certificate(
                tenant=tenant, serial=f"A{at}", name=name, kind="edge", issued_us=at, expires_us=100
            )
        )
    assert [one.serial for one in kept.listed("t")] == ["A3", "A2", "A1"]
    assert {name: one.serial for name, one in kept.newest("t").items()} == {"a": "A2", "b": "A3"}
    assert kept.revoke("t", "a", "x" * 999, 50) == ["A1", "A2"]
    assert kept.revoke("t", "a3", "", 51) == ["A3"]
    with pytest.raises(Missing):
        kept.revoke("t", "a", "again", 52)
    assert [one.serial for one in kept.revoked(60)] == ["A1", "A2", "A3"]
    assert kept.revoked(100) == []
    assert [one.revoked_us for one in kept.listed("u")] == [None]
