"""Parts that contradict each other are refused; so is another meaning of what is stored."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from tallybook.catalog.amendment import Pause, PlanChange, PriceChange, QuantityChange
from tallybook.catalog.catalog import Archive, Catalog, Entry, with_entries
from tallybook.catalog.check import check_references, check_stored
from tallybook.catalog.coupon import Coupon
from tallybook.catalog.customer import Customer, Seller, SubjectSpan
from tallybook.catalog.entitlement import (
    Boolean,
    Entitlement,
    Interval,
    Metered,
    Recurrence,
    Wallet,
)
from tallybook.catalog.meter import Meter, MeterSpec, check_meter
from tallybook.catalog.plan import Charge, Phase, Plan
from tallybook.catalog.price import (
    Cell,
    DynamicPrice,
    FlatPrice,
    GraduatedPercentagePrice,
    MatrixPrice,
    PercentagePrice,
    Price,
    RateTier,
    UnitPrice,
)
from tallybook.catalog.rule import CustomerRule
from tallybook.catalog.subscription import Subscription
from tallybook.catalog.tax import Tax
from tallybook.kernel.errors import Conflict


def meter(key: str, aggregation: str = "COUNT", **more: Any) -> Meter:
    value = None if aggregation == "COUNT" else "$.v"
    spec = {"key": key, "event_type": "t", "aggregation": aggregation, "value": value, **more}
    return check_meter(msgspec.convert(spec, MeterSpec))


FLAT, UNIT = FlatPrice(Decimal(5)), UnitPrice(unit_amount=Decimal(1))
SHARE = PercentagePrice(rate=Decimal(1))
MATRIX = MatrixPrice(
    dimensions=("zone",), cells=(Cell(match={"zone": "a"}, unit_amount=Decimal(1)),)
)
OF_EVENTS = PercentagePrice(rate=Decimal(1), fixed_amount=Decimal(1))
BY_AMOUNT = GraduatedPercentagePrice(tiers=(RateTier(rate=Decimal(1)),))
FEE = Charge(key="fee", name="Fee", price=FLAT)
CALLS = Charge(key="calls", name="Calls", price=UNIT, meter="calls")
PLAN = Plan(key="p", name="p", currency="USD", charges=(FEE, CALLS))
ADD_ON = Plan(key="a", name="a", currency="USD", charges=(FEE,), kind="add-on")
CUSTOMER = Customer(key="c", name="c", currency="USD", subjects=(SubjectSpan("s"),))
SUBSCRIPTION = Subscription(key="s", customer="c", plan="p", start_us=0)
METERED = Metered(
    meter="calls",
    period=Recurrence(interval=Interval(months=1), anchor_us=0),
    measure_from_us=0,
)
WALLET = Wallet(key="w", customer="c", currency="USD")
RULE = CustomerRule(key="r", event_type="t", plan="p", currency="USD")
COUPON = Coupon(key="k", name="k", percent=Decimal(10))

SOUND = with_entries(
    Catalog(),
    [
        Tax(key="vat", name="VAT", rate=Decimal(19)),
        Seller(taxes=("vat",)),
        meter("calls", group_by={"region": "$.region"}),
        PLAN,
        ADD_ON,
        msgspec.structs.replace(COUPON, plans=("p",), meters=("calls",), charges=("fee",)),
        Coupon(key="any", name="any", percent=Decimal(5), charges=("calls",)),
        msgspec.structs.replace(CUSTOMER, taxes=("vat",)),
        SUBSCRIPTION,
        Subscription(key="extra", customer="c", plan="a", start_us=0, base="s"),
        Entitlement(customer="c", feature="sso", access=Boolean(), start_us=0),
        Entitlement(
            customer="c",
            feature="api",
            access=msgspec.structs.replace(METERED, filter={"region": ("eu",)}),
            start_us=0,
        ),
        WALLET,
        RULE,
    ],
)


def replaced(thing: Any, **fields: Any) -> Any:
    return msgspec.structs.replace(thing, **fields)


def charged(charge: Charge, **fields: Any) -> Plan:
    return replaced(PLAN, charges=(replaced(charge, **fields),), version=2)


def subscribed(**fields: Any) -> Subscription:
    return replaced(SUBSCRIPTION, **fields)


def amended(*amendments: Any) -> Subscription:
    return subscribed(amendments=amendments)


def entitled(**fields: Any) -> Entitlement:
    access = replaced(METERED, **fields)
    return Entitlement(customer="c", feature="x", access=access, start_us=0)


def to(plan: str, at_us: int = 10, version: int | None = None) -> PlanChange:
    return PlanChange(at_us=at_us, recorded_us=0, plan=plan, plan_version=version)


def priced(charge: str, price: Price | None) -> PriceChange:
    return PriceChange(at_us=10, recorded_us=0, charge=charge, price=price)


def counted(charge: str) -> QuantityChange:
    return QuantityChange(at_us=10, recorded_us=0, charge=charge, quantity=Decimal(2))


def test_a_sound_catalog_is_let_through() -> None:
    check_references(SOUND)
    check_references(Catalog())


EURO = replaced(CUSTOMER, key="e", currency="EUR", subjects=())
SOLD = replaced(PLAN, key="q", currencies={"EUR": {"fee": FLAT, "calls": UNIT}})


@pytest.mark.parametrize(
    "entries",
    [
        [EURO, SOLD, subscribed(key="z", customer="e", plan="q")],
        [SOLD, replaced(RULE, plan="q", currency="EUR")],
        [amended(counted("fee"), priced("calls", UNIT), priced("fee", None), Pause(at_us=5,
         recorded_us=0))],
        [subscribed(quantities={"fee": Decimal(3)}, prices={"fee": FLAT})],
        [SOLD, amended(to("q")), Archive("plan", "p"), Archive("rule", "r"), Archive("coupon", "k"),
         Archive("coupon", "any")],
        [replaced(PLAN, version=2, effective_us=99), subscribed(plan_version=2)],
        [charged(replaced(CALLS, price=BY_AMOUNT), meter="sums"), meter("sums", "SUM"),
         Archive("coupon", "k"), Archive("coupon", "any")],
        [replaced(CUSTOMER, key="d", subjects=(), parent="c")],
        [Archive("tax", "vat"), Archive("customer", "c"), Archive("subscription", "s"),
         Archive("subscription", "extra"), Archive("entitlement", "c:sso"),
         Archive("entitlement", "c:api"), Archive("wallet", "w"), Seller()],
    ],
)  # fmt: skip
def test_what_fits_together_is_let_through(entries: list[Entry]) -> None:
    check_references(with_entries(SOUND, entries))


@pytest.mark.parametrize(
    ("entries", "message", "field"),
    [
        ([Archive("tax", "vat")], "the seller refers to tax 'vat', which is archived", "tax"),
        ([Seller(taxes=("x",))], "the seller refers to tax 'x', which is not there", "tax"),
        ([replaced(PLAN, taxes=("x",), version=2)], "plan p refers to tax 'x'", "tax"),
        ([charged(FEE, taxes=("x",))], "plan p, charge fee refers to tax 'x'", "tax"),
        ([replaced(CUSTOMER, taxes=("x",))], "customer c refers to tax 'x'", "tax"),
        ([Archive("meter", "calls")], "charge calls refers to meter 'calls'", "meter"),
        ([charged(CALLS, split_by=("zone",))], r"no dimension 'zone' \(it has region\)",
         "split_by"),
        ([charged(CALLS, where={"zone": ("a",)})], "no dimension 'zone'", "split_by"),
        ([charged(CALLS, price=MATRIX)], "no dimension 'zone'", "split_by"),
        ([charged(CALLS, price=DynamicPrice(multiplier=Decimal(1)))], "calls is COUNT, but",
         "meter"),
        ([charged(CALLS, recurring=True, meter="peak"), meter("peak", "MAX")],
         "a MAX meter is not carried over", "recurring"),
        ([charged(CALLS, recurring=True, releases={"region": ("x",)})],
         "releases is of a UNIQUE_COUNT meter, calls is COUNT", "releases"),
        ([charged(CALLS, recurring=True, meter="seats", releases={"x": ("y",)}),
          meter("seats", "UNIQUE_COUNT")], "no dimension 'x'", "releases"),
        ([charged(CALLS, recurring=True, meter="sums", price=OF_EVENTS), meter("sums", "SUM")],
         "no single events", "price"),
        ([replaced(PLAN, version=2, currencies={"EUR": {"fee": FLAT, "calls": MATRIX}})],
         "no dimension 'zone'", "split_by"),
        ([replaced(PLAN, version=2, phases=(Phase(key="x", name="x", prices={"calls": MATRIX}),))],
         "no dimension 'zone'", "split_by"),
        ([replaced(PLAN, version=2, phases=(
            Phase(key="x", name="x", currencies={"EUR": {"calls": MATRIX}}),))],
         "no dimension 'zone'", "split_by"),
        ([replaced(COUPON, plans=("x",))], "coupon k refers to plan 'x'", "plan"),
        ([replaced(COUPON, meters=("x",))], "coupon k refers to meter 'x'", "meter"),
        ([replaced(COUPON, charges=("x",))], "refers to charge 'x'", "charges"),
        ([replaced(COUPON, plans=("a",), charges=("calls",))], "none of its plans", "charges"),
        ([replaced(CUSTOMER, parent="x")], "parent, refers to customer 'x'", "customer"),
        ([replaced(CUSTOMER, key="d", subjects=(), parent="c", currency="EUR")],
         "customer d is in EUR, but parent c in USD", "currency"),
        ([replaced(CUSTOMER, key="d")], "'s' belongs to c and d at the same time", "subjects"),
        ([Archive("customer", "c")], "subscription s refers to customer 'c'", "customer"),
        ([subscribed(plan="x")], "refers to plan 'x', which is not there", "plan"),
        ([subscribed(plan_version=7)], "no plan 'p' version 7", "plan"),
        ([EURO, subscribed(key="z", customer="e")], "in EUR, but plan p is in USD", "currency"),
        ([EURO, SOLD, subscribed(key="z", customer="e", plan="q", amendments=(to("p"),))],
         "in EUR, but plan p is in USD", "currency"),
        ([subscribed(plan="a")], "a is of kind add-on: name its base", "base"),
        ([amended(to("a"))], "a is of kind add-on", "base"),
        ([subscribed(key="z", plan="a", base="x")], "base, refers to subscription 'x'",
         "subscription"),
        ([Archive("subscription", "s")], "'s', which is archived", "subscription"),
        ([amended(to("x"))], "refers to plan 'x'", "plan"),
        ([amended(to("x", 5), to("p", 10))], "no plan 'x'", "plan"),
        ([amended(to("p", 10, 9))], "no plan 'p' version 9", "plan"),
        ([subscribed(quantities={"x": Decimal(1)})], "quantity of 'x'", "quantities"),
        ([subscribed(quantities={"calls": Decimal(1)})], "no fixed fee", "quantities"),
        ([amended(counted("calls"))], "no fixed fee", "quantities"),
        ([subscribed(prices={"x": FLAT})], "price of 'x', which is no charge", "prices"),
        ([subscribed(prices={"fee": SHARE})], "a fixed fee needs a flat price", "price"),
        ([subscribed(prices={"calls": FLAT})], "usage needs a usage price", "price"),
        ([amended(priced("calls", MATRIX))], "price of calls: .* no dimension 'zone'", "split_by"),
        ([Entitlement(customer="x", feature="f", access=Boolean(), start_us=0)],
         "entitlement x:f refers to customer 'x'", "customer"),
        ([entitled(meter="x")], "refers to meter 'x'", "meter"),
        ([entitled(filter={"zone": ("a",)})], "no dimension 'zone'", "filter"),
        ([replaced(WALLET, customer="x")], "wallet w refers to customer 'x'", "customer"),
        ([replaced(WALLET, currency="EUR")], "in EUR, but customer c in USD", "currency"),
        ([replaced(RULE, plan="x")], "rule r refers to plan 'x'", "plan"),
        ([replaced(RULE, plan="a")], "a is an add-on", "plan"),
        ([replaced(RULE, currency="EUR")], "rule r is in EUR, but plan p is in USD", "currency"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(entries: list[Entry], message: str, field: str) -> None:
    with pytest.raises(Conflict, match=message) as caught:
        check_references(with_entries(SOUND, entries))
    assert caught.value.field == field


def test_a_meter_without_dimensions_says_so() -> None:
    split = charged(CALLS, split_by=("region",))
    plain = replaced(meter("calls"), version=2)
    with pytest.raises(Conflict, match="it has none"):
        check_references(with_entries(SOUND, [plain, split]))


STORED = with_entries(
    SOUND,
    [replaced(CUSTOMER, key="free", subjects=()), amended(to("p"))],
)


@pytest.mark.parametrize(
    "entry",
    [
        amended(to("p"), counted("fee")),
        subscribed(key="new"),
        replaced(CUSTOMER, name="other"),
        replaced(CUSTOMER, key="new"),
        replaced(CUSTOMER, key="free", parent="c"),
        replaced(WALLET, rate=Decimal(2)),
        replaced(WALLET, key="new"),
        replaced(PLAN, version=2),
        PLAN,
        replaced(SOUND.meter("calls"), name="renamed"),
        meter("new"),
        Archive("plan", "p"),
        RULE,
    ],
)
def test_what_keeps_its_meaning_may_be_written(entry: Entry) -> None:
    check_stored(STORED, [entry])


@pytest.mark.parametrize(
    ("entry", "message", "field"),
    [
        (subscribed(customer="d"), "subscription s is customer c's for good", "customer"),
        (subscribed(base="x"), "is no add-on, for good", "base"),
        (replaced(SOUND.subscriptions["extra"], base="x"), "belongs to s for good", "base"),
        (subscribed(), "amendments are only ever added", "amendments"),
        (amended(counted("fee")), "amendments are only ever added", "amendments"),
        (replaced(CUSTOMER, currency="EUR"), "customer c pays in USD for good", "currency"),
        (replaced(CUSTOMER, parent="free"), "it pays itself for what customer c", "parent"),
        (replaced(WALLET, customer="x"), "wallet w keeps its customer", "customer"),
        (replaced(WALLET, currency="EUR"), "wallet w keeps its currency", "currency"),
        (replaced(WALLET, unit="credits"), "wallet w keeps its unit", "unit"),
        (replaced(PLAN, name="other"), "plan p version 1 is stored", "version"),
        (meter("calls", "SUM"), "meter calls version 1 is stored", "version"),
    ],
)
def test_another_meaning_of_what_is_stored_is_refused(
    entry: Entry, message: str, field: str
) -> None:
    with pytest.raises(Conflict, match=message) as caught:
        check_stored(STORED, [entry])
    assert caught.value.field == field


def test_a_parent_may_change_when_nothing_is_subscribed() -> None:
    child = replaced(CUSTOMER, key="d", subjects=(), parent="c")
    mine = subscribed(key="d", customer="d")
    catalog = with_entries(STORED, [child, mine])
    moved = [replaced(child, parent="")]
    with pytest.raises(Conflict, match="customer c pays for what customer d subscribes to"):
        check_stored(catalog, moved)
    check_stored(with_entries(catalog, [Archive("subscription", "d")]), moved)
