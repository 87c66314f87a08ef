"""Parts of a plan as they are written, checked one by one.

Every refusal is an `Invalid` that names the field, and what to write instead.
"""

from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from itertools import pairwise

from tallybook.catalog.entitlement.recurrence import parse_interval, parse_step
from tallybook.catalog.meter import name_ok
from tallybook.catalog.plan.spec import MinimumSpec, PriceSpec
from tallybook.catalog.plan.terms import Charge, Minimum, Share
from tallybook.catalog.price import FlatPrice, Price, check_price, parse_price, sells_units
from tallybook.catalog.price.fields import PERCENT_MAX, amount, positive, refused
from tallybook.catalog.tax import check_tax_keys
from tallybook.kernel.errors import Invalid
from tallybook.kernel.limits import ATTRIBUTE_CHARS_MAX
from tallybook.kernel.money import exponent

SHARES_MAX = 20
THRESHOLDS_MAX = 20
CURRENCIES_MAX = 50
INTERVAL_CHARS_MAX = 32
MONTHS_MAX, DAYS_MAX = 1_200, 36_525
"""100 years: every step of an interval from a date that is allowed has a date."""

NamedPrices = Mapping[str, Mapping[str, object]]


def text_ok(field: str, text: str) -> str:
    """Return a text without blanks around it."""
    if len(text) > ATTRIBUTE_CHARS_MAX:
        raise Invalid(f"{field} is longer than {ATTRIBUTE_CHARS_MAX} characters", field=field)
    return text.strip()


def interval_ok(field: str, text: str) -> str:
    """Return how long periods are: whole days, weeks, months or years."""
    length_ok(field, text)
    if parse_step(field, text).exact_us:
        raise refused(field, "counts days, weeks, months or years, such as P1M")
    return text


def length_ok(field: str, text: str) -> str:
    """Return a duration of the calendar such as P14D."""
    if len(text) > INTERVAL_CHARS_MAX:
        raise refused(field, f"has at most {INTERVAL_CHARS_MAX} characters")
    interval = parse_interval(field, text)
    if interval.months > MONTHS_MAX or interval.days > DAYS_MAX:
        raise refused(field, "is 100 years at most")
    return text


def keys_ok(field: str, keys: Sequence[str], known: Collection[str]) -> tuple[str, ...]:
    """Return different keys, each of which is known."""
    for key in keys:
        if key not in known:
            raise refused(field, f"names '{key}', which is none of the plan's charges")
    if len(set(keys)) != len(keys):
        raise refused(field, "names a charge twice")
    return tuple(keys)


def taxes_ok(keys: Sequence[str] | None) -> tuple[str, ...] | None:
    """Return different keys of taxes in the order they are written, or None."""
    return None if keys is None else check_tax_keys(keys)


def shares_ok(shares: Sequence[Share]) -> tuple[Share, ...]:
    """Return parts of different parties that are at most the whole."""
    checked = tuple(
        Share(name_ok("shares.party", s.party), positive("shares.percent", s.percent))
        for s in shares
    )
    parties = {share.party for share in checked}
    if len(checked) > SHARES_MAX or len(parties) != len(checked):
        raise refused("shares", f"names up to {SHARES_MAX} different parties")
    if sum((share.percent for share in checked), Decimal(0)) > PERCENT_MAX:
        raise refused("shares", "are more than 100 percent together")
    return checked


def rising_ok(field: str, amounts: Sequence[Decimal]) -> tuple[Decimal, ...]:
    """Return amounts, each above the one before."""
    checked = tuple(positive(field, one) for one in amounts)
    if len(checked) > THRESHOLDS_MAX or any(a >= b for a, b in pairwise(checked)):
        raise refused(field, f"are up to {THRESHOLDS_MAX} amounts, each above the one before")
    return checked


def currencies_ok(codes: Collection[str], own: str) -> None:
    """Refuse currencies that cannot stand beside a plan's own."""
    for code in codes:
        exponent(code)
    if own in codes:
        raise refused("currencies", f"holds other currencies; prices in {own} are the charges'")
    if len(codes) > CURRENCIES_MAX:
        raise refused("currencies", f"names at most {CURRENCIES_MAX}")


def every_currency(field: str, given: Collection[str], needed: Collection[str]) -> None:
    """Refuse an amount that is not given in exactly the plan's other currencies."""
    if set(given) != set(needed):
        names = ", ".join(sorted(needed)) or "none"
        raise refused(field, f"needs the plan's other currencies: {names}")


def price_ok(raw: PriceSpec, named: NamedPrices) -> Price:
    """Return the price that a JSON object or a name means."""
    if not isinstance(raw, str):
        return check_price(parse_price(raw))
    if raw not in named:
        raise Invalid(f"there is no price named '{raw}' under [prices]", field="price")
    return check_price(parse_price(named[raw]))


def prices_ok(
    field: str, raw: Mapping[str, PriceSpec], charges: Sequence[Charge], named: NamedPrices
) -> dict[str, Price]:
    """Return other prices of charges, each of a type that the charge can have."""
    keys_ok(field, list(raw), [charge.key for charge in charges])
    found: dict[str, Price] = {}
    for charge in charges:
        if charge.key in raw:
            try:
                price = price_ok(raw[charge.key], named)
                fits(price, charge.meter)
            except Invalid as error:
                message = f"{field}.{charge.key}: {error.message}"
                raise Invalid(message, field=f"{field}.{charge.key}") from error
            found[charge.key] = price
    return found


def fits(price: Price, meter: str | None) -> None:
    """Refuse a fee with a meter, and without one a price that only usage has."""
    if isinstance(price, FlatPrice) and meter is not None:
        raise Invalid("a flat price is a fixed fee: leave out meter", field="meter")
    if meter is None and not sells_units(price):
        raise Invalid("this price is of usage: it needs meter, the key of a meter", field="meter")


def minimum_ok(
    spec: MinimumSpec | None, charges: Sequence[Charge], currencies: Collection[str]
) -> Minimum | None:
    """Return a commitment over some of the charges."""
    if spec is None:
        return None
    every_currency("minimum.currencies", spec.currencies, currencies)
    return Minimum(
        amount=amount("minimum.amount", spec.amount),
        name=text_ok("minimum.name", spec.name) or Minimum(amount=Decimal(0)).name,
        charges=keys_ok("minimum.charges", spec.charges, [charge.key for charge in charges]),
        currencies={
            code: amount(f"minimum.currencies.{code}", spec.currencies[code])
            for code in sorted(spec.currencies)
        },
    )
