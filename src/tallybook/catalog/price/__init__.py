"""A price: one JSON value, the same in the API, in `catalog.toml` and in storage.

`parse_price` is the constructing function: past it nothing is checked again.

Source: CONTRACTS §5, docs/algorithms/prices.md
"""

from tallybook.catalog.price.check import check_price
from tallybook.catalog.price.kinds import (
    Cell,
    DynamicPrice,
    FlatPrice,
    GraduatedPercentagePrice,
    GraduatedPrice,
    MatrixPrice,
    Modified,
    PackagePrice,
    PercentagePrice,
    Price,
    PricingUnit,
    RateTier,
    Tier,
    UnitConversion,
    UnitPrice,
    UsagePrice,
    VolumePrice,
)
from tallybook.catalog.price.read import misread, parse_price, price_json
from tallybook.catalog.price.units import (
    free_amount_measured,
    measured_per_unit,
    needs_sum,
    price_dimensions,
    sells_units,
)

__all__ = [
    "Cell",
    "DynamicPrice",
    "FlatPrice",
    "GraduatedPercentagePrice",
    "GraduatedPrice",
    "MatrixPrice",
    "Modified",
    "PackagePrice",
    "PercentagePrice",
    "Price",
    "PricingUnit",
    "RateTier",
    "Tier",
    "UnitConversion",
    "UnitPrice",
    "UsagePrice",
    "VolumePrice",
    "check_price",
    "free_amount_measured",
    "measured_per_unit",
    "misread",
    "needs_sum",
    "parse_price",
    "price_dimensions",
    "price_json",
    "sells_units",
]
