"""Prices, charges and coupons in words that a person reads without a manual."""

from collections.abc import Sequence
from decimal import Decimal
from typing import assert_never

import msgspec

from tallybook.catalog.catalog import Catalog
from tallybook.catalog.coupon import Coupon
from tallybook.catalog.plan import Charge, Plan
from tallybook.catalog.price import (
    DynamicPrice,
    FlatPrice,
    GraduatedPercentagePrice,
    GraduatedPrice,
    MatrixPrice,
    PackagePrice,
    PercentagePrice,
    Price,
    UnitPrice,
    VolumePrice,
)
from tallybook.catalog.price.kinds import Modified, RateTier, Tier
from tallybook.serve.console.render import every, number, unit


class ChargeWords(msgspec.Struct, frozen=True, kw_only=True):
    """A charge in words.

    Attributes:
        price: one line for each part of the price.
        notes: when it is due, what counts, how it is split.
    """

    key: str
    name: str
    meter: str | None
    price: tuple[str, ...]
    notes: tuple[str, ...]


def charge_words(catalog: Catalog, plan: Plan, charge: Charge, currency: str) -> ChargeWords:
    """Return a charge in words, its price in a currency."""
    counted = "unit"
    if charge.meter is not None and charge.meter in catalog.meters:
        counted = unit(catalog.meter(charge.meter).unit) or "unit"
    return ChargeWords(
        key=charge.key,
        name=charge.name,
        meter=charge.meter,
        price=(*price_words(charge.price, currency, counted), *_units(charge)),
        notes=tuple(_notes(plan, charge)),
    )


def _units(charge: Charge) -> tuple[str, ...]:
    if charge.meter is not None or charge.quantity == 1:
        return ()
    return (f"× {number(charge.quantity)}",)


def _notes(plan: Plan, charge: Charge) -> list[str]:
    interval = every(plan.interval_of(charge))
    if charge.once:
        found = ["once, when the subscription starts"]
    elif charge.meter is None:
        found = [f"each {interval}, in {charge.timing}"]
        prorated = {"day": "prorated by day", "second": "prorated by second", "none": ""}
        found.append(prorated[charge.proration] or "never prorated")
    else:
        found = [f"usage of each {interval}, in arrears"]
    if charge.split_by:
        found.append(f"for each {' and '.join(charge.split_by)}")
    for name, texts in charge.where.items():
        found.append(f"only {name} {', '.join(text or '(missing)' for text in texts)}")
    if charge.recurring:
        found.append("carried over into the next period")
    found += [f"{number(share.percent)} % belongs to {share.party}" for share in charge.shares]
    if charge.taxes is not None:
        found.append(f"taxes: {', '.join(charge.taxes) or 'none'}")
    return found


def price_words(price: Price, currency: str, counted: str = "unit") -> tuple[str, ...]:
    """Return a price in words: first what it costs, then what stands around it.

    Args:
        price: any of the nine types.
        currency: ISO 4217, of its amounts.
        counted: name of one unit of usage.
    """
    if isinstance(price, FlatPrice):
        return (f"{number(price.amount)} {currency}",)
    credit = price.pricing_unit
    code = currency if credit is None else credit.name
    return (*_core(price, code, counted), *_around(price, code, currency, counted))


def _core(price: Price, code: str, counted: str) -> tuple[str, ...]:
    match price:
        case FlatPrice(amount=amount):
            return (f"{number(amount)} {code}",)
        case UnitPrice(unit_amount=amount):
            return (f"{number(amount)} {code} per {_unit(counted)}",)
        case GraduatedPrice(tiers=tiers):
            return ("each unit at its tier's price:", *_tiers(tiers, code))
        case VolumePrice(tiers=tiers):
            return ("all units at the price of the tier reached:", *_tiers(tiers, code))
        case PackagePrice(package_size=size, amount=amount):
            return (f"{number(amount)} {code} for each started {number(size)} {counted}",)
        case PercentagePrice():
            return (f"{number(price.rate)} % of the amount", *_percentage(price, code))
        case GraduatedPercentagePrice(tiers=rates):
            return ("a share of the amount, by tier:", *_rates(rates, code))
        case MatrixPrice():
            return (
                f"per {_unit(counted)}, by {', '.join(price.dimensions)}:",
                *_cells(price, code),
            )
        case DynamicPrice(multiplier=multiplier):
            return (f"the amount that events carry × {number(multiplier)}",)
        case _:
            assert_never(price)


