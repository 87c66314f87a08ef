"""`meter_event_adjustments`: an event is taken back by one that weighs it out.

What was accepted is never deleted. The adjustment is an event of the same type, subject and time
whose values are the original's with the other sign, under an identity derived from the original's:
asked twice, it counts once. It is right for every meter that adds the value up (SUM), and refused
where another meter counts the type, because no event can weigh out a COUNT or a MAX.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from tallybook.catalog.meter import Meter
from tallybook.kernel.decimals import parse_decimal, plain
from tallybook.kernel.errors import Invalid
from tallybook.kernel.event import UsageEvent
from tallybook.kernel.ids import derived_id
from tallybook.kernel.timestamps import format_us
from tallybook.meter.usage import StoredEvent
from tallybook.serve.api.compat.stripe.events import CANCEL, SOURCE, VALUE
from tallybook.serve.api.compat.wire import as_json, strict_object


class Adjustment(msgspec.Struct, frozen=True):
    """What is to be taken back.

    Attributes:
        event_name: the event's type.
        identifier: the event's.
    """

    event_name: str
    identifier: str


def adjustment(fields: dict[str, Any]) -> Adjustment:
    """Return what a request wants to take back; raises Invalid."""
    for name in ("event_name", "type"):
        if not isinstance(fields.get(name), str) or not fields[name]:
            message = f"Missing required param: {name}."
            raise Invalid(message, code="parameter_missing", field=name)
    if fields["type"] != "cancel":
        raise Invalid("type must be cancel", code="parameter_invalid", field="type")
    cancel = fields.get("cancel")
    identifier = cancel.get("identifier") if isinstance(cancel, dict) else None
    if not isinstance(identifier, str) or not identifier:
        field = "cancel[identifier]"
        raise Invalid(f"Missing required param: {field}.", code="parameter_missing", field=field)
    return Adjustment(fields["event_name"], identifier)


def weigh_out(meters: Sequence[Meter], asked: Adjustment, stored: StoredEvent) -> UsageEvent:
    """Return the event that takes another back.

    Args:
        meters: all that are in use.
        asked: what is to be taken back.
        stored: the event it names.

    Raises:
        Invalid: a meter counts it in another way than adding it up.
    """
    counting = [meter for meter in meters if meter.event_type == stored.type]
    others = [f"{m.key} ({m.aggregation})" for m in counting if m.aggregation != "SUM"]
    if others:
        message = f"no event can take back what {', '.join(others)} counts; void it on the invoice"
        raise Invalid(message, code="meter_event_adjustment_unsupported", field="event_name")
    names = {str(meter.value).removeprefix("$.") for meter in counting} or {VALUE}
    _check_places(counting, names)
    data = strict_object(stored.data.encode())
    for name in names & data.keys():
        data[name] = _negative(data[name])
    return UsageEvent(
        id=CANCEL + asked.identifier,
        source=SOURCE,
        type=stored.type,
        subject=stored.subject,
        time=format_us(stored.time_us),
        data=msgspec.Raw(as_json(data)),
    )


def shown(asked: Adjustment, now_us: int, *, version: int) -> dict[str, object]:
    """Return an adjustment as Stripe answers it."""
    told: dict[str, object] = {
        "object": "billing.meter_event_adjustment",
        "cancel": {"identifier": asked.identifier},
        "event_name": asked.event_name,
        "livemode": True,
        "status": "complete",
        "type": "cancel",
    }
    if version == 2:
        more = {"object": "v2.billing.meter_event_adjustment", "created": format_us(now_us)}
        told |= {**more, "id": derived_id("mea", asked.event_name, asked.identifier)}
    return told


def _negative(value: Any) -> Any:
    found = parse_decimal(value) if isinstance(value, str) else None
    return value if found is None else plain(found.copy_negate())


def _check_places(counting: Sequence[Meter], names: set[str]) -> None:
    """Refuse where a value with the other sign would land in another place of a meter."""
    for meter in counting:
        paths = {*map(str, meter.group_by.values()), *(str(rule.path) for rule in meter.filter)}
        if paths & {f"$.{name}" for name in names}:
            message = f"meter {meter.key} sorts events by the value that would be taken back"
            code = "meter_event_adjustment_unsupported"
            raise Invalid(message, code=code, field="event_name")
