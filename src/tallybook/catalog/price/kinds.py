"""The nine types of price and what may stand around them, as they are written.

::

    {"type":"flat","amount":"100"}
    {"type":"unit","unit_amount":"0.0004"}
    {"type":"graduated","tiers":[{"up_to":"10","unit_amount":"10","flat_amount":"2"},{"unit_amount":"5"}]}
    {"type":"volume","tiers":[{"up_to":"10","flat_amount":"50"},{"up_to":null,"unit_amount":"5"}]}
    {"type":"package","package_size":"10","amount":"100"}
    {"type":"percentage","rate":"1.3","fixed_amount":"2","free_events":3,"free_amount":"250",
     "event_min":"1.75","event_max":"12"}
    {"type":"graduated_percentage","tiers":[{"up_to":"10","rate":"1","flat_amount":"200"},{"rate":"2"}]}
    {"type":"matrix","dimensions":["region"],"cells":[{"match":{"region":"eu"},"unit_amount":"0.02"}],
     "default_unit_amount":"0.03"}
    {"type":"dynamic","multiplier":"1.1"}

Source: CONTRACTS §5, docs/algorithms/prices.md
"""

from decimal import Decimal
from typing import Literal

import msgspec


class UnitConversion(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """The meter's units become the units that are sold.

    Attributes:
        operation: whether the quantity is multiplied or divided.
        factor: by what, above zero.
        rounding: of the converted quantity of the period; half_up is half away from zero.
        precision: digits after the point that rounding keeps.
    """

    operation: Literal["multiply", "divide"]
    factor: Decimal
    rounding: Literal["none", "ceiling", "floor", "half_up"] = "none"
    precision: int = 0


class PricingUnit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Credits: what all amounts of a price are in, and what one costs in the plan's currency."""

    name: str
    conversion_rate: Decimal


class Modified(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """What every usage price takes besides its own fields; None changes nothing.

    Attributes:
        unit_conversion: first, of the quantity.
        free_units: of the converted quantity.
        discount_percent: off what the price gives.
        maximum_amount: of the discounted amount.
        minimum_amount: of a whole period that is over.
        pricing_unit: last; what all amounts are in, where it is not the currency.
    """

    unit_conversion: UnitConversion | None = None
    free_units: Decimal | None = None
    discount_percent: Decimal | None = None
    maximum_amount: Decimal | None = None
    minimum_amount: Decimal | None = None
    pricing_unit: PricingUnit | None = None


class Tier(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """One step of a tiered price.

    Attributes:
        up_to: the last quantity of the tier, inclusive; None is open.
        unit_amount: for each unit in the tier, where given.
        flat_amount: once the tier is reached, where given; the first tier is reached at zero.
    """

    up_to: Decimal | None = None
    unit_amount: Decimal | None = None
    flat_amount: Decimal | None = None


class RateTier(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """One step of a graduated percentage.

    Attributes:
        up_to: the last amount of the tier, inclusive; None is open.
        rate: percent of what lies in the tier, where given.
        flat_amount: once the tier is reached, where given; the first tier is reached at zero.
    """

    up_to: Decimal | None = None
    rate: Decimal | None = None
    flat_amount: Decimal | None = None


class Cell(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a unit costs where dimensions have these values.

    Attributes:
        match: dimension -> the value it must have; None is a missing value.
    """

    match: dict[str, str | None]
    unit_amount: Decimal


class FlatPrice(
    msgspec.Struct, frozen=True, tag_field="type", tag="flat", forbid_unknown_fields=True
):
    """The same amount each period, whatever is used."""

    amount: Decimal


class UnitPrice(Modified, frozen=True, tag_field="type", tag="unit"):
    """Each unit costs the same."""

    unit_amount: Decimal


class GraduatedPrice(Modified, frozen=True, tag_field="type", tag="graduated"):
    """Each unit costs what its tier says."""

    tiers: tuple[Tier, ...]


class VolumePrice(Modified, frozen=True, tag_field="type", tag="volume"):
    """All units cost what the tier reached says."""

    tiers: tuple[Tier, ...]


class PackagePrice(Modified, frozen=True, tag_field="type", tag="package"):
    """Packages of units; a started package is a whole package."""

    package_size: Decimal
    amount: Decimal


class PercentagePrice(Modified, frozen=True, tag_field="type", tag="percentage"):
    """A share of the amount that events carry, of the total or of each event.

    Attributes:
        rate: percent.
        fixed_amount: for each event that is not free.
        free_events: how many events of a period may be free.
        free_amount: how much of a period's total is free.
        event_min: the least that an event which is not free costs.
        event_max: the most that an event costs.
    """

    rate: Decimal
    fixed_amount: Decimal | None = None
    free_events: int | None = None
    free_amount: Decimal | None = None
    event_min: Decimal | None = None
    event_max: Decimal | None = None

    def of_events(self) -> bool:
        """Whether the single events decide, and not their total alone."""
        parts = (self.fixed_amount, self.free_events, self.event_min, self.event_max)
        return any(part is not None for part in parts)


class GraduatedPercentagePrice(Modified, frozen=True, tag_field="type", tag="graduated_percentage"):
    """Each part of the total costs the rate of its tier."""

    tiers: tuple[RateTier, ...]


class MatrixPrice(Modified, frozen=True, tag_field="type", tag="matrix"):
    """A unit costs what the most specific cell that matches its dimension values says.

    Attributes:
        dimensions: of the meter.
        cells: in the order in which free units are used up.
        default_unit_amount: where no cell matches; None refuses such usage.
    """

    dimensions: tuple[str, ...]
    cells: tuple[Cell, ...]
    default_unit_amount: Decimal | None = None


class DynamicPrice(Modified, frozen=True, tag_field="type", tag="dynamic"):
    """The event carries the amount; the meter sums it."""

    multiplier: Decimal


UsagePrice = (
    UnitPrice
    | GraduatedPrice
    | VolumePrice
    | PackagePrice
    | PercentagePrice
    | GraduatedPercentagePrice
    | MatrixPrice
    | DynamicPrice
)
"""The prices of usage."""

Price = FlatPrice | UsagePrice
"""The sealed union of prices; consumers close a `match` over it with `assert_never`."""
