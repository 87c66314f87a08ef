"""A unit amount for each combination of dimension values. Source: docs/algorithms/matrix.md."""

from collections.abc import Iterator, Sequence
from decimal import Decimal

from tallybook.catalog.price import Cell, MatrixPrice
from tallybook.kernel.errors import Invalid
from tallybook.rate.step import Part, times

Values = tuple[str | None, ...]
"""Values of a price's dimensions, in their order; None is a missing one."""


def by_specificity(price: MatrixPrice) -> list[int]:
    """Return the places of the cells: first those that name most, and the earliest, dimensions."""

    def order(at: int) -> tuple[int, list[int]]:
        match = price.cells[at].match
        return -len(match), [i for i, name in enumerate(price.dimensions) if name in match]

    return sorted(range(len(price.cells)), key=order)


def place(price: MatrixPrice, ordered: Sequence[int], values: Values) -> int:
    """Return the place of the cell that prices a combination; after the last cell, the default.

    Raises:
        Invalid: no cell matches and there is no default.
    """
    dimensions = dict(zip(price.dimensions, values, strict=True))
    for at in ordered:
        if _matches(price.cells[at], dimensions):
            return at
    if price.default_unit_amount is None:
        message = f"no cell of the matrix prices {named(price, values)}; add default_unit_amount"
        raise Invalid(message, field="price.default_unit_amount")
    return len(price.cells)


def _matches(cell: Cell, dimensions: dict[str, str | None]) -> bool:
    return all(dimensions[name] == value for name, value in cell.match.items())


def named(price: MatrixPrice, values: Values) -> str:
    """Return a combination in words."""
    pairs = zip(price.dimensions, values, strict=True)
    return ", ".join(f"{name} {'(none)' if v is None else v}" for name, v in pairs)


def in_order(
    price: MatrixPrice, cells: Sequence[tuple[Values, Decimal]]
) -> list[tuple[Values, Decimal]]:
    """Return the combinations in the order in which they use up free units.

    Raises:
        Invalid: a combination has no price.
    """
    ordered = by_specificity(price)
    return sorted(cells, key=lambda cell: place(price, ordered, cell[0]))


def of_cells(price: MatrixPrice, cells: Sequence[tuple[Values, Decimal]]) -> Iterator[Part]:
    """Yield what each combination costs; one that has nothing left to pay is passed over."""
    ordered = by_specificity(price)
    for values, quantity in cells:
        at = place(price, ordered, values)
        default = price.default_unit_amount
        amount = price.cells[at].unit_amount if at < len(price.cells) else default
        assert amount is not None, "a place past the cells has a default"
        if quantity:
            yield times(quantity, amount, named(price, values))
