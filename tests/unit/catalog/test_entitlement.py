"""Entitlements, grants and wallets as they are written: what is kept, and what is refused."""

from decimal import Decimal
from typing import Any

import pytest

from tallybook.catalog.entitlement import (
    INCLUDED,
    Boolean,
    EntitlementSpec,
    GrantSpec,
    Interval,
    Metered,
    Recharge,
    Recurrence,
    Rollover,
    Static,
    WalletSpec,
    check_entitlement,
    check_grant,
    check_recharge,
    check_wallet,
    parse_interval,
    parse_step,
    plus,
    void,
)
from tallybook.kernel.errors import Invalid
from tallybook.kernel.period import parse_moment, zone
from tallybook.kernel.timestamps import FIRST_US, HOUR_US, LAST_US, SECOND_US, format_us


def at(text: str, name: str = "UTC") -> int:
    return parse_moment(text, zone(name), "at")


@pytest.mark.parametrize(
    ("text", "interval"),
    [
        ("P1M", Interval(months=1)),
        ("P1Y2M", Interval(months=14)),
        ("P2W", Interval(days=14)),
        ("P1DT12H", Interval(days=1, exact_us=12 * HOUR_US)),
        ("PT1H30M5S", Interval(exact_us=5405 * SECOND_US)),
    ],
)
def test_intervals(text, interval):
    assert parse_interval("every", text) == interval


@pytest.mark.parametrize("text", ["", "P", "PT", "1M", "P-1M", "P1M ", "P0D", "PT0S", "P1.5D"])
def test_what_is_no_interval(text):
    with pytest.raises(Invalid, match="every must be") as refusal:
        parse_interval("every", text)
    assert refusal.value.field == "every"


@pytest.mark.parametrize("text", ["PT1S", "PT59M59S"])
def test_steps_below_an_hour_are_refused(text):
    with pytest.raises(Invalid, match="an hour or longer"):
        parse_step("every", text)


def test_an_hour_and_a_day_are_steps():
    assert parse_step("every", "PT1H") == Interval(exact_us=HOUR_US)
    assert parse_step("every", "P1D") == Interval(days=1)


def test_months_do_not_drift():
    steps = Recurrence(interval=Interval(months=1), anchor_us=at("2025-01-31T15:00:00"))
    said = [format_us(steps.step(number)) for number in (-1, 0, 1, 2, 3)]
    assert said == [
        "2024-12-31T15:00:00Z",
        "2025-01-31T15:00:00Z",
        "2025-02-28T15:00:00Z",
        "2025-03-31T15:00:00Z",
        "2025-04-30T15:00:00Z",
    ]


def test_days_are_of_the_calendar_where_clocks_change():
    berlin = "Europe/Berlin"
    daily = Recurrence(interval=Interval(days=1), anchor_us=at("2026-03-28", berlin), zone=berlin)
    assert daily.step(1) - daily.step(0) == 24 * HOUR_US
    assert daily.step(2) - daily.step(1) == 23 * HOUR_US
    assert daily.around(daily.step(2) - 1).end_us == daily.step(2)


def test_steps_between_two_instants():
    hourly = Recurrence(interval=Interval(exact_us=HOUR_US), anchor_us=0)
    assert hourly.within(0, 3 * HOUR_US) == [HOUR_US, 2 * HOUR_US, 3 * HOUR_US]
    assert hourly.within(5, 5) == []
    assert hourly.within(5, 6) == []


@pytest.mark.parametrize("start", [FIRST_US, LAST_US])
def test_no_step_leaves_the_calendar(start):
    with pytest.raises(Invalid, match="no date"):
        plus(start, Interval(months=12), 1 if start == LAST_US else -1, "UTC")


def grant(**said: Any) -> GrantSpec:
    return GrantSpec(**{"key": "g", "amount": Decimal(100), "effective": "2026-01-31", **said})


def test_a_grant():
    made = check_grant(
        grant(
            expires_after="P1M",
            every="P1W",
            rollover_min=Decimal(1),
            rollover_max=Decimal(5),
            priority=0,
        ),
        "UTC",
    )
    assert made.expires_us == at("2026-02-28")
    assert made.recurrence == Recurrence(interval=Interval(days=7), anchor_us=at("2026-01-31"))
    assert made.rollover == Rollover(Decimal(1), Decimal(5))
    assert made.in_force(made.effective_us)
    assert not made.in_force(at("2026-02-28"))
    assert not made.in_force(made.effective_us - 1)


def test_an_anchor_of_its_own():
    made = check_grant(grant(every="P1W", anchor="2026-01-01"), "UTC")
    assert made.recurrence is not None
    assert made.recurrence.anchor_us == at("2026-01-01")


def test_the_first_voiding_counts():
    made = void(void(check_grant(grant(), "UTC"), at("2026-03-01")), at("2026-04-01"))
    assert made.end_us == at("2026-03-01")
    assert void(made, at("2026-02-01")).end_us == at("2026-02-01")


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("key", {"key": "no good"}),
        ("key", {"key": INCLUDED}),
        ("amount", {"amount": Decimal(0)}),
        ("amount", {"amount": Decimal(-1)}),
        ("amount", {"amount": Decimal("1e-13")}),
        ("effective", {"effective": "soon"}),
        ("expires_after", {"expires_after": "30"}),
        ("every", {"every": "PT1M"}),
        ("anchor", {"anchor": "2026-01-01"}),
        ("priority", {"priority": -1}),
        ("priority", {"priority": 256}),
        ("rollover_min", {"rollover_min": Decimal(2), "rollover_max": Decimal(1)}),
        ("rollover_max", {"rollover_max": Decimal("NaN")}),
    ],
)
def test_grants_that_are_refused(field, said):
    with pytest.raises(Invalid) as refusal:
        check_grant(grant(**said), "UTC")
    assert refusal.value.field == field


