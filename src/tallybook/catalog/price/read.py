"""Reading and writing a price as JSON."""

import re
from collections.abc import Mapping

import msgspec

from tallybook.catalog.price.check import check_price
from tallybook.catalog.price.kinds import Price
from tallybook.kernel.decimals import check_numbers
from tallybook.kernel.errors import Invalid

_PLACE = re.compile(r" - at `(?:key in )?\$(.*)`\Z")
_FIELD = re.compile(r"field `(\w+)`")


def parse_price(raw: Mapping[str, object] | str | bytes) -> Price:
    """Return the price that a JSON text or an already parsed JSON object means.

    Raises:
        Invalid: names the field, such as `price.tiers[1].up_to`, and what to write instead.
    """
    try:
        if isinstance(raw, str | bytes):
            price = msgspec.json.decode(raw, type=Price)
        else:
            price = msgspec.convert(dict(raw), Price, strict=True)
    except msgspec.ValidationError as error:
        raise misread("price", error) from error
    except msgspec.DecodeError as error:
        raise Invalid(f"price is not a JSON object: {error}", field="price") from error
    check_numbers(price, "price")
    return check_price(price)


def misread(root: str, error: msgspec.ValidationError) -> Invalid:
    """Return the refusal of JSON of the wrong shape, with the field at fault under `root`."""
    text = str(error)
    place = _PLACE.search(text)
    named = _FIELD.search(text)
    field = root + (place[1] if place else "") + (f".{named[1]}" if named else "")
    field = field.removeprefix(".") or "body"
    return Invalid(f"{field}: {_PLACE.sub('', text)}", field=field)


def price_json(price: Price) -> str:
    """Return the price as JSON with sorted keys, the same text for equal prices."""
    return msgspec.json.encode(price, order="sorted").decode()
