"""A subscription as it is written, and the constructing function: past it nothing is checked."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from itertools import pairwise

import msgspec

from tallybook.catalog.meter import name_ok
from tallybook.catalog.price import Price, parse_price
from tallybook.catalog.price.fields import amount, refused
from tallybook.catalog.subscription.calendar import calendar_ok
from tallybook.catalog.subscription.subscription import Subscription
from tallybook.kernel.decimals import plain_builtins
from tallybook.kernel.errors import Invalid
from tallybook.kernel.period import parse_moment, zone
from tallybook.kernel.timestamps import format_us

AT_START = "start"
TERMS_MAX = 200
THRESHOLDS_MAX = 20


class SubscriptionSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A subscription as it is written; dates without an offset are in the customer's zone.

    Attributes:
        anchor: an instant on which periods of every interval start, or 'start' for that of the
            subscription; None to align by `anchor_day`.
        base: key of the subscription that an add-on belongs to.
        quantities: charge key -> units of a fixed fee.
        prices: charge key -> a price in place of the plan's, a JSON object.
        minimum: commitment for a whole period, in place of the plan's.
        thresholds: rising amounts of open usage at which an invoice is made at once.
    """

    key: str
    customer: str
    plan: str
    start: str
    end: str | None = None
    anchor_day: int = 1
    plan_version: int | None = None
    anchor: str | None = None
    base: str = ""
    quantities: dict[str, Decimal] = {}
    prices: dict[str, dict[str, object]] = {}
    minimum: Decimal | None = None
    thresholds: list[Decimal] | None = None


def check_subscription(spec: SubscriptionSpec, zone_name: str) -> Subscription:
    """Return the subscription that a specification means.

    Args:
        spec: as written.
        zone_name: the customer's zone, for dates without an offset.

    Raises:
        Invalid: names the field, and what to write instead.
    """
    name_ok("key", spec.key)
    if not 1 <= spec.anchor_day <= 31:
        raise Invalid("anchor_day must be 1 to 31", field="anchor_day")
    tz = zone(zone_name)
    start = calendar_ok("start", parse_moment(spec.start, tz, "start"))
    end = None if spec.end is None else parse_moment(spec.end, tz, "end")
    if end is not None and end <= start:
        raise Invalid("end must be after start", field="end")
    anchor = start if spec.anchor == AT_START else None
    if spec.anchor not in {None, AT_START}:
        anchor = calendar_ok("anchor", parse_moment(spec.anchor or "", tz, "anchor"))
    return Subscription(
        key=spec.key,
        customer=spec.customer,
        plan=spec.plan,
        start_us=start,
        end_us=end,
        anchor_day=spec.anchor_day,
        plan_version=spec.plan_version,
        anchor_us=anchor,
        base=spec.base and name_ok("base", spec.base),
        quantities=_quantities(spec.quantities),
        prices=_prices(spec.prices),
        minimum=None if spec.minimum is None else amount("minimum", spec.minimum),
        thresholds=None if spec.thresholds is None else _thresholds(spec.thresholds),
    )


def subscription_spec(subscription: Subscription) -> SubscriptionSpec:
    """Return a subscription as it is written; what was decided since is not part of it."""
    end, anchor = subscription.end_us, subscription.anchor_us
    limits = subscription.thresholds
    return SubscriptionSpec(
        key=subscription.key,
        customer=subscription.customer,
        plan=subscription.plan,
        start=format_us(subscription.start_us),
        end=None if end is None else format_us(end),
        anchor_day=subscription.anchor_day,
        plan_version=subscription.plan_version,
        anchor=None if anchor is None else format_us(anchor),
        base=subscription.base,
        quantities=subscription.quantities,
        prices={key: plain_builtins(price) for key, price in subscription.prices.items()},
        minimum=subscription.minimum,
        thresholds=None if limits is None else list(limits),
    )


def price_ok(field: str, raw: Mapping[str, object]) -> Price:
    """Return the price that a JSON object means; raises Invalid that names the field."""
    try:
        return parse_price(raw)
    except Invalid as error:
        raise Invalid(f"{field}: {error.message}", field=field) from error


def _quantities(raw: Mapping[str, Decimal]) -> dict[str, Decimal]:
    if len(raw) > TERMS_MAX:
        raise refused("quantities", f"names at most {TERMS_MAX} charges")
    return {
        name_ok("quantities", key): amount(f"quantities.{key}", raw[key]) for key in sorted(raw)
    }


def _prices(raw: Mapping[str, Mapping[str, object]]) -> dict[str, Price]:
    if len(raw) > TERMS_MAX:
        raise refused("prices", f"names at most {TERMS_MAX} charges")
    return {name_ok("prices", key): price_ok(f"prices.{key}", raw[key]) for key in sorted(raw)}


def _thresholds(raw: Sequence[Decimal]) -> tuple[Decimal, ...]:
    checked = tuple(amount("thresholds", one) for one in raw)
    if len(checked) > THRESHOLDS_MAX or any(a >= b for a, b in pairwise((Decimal(0), *checked))):
        raise refused("thresholds", f"are up to {THRESHOLDS_MAX} rising amounts above 0")
    return checked