def entitlement(**said: Any) -> EntitlementSpec:
    given = {"customer": "c", "feature": "f", "type": "metered", "start": "2026-01-01"}
    return EntitlementSpec(**{**given, **said})


METERED: dict[str, Any] = {"meter": "m", "period": "P1M"}


def test_a_metered_entitlement():
    spec = entitlement(
        **METERED,
        anchor="2026-01-15",
        measure_from="2026-01-10",
        filter={"model": ["b", "a", "a"]},
        included=Decimal(5),
        included_priority=6,
        end="2027-01-01",
    )
    made = check_entitlement(spec, "Europe/Berlin")
    assert isinstance(made.access, Metered)
    assert made.access.measure_from_us == at("2026-01-10", "Europe/Berlin")
    assert made.access.period.anchor_us == at("2026-01-15", "Europe/Berlin")
    assert made.access.counts({"model": "a", "region": "eu"})
    assert not made.access.counts({"model": "c"})
    assert not made.access.counts({})
    included = made.access.included_grant()
    assert included is not None
    assert (included.key, included.amount, included.priority) == (INCLUDED, Decimal(5), 6)
    assert made.in_force(made.start_us)
    assert not made.in_force(at("2027-01-01", "Europe/Berlin"))


def test_the_plain_ones():
    assert check_entitlement(entitlement(type="boolean"), "UTC").access == Boolean()
    static = check_entitlement(entitlement(type="static", config='{"seats": 5}'), "UTC")
    assert static.access == Static('{"seats": 5}')
    plain = check_entitlement(entitlement(**METERED), "UTC").access
    assert isinstance(plain, Metered)
    assert plain.included_grant() is None


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("customer", {"customer": ""}),
        ("feature", {"feature": "a b"}),
        ("type", {"type": "gold"}),
        ("end", {"end": "2026-01-01", **METERED}),
        ("meter", {"period": "P1M"}),
        ("period", {"meter": "m"}),
        ("filter", {**METERED, "filter": {"a": []}}),
        ("filter", {**METERED, "filter": {f"d{n}": ["x"] for n in range(17)}}),
        ("factor", {**METERED, "factor": Decimal(0)}),
        ("included", {**METERED, "included": Decimal(0)}),
        ("included_priority", {**METERED, "included_priority": 999}),
        ("config", {**METERED, "config": "{}"}),
        ("config", {"type": "static"}),
        ("config", {"type": "static", "config": "{"}),
        ("config", {"type": "static", "config": '"' + "x" * 16_384 + '"'}),
        ("config", {"type": "boolean", "config": "{}"}),
        ("meter", {"type": "boolean", "meter": "m"}),
        ("soft", {"type": "static", "config": "{}", "soft": True}),
    ],
)
def test_entitlements_that_are_refused(field, said):
    with pytest.raises(Invalid) as refusal:
        check_entitlement(entitlement(**said), "UTC")
    assert refusal.value.field == field


def wallet(**said: Any) -> WalletSpec:
    return WalletSpec(**{"key": "w", "customer": "c", "currency": "EUR", **said})


def test_a_wallet():
    made = check_wallet(
        wallet(
            unit="CRD",
            rate=Decimal("0.50"),
            only=["usage", "fee", "fee"],
            overdraft="repay",
            recharge=Recharge(at=Decimal(10), add=Decimal(50)),
            thresholds=[Decimal(20), Decimal(5), Decimal(20)],
        )
    )
    assert (made.rate, made.only, made.overdraft) == (Decimal("0.5"), ("fee", "usage"), "repay")
    assert made.thresholds == (Decimal(5), Decimal(20))
    assert made.recharge == Recharge(at=Decimal(10), add=Decimal(50))
    assert check_wallet(wallet()).recharge is None


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("key", {"key": ""}),
        ("customer", {"customer": ""}),
        ("currency", {"currency": "CRD"}),
        ("priority", {"priority": -1}),
        ("overdraft", {"overdraft": "maybe"}),
        ("only", {"only": ["usage", "fees"]}),
        ("rate", {"rate": Decimal(2)}),
        ("rate", {"unit": "CRD", "rate": Decimal(0)}),
        ("unit", {"unit": "my credits"}),
        ("thresholds", {"thresholds": [Decimal(-1)]}),
    ],
)
def test_wallets_that_are_refused(field, said):
    with pytest.raises(Invalid) as refusal:
        check_wallet(wallet(**said))
    assert refusal.value.field == field


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("recharge", {}),
        ("recharge", {"add": 1, "to": 20}),
        ("recharge.add", {"add": 0}),
        ("recharge.to", {"to": 10}),
        ("recharge.least", {"add": 5, "least": 9, "most": 8}),
    ],
)
def test_recharges_that_are_refused(field, said):
    rule = Recharge(at=Decimal(10), **{name: Decimal(n) for name, n in said.items()})
    with pytest.raises(Invalid) as refusal:
        check_recharge(rule)
    assert refusal.value.field == field
    assert check_recharge(Recharge(at=Decimal(10), to=Decimal(20), most=Decimal(9)))
