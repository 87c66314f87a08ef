"""Entitlements: what a customer may use, what was granted, and the check before it is used."""

from decimal import Decimal
from typing import Annotated, Any

import msgspec
from litestar import Controller, Response, delete, get, post, put
from litestar.params import Parameter

from tallybook.catalog.catalog import Catalog
from tallybook.catalog.entitlement import (
    Entitlement,
    EntitlementSpec,
    Grant,
    GrantSpec,
    Metered,
    check_entitlement,
    check_grant,
    entitlement_spec,
    interval_text,
    void,
)
from tallybook.compose import World
from tallybook.kernel.errors import Invalid, Missing
from tallybook.kernel.period import parse_moment, zone
from tallybook.kernel.timestamps import format_us
from tallybook.meter.window import WindowSize, bounds
from tallybook.serve.api.bounds import check_own
from tallybook.serve.api.checks import Checked, Checks, found
from tallybook.serve.api.checks.shown import NUMBERS, short, shown_value, value_view, wanted_of
from tallybook.serve.api.common.access import BILLING, READ, READ_BOUND
from tallybook.serve.api.common.paging import LIMIT_DEFAULT, Cursor, Limit, Page, keyed_page
from tallybook.serve.api.gate import Grant as Key
from tallybook.serve.api.rest.contracts.entries import Archived, archive, change, create, shown
from tallybook.settle.balance import NOTHING
from tallybook.settle.entitlement import HandReset, check_reset
from tallybook.settle.flow import Question, balance_history, balances
from tallybook.settle.ports import EntitlementFacts

At = Annotated[
    str | None,
    Parameter(query="at", required=False, description="RFC 3339, or a date of the customer's zone"),
]
Amount = Annotated[
    str | None, Parameter(query="amount", required=False, description="How much is wanted, whole.")
]


class EntitlementView(EntitlementSpec, frozen=True, kw_only=True):
    """An entitlement as it is stored; times are RFC 3339."""

    key: str
    archived: bool = False


class GrantView(msgspec.Struct, frozen=True, kw_only=True):
    """A grant; times are RFC 3339.

    Attributes:
        left: what is left of it now; null where it is not in force.
    """

    key: str
    amount: Decimal
    effective: str
    expires: str | None
    voided: str | None
    priority: int
    every: str | None
    anchor: str | None
    rollover_min: Decimal
    rollover_max: Decimal
    left: Decimal | None = None


class ResetSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A reset by hand.

    Attributes:
        at: null for now.
        keep_anchor: the periods after it end where they would have without it.
        keep_overage: null for as the entitlement says.
    """

    at: str | None = None
    keep_anchor: bool = False
    keep_overage: bool | None = None


class VoidSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From when on a grant is taken back; null for now."""

    at: str | None = None


class WindowView(msgspec.Struct, frozen=True, kw_only=True, rename={"start": "from", "end": "to"}):
    """One window of a history: the balance at its start, and what was used in it."""

    start: str
    end: str
    balance: Decimal
    overage: Decimal
    usage: Decimal


def entitlement_view(catalog: Catalog, key: str) -> EntitlementView:
    """Return an entitlement as the API shows it; raises Missing."""
    if key not in catalog.entitlements:
        raise Missing(f"there is no entitlement '{key}'", field="key")
    written = msgspec.structs.asdict(entitlement_spec(catalog.entitlements[key]))
    return EntitlementView(**written, key=key, archived=not catalog.live("entitlement", key))


def grant_view(grant: Grant, left: Decimal | None = None) -> GrantView:
    """Return a grant as the API shows it."""
    recurrence = grant.recurrence
    return GrantView(
        key=grant.key,
        amount=short(grant.amount),
        effective=format_us(grant.effective_us),
        expires=_time(grant.expires_us),
        voided=_time(grant.voided_us),
        priority=grant.priority,
        every=None if recurrence is None else interval_text(recurrence.interval),
        anchor=None if recurrence is None else format_us(recurrence.anchor_us),
        rollover_min=short(grant.rollover.least),
        rollover_max=short(grant.rollover.most),
        left=None if left is None else short(left),
    )


def _time(at_us: int | None) -> str | None:
    return None if at_us is None else format_us(at_us)


def _numbers(body: object) -> Response[bytes]:
    return Response(NUMBERS.encode(body), media_type="application/json")


def _moment(catalog: Catalog, customer: str, text: str | None, field: str, now_us: int) -> int:
    """Return an instant as a client wrote it, in the customer's zone; now where it wrote none."""
    if text is None:
        return now_us
    return parse_moment(text.replace(" ", "+"), zone(catalog.customer(customer).zone), field)


