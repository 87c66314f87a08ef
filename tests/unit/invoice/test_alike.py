"""Decisions made once for many: each is the one that would have been made alone."""

from decimal import Decimal

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from tallybook.catalog.amendment import (
    AnchorChange,
    Cancel,
    Pause,
    PlanChange,
    PriceChange,
    QuantityChange,
    Resume,
)
from tallybook.catalog.catalog import Catalog
from tallybook.catalog.customer import Customer
from tallybook.catalog.meter import MeterSpec, check_meter
from tallybook.catalog.plan import Charge, Minimum, Plan
from tallybook.catalog.price import FlatPrice, UnitPrice
from tallybook.catalog.subscription import StoredPeriod, Subscription
from tallybook.invoice.due import MINIMUM, Alike, Horizon, due
from tallybook.invoice.due.alike import _Watched
from tallybook.invoice.manifest import Billed, Group, Position
from tests.support.billing_world import at

NOW_US = at("2026-07-10")
CHARGES = ("seat", "setup", "calls", MINIMUM)
STARTS = ("2026-05-01", "2026-06-01", "2026-07-01")


def charge(key: str, **fields: object) -> Charge:
    price = FlatPrice(amount=Decimal(10)) if "meter" not in fields else UnitPrice(Decimal(1))
    return Charge(key=key, name=key, price=price, **fields)  # type: ignore[arg-type]


PLAN = Plan(
    key="p",
    version=1,
    name="p",
    currency="USD",
    charges=(
        charge("seat", timing="advance"),
        charge("setup", once=True),
        charge("calls", meter="calls"),
    ),
)
OTHER = Plan(
    key="q",
    version=1,
    name="q",
    currency="USD",
    charges=(charge("seat", interval="P1W"), charge("calls", meter="calls")),
    minimum=Minimum(amount=Decimal(50)),
)
METER = check_meter(MeterSpec(key="calls", event_type="t", aggregation="COUNT"))

customers = st.builds(
    Customer,
    key=st.just(""),
    name=st.sampled_from(["a", "b"]),
    currency=st.just("USD"),
    zone=st.sampled_from(["UTC", "Asia/Tokyo", "America/Los_Angeles", "Australia/Lord_Howe"]),
    taxes=st.sampled_from([None, (), ("vat",)]),
    parent=st.sampled_from(["", "", "", "payer"]),
)
amended = st.sampled_from([at("2026-05-31T23:00:00Z"), at("2026-06-20"), at("2026-06-21")])
amendments = st.one_of(
    [
        st.builds(kind, at_us=amended, recorded_us=st.just(0), **fields)
        for kind, fields in (
            (Pause, {}),
            (Resume, {}),
            (Cancel, {"credit": st.booleans()}),
            (AnchorChange, {"anchor_us": amended}),
            (PlanChange, {"plan": st.sampled_from(["p", "q"])}),
            (
                QuantityChange,
                {"charge": st.just("seat"), "quantity": st.sampled_from([Decimal(3), Decimal(4)])},
            ),
            (
                PriceChange,
                {
                    "charge": st.just("calls"),
                    "price": st.sampled_from([None, UnitPrice(Decimal(2))]),
                },
            ),
        )
    ]
)
subscriptions = st.builds(
    Subscription,
    key=st.just(""),
    customer=st.just(""),
    plan=st.sampled_from(["p", "q"]),
    start_us=st.sampled_from([at("2026-05-01"), at("2026-06-16")]),
    end_us=st.sampled_from([None, None, at("2026-06-25")]),
    anchor_day=st.sampled_from([1, 31]),
    anchor_us=st.sampled_from([None, at("2026-01-31")]),
    prices=st.sampled_from([{}, {}, {"seat": FlatPrice(amount=Decimal(7))}]),
    amendments=st.just(()) | st.tuples(amendments),
    minimum=st.sampled_from([None, Decimal(80)]),
    quantities=st.sampled_from([{}, {"seat": Decimal(3)}]),
)
figures = st.dictionaries(
    st.tuples(st.sampled_from(CHARGES), st.sampled_from(STARTS)), st.integers(0, 9), max_size=3
)


def billed(amount: int) -> Billed:
    return Billed(
        group=(),
        amount_minor=amount,
        quantity="1",
        events=0,
        digest="0",
        until_us=0,
        cut=1,
        invoice="inv_1",
    )


def world(found: list[tuple[Customer, Subscription, dict[tuple[str, str], int], int | None]]):
    """Return a catalog and a history, with everybody under a name of their own."""
    owners = {"payer": Customer(key="payer", name="payer", currency="USD", taxes=("own",))}
    subscribed: dict[str, Subscription] = {}
    history: dict[Position, dict[Group, Billed]] = {}
    for at_, (customer, subscription, figures_, _) in enumerate(found):
        key = f"c{at_}"
        owners[key] = msgspec.structs.replace(customer, key=key)
        subscribed[key] = msgspec.structs.replace(subscription, key=key, customer=key)
        for (name, start), amount in figures_.items():
            history[Position(key, name, at(start))] = {(): billed(amount)}
    catalog = Catalog(
        customers=owners,
        subscriptions=subscribed,
        plans={"p": (PLAN,), "q": (OTHER,)},
        meters={"calls": (METER,)},
    )
    return catalog, history


def stored_after(subscription: Subscription, catalog: Catalog) -> tuple[StoredPeriod, ...]:
    """Return the periods that a run in June leaves behind."""
    june = Horizon(None, at("2026-06-20"), whole=False, now_us=at("2026-06-20"))
    return due(subscription, (), {}, catalog, june, 1).periods


@given(
    st.lists(
        st.tuples(customers, subscriptions, figures, st.sampled_from([None, at("2026-06-01")])),
        min_size=2,
        max_size=5,
    ),
    st.booleans(),
)
def test_a_decision_made_once_is_the_one_made_alone(found, billed_before) -> None:
    catalog, history = world(found)
    alike = Alike(catalog, 2)
    for subscription, (*_, quiet_us) in zip(catalog.subscriptions.values(), found, strict=True):
        stored = stored_after(subscription, catalog) if billed_before else ()
        seen = Horizon(None, NOW_US, whole=False, now_us=NOW_US, quiet_us=quiet_us)
        alone = due(subscription, stored, history, catalog, seen, 2)
        assert alike.due(subscription, stored, history, seen) == alone
        assert alike.due(subscription, stored, history, seen) == alone, "and once more"


def test_a_history_that_is_looked_through_is_nobody_elses() -> None:
    history = {Position("s", "seat", 0): {(): billed(1)}}
    for look in (len, list):
        watched = _Watched(history)
        assert watched.found_nothing_at("s") == ()
        look(watched)
        assert watched.found_nothing_at("s") is None
    watched = _Watched(history)
    assert watched.get(Position("t", "seat", 0)) is None
    assert watched.found_nothing_at("s") is None, "it asked about another subscription"
    assert watched.found_nothing_at("t") == (("seat", 0),)
