"""What a written plan means, what it is refused for, and that it can be written again."""

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallybook.catalog.plan import (
    CHARGES_MAX,
    PHASES_MAX,
    Plan,
    PlanSpec,
    check_plan,
    plan_spec,
)
from tallybook.catalog.price import UnitPrice
from tallybook.kernel.currencies import EXPONENTS
from tallybook.kernel.errors import Invalid
from tallybook.kernel.timestamps import format_us

FLAT = {"type": "flat", "amount": "10"}
UNIT = {"type": "unit", "unit_amount": "0.5"}
SHARE = {"type": "percentage", "rate": "1"}
FEE: dict[str, Any] = {"key": "fee", "price": FLAT}
CALLS: dict[str, Any] = {"key": "calls", "price": UNIT, "meter": "calls"}
MANY = {code: {"fee": FLAT} for code in sorted(EXPONENTS.keys() - {"USD"})[:51]}


def plan(**more: Any) -> Plan:
    written = {"key": "p", "currency": "USD", "charges": [FEE, CALLS], **more}
    spec = msgspec.json.decode(json.dumps(written, default=str), type=PlanSpec)
    return check_plan(spec, {"named": UNIT})


def refused(message: str, field: str | None = None, **more: Any) -> None:
    with pytest.raises(Invalid, match=message) as caught:
        plan(**more)
    if field is not None:
        assert caught.value.field == field


def fee(**more: Any) -> list[dict[str, Any]]:
    return [{**FEE, **more}]


def usage(**more: Any) -> list[dict[str, Any]]:
    return [{**CALLS, **more}]


FULL: dict[str, Any] = {
    "name": "Everything",
    "rounding": "half_even",
    "kind": "add-on",
    "interval": "P1W",
    "effective": "2026-07-01",
    "taxes": ["vat"],
    "charges": [
        {**FEE, "timing": "advance", "interval": "P1Y", "quantity": "2.5", "proration": "none",
         "taxes": [], "shares": [{"party": "provider", "percent": "30"}]},
        {**CALLS, "recurring": True, "split_by": "region", "where": {"tier": ["a", None]}},
    ],
    "minimum": {"amount": "50", "charges": ["calls"], "currencies": {"EUR": "45", "JPY": "7000"}},
    "currencies": {
        "JPY": {"calls": UNIT, "fee": FLAT},
        "EUR": {"calls": UNIT, "fee": {"type": "flat", "amount": "9"}},
    },
    "thresholds": ["100", "500"],
    "thresholds_in": {"EUR": ["90"], "JPY": ["10000", "20000"]},
    "phases": [
        {"key": "trial", "length": "P14D", "charges": []},
        {"key": "ramp", "name": "Ramp", "charges": ["fee"], "prices": {"fee": FLAT},
         "currencies": {"JPY": {"fee": FLAT}, "EUR": {"fee": FLAT}},
         "minimum": {"amount": "0", "currencies": {"EUR": "0", "JPY": "0"}}},
    ],
}  # fmt: skip


def test_everything_that_is_written_is_there() -> None:
    made = plan(**FULL)
    assert format_us(made.effective_us or 0) == "2026-07-01T00:00:00Z"
    assert made.taxes == ("vat",)
    charge, calls = made.charges
    assert (charge.taxes, calls.taxes) == ((), None)
    assert charge.quantity == Decimal("2.5")
    assert charge.shares[0].percent == Decimal(30)
    assert calls.recurring
    assert calls.split_by == ("region",)
    assert made.minimum is not None
    assert made.minimum.name == "Minimum commitment"
    assert list(made.currencies) == ["EUR", "JPY"], "in order, however it is written"
    assert list(made.currencies["JPY"]) == ["fee", "calls"]
    assert [phase.name for phase in made.phases] == ["trial", "Ramp"]
    assert made.phase("ramp") is made.phases[1]
    assert made.phase("later") is None
    assert made.charge("fee") is charge
    assert made.charge("later") is None
    assert made.meters() == {"calls"}
    assert made.sold_in() == ("USD", "EUR", "JPY")
    assert made.interval_of(charge) == "P1Y"
    assert made.interval_of(calls) == "P1W"


def test_what_is_written_again_is_the_plan_again() -> None:
    for made in (plan(), plan(**FULL)):
        spec = plan_spec(made)
        assert check_plan(spec) == made
        on_wire = msgspec.json.decode(msgspec.json.encode(spec), type=PlanSpec)
        assert check_plan(on_wire) == made
        assert msgspec.json.decode(msgspec.json.encode(made), type=Plan) == made


def test_the_intervals_of_a_plan_begin_with_its_own() -> None:
    assert plan().intervals() == ("P1M",)
    yearly = fee(interval="P1Y")
    assert plan(charges=yearly).intervals() == ("P1Y",)
    assert plan(charges=[*yearly, CALLS]).intervals() == ("P1M", "P1Y")
    committed = plan(charges=yearly, minimum={"amount": 5})
    assert committed.intervals() == ("P1M", "P1Y"), "a commitment is of the plan's periods"


