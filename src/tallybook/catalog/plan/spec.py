"""A plan as it is written in `catalog.toml` and in the API, before it is checked.

A price is a JSON object, or the name of one of `[prices]`.
"""

from collections.abc import Mapping
from decimal import Decimal

import msgspec

from tallybook.catalog.plan.terms import (
    Charge,
    Minimum,
    Phase,
    Plan,
    PlanKind,
    Proration,
    Share,
    Timing,
)
from tallybook.catalog.price import Price
from tallybook.kernel.decimals import plain_builtins
from tallybook.kernel.money import Rounding
from tallybook.kernel.timestamps import format_us

PriceSpec = str | dict[str, object]
Prices = dict[str, PriceSpec]


class ChargeSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A charge as it is written; `split_by` may be one name.

    Where there is no meter and the price is not flat, `quantity` has to be said: a meter that was
    forgotten is no fee.
    """

    key: str
    price: PriceSpec
    name: str = ""
    meter: str | None = None
    timing: Timing = "arrears"
    proration: Proration = "day"
    split_by: str | list[str] = []
    where: dict[str, list[str | None]] = {}
    interval: str = ""
    recurring: bool = False
    releases: dict[str, list[str | None]] = {}
    quantity: Decimal | None = None
    once: bool = False
    taxes: list[str] | None = None
    shares: list[Share] = []


class MinimumSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A commitment as it is written."""

    amount: Decimal
    name: str = ""
    charges: list[str] = []
    currencies: dict[str, Decimal] = {}


class PhaseSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A phase as it is written."""

    key: str
    name: str = ""
    length: str | None = None
    charges: list[str] | None = None
    prices: Prices = {}
    currencies: dict[str, Prices] = {}
    minimum: MinimumSpec | None = None


class PlanSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A plan as it is written; `effective` without an offset is in UTC."""

    key: str
    currency: str
    charges: list[ChargeSpec]
    name: str = ""
    rounding: Rounding = "half_up"
    kind: PlanKind = "plan"
    interval: str = "P1M"
    effective: str | None = None
    phases: list[PhaseSpec] = []
    taxes: list[str] | None = None
    minimum: MinimumSpec | None = None
    currencies: dict[str, Prices] = {}
    thresholds: list[Decimal] = []
    thresholds_step: Decimal | None = None
    thresholds_in: dict[str, list[Decimal]] = {}


def plan_spec(plan: Plan) -> PlanSpec:
    """Return a plan as it is written; `check_plan` of it is the plan again."""
    return PlanSpec(
        key=plan.key,
        currency=plan.currency,
        charges=[_charge_spec(charge) for charge in plan.charges],
        name=plan.name,
        rounding=plan.rounding,
        kind=plan.kind,
        interval=plan.interval,
        effective=None if plan.effective_us is None else format_us(plan.effective_us),
        phases=[_phase_spec(phase) for phase in plan.phases],
        taxes=_listed(plan.taxes),
        minimum=_minimum_spec(plan.minimum),
        currencies={code: _written(prices) for code, prices in plan.currencies.items()},
        thresholds=list(plan.thresholds),
        thresholds_step=plan.thresholds_step,
        thresholds_in={code: list(rising) for code, rising in plan.thresholds_in.items()},
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
        interval=charge.interval,
        recurring=charge.recurring,
        releases={name: list(texts) for name, texts in charge.releases.items()},
        quantity=charge.quantity,
        once=charge.once,
        taxes=_listed(charge.taxes),
        shares=list(charge.shares),
    )


def _phase_spec(phase: Phase) -> PhaseSpec:
    return PhaseSpec(
        key=phase.key,
        name=phase.name,
        length=phase.length,
        charges=_listed(phase.charges),
        prices=_written(phase.prices),
        currencies={code: _written(prices) for code, prices in phase.currencies.items()},
        minimum=_minimum_spec(phase.minimum),
    )


def _minimum_spec(minimum: Minimum | None) -> MinimumSpec | None:
    if minimum is None:
        return None
    return MinimumSpec(
        amount=minimum.amount,
        name=minimum.name,
        charges=list(minimum.charges),
        currencies=dict(minimum.currencies),
    )


def _written(prices: Mapping[str, Price]) -> Prices:
    return {charge: plain_builtins(price) for charge, price in prices.items()}


def _listed(keys: tuple[str, ...] | None) -> list[str] | None:
    return None if keys is None else list(keys)
