"""Amendments: what is changed about a subscription, from which instant on.

A subscription keeps every amendment in the order it was recorded; none is ever edited. What held
at an instant follows from all of them, so a change never rewrites history.

Source: docs/algorithms/subscriptions.md
"""

from decimal import Decimal

import msgspec

from tallybook.catalog.price import Price


class PlanChange(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="plan"):
    """Another plan, or another version of the same one.

    Attributes:
        at_us: from when on; within a period the old plan ends and the new one begins there.
        recorded_us: when it was decided.
        plan: key of the plan.
        plan_version: pinned; None for the newest in effect when each period is opened.
    """

    at_us: int
    recorded_us: int
    plan: str
    plan_version: int | None = None


class QuantityChange(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="quantity"):
    """Another number of units of a fixed fee, such as seats."""

    at_us: int
    recorded_us: int
    charge: str
    quantity: Decimal


class PriceChange(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="price"):
    """Another price of one charge for this subscription; None for the plan's own again.

    Usage prices change with the next period, or with a change of plan: tiers are of a period.
    """

    at_us: int
    recorded_us: int
    charge: str
    price: Price | None


class Pause(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="pause"):
    """Nothing is charged from here until it is resumed."""

    at_us: int
    recorded_us: int


class Resume(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="resume"):
    """Charged again from here on."""

    at_us: int
    recorded_us: int


class Cancel(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="cancel"):
    """It ends.

    Attributes:
        credit: the unused part of fees paid in advance is credited.
    """

    at_us: int
    recorded_us: int
    credit: bool = True


class Uncancel(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="uncancel"):
    """A cancellation that is still to come does not happen."""

    at_us: int
    recorded_us: int


class AnchorChange(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="anchor"):
    """Periods are aligned otherwise: those that are opened next, from `at_us` on.

    Attributes:
        anchor_us: an instant that is a start of a period, of every interval.
    """

    at_us: int
    recorded_us: int
    anchor_us: int


Amendment = (
    PlanChange | QuantityChange | PriceChange | Pause | Resume | Cancel | Uncancel | AnchorChange
)
