"""The constructing function of a plan: past it nothing is checked again."""

from collections.abc import Mapping, Sequence
from decimal import Decimal

from tallybook.catalog.meter import name_ok
from tallybook.catalog.plan.parts import (
    NamedPrices,
    currencies_ok,
    every_currency,
    fits,
    interval_ok,
    keys_ok,
    length_ok,
    minimum_ok,
    price_ok,
    prices_ok,
    rising_ok,
    shares_ok,
    taxes_ok,
    text_ok,
)
from tallybook.catalog.plan.spec import ChargeSpec, PhaseSpec, PlanSpec, PriceSpec
from tallybook.catalog.plan.terms import Charge, Phase, Plan
from tallybook.catalog.price import FlatPrice, Price
from tallybook.catalog.price.fields import amount, positive, refused
from tallybook.kernel.errors import Invalid
from tallybook.kernel.money import exponent
from tallybook.kernel.period import parse_moment, zone

CHARGES_MAX = 200
PHASES_MAX = 20
SPLIT_MAX = 4


def check_plan(spec: PlanSpec, prices: NamedPrices | None = None, version: int = 1) -> Plan:
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
    named = prices or {}
    charges = _charges(spec, named)
    currencies_ok(spec.currencies, spec.currency)
    thresholds = rising_ok("thresholds", spec.thresholds)
    every_currency("thresholds_in", spec.thresholds_in, spec.currencies if thresholds else ())
    return Plan(
        key=spec.key,
        name=text_ok("name", spec.name) or spec.key,
        currency=spec.currency,
        charges=charges,
        rounding=spec.rounding,
        version=version,
        kind=spec.kind,
        interval=interval_ok("interval", spec.interval),
        effective_us=_effective(spec.effective),
        phases=_phases(spec, charges, named),
        taxes=taxes_ok(spec.taxes),
        minimum=minimum_ok(spec.minimum, charges, spec.currencies),
        currencies=_currencies(spec, charges, named),
        thresholds=thresholds,
        thresholds_step=_step(spec),
        thresholds_in={
            code: rising_ok(f"thresholds_in.{code}", spec.thresholds_in[code])
            for code in sorted(spec.thresholds_in)
        },
    )


def _step(spec: PlanSpec) -> Decimal | None:
    step = spec.thresholds_step
    if step is None:
        return None
    if not spec.thresholds or spec.thresholds_in:
        message = "thresholds_step goes on from the last of thresholds, of a plan in one currency"
        raise Invalid(message, field="thresholds_step")
    return positive("thresholds_step", step)


def _effective(text: str | None) -> int | None:
    return None if text is None else parse_moment(text, zone("UTC"), "effective")


def _charges(spec: PlanSpec, named: NamedPrices) -> tuple[Charge, ...]:
    if not 1 <= len(spec.charges) <= CHARGES_MAX:
        raise Invalid(f"plan {spec.key} needs 1 to {CHARGES_MAX} charges", field="charges")
    charges = tuple(_charge(f"plan {spec.key}", charge, named) for charge in spec.charges)
    if len({charge.key for charge in charges}) != len(charges):
        raise Invalid(f"plan {spec.key} has two charges with the same key", field="charges")
    return charges


def _charge(where: str, spec: ChargeSpec, named: NamedPrices) -> Charge:
    at = f"{where}, charge {name_ok('charges.key', spec.key)}"
    try:
        charge = Charge(
            key=spec.key,
            name=text_ok("name", spec.name) or spec.key,
            price=price_ok(spec.price, named),
            meter=spec.meter,
            timing="advance" if spec.once else spec.timing,
            proration="none" if spec.once else spec.proration,
            split_by=_split(spec.split_by),
            where={name: tuple(texts) for name, texts in sorted(spec.where.items())},
            interval=spec.interval and interval_ok("interval", spec.interval),
            recurring=spec.recurring,
            releases={name: tuple(texts) for name, texts in sorted(spec.releases.items())},
            quantity=Decimal(1) if spec.quantity is None else amount("quantity", spec.quantity),
            once=spec.once,
            taxes=taxes_ok(spec.taxes),
            shares=shares_ok(spec.shares),
        )
        fits(charge.price, charge.meter)
        if charge.meter is not None:
            _usage(charge)
        else:
            _fee(charge, said=spec.quantity is not None)
    except Invalid as error:
        raise Invalid(f"{at}: {error.message}", field=error.field) from error
    return charge