def test_prices_may_be_named() -> None:
    assert plan(charges=usage(price="named")) == plan(charges=usage())
    refused("no price named 'other'", "price", charges=usage(price="other"))
    named = plan(currencies={"EUR": {"calls": "named", "fee": FLAT}})
    assert named.currencies["EUR"]["calls"] == named.charges[1].price


@pytest.mark.parametrize("interval", ["P1D", "P1W", "P1M", "P3M", "P1Y", "P1M15D", "P100Y"])
def test_periods_are_of_the_calendar(interval: str) -> None:
    assert plan(interval=interval).interval == interval


@pytest.mark.parametrize(
    ("interval", "message"),
    [
        ("", "must be a duration"),
        ("month", "must be a duration"),
        ("P0D", "longer than nothing"),
        ("PT24H", "counts days"),
        ("P101Y", "100 years at most"),
        ("P1201M", "100 years at most"),
        ("P36526D", "100 years at most"),
        ("P1DT1H", "counts days"),
        ("PT1M", "an hour or longer"),
        ("P0001Y0001M0001W00001DT00001H000001M", "at most 32 characters"),
    ],
)
def test_an_interval_that_is_none_is_refused(interval: str, message: str) -> None:
    refused(message, "interval", interval=interval)
    if interval:
        refused(f"plan p, charge fee: .*{message}", "interval", charges=fee(interval=interval))


@pytest.mark.parametrize(
    ("charges", "message", "field"),
    [
        ([], "1 to 200 charges", "charges"),
        ([FEE] * (CHARGES_MAX + 1), "1 to 200 charges", "charges"),
        ([FEE, FEE], "two charges with the same key", "charges"),
        (fee(key="a b"), "use letters", "charges.key"),
        (fee(name="x" * 1025), "longer than", "name"),
        (fee(meter="calls"), "leave out meter", "meter"),
        ([{"key": "calls", "price": UNIT}], "needs meter", "meter"),
        ([{"key": "calls", "price": SHARE, "quantity": 1}], "it needs meter", "meter"),
        (usage(once=True), "of a fixed fee", "once"),
        (fee(split_by="region"), "need a meter", "split_by"),
        (fee(where={"region": ["eu"]}), "need a meter", "split_by"),
        (fee(recurring=True), "name a meter", "recurring"),
        (fee(releases={"a": ["b"]}), "name a meter", "recurring"),
        (usage(releases={"a": ["b"]}), "say recurring", "releases"),
        (fee(quantity=-1), "0 or more", "quantity"),
        (usage(timing="advance"), "in arrears", "timing"),
        (usage(quantity=2), "of a fixed fee", "quantity"),
        (usage(where={"region": []}), "at least one", "where"),
        (usage(split_by=["a", "a"]), "up to 4", "split_by"),
        (usage(split_by=list("abcde")), "up to 4", "split_by"),
        (usage(taxes=["a", "a"]), "up to 10 different", "taxes"),
        (usage(taxes=["a b"]), "use letters", "taxes"),
        (usage(taxes=[f"t{n}" for n in range(11)]), "up to 10", "taxes"),
        (usage(shares=[{"party": "a", "percent": 0}]), "above 0", "shares.percent"),
        (usage(shares=[{"party": "a b", "percent": 1}]), "use letters", "shares.party"),
        (usage(shares=[{"party": "a", "percent": 1}] * 2), "different parties", "shares"),
        (usage(shares=[{"party": f"p{n}", "percent": 1} for n in range(21)]), "up to 20", "shares"),
        (usage(shares=[{"party": "a", "percent": 60}, {"party": "b", "percent": "40.1"}]),
         "more than 100 percent", "shares"),
    ],
)  # fmt: skip
def test_a_charge_that_contradicts_itself_is_refused(
    charges: list[dict[str, Any]], message: str, field: str
) -> None:
    refused(message, field, charges=charges)


def test_all_shares_may_be_the_whole() -> None:
    shares = [{"party": "a", "percent": 60}, {"party": "b", "percent": 40}]
    assert len(plan(charges=fee(shares=shares)).charges[0].shares) == 2


@pytest.mark.parametrize(
    ("fields", "message", "field"),
    [
        ({"key": "a b"}, "use letters", "key"),
        ({"currency": "XXY"}, "not an ISO 4217", "currency"),
        ({"name": "x" * 1025}, "longer than", "name"),
        ({"effective": "soon"}, "neither a date", "effective"),
        ({"thresholds": [5, 5]}, "above the one before", "thresholds"),
        ({"thresholds": [0]}, "above 0", "thresholds"),
        ({"thresholds": list(range(1, 22))}, "up to 20", "thresholds"),
        ({"thresholds_step": 5}, "goes on from the last", "thresholds_step"),
        ({"thresholds": [5], "thresholds_step": 0}, "above 0", "thresholds_step"),
        ({"thresholds_in": {"EUR": [1]}}, "other currencies: none", "thresholds_in"),
        ({"minimum": {"amount": -1}}, "0 or more", "minimum.amount"),
        ({"minimum": {"amount": 1, "charges": ["x"]}}, "names 'x'", "minimum.charges"),
        ({"minimum": {"amount": 1, "charges": ["fee", "fee"]}}, "twice", "minimum.charges"),
        ({"minimum": {"amount": 1, "currencies": {"EUR": 1}}}, "none", "minimum.currencies"),
        ({"currencies": {"EUR": {"fee": FLAT}}}, "price of charge calls", "currencies.EUR"),
        ({"currencies": {"EUR": {"fee": SHARE, "calls": UNIT}}}, "needs meter",
         "currencies.EUR.fee"),
        ({"currencies": {"EUR": {"x": FLAT}}}, "names 'x'", "currencies.EUR"),
        ({"currencies": {"USD": {"fee": FLAT, "calls": UNIT}}}, "other currencies", "currencies"),
        ({"currencies": {"EUX": {"fee": FLAT, "calls": UNIT}}}, "not an ISO 4217", "currency"),
        ({"charges": fee(), "currencies": MANY}, "at most 50", "currencies"),
    ],
)  # fmt: skip
def test_a_plan_that_contradicts_itself_is_refused(
    fields: dict[str, Any], message: str, field: str
) -> None:
    refused(message, field, **fields)


