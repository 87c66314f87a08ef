"""One suite for every `CatalogStore`: each test tries to break a sentence of the port."""

import re
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import select

from tallybook.adapters.memory.catalog import MemoryCatalog
from tallybook.adapters.memory.invoices import MemoryInvoices
from tallybook.adapters.sql.catalog import SqlCatalog
from tallybook.adapters.sql.database import open_database, sqlite_url
from tallybook.adapters.sql.outbox import OUTBOX
from tallybook.catalog.amendment import (
    Cancel,
    Pause,
    PlanChange,
    PriceChange,
    QuantityChange,
    Resume,
    Uncancel,
)
from tallybook.catalog.catalog import KINDS, Archive, Catalog, with_entries
from tallybook.catalog.change import difference
from tallybook.catalog.customer import Customer, Seller, SubjectSpan
from tallybook.catalog.document import parse_document
from tallybook.catalog.flow import put
from tallybook.catalog.meter import MeterSpec, check_meter
from tallybook.catalog.plan import Charge, Plan
from tallybook.catalog.ports import CatalogStore
from tallybook.catalog.price import Tier, VolumePrice
from tallybook.catalog.rule import CustomerRule
from tallybook.catalog.subscription import Subscription
from tallybook.kernel.book.fact import Fact
from tallybook.kernel.errors import Conflict

