"""A plan: versioned charges in one currency. A version, once stored, never changes.

Source: CONTRACTS §5; DECISIONS 20, 21.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Literal

import msgspec

from tallybook.catalog.meter import name_ok
from tallybook.catalog.price import FlatPrice, Price, check_price, parse_price
from tallybook.kernel.decimals import plain_builtins
from tallybook.kernel.errors import Invalid
from tallybook.kernel.limits import ATTRIBUTE_CHARS_MAX
from tallybook.kernel.money import Rounding, exponent

CHARGES_MAX = 200
SPLIT_MAX = 4
Timing = Literal["arrears", "advance"]
Proration = Literal["day", "second", "none"]


class Share(msgspec.Struct, frozen=True):
    """A part of a charge's amount that belongs to somebody else.

    Attributes:
        party: such as 'provider', 'consumer', or a partner's key.
        percent: of the line's net amount; all shares of a charge are at most 100.
    """

    party: str
    percent: Decimal


class Minimum(msgspec.Struct, frozen=True, kw_only=True):
    """A commitment: charges of a period come to this at least; a line of its own trues it up.

    Attributes:
        amount: for a whole period; prorated by day in a partial one.
        charges: keys of the charges that count towards it; () for all.
    """

    amount: Decimal
    name: str = "Minimum commitment"
    charges: tuple[str, ...] = ()


class Phase(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch at the beginning of a subscription with terms of its own: a trial, a ramp.

    Attributes:
        length: an ISO 8601 duration such as P14D or P3M; None for good, of the last one.
        charges: keys of the charges that it charges; None for all.
        prices: charge key -> price in place of the charge's own.
    """

    key: str
    name: str
    length: str | None = None
    charges: tuple[str, ...] | None = None
    prices: dict[str, Price] = {}


