"""Commands to subscriptions: change, pause, cancel and the like, each with a dry run."""

from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Literal

import msgspec
from litestar import Controller, post
from litestar.params import Parameter

from tallybook.catalog.amendment import (
    Amendment,
    AnchorChange,
    Cancel,
    Pause,
    PlanChange,
    PriceChange,
    QuantityChange,
    Resume,
    Uncancel,
)
from tallybook.catalog.price.fields import amount
from tallybook.catalog.subscription import Decision, State
from tallybook.catalog.subscription.spec import price_ok
from tallybook.compose import World
from tallybook.invoice.amend import amend, instant, known, migrate, stored_periods
from tallybook.invoice.document import Invoice
from tallybook.invoice.due import BillRequest
from tallybook.invoice.flow import preview
from tallybook.kernel.timestamps import format_us
from tallybook.serve.api.common.access import BILLING
from tallybook.serve.api.gate import Grant

Key = Annotated[str, Parameter(description="Key of the subscription.")]


class CommandSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a command holds from.

    Attributes:
        at: 'now', 'period-end', a date in the customer's zone, or RFC 3339; past or future.
        dry_run: write nothing; the answer has the invoice that would follow.
    """

    at: str = "now"
    dry_run: bool = False


class PlanCommand(CommandSpec, frozen=True, kw_only=True):
    """Another plan, or another version; `plan_version` null follows the newest."""

    plan: str
    plan_version: int | None = None


class QuantityCommand(CommandSpec, frozen=True, kw_only=True):
    """Another number of units of a fixed fee."""

    charge: str
    quantity: Decimal


class PriceCommand(CommandSpec, frozen=True, kw_only=True):
    """Another price of a charge, from the period that starts next on; null for the plan's."""

    charge: str
    price: dict[str, object] | None = None


class AnchorCommand(CommandSpec, frozen=True, kw_only=True):
    """Periods that start from then on are aligned to the instant `anchor`."""

    anchor: str


class CancelCommand(CommandSpec, frozen=True, kw_only=True):
    """It ends; `credit` gives the unused part of fees paid in advance back."""

    credit: bool = True


class MigrateCommand(CommandSpec, frozen=True, kw_only=True):
    """All subscriptions of a plan move to one of its versions; null follows the newest."""

    plan_version: int | None = None


class DecisionView(msgspec.Struct, frozen=True, kw_only=True):
    """What a command does, or would do.

    Attributes:
        text: for people.
        at: from when on.
        state: of the subscription from then on.
        written: false for a dry run.
        invoice: the one that would follow; null where nothing would be due, or it was written.
    """

    subscription: str
    text: str
    at: str
    state: State
    written: bool
    invoice: Invoice | None = None


class MovedView(msgspec.Struct, frozen=True, kw_only=True):
    """What a migration does to one subscription.

    Attributes:
        outcome: moved, or left as it is.
        text: what, or why not.
        at: from when on; null where it is left.
    """

    subscription: str
    outcome: Literal["moved", "left"]
    text: str
    at: str | None = None


class Migrated(msgspec.Struct, frozen=True, kw_only=True):
    """What a migration does, or would do."""

    written: bool
    items: list[MovedView]