METER = check_meter(
    MeterSpec(key="m", event_type="t", aggregation="SUM", value="$.v", group_by={"r": "$.r"})
)
PRICE = VolumePrice(
    (
        Tier(up_to=Decimal("12345678901234567.123456789012"), unit_amount=Decimal("0.1")),
        Tier(flat_amount=Decimal(1)),
    )
)
CHARGE = Charge(
    key="c", name="C", price=PRICE, meter="m", split_by=("r",), where={"r": ("eu", None)}
)
PLAN = Plan(key="p", name="P", currency="USD", charges=(CHARGE,))
CUSTOMER = Customer(
    key="k", name="Käthe", currency="USD", subjects=(SubjectSpan("s", None, 5), SubjectSpan("s", 5))
)
SUBSCRIPTION = Subscription(key="a", customer="k", plan="p", start_us=-1)
RULE = CustomerRule(key="r", event_type="t", plan="p", currency="USD")
ALL = [Seller(name="We"), METER, PLAN, CUSTOMER, SUBSCRIPTION, RULE]

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "catalog.md"
EXAMPLES = re.findall(r"```toml\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
DECIDED = (
    PlanChange(at_us=10**15, recorded_us=1, plan="team", plan_version=1),
    QuantityChange(at_us=10**15, recorded_us=2, charge="seats", quantity=Decimal("2.5")),
    PriceChange(at_us=10**15, recorded_us=3, charge="calls", price=PRICE),
    PriceChange(at_us=10**15, recorded_us=4, charge="calls", price=None),
    Pause(at_us=10**15, recorded_us=5),
    Resume(at_us=10**15, recorded_us=6),
    Cancel(at_us=10**15, recorded_us=7, credit=False),
    Uncancel(at_us=10**15, recorded_us=8),
)


Telling = tuple[CatalogStore, Callable[[str], list[str]]]
"""A store, and the ids of the facts of a tenant."""


@pytest.fixture(params=["memory", "sqlite"])
def telling(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Telling]:
    if request.param == "memory":
        kept = MemoryInvoices()

        def tell(tenant: str, facts: Sequence[Fact]) -> None:
            with kept.transaction(tenant) as transaction:
                transaction.books.tell(facts)

        yield MemoryCatalog(tell), lambda tenant: sorted(kept.kept(tenant).facts)
        return
    engine = open_database(sqlite_url(tmp_path / "control.db"))

    def told(tenant: str) -> list[str]:
        with engine.connect() as connection:
            query = select(OUTBOX.c.id).where(OUTBOX.c.tenant == tenant)
            return sorted(connection.execute(query).scalars())

    yield SqlCatalog(engine), told
    engine.dispose()


@pytest.fixture
def store(telling: Telling) -> CatalogStore:
    return telling[0]


def test_facts_are_told_with_what_they_tell_of_or_not_at_all(telling: Telling) -> None:
    store, told = telling
    fact = Fact(id="f", kind="made", subject="k", customer="k", at_us=1, body="{}")
    version = store.write("a", [CUSTOMER], None, [fact])
    assert (told("a"), told("b")) == (["f"], [])
    store.write("a", [METER], version, [fact, msgspec.structs.replace(fact, id="g")])
    assert told("a") == ["f", "g"]
    with pytest.raises(Conflict):
        store.write("a", [METER], version, [msgspec.structs.replace(fact, id="h")])
    assert told("a") == ["f", "g"]
    put(store, "a", [METER], [msgspec.structs.replace(fact, id="i")])
    assert told("a") == ["f", "g"]


def test_what_was_decided_from_something_else_is_not_written(store: CatalogStore) -> None:
    store.write("a", [CUSTOMER])
    seen = store.load("a")
    put(store, "a", [msgspec.structs.replace(CUSTOMER, name="first")], seen=seen)
    with pytest.raises(Conflict, match="meanwhile"):
        put(store, "a", [msgspec.structs.replace(CUSTOMER, name="second")], seen=seen)
    assert store.load("a").customers["k"].name == "first"


def test_an_unknown_tenant_has_an_empty_catalog(store: CatalogStore) -> None:
    catalog = store.load("nobody")
    assert catalog.customers == {}
    assert catalog.version == store.version() == 0


def test_what_is_written_is_loaded_again_to_the_last_digit(store: CatalogStore) -> None:
    version = store.write("a", ALL)
    catalog = store.load("a")
    assert catalog.version == version == store.version()
    assert catalog.meter("m") == METER
    assert catalog.plan("p") == PLAN
    assert catalog.customers == {"k": CUSTOMER}
    assert catalog.subscriptions == {"a": SUBSCRIPTION}
    assert catalog.rules == {"r": RULE}
    assert catalog.seller == Seller(name="We")


def test_tenants_do_not_see_each_other(store: CatalogStore) -> None:
    store.write("a", ALL)
    store.write("b", [CUSTOMER])
    assert store.load("b").meters == {}
    assert store.load("a").customers == store.load("b").customers


def test_versions_are_kept_and_never_change(store: CatalogStore) -> None:
    store.write("a", ALL)
    second = Plan(key="p", name="P2", currency="USD", charges=(CHARGE,), version=2)
    store.write("a", [second])
    assert store.load("a").plans["p"] == (PLAN, second)
    with pytest.raises(Conflict, match="never changes"):
        store.write("a", [CUSTOMER, Plan(key="p", name="X", currency="USD", charges=(CHARGE,))])
    renamed = check_meter(
        MeterSpec(
            key="m", event_type="t", aggregation="SUM", value="$.v", group_by={"r": "$.r"}, name="N"
        )
    )
    store.write("a", [renamed])
    assert store.load("a").meter("m").name == "N"


def test_a_write_that_expects_another_version_writes_nothing(store: CatalogStore) -> None:
    version = store.write("a", [METER])
    store.write("a", [PLAN], version)
    with pytest.raises(Conflict, match="meanwhile"):
        store.write("a", [CUSTOMER], version)
    assert store.load("a").customers == {}


def test_archive_and_restore(store: CatalogStore) -> None:
    store.write("a", ALL)
    store.write("a", [Archive("plan", "p"), Archive("customer", "k")])
    catalog = store.load("a")
    assert not catalog.live("plan", "p")
    assert catalog.plan("p") == PLAN
    store.write("a", [CUSTOMER])
    assert store.load("a").live("customer", "k")
    assert store.load("a").archived == {("plan", "p")}


def test_the_seller_can_change_and_change_back(store: CatalogStore) -> None:
    for name in ("We", "Tallybook", "Them", "Tallybook"):
        store.write("a", [Seller(name=name)])
        assert store.load("a").seller.name == name


def test_every_kind_and_what_was_decided_is_loaded_again(store: CatalogStore) -> None:
    document = parse_document("\n".join(EXAMPLES))
    entries = [change.entry for change in difference(Catalog(), document, prune=False)]
    store.write("a", entries)
    written = with_entries(Catalog(), entries)
    for kind in KINDS:
        assert written.keys(kind), kind
    assert store.load("a") == msgspec.structs.replace(written, version=store.version())
    team = written.subscriptions["acme-team"]
    decided = msgspec.structs.replace(team, amendments=DECIDED)
    store.write("a", [decided])
    assert store.load("a").subscriptions["acme-team"] == decided
    with pytest.raises(Conflict, match="only ever added"):
        store.write("a", [team])


def test_two_stores_on_one_database_agree(tmp_path: Path) -> None:
    engine = open_database(sqlite_url(tmp_path / "control.db"))
    one, other = SqlCatalog(engine), SqlCatalog(engine)
    one.write("a", ALL)
    assert other.load("a") == one.load("a")
    other.write("a", [Archive("rule", "r")])
    assert one.load("a").archived == {("rule", "r")}
    assert one.all_meters() == [("a", METER)]
    assert [owned.owner for owned in one.ownerships("a")] == ["k", "k"]
    assert one.meter("a", "m", 1) == METER
    engine.dispose()
