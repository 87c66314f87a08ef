"""A coupon: an amount or a percentage off, once, for some invoices, or forever.

Source: docs/algorithms/coupons.md
"""

from decimal import Decimal
from typing import Literal

import msgspec

from tallybook.catalog.meter import name_ok
from tallybook.catalog.price.fields import amount, percent, positive
from tallybook.kernel.errors import Invalid
from tallybook.kernel.limits import ATTRIBUTE_CHARS_MAX
from tallybook.kernel.money import exponent
from tallybook.kernel.period import parse_moment, zone
from tallybook.kernel.timestamps import format_us

Duration = Literal["once", "recurring", "forever"]
"""once: until its amount is used up, or for one invoice; recurring: for `invoices` invoices."""
INVOICES_MAX = 1200


class Coupon(msgspec.Struct, frozen=True, kw_only=True):
    """A coupon as it is offered; a redemption puts it to a customer's use.

    Attributes:
        key: stable code, unique within the tenant.
        name: as documents show it.
        amount: off each invoice, in `currency`; None where `percent` is given. One of duration
            once is a sum that is used up, over several invoices where one is smaller.
        percent: off, 0 to 100; None where `amount` is given.
        currency: ISO 4217 of `amount`; '' for a percentage.
        duration: see `Duration`.
        invoices: how many invoices it counts for, where it is recurring; None else.
        plans: keys whose lines it counts for; () for all.
        meters: keys of meters whose lines it counts for; () for all.
        charges: keys of charges whose lines it counts for; () for all.
        redeem_until_us: it cannot be redeemed from then on; None for good.
    """

    key: str
    name: str
    amount: Decimal | None = None
    percent: Decimal | None = None
    currency: str = ""
    duration: Duration = "once"
    invoices: int | None = None
    plans: tuple[str, ...] = ()
    meters: tuple[str, ...] = ()
    charges: tuple[str, ...] = ()
    redeem_until_us: int | None = None


class CouponSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A coupon as it is written; a date without an offset is in UTC."""

    key: str
    name: str = ""
    amount: Decimal | None = None
    percent: Decimal | None = None
    currency: str = ""
    duration: Duration = "once"
    invoices: int | None = None
    plans: list[str] = []
    meters: list[str] = []
    charges: list[str] = []
    redeem_until: str | None = None


def check_coupon(spec: CouponSpec) -> Coupon:
    """Return the coupon that a specification means.

    Raises:
        Invalid: names the field, and what to write instead.
    """
    name_ok("key", spec.key)
    _check_value(spec)
    if len(spec.name) > ATTRIBUTE_CHARS_MAX:
        raise Invalid(f"name has at most {ATTRIBUTE_CHARS_MAX} characters", field="name")
    recurring = spec.duration == "recurring"
    if recurring != (spec.invoices is not None):
        raise Invalid("invoices belongs to a recurring coupon, which needs it", field="invoices")
    if spec.invoices is not None and not 1 <= spec.invoices <= INVOICES_MAX:
        raise Invalid(f"invoices must be 1 to {INVOICES_MAX}", field="invoices")
    until = spec.redeem_until
    return Coupon(
        key=spec.key,
        name=spec.name.strip() or spec.key,
        amount=None if spec.amount is None else positive("amount", amount("amount", spec.amount)),
        percent=percent("percent", spec.percent),
        currency=spec.currency,
        duration=spec.duration,
        invoices=spec.invoices,
        plans=tuple(sorted(set(spec.plans))),
        meters=tuple(sorted(set(spec.meters))),
        charges=tuple(sorted(set(spec.charges))),
        redeem_until_us=None if until is None else parse_moment(until, zone("UTC"), "redeem_until"),
    )


def _check_value(spec: CouponSpec) -> None:
    if (spec.amount is None) == (spec.percent is None):
        raise Invalid("a coupon has either amount or percent", field="amount")
    if spec.amount is not None:
        exponent(spec.currency)
    elif spec.currency:
        raise Invalid("a percentage needs no currency", field="currency")
    if spec.percent is not None and percent("percent", spec.percent) is None:
        raise Invalid("percent must be above 0 and at most 100", field="percent")


def coupon_spec(coupon: Coupon) -> CouponSpec:
    """Return a coupon as it is written; `check_coupon` of it is the coupon again."""
    until = coupon.redeem_until_us
    return CouponSpec(
        key=coupon.key,
        name=coupon.name,
        amount=coupon.amount,
        percent=coupon.percent,
        currency=coupon.currency,
        duration=coupon.duration,
        invoices=coupon.invoices,
        plans=list(coupon.plans),
        meters=list(coupon.meters),
        charges=list(coupon.charges),
        redeem_until=None if until is None else format_us(until),
    )