def _unit(counted: str) -> str:
    return "unit" if counted == "unit" else f"unit ({counted})"


def _spans(tops: Sequence[Decimal | None]) -> list[str]:
    found, below = [], Decimal(0)
    for top in tops:
        if top is None:
            found.append(f"above {number(below)}" if below else "any number")
        else:
            found.append(
                f"up to {number(top)}" if not below else f"{number(below)} – {number(top)}"
            )
            below = top
    return found


def _tiers(tiers: Sequence[Tier], code: str) -> list[str]:
    found = []
    for span, tier in zip(_spans([tier.up_to for tier in tiers]), tiers, strict=True):
        parts = []
        if tier.unit_amount:
            parts.append(f"{number(tier.unit_amount)} {code} each")
        if tier.flat_amount:
            parts.append(f"{number(tier.flat_amount)} {code} once")
        found.append(f"{span}: {' + '.join(parts) or 'free'}")
    return found


def _rates(tiers: Sequence[RateTier], code: str) -> list[str]:
    found = []
    for span, tier in zip(_spans([tier.up_to for tier in tiers]), tiers, strict=True):
        parts = [] if tier.rate is None else [f"{number(tier.rate)} %"]
        if tier.flat_amount is not None:
            parts.append(f"{number(tier.flat_amount)} {code} once")
        found.append(f"{span} {code}: {' + '.join(parts) or 'free'}")
    return found


def _percentage(price: PercentagePrice, code: str) -> list[str]:
    said = (
        (price.fixed_amount, "plus {} {} for each event"),
        (price.event_min, "at least {} {} an event"),
        (price.event_max, "at most {} {} an event"),
        (price.free_amount, "the first {} {} of a period are free"),
    )
    found = [text.format(number(amount), code) for amount, text in said if amount is not None]
    if price.free_events is not None:
        found.append(f"the first {number(price.free_events)} events of a period are free")
    return found


def _cells(price: MatrixPrice, code: str) -> list[str]:
    found = []
    for cell in price.cells:
        where = ", ".join(f"{name} {text or '(missing)'}" for name, text in cell.match.items())
        found.append(f"{where}: {number(cell.unit_amount)} {code}")
    if price.default_unit_amount is None:
        return [*found, "anything else cannot be billed"]
    return [*found, f"anything else: {number(price.default_unit_amount)} {code}"]


def _around(price: Modified, code: str, currency: str, counted: str) -> list[str]:
    """Return what stands around a usage price, in the order in which it is applied."""
    found = []
    conversion = price.unit_conversion
    if conversion is not None:
        sign = "×" if conversion.operation == "multiply" else "÷"
        rounding = "" if conversion.rounding == "none" else f", rounded {conversion.rounding}"
        found.append(f"quantity {sign} {number(conversion.factor)}{rounding}")
    said = (
        (price.free_units, f"the first {{}} {counted} are free"),
        (price.discount_percent, "{} % off"),
        (price.maximum_amount, f"at most {{}} {code} a period"),
        (price.minimum_amount, f"at least {{}} {code} a period"),
    )
    found += [text.format(number(amount)) for amount, text in said if amount is not None]
    if price.pricing_unit is not None:
        rate = number(price.pricing_unit.conversion_rate)
        found.append(f"1 {code} = {rate} {currency}")
    return found


def coupon_words(coupon: Coupon) -> str:
    """Return what a coupon takes off, for how long, and from what."""
    if coupon.percent is not None:
        what = f"{number(coupon.percent)} % off"
    else:
        what = f"{number(coupon.amount)} {coupon.currency} off"
    lasts = {
        "once": "one invoice" if coupon.amount is None else "until it is used up",
        "recurring": f"each of {coupon.invoices} invoices",
        "forever": "every invoice",
    }[coupon.duration]
    limits = [
        f"{name} {', '.join(keys)}"
        for name, keys in (
            ("plans", coupon.plans),
            ("meters", coupon.meters),
            ("charges", coupon.charges),
        )
        if keys
    ]
    only = f", only on {'; '.join(limits)}" if limits else ""
    return f"{what}, {lasts}{only}"
