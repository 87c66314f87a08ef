"""What holds for every price and quantity."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from tallybook.catalog.price import (
    GraduatedPrice,
    PackagePrice,
    Tier,
    UnitPrice,
    VolumePrice,
    check_price,
)
from tallybook.kernel.decimals import EXACT
from tallybook.rate.charge import rate
from tallybook.rate.tiers import packages

AMOUNTS = st.decimals(min_value=0, max_value=10**6, places=6)
QUANTITIES = st.decimals(min_value=0, max_value=10**19, places=12)


@st.composite
def tiers(draw: st.DrawFn) -> tuple[Tier, ...]:
    bounds = sorted(draw(st.sets(st.integers(1, 10**6), max_size=5)))
    parts = st.tuples(st.none() | AMOUNTS, AMOUNTS) | st.tuples(AMOUNTS, st.none() | AMOUNTS)
    made = []
    for bound in [*bounds, None]:
        unit, flat = draw(parts)
        up_to = None if bound is None else Decimal(bound)
        made.append(Tier(up_to=up_to, unit_amount=unit, flat_amount=flat))
    return tuple(made)


@given(tiers(), QUANTITIES, QUANTITIES)
def test_a_graduated_price_never_falls(steps: tuple[Tier, ...], one: Decimal, two: Decimal) -> None:
    price = check_price(GraduatedPrice(steps))
    low, high = sorted((one, two))
    assert rate(price, low).amount <= rate(price, high).amount


@given(AMOUNTS, QUANTITIES)
def test_one_open_tier_is_a_unit_price(amount: Decimal, quantity: Decimal) -> None:
    one = (Tier(unit_amount=amount),)
    expected = rate(UnitPrice(amount), quantity).amount
    assert rate(GraduatedPrice(one), quantity).amount == expected
    assert rate(VolumePrice(one), quantity).amount == expected


@given(tiers(), QUANTITIES)
def test_tiers_share_out_the_whole_quantity(steps: tuple[Tier, ...], quantity: Decimal) -> None:
    counting = tuple(Tier(up_to=t.up_to, unit_amount=Decimal(1)) for t in steps)
    assert rate(GraduatedPrice(counting), quantity).amount == quantity


@given(st.decimals(min_value="0.000001", max_value=10**6, places=6), QUANTITIES)
def test_packages_hold_the_quantity_and_no_more(size: Decimal, quantity: Decimal) -> None:
    count = packages(quantity, size)
    assert EXACT.multiply(count, size) >= quantity
    assert count == 0 or EXACT.multiply(count - 1, size) < quantity
    assert rate(PackagePrice(size, Decimal(3)), quantity).amount == EXACT.multiply(
        count, Decimal(3)
    )