class Charge(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a plan charges for.

    Attributes:
        key: unique within the plan; lines name it.
        name: as the line shows it.
        meter: key of the meter whose usage is priced; None for a fixed fee.
        price: a usage price where there is a meter, a flat price where there is none.
        timing: a fixed fee is due at the period's start (advance) or end (arrears); usage always
            in arrears, from zero in each period.
        proration: how a fixed fee shrinks in a partial period: whole days of the customer's
            zone, exact time, or not at all.
        split_by: dimensions of the meter; rated and shown for each of their values.
        where: dimension -> texts that count; None is a missing value.
        interval: how long its periods are, such as P1Y; '' for the plan's.
        recurring: its usage is carried over into the next period instead of starting at zero, and
            prorated by how long it was there.
        quantity: units of a fixed fee, where the subscription names none.
        taxes: keys; None for those of the plan; () for none.
        shares: parts of its amount that belong to others.
    """

    key: str
    name: str
    price: Price
    meter: str | None = None
    timing: Timing = "arrears"
    proration: Proration = "day"
    split_by: tuple[str, ...] = ()
    where: dict[str, tuple[str | None, ...]] = {}
    interval: str = ""
    recurring: bool = False
    quantity: Decimal = Decimal(1)
    taxes: tuple[str, ...] | None = None
    shares: tuple[Share, ...] = ()


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a plan.

    Attributes:
        key: stable name, unique within the tenant.
        version: 1 and up; any change makes a new one, from each subscription's next period on.
        currency: ISO 4217; the same in all versions.
        rounding: how a line is rounded to the minor unit, once.
        kind: an add-on is subscribed to beside a subscription of a plan.
        interval: how long periods are: an ISO 8601 duration such as P1M, P1W, P1Y.
        effective_us: periods that start from then on may use this version; None for at once.
        phases: in order from each subscription's start; () for none.
        taxes: keys; None for those of the customer; () for none.
        minimum: None for none.
        currencies: other currency -> charge key -> price in it.
        thresholds: rising amounts of open usage at which an invoice is made at once.
    """

    key: str
    name: str
    currency: str
    charges: tuple[Charge, ...]
    rounding: Rounding = "half_up"
    version: int = 1
    kind: Literal["plan", "add-on"] = "plan"
    interval: str = "P1M"
    effective_us: int | None = None
    phases: tuple[Phase, ...] = ()
    taxes: tuple[str, ...] | None = None
    minimum: Minimum | None = None
    currencies: dict[str, dict[str, Price]] = {}
    thresholds: tuple[Decimal, ...] = ()

    def charge(self, key: str) -> Charge | None:
        """Return one charge, or None."""
        return next((charge for charge in self.charges if charge.key == key), None)

    def meters(self) -> frozenset[str]:
        """Return the keys of every meter it prices."""
        return frozenset(charge.meter for charge in self.charges if charge.meter is not None)


class ChargeSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A charge as it is written; `price` is a JSON object, or the name of one of `[prices]`."""

    key: str
    price: str | dict[str, object]
    name: str = ""
    meter: str | None = None
    timing: Timing = "arrears"
    proration: Proration = "day"
    split_by: str | list[str] = []
    where: dict[str, list[str | None]] = {}


class PlanSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A plan as it is written in `catalog.toml` and in the API, before it is checked."""

    key: str
    currency: str
    charges: list[ChargeSpec]
    name: str = ""
    rounding: Rounding = "half_up"


def check_plan(
    spec: PlanSpec, prices: Mapping[str, Mapping[str, object]] | None = None, version: int = 1
) -> Plan:
    """Return the plan that a specification means.

    Args:
        spec: as written.
        prices: named prices that charges may refer to.
        version: 1 and up.

    Raises:
        Invalid: names the field, and what to write instead.
    """
    name_ok("key", spec.key)
    exponent(spec.currency)
    if not 1 <= len(spec.charges) <= CHARGES_MAX:
        raise Invalid(f"plan {spec.key} needs 1 to {CHARGES_MAX} charges", field="charges")
    charges = tuple(_charge(f"plan {spec.key}", charge, prices or {}) for charge in spec.charges)
    keys = [charge.key for charge in charges]
    if len(set(keys)) != len(keys):
        raise Invalid(f"plan {spec.key} has two charges with the same key", field="charges")
    return Plan(
        key=spec.key,
        name=_text("name", spec.name) or spec.key,
        currency=spec.currency,
        charges=charges,
        rounding=spec.rounding,
        version=version,
    )


def plan_spec(plan: Plan) -> PlanSpec:
    """Return a plan as it is written; `check_plan` of it is the plan again."""
    return PlanSpec(
        key=plan.key,
        currency=plan.currency,
        charges=[_charge_spec(charge) for charge in plan.charges],
        name=plan.name,
        rounding=plan.rounding,
    )


def _charge_spec(charge: Charge) -> ChargeSpec:
    return ChargeSpec(
        key=charge.key,
        price=plain_builtins(charge.price),
        name=charge.name,
        meter=charge.meter,
        timing=charge.timing,
        proration=charge.proration,
        split_by=list(charge.split_by),
        where={name: list(texts) for name, texts in charge.where.items()},
    )


def _charge(where: str, spec: ChargeSpec, prices: Mapping[str, Mapping[str, object]]) -> Charge:
    at = f"{where}, charge {name_ok('charges.key', spec.key)}"
    try:
        charge = Charge(
            key=spec.key,
            name=_text("name", spec.name) or spec.key,
            price=_price(spec.price, prices),
            meter=spec.meter,
            timing=spec.timing,
            proration=spec.proration,
            split_by=_split(spec.split_by),
            where={name: tuple(texts) for name, texts in sorted(spec.where.items())},
        )
        _fits(charge)
    except Invalid as error:
        raise Invalid(f"{at}: {error.message}", field=error.field) from error
    return charge


def _price(raw: str | dict[str, object], prices: Mapping[str, Mapping[str, object]]) -> Price:
    if not isinstance(raw, str):
        return check_price(parse_price(raw))
    if raw not in prices:
        raise Invalid(f"there is no price named '{raw}' under [prices]", field="price")
    return check_price(parse_price(prices[raw]))


def _split(raw: str | Sequence[str]) -> tuple[str, ...]:
    names = (raw,) if isinstance(raw, str) else tuple(raw)
    if len(set(names)) != len(names) or len(names) > SPLIT_MAX:
        raise Invalid(f"split_by names up to {SPLIT_MAX} different dimensions", field="split_by")
    return names


def _fits(charge: Charge) -> None:
    """Refuse a charge whose parts contradict each other."""
    flat = isinstance(charge.price, FlatPrice)
    if flat and charge.meter is not None:
        raise Invalid("a flat price is a fixed fee: leave out meter", field="meter")
    if not flat and charge.meter is None:
        raise Invalid("a usage price needs meter, the key of a meter", field="meter")
    if charge.meter is not None and charge.timing == "advance":
        raise Invalid(
            "usage is charged in arrears; only a fixed fee may be in advance", field="timing"
        )
    if charge.meter is None and (charge.split_by or charge.where):
        raise Invalid("split_by and where need a meter", field="split_by")
    if any(not texts for texts in charge.where.values()):
        raise Invalid("where needs at least one allowed text for each dimension", field="where")


def _text(field: str, text: str) -> str:
    if len(text) > ATTRIBUTE_CHARS_MAX:
        raise Invalid(f"{field} is longer than {ATTRIBUTE_CHARS_MAX} characters", field=field)
    return text.strip()
