"""The taxes of an invoice: one computation a tax, rounded once, split over its lines.

Source: docs/algorithms/taxes.md
"""

from collections.abc import Sequence
from math import lcm

import msgspec

from tallybook.catalog.tax import RATE_DIGITS_MAX, Tax
from tallybook.invoice.document.invoice import TaxTotal
from tallybook.invoice.line import LineTax
from tallybook.kernel.decimals import plain
from tallybook.kernel.errors import Missing
from tallybook.kernel.money import money_text, rounded_parts

_RATE_ONE = 10**RATE_DIGITS_MAX
_HUNDRED = 100 * _RATE_ONE
"""100 percent, in the unit in which rates are integers."""


class Taxed(msgspec.Struct, frozen=True):
    """Lines with their taxes, by the lines' places.

    Attributes:
        bases: net less the taxes that prices contain.
        parts: of each tax.
        added: sum of the taxes that prices do not contain.
        totals: by key of the tax.
    """

    bases: list[int]
    parts: list[tuple[LineTax, ...]]
    added: list[int]
    totals: tuple[TaxTotal, ...] = ()


def taxes_used(keys: Sequence[tuple[str, ...]], taxes: Sequence[Tax]) -> tuple[Tax, ...]:
    """Return the taxes that lines name, by key.

    Raises:
        Missing: a line names a tax that is not there.
    """
    used = {key for line in keys for key in line}
    if not used:
        return ()
    known = {tax.key: tax for tax in taxes}
    for key in sorted(used - known.keys()):
        raise Missing(f"there is no tax '{key}'", field="taxes")
    return tuple(known[key] for key in sorted(used))


def taxed(
    nets: Sequence[int], keys: Sequence[tuple[str, ...]], taxes: Sequence[Tax], currency: str
) -> Taxed:
    """Return the taxes of lines.

    Args:
        nets: of the lines, in minor units.
        keys: of the lines' taxes.
        taxes: those that lines name, by key: `taxes_used`.
        currency: of the invoice.

    Guarantees: a tax is the sum of its parts; net is base plus the taxes that prices contain.
    """
    bases, added = list(nets), [0] * len(nets)
    found: dict[str, tuple[list[int], list[int]]] = {}
    for tax in taxes:
        if tax.inclusive:
            found[tax.key] = _contained(tax, nets, keys, _contained_rates(keys, taxes))
    for places, parts in found.values():
        for at, part in zip(places, parts, strict=True):
            bases[at] -= part
    for tax in taxes:
        if not tax.inclusive:
            places = [at for at, line in enumerate(keys) if tax.key in line]
            parts = rounded_parts([bases[at] * _integer(tax) for at in places], _HUNDRED)
            found[tax.key] = (places, parts)
            for at, part in zip(places, parts, strict=True):
                added[at] += part
    by_line: list[list[LineTax]] = [[] for _ in nets]
    totals = []
    for tax in taxes:
        places, parts = found[tax.key]
        for at, part in zip(places, parts, strict=True):
            text = money_text(part, currency)
            by_line[at].append(LineTax(tax=tax.key, amount=text, amount_minor=part))
        totals.append(_total(tax, sum(bases[at] for at in places), sum(parts), currency))
    return Taxed(bases, [tuple(parts) for parts in by_line], added, tuple(totals))


def _integer(tax: Tax) -> int:
    return int(tax.rate * _RATE_ONE)


def _contained_rates(keys: Sequence[tuple[str, ...]], taxes: Sequence[Tax]) -> list[int]:
    """Return the sum of the rates that each line's price contains."""
    rates = {tax.key: _integer(tax) for tax in taxes if tax.inclusive}
    return [sum(rates.get(key, 0) for key in set(line)) for line in keys]


def _contained(
    tax: Tax, nets: Sequence[int], keys: Sequence[tuple[str, ...]], rates: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Return the lines whose price contains a tax, and its parts of them."""
    places = [at for at, line in enumerate(keys) if tax.key in line]
    denominator = lcm(*{_HUNDRED + rates[at] for at in places})
    rate = _integer(tax)
    numerators = [nets[at] * rate * (denominator // (_HUNDRED + rates[at])) for at in places]
    return places, rounded_parts(numerators, denominator)


def _total(tax: Tax, base_minor: int, amount_minor: int, currency: str) -> TaxTotal:
    return TaxTotal(
        tax=tax.key,
        name=tax.name,
        rate=plain(tax.rate),
        inclusive=tax.inclusive,
        category=tax.category,
        reason=tax.reason,
        base=money_text(base_minor, currency),
        base_minor=base_minor,
        amount=money_text(amount_minor, currency),
        amount_minor=amount_minor,
    )
