"""The calculator: a price, and a quantity or events, become an amount and how it came about.

The same code that bills, so that what a person tries is what an invoice will say.
"""

from decimal import Decimal

import msgspec

from tallybook.catalog.price import misread, parse_price
from tallybook.kernel.decimals import EXACT, MEASURE_MAX, SCALE, STEP, check_numbers
from tallybook.kernel.errors import Invalid
from tallybook.kernel.money import Rounding, money_text, to_minor
from tallybook.rate.charge import rate
from tallybook.rate.metered import PricedEvent, metered_events
from tallybook.rate.step import Step, shown

EVENTS_MAX = 10_000


class EventSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One event to price, in the order of its time.

    Attributes:
        quantity: what the meter would measure.
        dimensions: values that a matrix price asks for; null or absent is a missing value.
    """

    quantity: Decimal
    dimensions: dict[str, str | None] = {}


class PriceQuestion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What does this cost? Either a quantity or events.

    Attributes:
        price: a price as in a plan.
        currency: ISO 4217.
        quantity: the total of a period; the same as one event with this quantity.
        events: the events of a period, at most 10,000.
        rounding: of the line.
    """

    price: dict[str, object]
    currency: str
    quantity: Decimal | None = None
    events: list[EventSpec] | None = None
    rounding: Rounding = "half_up"


class PriceAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What it costs.

    Attributes:
        amount: exact, in units of the currency.
        rounded: as a line of an invoice would say.
        steps: how it came about, in words and numbers.
    """

    amount: str
    rounded: str
    steps: tuple[Step, ...]


def parse_question(body: bytes | str) -> PriceQuestion:
    """Return the question that a JSON text asks.

    Raises:
        Invalid: it is not one; names the field, such as `events[3].quantity`.
    """
    try:
        question = msgspec.json.decode(body, type=PriceQuestion)
    except msgspec.ValidationError as error:
        raise misread("", error) from error
    except msgspec.DecodeError as error:
        raise Invalid(f"the question is not JSON: {error}", field="body") from error
    check_numbers(question)
    return question


def calculate(question: PriceQuestion) -> PriceAnswer:
    """Return what a question asks.

    Raises:
        Invalid: names the field, and what to write instead.
    """
    price = parse_price(question.price)
    to_minor(Decimal(0), question.currency)
    rated = rate(price, metered_events(price, _events(question)))
    minor = to_minor(rated.amount, question.currency, question.rounding)
    return PriceAnswer(
        amount=shown(rated.amount),
        rounded=money_text(minor, question.currency),
        steps=rated.steps,
    )


def _events(question: PriceQuestion) -> list[PricedEvent]:
    if (question.quantity is None) == (question.events is None):
        raise Invalid("give either quantity, or events", field="quantity")
    if question.quantity is not None:
        return [PricedEvent(quantity=_measured("quantity", question.quantity))]
    events = question.events or []
    if len(events) > EVENTS_MAX:
        raise Invalid(f"events holds more than {EVENTS_MAX} events", field="events")
    return [
        PricedEvent(
            quantity=_measured(f"events[{at}].quantity", event.quantity),
            dimensions=event.dimensions,
        )
        for at, event in enumerate(events)
    ]


def _measured(field: str, value: Decimal) -> Decimal:
    """Return a value that a meter could measure; raises Invalid."""
    if not value.is_finite() or value.copy_abs() >= MEASURE_MAX:
        raise Invalid(f"{field} must be a number below {MEASURE_MAX:f}", field=field)
    if value != value.quantize(STEP, context=EXACT):
        raise Invalid(f"{field} has more than {SCALE} digits after the point", field=field)
    return value