def _checked(
    checks: Checks,
    catalog: Catalog,
    tenant: str,
    entitlement: Entitlement,
    at: tuple[str | None, int],
    wanted: Decimal,
) -> Checked:
    text, now_us = at
    if text is None:
        return checks.of(tenant, catalog, entitlement, wanted)
    at_us = _moment(catalog, entitlement.customer, text, "at", now_us)
    return checks.at(tenant, catalog, entitlement, at_us, wanted)


class Entitlements(Controller):
    """What customers may use."""

    path = "/entitlements"
    tags = ("entitlements",)

    @get("/", opt=READ, sync_to_thread=True)
    def list_entitlements(
        self,
        world: World,
        grant: Key,
        limit: Limit = LIMIT_DEFAULT,
        cursor: Cursor = None,
        customer: str | None = None,
        archived: Archived = False,
    ) -> Page[EntitlementView]:
        """List entitlements by key."""
        catalog = world.catalog.load(grant.tenant)
        some = [
            one
            for one in shown(catalog, "entitlement", catalog.entitlements, archived=archived)
            if customer in {None, one.customer}
        ]
        page = keyed_page(some, limit, cursor, lambda one: one.key)
        return Page([entitlement_view(catalog, one.key) for one in page.items], page.next_cursor)

    @post("/", opt=BILLING, sync_to_thread=True)
    def create_entitlement(
        self, world: World, grant: Key, data: EntitlementSpec
    ) -> EntitlementView:
        """Give a customer a feature."""
        made = self._made(world, grant, data)
        return entitlement_view(create(world, grant, made), made.key)

    @get("/{key:str}", opt=READ, sync_to_thread=True)
    def get_entitlement(self, world: World, grant: Key, key: str) -> EntitlementView:
        """Show an entitlement."""
        return entitlement_view(world.catalog.load(grant.tenant), key)

    @put("/{key:str}", opt=BILLING, sync_to_thread=True)
    def change_entitlement(
        self, world: World, grant: Key, key: str, data: EntitlementSpec
    ) -> EntitlementView:
        """Change an entitlement; balances are worked out by what it says now."""
        return entitlement_view(change(world, grant, key, self._made(world, grant, data)), key)

    @delete("/{key:str}", opt=BILLING, sync_to_thread=True)
    def archive_entitlement(self, world: World, grant: Key, key: str) -> None:
        """Take a feature from a customer; what was granted stays on record."""
        archive(world, grant, "entitlement", key)

    @get("/{key:str}/value", opt=READ_BOUND, sync_to_thread=True)
    def get_value(
        self,
        world: World,
        grant: Key,
        checks: Checks,
        key: str,
        at: At = None,
        amount: Amount = None,
    ) -> Response[bytes]:
        """Tell whether it may be used, now or at an instant, and what is left.

        Cheap enough to ask before every request of a customer: answers come from balances that are
        kept; `cut` says as of which snapshot of the events.
        """
        catalog = world.catalog.load(grant.tenant)
        when = (at, world.clock.now_us())
        entitlement = found(catalog, key)
        check_own(grant, entitlement.customer, f"entitlement '{key}'", "key")
        checked = _checked(checks, catalog, grant.tenant, entitlement, when, wanted_of(amount))
        return Response(shown_value(checked), media_type="application/json")

    @get("/{key:str}/history", opt=READ, sync_to_thread=True)
    def get_history(
        self,
        world: World,
        grant: Key,
        key: str,
        from_: Annotated[str, Parameter(query="from")],
        to: Annotated[str | None, Parameter(query="to", required=False)] = None,
        window: Annotated[WindowSize, Parameter(query="window", required=False)] = "DAY",
    ) -> Response[bytes]:
        """Show balance and usage by windows of the customer's zone."""
        catalog = world.catalog.load(grant.tenant)
        entitlement = found(catalog, key)
        customer, now_us = entitlement.customer, world.clock.now_us()
        borders = bounds(
            _moment(catalog, customer, from_, "from", now_us),
            _moment(catalog, customer, to, "to", now_us),
            window,
            catalog.customer(customer).zone,
        )
        asked = self._asked(world, grant, entitlement)
        windows = [
            WindowView(
                start=format_us(one.start_us),
                end=format_us(one.end_us),
                balance=short(one.balance),
                overage=short(one.overage),
                usage=short(one.usage),
            )
            for one in balance_history(world.usage, catalog, asked, borders)
        ]
        return _numbers({"windows": windows, "cut": asked.cut})

    @get("/{key:str}/grants", opt=READ, sync_to_thread=True)
    def list_grants(
        self,
        world: World,
        grant: Key,
        key: str,
        limit: Limit = LIMIT_DEFAULT,
        cursor: Cursor = None,
    ) -> Response[bytes]:
        """List the grants of an entitlement by key, with what is left of each."""
        catalog = world.catalog.load(grant.tenant)
        asked = self._asked(world, grant, found(catalog, key))
        state = balances(world.usage, catalog, asked, world.clock.now_us())
        left = {} if state is None else state.left
        views = [grant_view(one, left.get(one.key)) for one in asked.grants]
        return _numbers(keyed_page(views, limit, cursor, lambda view: view.key))

    @post("/{key:str}/grants", opt=BILLING, sync_to_thread=True)
    def add_grant(self, world: World, grant: Key, key: str, data: GrantSpec) -> Response[bytes]:
        """Grant an amount of a metered feature."""
        catalog = world.catalog.load(grant.tenant)
        entitlement = found(catalog, key)
        _metered(entitlement)
        made = check_grant(data, catalog.customer(entitlement.customer).zone)
        known = self._facts(world, grant, key)
        world.entitlements.add_grant(grant.tenant, key, made, known.version)
        return Response(NUMBERS.encode(grant_view(made)), media_type="application/json")

    @post("/{key:str}/grants/{name:str}/void", opt=BILLING, status_code=200, sync_to_thread=True)
    def void_grant(
        self, world: World, grant: Key, key: str, name: str, data: VoidSpec
    ) -> Response[bytes]:
        """Take back what is left of a grant; what was used of it stays used."""
        catalog = world.catalog.load(grant.tenant)
        customer = found(catalog, key).customer
        known = self._facts(world, grant, key)
        at_us = _moment(catalog, customer, data.at, "at", world.clock.now_us())
        for one in known.grants:
            if one.key == name:
                voided = void(one, at_us)
                if voided != one:
                    world.entitlements.void_grant(grant.tenant, key, voided, known.version)
                return _numbers(grant_view(voided))
        raise Missing(f"{key} has no grant '{name}'", field="grant")

    @post("/{key:str}/reset", opt=BILLING, status_code=200, sync_to_thread=True)
    def reset(
        self, world: World, grant: Key, checks: Checks, key: str, data: ResetSpec
    ) -> Response[bytes]:
        """End the usage period and begin the next."""
        catalog = world.catalog.load(grant.tenant)
        entitlement = found(catalog, key)
        known, now_us = self._facts(world, grant, key), world.clock.now_us()
        at_us = _moment(catalog, entitlement.customer, data.at, "at", now_us)
        asked = HandReset(at_us, data.keep_anchor, data.keep_overage)
        made = check_reset(_metered(entitlement), known.resets, asked, now_us)
        world.entitlements.add_reset(grant.tenant, key, made, known.version)
        return _numbers(value_view(checks.of(grant.tenant, catalog, entitlement)))

    def _made(self, world: World, grant: Key, data: EntitlementSpec) -> Entitlement:
        customer = world.catalog.load(grant.tenant).customer(data.customer)
        return check_entitlement(data, customer.zone)

    def _facts(self, world: World, grant: Key, key: str) -> EntitlementFacts:
        return world.entitlements.facts(grant.tenant, [key])[key]

    def _asked(self, world: World, grant: Key, entitlement: Entitlement) -> Question:
        facts = self._facts(world, grant, entitlement.key)
        return Question(
            tenant=grant.tenant,
            entitlement=entitlement,
            grants=facts.grants,
            by_hand=facts.resets,
            cut=world.usage.head(),
        )


def _metered(entitlement: Entitlement) -> Metered:
    if not isinstance(entitlement.access, Metered):
        message = f"{entitlement.key} is not metered: it has no grants and no usage periods"
        raise Invalid(message, field="key")
    return entitlement.access


@get("/customers/{key:str}/access", opt=READ_BOUND, tags=["entitlements"], sync_to_thread=True)
def customer_access(
    world: World, grant: Key, checks: Checks, key: str, at: At = None
) -> Response[bytes]:
    """Tell of all features of a customer whether they may be used."""
    catalog = world.catalog.load(grant.tenant)
    check_own(grant, key, f"customer '{key}'", "customer")
    catalog.customer(key)
    when = (at, world.clock.now_us())
    features: dict[str, Any] = {
        one.feature: value_view(_checked(checks, catalog, grant.tenant, one, when, NOTHING))
        for one in sorted(catalog.entitlements.values(), key=lambda one: one.feature)
        if one.customer == key and catalog.live("entitlement", one.key)
    }
    return _numbers({"customer": key, "features": features})


ROUTES = (Entitlements, customer_access)
