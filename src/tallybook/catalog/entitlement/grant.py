"""A grant: an amount that may be used, from when until when, and how it comes again.

Source: docs/algorithms/grants.md
"""

from decimal import Decimal

import msgspec

from tallybook.catalog.entitlement.recurrence import (
    Interval,
    Recurrence,
    parse_interval,
    parse_step,
    plus,
)
from tallybook.catalog.meter import name_ok
from tallybook.catalog.price.fields import amount, positive, refused
from tallybook.kernel.decimals import SCALE
from tallybook.kernel.period import parse_moment, zone

INCLUDED = "included"
"""Key of the grant that comes with an entitlement; no other grant may have it."""
PRIORITY_MAX = 255


class Rollover(msgspec.Struct, frozen=True):
    """What stays at a reset: at least `least`, at most `most`; nothing where both are zero."""

    least: Decimal = Decimal(0)
    most: Decimal = Decimal(0)

    def keeps(self, left: Decimal) -> Decimal:
        """Return what is there after a reset."""
        return min(self.most, max(self.least, left))


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """An amount that may be used.

    Attributes:
        key: stable name, unique within its entitlement.
        amount: in the entitlement's unit, above zero.
        effective_us: first instant in force, microseconds UTC.
        expires_us: first instant after it; None for never.
        voided_us: taken back from this instant on; what was burnt before stays burnt.
        priority: lower burns first.
        recurrence: when it is filled up again; its anchor need not be the effective instant.
        rollover: what stays at a reset.
    """

    key: str
    amount: Decimal
    effective_us: int
    expires_us: int | None = None
    voided_us: int | None = None
    priority: int = 1
    recurrence: Recurrence | None = None
    rollover: Rollover = Rollover()

    @property
    def end_us(self) -> int | None:
        """First instant it is no longer in force; None for never."""
        ends = [end for end in (self.expires_us, self.voided_us) if end is not None]
        return min(ends, default=None)

    def in_force(self, at_us: int) -> bool:
        """Whether it counts at an instant."""
        end = self.end_us
        return self.effective_us <= at_us and (end is None or at_us < end)


class GrantSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A grant as it is written; dates without an offset are in the zone of the customer.

    Attributes:
        expires_after: a duration from `effective` on, such as P30D; None for never.
        every: how often it is filled up again; None for never.
        anchor: a step of `every`; None for the effective instant.
    """

    key: str
    amount: Decimal
    effective: str
    expires_after: str | None = None
    every: str | None = None
    anchor: str | None = None
    priority: int = 1
    rollover_min: Decimal = Decimal(0)
    rollover_max: Decimal = Decimal(0)


def check_grant(spec: GrantSpec, zone_name: str) -> Grant:
    """Return the grant that a specification means.

    Args:
        spec: as written.
        zone_name: the customer's zone.

    Raises:
        Invalid: names the field, and what to write instead.
    """
    name_ok("key", spec.key)
    if spec.key == INCLUDED:
        raise refused("key", f"is not '{INCLUDED}': that grant comes with the entitlement")
    check_priority(spec.priority)
    effective = parse_moment(spec.effective, zone(zone_name), "effective")
    return Grant(
        key=spec.key,
        amount=positive("amount", amount("amount", spec.amount, SCALE)),
        effective_us=effective,
        expires_us=_expiry(spec.expires_after, effective, zone_name),
        priority=spec.priority,
        recurrence=_recurrence(spec, effective, zone_name),
        rollover=_rollover(spec),
    )


def check_priority(priority: int, field: str = "priority") -> None:
    """Raise Invalid unless it is 0 to 255."""
    if not 0 <= priority <= PRIORITY_MAX:
        raise refused(field, f"must be 0 to {PRIORITY_MAX}")


def void(grant: Grant, at_us: int) -> Grant:
    """Return the grant taken back from an instant on; the first voiding counts."""
    earlier = at_us if grant.voided_us is None else min(grant.voided_us, at_us)
    return msgspec.structs.replace(grant, voided_us=earlier)


def _expiry(text: str | None, effective_us: int, zone_name: str) -> int | None:
    if text is None:
        return None
    return plus(effective_us, parse_interval("expires_after", text), 1, zone_name)


def _recurrence(spec: GrantSpec, effective_us: int, zone_name: str) -> Recurrence | None:
    if spec.every is None:
        if spec.anchor is not None:
            raise refused("anchor", "means nothing without every")
        return None
    interval: Interval = parse_step("every", spec.every)
    anchor = effective_us
    if spec.anchor is not None:
        anchor = parse_moment(spec.anchor, zone(zone_name), "anchor")
    return Recurrence(interval=interval, anchor_us=anchor, zone=zone_name)


def _rollover(spec: GrantSpec) -> Rollover:
    least = amount("rollover_min", spec.rollover_min, SCALE)
    most = amount("rollover_max", spec.rollover_max, SCALE)
    if least > most:
        raise refused("rollover_min", "must not be above rollover_max")
    return Rollover(least, most)
