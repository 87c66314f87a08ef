"""A quantity carries its unit; adding different units is refused."""

from decimal import Decimal

import msgspec

from tallybook.kernel.decimals import EXACT, plain
from tallybook.kernel.errors import Invalid


class Quantity(msgspec.Struct, frozen=True):
    """An exact amount of something.

    Attributes:
        value: exact, never rounded here.
        unit: such as 'By', 's' or '{request}'; '' where a meter names none.
    """

    value: Decimal
    unit: str

    def __add__(self, other: "Quantity") -> "Quantity":
        """Return the sum; raises Invalid where the units differ."""
        self._same_unit(other)
        return Quantity(EXACT.add(self.value, other.value), self.unit)

    def __sub__(self, other: "Quantity") -> "Quantity":
        """Return the difference; raises Invalid where the units differ."""
        self._same_unit(other)
        return Quantity(EXACT.subtract(self.value, other.value), self.unit)

    def _same_unit(self, other: "Quantity") -> None:
        if self.unit != other.unit:
            raise Invalid(
                f"cannot add {other.unit or 'no unit'} to {self.unit or 'no unit'}", field="unit"
            )

    def __str__(self) -> str:
        """Return value and unit for people."""
        return f"{plain(self.value)} {self.unit}".rstrip()
