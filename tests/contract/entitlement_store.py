"""One suite for every `EntitlementStore`: each test tries to break a sentence of the port."""

from collections.abc import Callable, Iterator
from decimal import Decimal

import pytest

from tallybook.adapters.memory.entitlements import MemoryEntitlements
from tallybook.adapters.sql.catalog import SqlCatalog
from tallybook.adapters.sql.database import open_database
from tallybook.adapters.sql.prepaid.entitlements import CHANGE, SqlEntitlements
from tallybook.adapters.sql.prepaid.versions import SqlVersions, Versions
from tallybook.catalog.customer import Customer
from tallybook.catalog.entitlement import Grant, Recurrence, Rollover, parse_interval, void
from tallybook.kernel.errors import Conflict, Missing, TallybookError
from tallybook.settle.entitlement import HandReset
from tallybook.settle.ports import EntitlementFacts, EntitlementStore
from tests.support.databases import KINDS

GRANT = Grant(
    key="g",
    amount=Decimal("12345678901234567.123456789012"),
    effective_us=5,
    expires_us=90,
    priority=3,
    recurrence=Recurrence(interval=parse_interval("i", "P1M"), anchor_us=2, zone="Europe/Berlin"),
    rollover=Rollover(Decimal(1), Decimal("0.000000000004")),
)


@pytest.fixture(params=["memory", *KINDS])
def store(
    request: pytest.FixtureRequest, new_database: Callable[[str], str]
) -> Iterator[EntitlementStore]:
    if request.param == "memory":
        yield MemoryEntitlements()
        return
    engine = open_database(new_database(request.param))
    yield SqlEntitlements(engine)
    engine.dispose()


def test_nothing_happened_to_an_unknown_one(store: EntitlementStore) -> None:
    assert store.facts("t", ["c:f"]) == {"c:f": EntitlementFacts()}
    assert store.facts("t", []) == {}
    assert store.changed("t") == 0


def test_grants_are_read_as_they_were_written(store: EntitlementStore) -> None:
    other = Grant(key="a", amount=Decimal(1), effective_us=0)
    store.add_grant("t", "c:f", GRANT, 0)
    store.add_grant("t", "c:f", other, 1)
    store.add_grant("t", "d:f", other, 0)
    found = store.facts("t", ["c:f", "x"])
    assert found == {
        "c:f": EntitlementFacts(version=2, grants=(other, GRANT)),
        "x": EntitlementFacts(),
    }
    assert store.changed("t") == 3
    assert store.facts("other", ["c:f"])["c:f"].grants == ()


def test_a_key_is_taken_once(store: EntitlementStore) -> None:
    store.add_grant("t", "c:f", GRANT, 0)
    with pytest.raises(Conflict, match="already"):
        store.add_grant("t", "c:f", GRANT, 1)
    assert store.facts("t", ["c:f"])["c:f"].version == 1
    assert store.changed("t") == 1


def test_voiding_stays(store: EntitlementStore) -> None:
    store.add_grant("t", "c:f", GRANT, 0)
    store.void_grant("t", "c:f", void(GRANT, 30), 1)
    assert store.facts("t", ["c:f"])["c:f"].grants == (void(GRANT, 30),)
    with pytest.raises(Missing):
        store.void_grant("t", "d:f", GRANT, 0)
    assert store.facts("t", ["d:f"])["d:f"].version == 0


def test_resets_are_in_order(store: EntitlementStore) -> None:
    late, early = HandReset(9, keep_anchor=True), HandReset(3, keep_overage=False)
    store.add_reset("t", "c:f", late, 0)
    store.add_reset("t", "c:f", early, 1)
    assert store.facts("t", ["c:f"])["c:f"].resets == (early, late)
    with pytest.raises(Conflict):
        store.add_reset("t", "c:f", HandReset(9), 2)


def test_who_decided_on_something_older_is_refused(store: EntitlementStore) -> None:
    store.add_grant("t", "c:f", GRANT, 0)
    for change in (
        lambda: store.add_grant("t", "c:f", Grant(key="h", amount=Decimal(1), effective_us=0), 0),
        lambda: store.void_grant("t", "c:f", GRANT, 0),
        lambda: store.add_reset("t", "c:f", HandReset(9), 0),
    ):
        with pytest.raises(Conflict, match="meanwhile"):
            change()
    assert store.changed("t") == 1


@pytest.mark.parametrize("kind", KINDS)
def test_both_versions_of_a_check_are_read_at_once(
    kind: str, new_database: Callable[[str], str]
) -> None:
    engine = open_database(new_database(kind))
    store, catalog, versions = SqlEntitlements(engine), SqlCatalog(engine), SqlVersions(engine)
    assert versions.of(["t"]) == {"t": Versions(0, 0)}
    store.add_grant("t", "a:f", GRANT, 0)
    store.add_grant("u", "a:f", GRANT, 0)
    store.add_grant("u", "b:f", GRANT, 0)
    catalog.write("t", [Customer(key="a", name="a", currency="USD")])
    assert versions.of({"t"}) == {"t": Versions(1, store.changed("t"))} == {"t": Versions(1, 1)}
    asked = ["'; --", "u", "t", *(f"t{number}" for number in range(200))]
    nobodys = {tenant: Versions(1, 0) for tenant in asked}
    assert versions.of(asked) == nobodys | {"u": Versions(1, 2), "t": Versions(1, 1)}
    with engine.begin() as connection:
        connection.execute(CHANGE.delete())
        CHANGE.drop(connection)
    with pytest.raises(TallybookError):
        versions.of(["t"])
    engine.dispose()
