"""`tallybook price`: what a price makes of a quantity or of events. Needs no server."""

import sys
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
import msgspec

from tallybook.kernel.decimals import parse_decimal
from tallybook.kernel.errors import Invalid
from tallybook.rate.calculate import (
    EventSpec,
    PriceAnswer,
    PriceQuestion,
    calculate,
)
from tallybook.serve.cli.common import DONE, console, show_json


@click.command()
@click.argument("price")
@click.option("--currency", default="USD", show_default=True, help="ISO 4217.")
@click.option("--quantity", help="The usage of a period.")
@click.option("--event", "events", multiple=True, metavar="'N [DIM=A …]'",
              help="One event of the period, in the order of time; may be repeated.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def price(
    price: str, currency: str, quantity: str | None, events: Sequence[str], *, as_json: bool
) -> int:
    """Calculate what a quantity or events cost under a price.

    PRICE is JSON, a file that holds it, or - for standard input.
    """
    answer = calculate(
        PriceQuestion(
            price=_json(price),
            currency=currency,
            quantity=None if quantity is None else _number("quantity", quantity),
            events=[_event(at, text) for at, text in enumerate(events)] if events else None,
        )
    )
    if as_json:
        show_json(answer)
    else:
        console().print(_described(answer, currency), soft_wrap=True, markup=False)
    return DONE


def _json(text: str) -> dict[str, Any]:
    """Return the price as a JSON object; raises Invalid."""
    try:
        if text == "-":
            text = sys.stdin.read()
        elif not text.lstrip().startswith("{"):
            text = Path(text).read_text(encoding="utf-8")
        return msgspec.json.decode(text, type=dict[str, Any])
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"PRICE is neither JSON nor a file that can be read: {error}") from error
    except msgspec.MsgspecError as error:
        raise Invalid(f"price is not a JSON object: {error}", field="price") from error


def _event(at: int, text: str) -> EventSpec:
    """Return an event written as '10 region=eu tier=gold'; raises Invalid."""
    field = f"events[{at}]"
    quantity, *pairs = text.split() or [""]
    dimensions: dict[str, str | None] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not name or not equals:
            message = f"{field}: '{pair}' is not a dimension and its value, such as region=eu"
            raise Invalid(message, field=field)
        dimensions[name] = value
    return EventSpec(quantity=_number(f"{field}.quantity", quantity), dimensions=dimensions)


def _number(field: str, text: str) -> Decimal:
    value = parse_decimal(text)
    if value is None:
        raise Invalid(f"{field}: '{text}' is not a number", field=field)
    return value


def _described(answer: PriceAnswer, currency: str) -> str:
    """Return the steps, one a line, and the amount below."""
    lines = [step.text for step in answer.steps]
    exact = (
        "" if Decimal(answer.amount) == Decimal(answer.rounded) else f", exactly {answer.amount}"
    )
    return "\n".join([*lines, f"{answer.rounded} {currency}{exact}"])
