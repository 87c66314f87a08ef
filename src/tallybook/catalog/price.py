"""A price: one JSON value, the same in the API, in `catalog.toml` and in storage.

::

    {"type":"flat","amount":"100"}
    {"type":"unit","unit_amount":"0.0004"}
    {"type":"graduated","tiers":[{"up_to":"10","unit_amount":"10","flat_amount":"2"},{"unit_amount":"5"}]}
    {"type":"volume","tiers":[{"up_to":"10","flat_amount":"50"},{"up_to":null,"unit_amount":"5"}]}
    {"type":"package","package_size":"10","amount":"100"}

Bounds are inclusive; an absent or null bound is open. `parse_price` is the constructing function:
past it nothing is checked again.

Source: CONTRACTS §5, docs/algorithms/prices.md
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import assert_never

import msgspec

from tallybook.kernel.decimals import plain
from tallybook.kernel.errors import Invalid

TIERS_MAX = 100
AMOUNT_MAX = Decimal("1e20")
"""An amount, bound or size must be smaller than this."""
DECIMALS_MAX = 18
"""Digits after the point of an amount, bound or size."""


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


class FlatPrice(
    msgspec.Struct, frozen=True, tag_field="type", tag="flat", forbid_unknown_fields=True
):
    """The same amount each period, whatever is used."""

    amount: Decimal


class UnitPrice(
    msgspec.Struct, frozen=True, tag_field="type", tag="unit", forbid_unknown_fields=True
):
    """Each unit costs the same."""

    unit_amount: Decimal


class GraduatedPrice(
    msgspec.Struct, frozen=True, tag_field="type", tag="graduated", forbid_unknown_fields=True
):
    """Each unit costs what its tier says."""

    tiers: tuple[Tier, ...]


class VolumePrice(
    msgspec.Struct, frozen=True, tag_field="type", tag="volume", forbid_unknown_fields=True
):
    """All units cost what the tier reached says."""

    tiers: tuple[Tier, ...]


class PackagePrice(
    msgspec.Struct, frozen=True, tag_field="type", tag="package", forbid_unknown_fields=True
):
    """Packages of units; a started package is a whole package."""

    package_size: Decimal
    amount: Decimal


Price = FlatPrice | UnitPrice | GraduatedPrice | VolumePrice | PackagePrice
"""The sealed union of prices; consumers close a `match` over it with `assert_never`."""


def parse_price(raw: Mapping[str, object] | str | bytes) -> Price:
    """Return the price that a JSON text or an already parsed JSON object means.

    Raises:
        Invalid: names the field, such as `price.tiers[1].up_to`, and what to write instead.
    """
    try:
        if isinstance(raw, str | bytes):
            price = msgspec.json.decode(raw, type=Price)
        else:
            price = msgspec.convert(dict(raw), Price, strict=True)
    except msgspec.ValidationError as error:
        raise Invalid(f"price: {error}", field="price") from error
    except msgspec.DecodeError as error:
        raise Invalid(f"price is not a JSON object: {error}", field="price") from error
    return check_price(price)


def check_price(price: Price) -> Price:
    """Return the price with every number checked and in its shortest spelling; raises Invalid."""
    match price:
        case FlatPrice():
            return FlatPrice(_amount("price.amount", price.amount))
        case UnitPrice():
            return UnitPrice(_amount("price.unit_amount", price.unit_amount))
        case GraduatedPrice():
            return GraduatedPrice(_tiers(price.tiers))
        case VolumePrice():
            return VolumePrice(_tiers(price.tiers))
        case PackagePrice():
            size = _amount("price.package_size", price.package_size)
            if not size:
                raise Invalid("price.package_size must be above 0", field="price.package_size")
            return PackagePrice(size, _amount("price.amount", price.amount))
        case _:
            assert_never(price)


def price_json(price: Price) -> str:
    """Return the price as JSON with sorted keys, the same text for equal prices."""
    return msgspec.json.encode(price, order="sorted").decode()


def _amount(field: str, value: Decimal) -> Decimal:
    """Return a non-negative, bounded number in its shortest spelling."""
    if not value.is_finite() or value < 0 or value >= AMOUNT_MAX:
        raise Invalid(f"{field} must be 0 or more and below {AMOUNT_MAX:f}", field=field)
    shortest = Decimal(plain(value))
    exponent = shortest.as_tuple().exponent
    if isinstance(exponent, int) and -exponent > DECIMALS_MAX:
        raise Invalid(f"{field} has more than {DECIMALS_MAX} digits after the point", field=field)
    return shortest


def _tiers(tiers: tuple[Tier, ...]) -> tuple[Tier, ...]:
    if not 1 <= len(tiers) <= TIERS_MAX:
        raise Invalid(f"price.tiers needs 1 to {TIERS_MAX} tiers", field="price.tiers")
    checked = tuple(_tier(f"price.tiers[{i}]", tier) for i, tier in enumerate(tiers))
    for i, tier in enumerate(checked):
        _bound_follows(f"price.tiers[{i}].up_to", checked[i - 1] if i else None, tier)
    if checked[-1].up_to is not None:
        field = f"price.tiers[{len(checked) - 1}].up_to"
        raise Invalid(f"{field} must be absent or null: the last tier is open", field=field)
    return checked


def _tier(field: str, tier: Tier) -> Tier:
    if tier.unit_amount is None and tier.flat_amount is None:
        raise Invalid(f"{field} needs unit_amount, flat_amount or both", field=field)
    return Tier(
        up_to=None if tier.up_to is None else _amount(f"{field}.up_to", tier.up_to),
        unit_amount=_optional(f"{field}.unit_amount", tier.unit_amount),
        flat_amount=_optional(f"{field}.flat_amount", tier.flat_amount),
    )


def _optional(field: str, value: Decimal | None) -> Decimal | None:
    return None if value is None else _amount(field, value)


def _bound_follows(field: str, before: Tier | None, tier: Tier) -> None:
    """Refuse a bound that does not lie above the bound before it."""
    if before is not None and before.up_to is None:
        raise Invalid(f"{field}: only the last tier may be open", field=field)
    floor = Decimal(0) if before is None or before.up_to is None else before.up_to
    if tier.up_to is not None and tier.up_to <= floor:
        raise Invalid(f"{field} must be above {plain(floor)}", field=field)
