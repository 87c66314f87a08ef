"""What a price asks of a meter, and its amounts in the meter's own unit, as exact fractions."""

from decimal import Decimal
from fractions import Fraction

from tallybook.catalog.price.fields import refused
from tallybook.catalog.price.kinds import (
    DynamicPrice,
    FlatPrice,
    GraduatedPrice,
    MatrixPrice,
    Modified,
    PackagePrice,
    PercentagePrice,
    Price,
    UnitPrice,
    VolumePrice,
)
from tallybook.kernel.decimals import SCALE


def sells_units(price: Price) -> bool:
    """Whether a price may be of units that are agreed on, such as seats: no usage is measured."""
    return isinstance(price, FlatPrice | UnitPrice | GraduatedPrice | VolumePrice | PackagePrice)


def price_dimensions(price: Price) -> tuple[str, ...]:
    """Return the dimensions that usage is grouped by so that the price can be applied."""
    return price.dimensions if isinstance(price, MatrixPrice) else ()


def needs_sum(price: Price) -> str:
    """Return why a price needs a SUM meter; '' where any meter will do."""
    if isinstance(price, DynamicPrice):
        return "a dynamic price multiplies the sum of the amounts that events carry"
    if isinstance(price, PercentagePrice) and price.of_events():
        return "a percentage with a fee, bound or free events takes the amount of each event"
    return ""


def measured_per_unit(price: Modified) -> Fraction:
    """Return how much of the meter's unit is one of the units sold, rounding aside."""
    conversion = price.unit_conversion
    if conversion is None:
        return Fraction(1)
    factor = Fraction(conversion.factor)
    return factor if conversion.operation == "divide" else 1 / factor


def free_amount_measured(price: PercentagePrice) -> Decimal | None:
    """Return the free amount in the meter's own unit.

    Raises:
        Invalid: it has more decimals than a measured value.
    """
    if price.free_amount is None:
        return None
    scaled = Fraction(price.free_amount) * measured_per_unit(price) * 10**SCALE
    if scaled.denominator != 1:
        message = f"has more than {SCALE} digits after the point in the meter's own unit"
        raise refused("price.free_amount", message)
    return Decimal(scaled.numerator).scaleb(-SCALE)