class Amendments(Controller):
    """Commands to subscriptions; each adds to what is decided, none rewrites it."""

    path = "/subscriptions/{key:str}"
    tags = ("subscriptions",)

    @post("/change", opt=BILLING, status_code=200, sync_to_thread=True)
    def change_plan_of(
        self, world: World, grant: Grant, key: Key, data: PlanCommand
    ) -> DecisionView:
        """Change the plan: the period ends there, and a new part of the same period begins."""
        return _decided(
            world,
            grant,
            key,
            data,
            lambda at, now: PlanChange(
                at_us=at, recorded_us=now, plan=data.plan, plan_version=data.plan_version
            ),
        )

    @post("/quantity", opt=BILLING, status_code=200, sync_to_thread=True)
    def change_quantity(
        self, world: World, grant: Grant, key: Key, data: QuantityCommand
    ) -> DecisionView:
        """Change how many units of a fixed fee there are, such as seats."""
        units = amount("quantity", data.quantity)
        return _decided(
            world,
            grant,
            key,
            data,
            lambda at, now: QuantityChange(
                at_us=at, recorded_us=now, charge=data.charge, quantity=units
            ),
        )

    @post("/price", opt=BILLING, status_code=200, sync_to_thread=True)
    def change_price(
        self, world: World, grant: Grant, key: Key, data: PriceCommand
    ) -> DecisionView:
        """Agree on a price of a charge for this subscription, from its next period on."""
        price = None if data.price is None else price_ok("price", data.price)
        return _decided(
            world,
            grant,
            key,
            data,
            lambda at, now: PriceChange(at_us=at, recorded_us=now, charge=data.charge, price=price),
        )

    @post("/anchor", opt=BILLING, status_code=200, sync_to_thread=True)
    def change_anchor(
        self, world: World, grant: Grant, key: Key, data: AnchorCommand
    ) -> DecisionView:
        """Align the periods that start from then on to another instant."""
        billing = world.billing(grant.tenant)
        catalog = world.catalog.load(grant.tenant)
        subscription = known(catalog, key)
        stored = stored_periods(billing, subscription)
        now_us = world.clock.now_us()
        anchor = instant(data.anchor, now_us, subscription, stored, catalog, "anchor")
        return _decided(
            world,
            grant,
            key,
            data,
            lambda at, now: AnchorChange(at_us=at, recorded_us=now, anchor_us=anchor),
        )

    @post("/pause", opt=BILLING, status_code=200, sync_to_thread=True)
    def pause(self, world: World, grant: Grant, key: Key, data: CommandSpec) -> DecisionView:
        """Charge nothing until it is resumed."""
        return _decided(world, grant, key, data, lambda at, now: Pause(at_us=at, recorded_us=now))

    @post("/resume", opt=BILLING, status_code=200, sync_to_thread=True)
    def resume(self, world: World, grant: Grant, key: Key, data: CommandSpec) -> DecisionView:
        """Charge again."""
        return _decided(world, grant, key, data, lambda at, now: Resume(at_us=at, recorded_us=now))

    @post("/cancel", opt=BILLING, status_code=200, sync_to_thread=True)
    def cancel(self, world: World, grant: Grant, key: Key, data: CancelCommand) -> DecisionView:
        """End it, now, at the end of its period, or on a date; a second time moves the date."""
        return _decided(
            world,
            grant,
            key,
            data,
            lambda at, now: Cancel(at_us=at, recorded_us=now, credit=data.credit),
        )

    @post("/uncancel", opt=BILLING, status_code=200, sync_to_thread=True)
    def uncancel(self, world: World, grant: Grant, key: Key, data: CommandSpec) -> DecisionView:
        """Take a cancellation back whose date has not come."""
        return _decided(
            world, grant, key, data, lambda at, now: Uncancel(at_us=at, recorded_us=now)
        )


class Migrations(Controller):
    """Moving all subscriptions of a plan."""

    path = "/plans/{key:str}/migrate"
    tags = ("plans",)

    @post("/", opt=BILLING, status_code=200, sync_to_thread=True)
    def migrate_plan(self, world: World, grant: Grant, key: str, data: MigrateCommand) -> Migrated:
        """Move every subscription of a plan to one of its versions, all of them or none."""
        billing = world.billing(grant.tenant)
        found = migrate(billing, key, data.plan_version, data.at, dry=data.dry_run)
        items = [
            MovedView(
                subscription=one.subscription.key,
                outcome="moved",
                text=one.text,
                at=format_us(one.amendment.at_us),
            )
            if isinstance(one, Decision)
            else MovedView(subscription=one.subscription, outcome="left", text=one.reason)
            for one in found
        ]
        return Migrated(written=not data.dry_run, items=items)


def _decided(
    world: World,
    grant: Grant,
    key: str,
    data: CommandSpec,
    made: Callable[[int, int], Amendment],
) -> DecisionView:
    """Return what a command did, or would do; of a dry run with the invoice that would follow."""
    billing = world.billing(grant.tenant)
    decision = amend(billing, key, made, data.at, dry=data.dry_run)
    at_us, subscription = decision.amendment.at_us, decision.subscription
    draft = None
    if data.dry_run:
        request = BillRequest(until_us=max(at_us, world.clock.now_us()))
        draft = preview(billing, request, subscription.customer, instead=[subscription])
    return DecisionView(
        subscription=subscription.key,
        text=decision.text,
        at=format_us(at_us),
        state=decision.state,
        written=not data.dry_run,
        invoice=None if draft is None else draft.invoice,
    )


ROUTES: tuple[type[Controller], ...] = (Amendments, Migrations)