def _split(raw: str | Sequence[str]) -> tuple[str, ...]:
    names = (raw,) if isinstance(raw, str) else tuple(raw)
    if len(set(names)) != len(names) or len(names) > SPLIT_MAX:
        raise Invalid(f"split_by names up to {SPLIT_MAX} different dimensions", field="split_by")
    return names


def _fee(charge: Charge, *, said: bool) -> None:
    """Refuse what only usage can have, and a price of units without their number."""
    if not said and not isinstance(charge.price, FlatPrice):
        message = "a usage price needs meter, the key of a meter; a price of units needs quantity"
        raise Invalid(message, field="meter")
    if charge.split_by or charge.where:
        raise Invalid("split_by and where need a meter", field="split_by")
    if charge.recurring or charge.releases:
        raise Invalid("recurring is about usage: name a meter", field="recurring")


def _usage(charge: Charge) -> None:
    """Refuse what only a fixed fee can have."""
    if charge.once:
        raise Invalid("once is of a fixed fee; usage is charged in each period", field="once")
    if charge.timing == "advance":
        raise Invalid(
            "usage is charged in arrears; only a fixed fee may be in advance", field="timing"
        )
    if charge.quantity != Decimal(1):
        raise Invalid("quantity is of a fixed fee; usage is measured", field="quantity")
    if any(not texts for texts in charge.where.values()):
        raise Invalid("where needs at least one allowed text for each dimension", field="where")
    if charge.releases and not charge.recurring:
        raise Invalid("releases is about what is carried over: say recurring", field="releases")


def _currencies(
    spec: PlanSpec, charges: Sequence[Charge], named: NamedPrices
) -> dict[str, dict[str, Price]]:
    found: dict[str, dict[str, Price]] = {}
    for code in sorted(spec.currencies):
        field = f"currencies.{code}"
        found[code] = prices_ok(field, spec.currencies[code], charges, named)
        for charge in charges:
            if charge.key not in found[code]:
                raise refused(field, f"needs a price of charge {charge.key} too")
    return found


def _phases(spec: PlanSpec, charges: Sequence[Charge], named: NamedPrices) -> tuple[Phase, ...]:
    if len(spec.phases) > PHASES_MAX:
        raise Invalid(f"a plan has at most {PHASES_MAX} phases", field="phases")
    phases = tuple(_phase(spec, phase, charges, named) for phase in spec.phases)
    if len({phase.key for phase in phases}) != len(phases):
        raise Invalid(f"plan {spec.key} has two phases with the same key", field="phases")
    if any(phase.length is None for phase in phases[:-1]):
        raise refused("phases.length", "is missing: only the last phase may be for good")
    return phases


def _phase(
    spec: PlanSpec, phase: PhaseSpec, charges: Sequence[Charge], named: NamedPrices
) -> Phase:
    at = f"plan {spec.key}, phase {name_ok('phases.key', phase.key)}"
    keys = (
        None if phase.charges is None else keys_ok("phases.charges", phase.charges, _keys(charges))
    )
    there = [charge for charge in charges if keys is None or charge.key in keys]
    try:
        prices = prices_ok("prices", phase.prices, there, named)
        every_currency("currencies", phase.currencies, spec.currencies if prices else ())
        return Phase(
            key=phase.key,
            name=text_ok("name", phase.name) or phase.key,
            length=None if phase.length is None else length_ok("length", phase.length),
            charges=keys,
            prices=prices,
            currencies={
                code: _all_of(f"currencies.{code}", prices, phase.currencies[code], there, named)
                for code in sorted(phase.currencies)
            },
            minimum=minimum_ok(phase.minimum, charges, spec.currencies),
        )
    except Invalid as error:
        raise Invalid(f"{at}: {error.message}", field=f"phases.{error.field}") from error


def _keys(charges: Sequence[Charge]) -> list[str]:
    return [charge.key for charge in charges]


def _all_of(
    field: str,
    prices: Mapping[str, Price],
    raw: Mapping[str, PriceSpec],
    charges: Sequence[Charge],
    named: NamedPrices,
) -> dict[str, Price]:
    """Return a phase's prices in another currency, where every one of them has to stand."""
    found = prices_ok(field, raw, charges, named)
    if found.keys() != prices.keys():
        raise refused(field, f"needs prices of {', '.join(prices)}")
    return found
