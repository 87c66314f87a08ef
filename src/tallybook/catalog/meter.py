"""A meter: which events count, what is measured in them, and how the values are combined.

Source: CONTRACTS §4; DECISIONS 7, 11, 21.
"""

from collections.abc import Mapping
from typing import Literal, get_args

import msgspec

from tallybook.kernel.errors import Invalid
from tallybook.kernel.jsonpath import Path, column_name, parse_path
from tallybook.kernel.limits import ATTRIBUTE_CHARS_MAX, NAME_CHARS_MAX

Aggregation = Literal[
    "COUNT", "SUM", "AVG", "MIN", "MAX", "UNIQUE_COUNT", "LATEST", "TIME_WEIGHTED"
]
AGGREGATIONS: tuple[str, ...] = get_args(Aggregation)
LEVELS = frozenset({"COUNT", "SUM", "UNIQUE_COUNT", "LATEST"})
"""Those that have a level: what came before goes on being there."""
GROUPS_MAX = 16


class Filter(msgspec.Struct, frozen=True):
    """Only events whose text at `path` is one of `any_of` count.

    Attributes:
        path: canonical.
        any_of: texts as the lake's text column spells them (a number as it was sent).
    """

    path: Path
    any_of: tuple[str, ...]


class MeterSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A meter as it is written in `catalog.toml` and in the API, before it is checked."""

    key: str
    event_type: str
    aggregation: str
    value: str | None = None
    group_by: dict[str, str] = {}
    filter: dict[str, list[str]] = {}
    unit: str = ""
    name: str = ""
    description: str = ""


class Meter(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a meter, checked.

    Attributes:
        key: stable name, unique within the tenant.
        event_type: the CloudEvents type that counts.
        aggregation: how values combine; TIME_WEIGHTED integrates a level over hours.
        value: path of the measured value; None for COUNT.
        group_by: dimension name -> path.
        filter: all must hold.
        unit: such as 'By'; '' for none. TIME_WEIGHTED answers in unit-hours.
        version: 1 and up; a correction makes a new one (DECISIONS 21).
    """

    key: str
    event_type: str
    aggregation: Aggregation
    value: Path | None = None
    group_by: dict[str, Path] = {}
    filter: tuple[Filter, ...] = ()
    unit: str = ""
    name: str = ""
    description: str = ""
    version: int = 1

    def same_definition(self, other: "Meter") -> bool:
        """Whether both count the same events the same way (names and texts aside)."""
        return self.definition() == other.definition()

    def definition(self) -> tuple[object, ...]:
        """Return everything that decides a value; equal definitions share roll-ups."""
        groups = tuple(sorted(self.group_by.items()))
        return (self.event_type, self.aggregation, self.value, groups, self.filter, self.unit)

    def value_column(self) -> str | None:
        """Return the lake column of the measured value: text for UNIQUE_COUNT, else number."""
        if self.value is None:
            return None
        return column_name(self.value, "t" if self.aggregation == "UNIQUE_COUNT" else "n")

    def columns(self) -> dict[str, Path]:
        """Return every typed lake column this meter reads, and the path it is filled from."""
        found = {column_name(path, "t"): path for path in self.group_by.values()}
        found |= {column_name(f.path, "t"): f.path for f in self.filter}
        value = self.value_column()
        if value is not None and self.value is not None:
            found[value] = self.value
        return found


def check_meter(spec: MeterSpec, version: int = 1) -> Meter:
    """Return the meter that a specification means.

    Raises:
        Invalid: names the field, and what to write instead.
    """
    name_ok("key", spec.key)
    if not spec.event_type or len(spec.event_type) > ATTRIBUTE_CHARS_MAX:
        raise Invalid("event_type must name a CloudEvents type", field="event_type")
    if len(spec.group_by) > GROUPS_MAX:
        raise Invalid(f"group_by may have at most {GROUPS_MAX} dimensions", field="group_by")
    aggregation = _aggregation(spec)
    return Meter(
        key=spec.key,
        event_type=spec.event_type,
        aggregation=aggregation,
        value=_value(spec, aggregation),
        group_by={name_ok("group_by", n): parse_path(p) for n, p in spec.group_by.items()},
        filter=_filters(spec.filter),
        unit=spec.unit,
        name=spec.name,
        description=spec.description,
        version=version,
    )


def _aggregation(spec: MeterSpec) -> Aggregation:
    for known in get_args(Aggregation):
        if spec.aggregation.upper() == known:
            aggregation: Aggregation = msgspec.convert(known, Aggregation)
            return aggregation
    allowed = ", ".join(AGGREGATIONS)
    raise Invalid(f"aggregation '{spec.aggregation}' is not one of {allowed}", field="aggregation")


def _value(spec: MeterSpec, aggregation: Aggregation) -> Path | None:
    if aggregation == "COUNT":
        if spec.value is not None:
            raise Invalid("a COUNT meter has no value", field="value")
        return None
    if spec.value is None:
        raise Invalid(f"a {aggregation} meter needs value, a path such as $.bytes", field="value")
    return parse_path(spec.value)


def _filters(raw: Mapping[str, list[str]]) -> tuple[Filter, ...]:
    if any(not allowed for allowed in raw.values()):
        raise Invalid("a filter needs at least one allowed text", field="filter")
    return tuple(
        Filter(parse_path(path), tuple(sorted(set(allowed))))
        for path, allowed in sorted(raw.items())
    )


def name_ok(field: str, name: str) -> str:
    """Return a key or name that is fit for URLs and files; raises Invalid."""
    allowed = name.replace("-", "").replace("_", "").replace(".", "").replace(":", "")
    if not allowed.isalnum() or not allowed.isascii() or len(name) > NAME_CHARS_MAX:
        message = f"'{name}': use letters, digits and - _ . : only, at most {NAME_CHARS_MAX}"
        raise Invalid(message, field=field)
    return name


def meter_spec(meter: Meter) -> MeterSpec:
    """Return a meter as it is written; `check_meter` of it is the meter again."""
    return MeterSpec(
        key=meter.key,
        event_type=meter.event_type,
        aggregation=meter.aggregation,
        value=meter.value,
        group_by={name: str(path) for name, path in meter.group_by.items()},
        filter={str(f.path): list(f.any_of) for f in meter.filter},
        unit=meter.unit,
        name=meter.name,
        description=meter.description,
    )
