"""A tax: a rate with a name, added to prices or contained in them.

Which taxes a line has: those of its charge, else of its plan, else of its customer, else of the
seller; the first that names any, or says there are none, counts.

Source: docs/algorithms/taxes.md
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Literal

import msgspec

from tallybook.catalog.meter import name_ok
from tallybook.kernel.errors import Invalid
from tallybook.kernel.limits import ATTRIBUTE_CHARS_MAX

Category = Literal["S", "Z", "E", "AE", "K", "G", "O", "L", "M"]
"""UNTDID 5305: standard, zero, exempt, reverse charge, intra-community, export, out of scope."""

RATE_MAX = Decimal(100)
RATE_DIGITS_MAX = 6
KEYS_MAX = 10


class Tax(msgspec.Struct, frozen=True, kw_only=True):
    """A tax.

    Attributes:
        key: stable code, unique within the tenant.
        name: as documents show it, such as 'VAT 19 %'.
        rate: percent, 0 to 100.
        inclusive: prices contain it; else it is added.
        category: of e-invoices.
        reason: why nothing is charged, where the category needs one.
    """

    key: str
    name: str
    rate: Decimal
    inclusive: bool = False
    category: Category = "S"
    reason: str = ""


class TaxSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tax as it is written."""

    key: str
    rate: Decimal
    name: str = ""
    inclusive: bool = False
    category: Category = "S"
    reason: str = ""


def check_tax(spec: TaxSpec) -> Tax:
    """Return the tax that a specification means.

    Raises:
        Invalid: names the field, and what to write instead.
    """
    name_ok("key", spec.key)
    exponent = spec.rate.as_tuple().exponent
    if not isinstance(exponent, int) or -exponent > RATE_DIGITS_MAX:
        message = f"rate is a percentage with at most {RATE_DIGITS_MAX} decimals, such as 19"
        raise Invalid(message, field="rate")
    if not 0 <= spec.rate <= RATE_MAX:
        raise Invalid("rate must be 0 to 100 percent", field="rate")
    if spec.rate and spec.category not in {"S", "L", "M"}:
        raise Invalid(f"a tax of category {spec.category} has rate 0", field="category")
    if len(spec.name) > ATTRIBUTE_CHARS_MAX or len(spec.reason) > ATTRIBUTE_CHARS_MAX:
        message = f"name and reason have at most {ATTRIBUTE_CHARS_MAX} characters"
        raise Invalid(message, field="name")
    return Tax(
        key=spec.key,
        name=spec.name.strip() or spec.key,
        rate=spec.rate,
        inclusive=spec.inclusive,
        category=spec.category,
        reason=spec.reason.strip(),
    )


def tax_spec(tax: Tax) -> TaxSpec:
    """Return a tax as it is written; `check_tax` of it is the tax again."""
    return TaxSpec(**msgspec.structs.asdict(tax))


def check_tax_keys(keys: Sequence[str]) -> tuple[str, ...]:
    """Return different keys of taxes in the order they are written; raises Invalid."""
    if len(keys) > KEYS_MAX or len(set(keys)) != len(keys):
        raise Invalid(f"taxes names up to {KEYS_MAX} different taxes", field="taxes")
    return tuple(name_ok("taxes", key) for key in keys)