EUR = {"EUR": {"fee": FLAT, "calls": UNIT}}


@pytest.mark.parametrize(
    ("phases", "message", "field"),
    [
        ([{"key": "a b"}], "use letters", "phases.key"),
        ([{"key": "a", "length": "P1M"}, {"key": "a"}], "same key", "phases"),
        ([{"key": "a"}, {"key": "b"}], "only the last phase", "phases.length"),
        ([{"key": "a", "length": "long"}], "phase a: length must be a duration", "phases.length"),
        ([{"key": "a", "name": "x" * 1025}], "longer than", "phases.name"),
        ([{"key": "a", "charges": ["x"]}], "names 'x'", "phases.charges"),
        ([{"key": "a", "charges": ["fee", "fee"]}], "twice", "phases.charges"),
        ([{"key": "a", "charges": ["fee"], "prices": {"calls": UNIT}}], "names 'calls'",
         "phases.prices"),
        ([{"key": "a", "prices": {"fee": SHARE}}], "needs meter", "phases.prices.fee"),
        ([{"key": "a", "prices": {"fee": FLAT}}], "other currencies: EUR", "phases.currencies"),
        ([{"key": "a", "currencies": {"EUR": {"fee": FLAT}}}], "none", "phases.currencies"),
        ([{"key": "a", "prices": {"fee": FLAT}, "currencies": {"EUR": {}}}], "needs prices of fee",
         "phases.currencies.EUR"),
        ([{"key": "a", "minimum": {"amount": 1}}], "EUR", "phases.minimum.currencies"),
        ([{"key": f"p{n}", "length": "P1D"} for n in range(PHASES_MAX + 1)], "at most 20",
         "phases"),
    ],
)  # fmt: skip
def test_a_phase_that_contradicts_the_plan_is_refused(
    phases: list[dict[str, Any]], message: str, field: str
) -> None:
    refused(message, field, phases=phases, currencies=EUR)


def test_thresholds_stand_in_every_currency() -> None:
    refused("other currencies: EUR", "thresholds_in", thresholds=[5], currencies=EUR)
    two = plan(thresholds=[5], thresholds_in={"EUR": [4, 8]}, currencies=EUR)
    assert two.thresholds_in == {"EUR": (Decimal(4), Decimal(8))}
    refused("one currency", "thresholds_step", thresholds=[5], thresholds_step=5,
            thresholds_in={"EUR": [4]}, currencies=EUR)  # fmt: skip
    going_on = plan(thresholds=[5], thresholds_step=10)
    assert going_on.thresholds_step == Decimal(10)
    assert check_plan(plan_spec(going_on)) == going_on


amounts = st.decimals(min_value="0.01", max_value="1000000", places=2)


@given(
    st.lists(amounts, max_size=4, unique=True),
    st.sampled_from(["P1D", "P2W", "P1M", "P1Y"]),
    st.one_of(st.none(), amounts),
    st.booleans(),
)
def test_any_plan_is_written_again_as_it_is(
    rising: list[Decimal], interval: str, least: Decimal | None, euro: bool
) -> None:
    fields: dict[str, Any] = {"thresholds": sorted(rising), "interval": interval}
    if least is not None:
        fields["minimum"] = {"amount": least, "currencies": {"EUR": least} if euro else {}}
    if euro:
        fields |= {"currencies": EUR, "thresholds_in": {"EUR": sorted(rising)} if rising else {}}
    made = plan(**fields)
    assert check_plan(plan_spec(made)) == made


def test_a_fee_of_units_says_how_many() -> None:
    (charge,) = plan(charges=fee(price=UNIT, quantity=3)).charges
    assert (charge.price, charge.quantity) == (UnitPrice(unit_amount=Decimal("0.5")), 3)


def test_a_fee_that_is_charged_once_is_due_at_the_start_and_whole() -> None:
    made = plan(charges=fee(once=True, timing="arrears", proration="second"))
    (charge,) = made.charges
    assert check_plan(plan_spec(made)) == made
    assert (charge.once, charge.timing, charge.proration) == (True, "advance", "none")
