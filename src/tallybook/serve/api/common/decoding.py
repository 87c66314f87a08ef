"""JSON bodies of the routes: read to the last digit, and no number that nothing can count with.

The one place where numbers of a body come in: a field that is added later is read here too.
"""

from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec
from litestar import Request
from litestar.exceptions import SerializationException

from tallybook.kernel.decimals import check_numbers

REACH = Decimal("1e300")
"""Within it a binary number may stand for a decimal that it spells; it is infinite past 1e308."""


class ExactRequest(Request[Any, Any, Any]):
    """A request whose body's numbers are what was sent."""

    async def json(self) -> Any:
        """Return the body, decoded; a decimal that a float would change is a `Decimal`.

        Raises:
            SerializationException: it is not JSON.
            Invalid: a number has too many digits, or is none, where the route takes decimals.
        """
        try:
            found = _DECODER.decode(await self.body() or b"null")
        except msgspec.DecodeError as error:
            raise SerializationException(str(error)) from error
        except InvalidOperation as error:
            raise SerializationException("a number's exponent has too many digits") from error
        field = self.route_handler.parsed_data_field
        if field is not None:
            _check(found, field.annotation)
        return found


def _check(found: Any, kind: Any) -> None:
    """Refuse numbers that are too long; what does not fit the route is told by the framework."""
    try:
        made = msgspec.convert(found, kind, strict=False, str_keys=True)
    except msgspec.ValidationError:
        return
    check_numbers(made)


def _number(text: str) -> Decimal | float:
    exact = Decimal(text)
    if not -REACH < exact < REACH:
        return exact
    near = float(text)
    return near if Decimal(repr(near)) == exact else exact


_DECODER: msgspec.json.Decoder[Any] = msgspec.json.Decoder(float_hook=_number)
