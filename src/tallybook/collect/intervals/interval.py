"""One interval of one meter, and the event it becomes.

The identity is meter, register and the interval's start, so a file that is delivered again, or
two that overlap, count once; the first value that arrives is the one that counts, and another for
the same interval is flagged by the server as a conflict of identity.
"""

from collections.abc import Mapping
from decimal import Decimal

import msgspec

from tallybook.kernel.decimals import plain
from tallybook.kernel.event import UNPARSED_TYPE, UsageEvent
from tallybook.kernel.limits import ATTRIBUTE_CHARS_MAX
from tallybook.kernel.problem import Problem
from tallybook.kernel.timestamps import format_us

TYPE = "meter.interval"
_ENERGY = {"K": Decimal(1), "M": Decimal(1000), "G": Decimal(1000000), "": Decimal("0.001")}
_BASES = {"WH": "kWh", "VARH": "kvarh", "VAH": "kVAh"}


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """What a register measured in one interval.

    Attributes:
        meter: who: a NMI, an MPAN, a device.
        register: which of its registers, '' where it has one.
        start_us: begin, microseconds UTC; end_us: end.
        value: exact, in `unit`.
        unit: as `canonical` spells it.
        more: further facts for the data, such as the quality.
    """

    meter: str
    register: str
    start_us: int
    end_us: int
    value: Decimal
    unit: str
    more: Mapping[str, str] = {}


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What one record of a file says.

    Attributes:
        intervals: what counts.
        left_out: reason -> how many intervals do not count.
        problem: why the record cannot be read, or None.
        text: the record, where there is a problem.
        place: where it stands, such as 'line 7'.
        key: tells equal bad records of two meters apart.
    """

    intervals: tuple[Interval, ...] = ()
    left_out: Mapping[str, int] = {}
    problem: Problem | None = None
    text: str = ""
    place: str = ""
    key: str = ""


def canonical(unit: str, value: Decimal) -> tuple[str, Decimal]:
    """Return an energy in kWh, kvarh or kVAh; anything else as it is."""
    upper = unit.strip().upper()
    for base, name in _BASES.items():
        prefix = upper.removesuffix(base)
        if upper.endswith(base) and prefix in _ENERGY:
            return name, value * _ENERGY[prefix]
    return unit.strip(), value


def interval_event(interval: Interval, source: str, kind: str) -> UsageEvent:
    """Return the event of an interval; its time is the interval's begin."""
    data = {
        "register": interval.register,
        **interval.more,
        "unit": interval.unit,
        "until": format_us(interval.end_us),
        "value": msgspec.Raw(plain(interval.value).encode()),
    }
    if not interval.register:
        del data["register"]
    start = format_us(interval.start_us)
    return UsageEvent(
        id=f"{interval.meter}/{interval.register}/{start}",
        source=source,
        type=kind,
        subject=interval.meter,
        time=start,
        data=msgspec.Raw(msgspec.json.encode(data)),
    )


def bad_event(row: Row, source: str, form: str, digest: str) -> UsageEvent:
    """Return the event by which a record goes to quarantine; the same record gives the same."""
    assert row.problem is not None, "only a record with a problem goes to quarantine"
    said = {
        "line": row.text[:8192],
        "format": form,
        "code": row.problem.code,
        "message": row.problem.message,
        "origin": row.place,
    }
    return UsageEvent(
        id=f"bad-{digest}-{row.key}",
        source=source,
        type=UNPARSED_TYPE,
        data=msgspec.Raw(msgspec.json.encode(said)),
    )


def fit(text: str) -> bool:
    """Whether a text can be a subject and part of an id."""
    return 0 < len(text) <= ATTRIBUTE_CHARS_MAX // 4 and text.isprintable()
