"""An entitlement: one feature that one customer may use, and how much of it.

Source: docs/algorithms/entitlements.md
"""

import json
from decimal import Decimal

import msgspec

from tallybook.catalog.entitlement.grant import INCLUDED, Grant, Rollover, check_priority
from tallybook.catalog.entitlement.recurrence import Recurrence, parse_step
from tallybook.catalog.meter import name_ok
from tallybook.catalog.price.fields import amount, positive, refused
from tallybook.kernel.decimals import SCALE
from tallybook.kernel.errors import Invalid
from tallybook.kernel.period import parse_moment, zone

CONFIG_CHARS_MAX = 16_384
DIMENSIONS_MAX = 16


class Boolean(msgspec.Struct, frozen=True, tag_field="type", tag="boolean"):
    """The feature is there."""


class Static(msgspec.Struct, frozen=True, tag_field="type", tag="static"):
    """The feature is there, with settings.

    Attributes:
        config: JSON text, handed back as it was written.
    """

    config: str


class Metered(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="metered"):
    """The feature may be used as far as grants go.

    Attributes:
        meter: key of the meter.
        period: when usage periods end by themselves; its anchor moves with resets by hand.
        measure_from_us: usage before is not counted, microseconds UTC.
        soft: access also when nothing is left.
        keep_overage: whether overage is paid in the next usage period instead of being waived.
        filter: dimension -> values; only such usage counts.
        factor: how many of the meter's units are one of the entitlement's.
        included: what is there in each usage period by itself; None for nothing.
        included_priority: of it, among grants.
    """

    meter: str
    period: Recurrence
    measure_from_us: int
    soft: bool = False
    keep_overage: bool = False
    filter: dict[str, tuple[str, ...]] = {}
    factor: Decimal = Decimal(1)
    included: Decimal | None = None
    included_priority: int = 1

    def counts(self, dimensions: dict[str, str]) -> bool:
        """Whether usage with these dimension values is of this feature."""
        return all(dimensions.get(name) in values for name, values in self.filter.items())

    def included_grant(self) -> Grant | None:
        """Return the grant that comes with it: whole again after every reset."""
        if self.included is None:
            return None
        return Grant(
            key=INCLUDED,
            amount=self.included,
            effective_us=self.measure_from_us,
            priority=self.included_priority,
            rollover=Rollover(self.included, self.included),
        )


Access = Boolean | Static | Metered


class Entitlement(msgspec.Struct, frozen=True, kw_only=True):
    """A customer's entitlement.

    Attributes:
        feature: stable name; a customer has it once at any instant.
        start_us: first instant in force, microseconds UTC.
        end_us: first instant after it; None for good.
    """

    customer: str
    feature: str
    access: Access
    start_us: int
    end_us: int | None = None

    @property
    def key(self) -> str:
        """Unique within the tenant."""
        return f"{self.customer}:{self.feature}"

    def in_force(self, at_us: int) -> bool:
        """Whether it counts at an instant."""
        return self.start_us <= at_us and (self.end_us is None or at_us < self.end_us)


class EntitlementSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An entitlement as it is written; dates without an offset are in the customer's zone.

    Attributes:
        type: boolean, static or metered; the fields from `meter` on belong to the last.
        config: JSON, of a static one.
        period: how long usage counts together, such as P1M.
        anchor: a step of `period`; None for `measure_from`.
        measure_from: None for `start`.
    """

    customer: str
    feature: str
    type: str
    start: str
    end: str | None = None
    config: str | None = None
    meter: str | None = None
    period: str | None = None
    anchor: str | None = None
    measure_from: str | None = None
    soft: bool = False
    keep_overage: bool = False
    filter: dict[str, list[str]] = {}
    factor: Decimal = Decimal(1)
    included: Decimal | None = None
    included_priority: int = 1


def check_entitlement(spec: EntitlementSpec, zone_name: str) -> Entitlement:
    """Return the entitlement that a specification means.

    Args:
        spec: as written.
        zone_name: the customer's zone.

    Raises:
        Invalid: names the field, and what to write instead.
    """
    name_ok("customer", spec.customer)
    name_ok("feature", spec.feature)
    tz = zone(zone_name)
    start = parse_moment(spec.start, tz, "start")
    end = None if spec.end is None else parse_moment(spec.end, tz, "end")
    if end is not None and end <= start:
        raise refused("end", "must be after start")
    return Entitlement(
        customer=spec.customer,
        feature=spec.feature,
        access=_access(spec, start, zone_name),
        start_us=start,
        end_us=end,
    )


def _access(spec: EntitlementSpec, start_us: int, zone_name: str) -> Access:
    _only_of_its_type(spec)
    match spec.type:
        case "boolean":
            return Boolean()
        case "static":
            return Static(_config(spec.config))
        case "metered":
            return _metered(spec, start_us, zone_name)
        case _:
            raise refused("type", "must be boolean, static or metered")


_METERED = (
    "meter",
    "period",
    "anchor",
    "measure_from",
    "soft",
    "keep_overage",
    "filter",
    "factor",
    "included",
    "included_priority",
)


def _only_of_its_type(spec: EntitlementSpec) -> None:
    blank = EntitlementSpec(customer="", feature="", type="", start="")
    foreign = {"metered": ("config",), "static": _METERED}.get(spec.type, ("config", *_METERED))
    for field in foreign:
        if getattr(spec, field) != getattr(blank, field):
            raise refused(field, f"does not belong to an entitlement of type {spec.type}")


def _config(text: str | None) -> str:
    if text is None or len(text) > CONFIG_CHARS_MAX:
        raise refused("config", f"must be JSON of at most {CONFIG_CHARS_MAX} characters")
    try:
        json.loads(text)
    except ValueError as error:
        raise Invalid(f"config is not JSON: {error}", field="config") from error
    return text


def _metered(spec: EntitlementSpec, start_us: int, zone_name: str) -> Metered:
    tz = zone(zone_name)
    if spec.meter is None:
        raise refused("meter", "must name the meter whose usage counts")
    name_ok("meter", spec.meter)
    check_priority(spec.included_priority, "included_priority")
    since = start_us
    if spec.measure_from is not None:
        since = parse_moment(spec.measure_from, tz, "measure_from")
    anchor = since if spec.anchor is None else parse_moment(spec.anchor, tz, "anchor")
    interval = parse_step("period", spec.period or "")
    included = spec.included
    if included is not None:
        included = positive("included", amount("included", included, SCALE))
    return Metered(
        meter=spec.meter,
        period=Recurrence(interval=interval, anchor_us=anchor, zone=zone_name),
        measure_from_us=since,
        soft=spec.soft,
        keep_overage=spec.keep_overage,
        filter=_filter(spec.filter),
        factor=positive("factor", amount("factor", spec.factor, SCALE)),
        included=included,
        included_priority=spec.included_priority,
    )


def _filter(written: dict[str, list[str]]) -> dict[str, tuple[str, ...]]:
    if len(written) > DIMENSIONS_MAX:
        raise refused("filter", f"names more than {DIMENSIONS_MAX} dimensions")
    for name, values in written.items():
        name_ok("filter", name)
        if not values:
            raise refused("filter", f"must name values of {name}")
    return {name: tuple(sorted(set(values))) for name, values in sorted(written.items())}
