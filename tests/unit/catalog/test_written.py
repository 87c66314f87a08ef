"""Entitlements and wallets are written as they were checked."""

from decimal import Decimal

import pytest

from tallybook.catalog.entitlement import (
    EntitlementSpec,
    Recharge,
    WalletSpec,
    check_entitlement,
    check_wallet,
    entitlement_spec,
    interval_text,
    parse_interval,
    wallet_spec,
)


@pytest.mark.parametrize(
    "text", ["P1M", "P14M", "P30D", "PT1H", "PT90M", "P1DT12H", "PT1H1M1S", "PT3S"]
)
def test_an_interval_is_written_as_it_is_read(text: str) -> None:
    interval = parse_interval("i", text)
    assert parse_interval("i", interval_text(interval)) == interval


METERED = EntitlementSpec(
    customer="c",
    feature="f",
    type="metered",
    start="2026-01-01",
    end="2027-01-01",
    meter="m",
    period="P1M",
    anchor="2026-01-05",
    measure_from="2026-01-02",
    soft=True,
    keep_overage=True,
    filter={"model": ["a", "b"]},
    factor=Decimal(3),
    included=Decimal(10),
    included_priority=7,
)


@pytest.mark.parametrize(
    "spec",
    [
        METERED,
        EntitlementSpec(customer="c", feature="f", type="boolean", start="2026-01-01"),
        EntitlementSpec(customer="c", feature="f", type="static", start="2026-01-01", config="1"),
    ],
)
def test_an_entitlement_is_written_as_it_is_checked(spec: EntitlementSpec) -> None:
    made = check_entitlement(spec, "Europe/Berlin")
    assert check_entitlement(entitlement_spec(made), "Europe/Berlin") == made


def test_a_wallet_is_written_as_it_is_checked() -> None:
    rule = Recharge(at=Decimal(1), to=Decimal(5))
    spec = WalletSpec(
        key="w",
        customer="c",
        currency="USD",
        unit="CRD",
        rate=Decimal("0.5"),
        priority=3,
        only=["usage"],
        overdraft="repay",
        recharge=rule,
        thresholds=[Decimal(9), Decimal(4)],
    )
    made = check_wallet(spec)
    assert check_wallet(wallet_spec(made)) == made
