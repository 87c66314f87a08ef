"""The catalog of one tenant as one value: what is sold, to whom, since when.

A change is data: `with_entries` gives the catalog after it, `check` refuses one that contradicts
itself, and a store only writes what was decided here.

Source: DECISIONS 18, 19, 21, 25.
"""

from collections.abc import Iterable, Mapping
from typing import Literal, TypeVar, get_args

import msgspec

from tallybook.catalog.coupon import Coupon
from tallybook.catalog.customer import Customer, Seller
from tallybook.catalog.entitlement import Entitlement, Wallet
from tallybook.catalog.meter import Meter
from tallybook.catalog.plan import Plan
from tallybook.catalog.rule import CustomerRule
from tallybook.catalog.subscription import Subscription
from tallybook.catalog.tax import Tax
from tallybook.kernel.errors import Missing
from tallybook.kernel.timestamps import format_us

_Versioned = TypeVar("_Versioned", Meter, Plan)

Kind = Literal[
    "tax",
    "seller",
    "meter",
    "plan",
    "coupon",
    "customer",
    "subscription",
    "entitlement",
    "wallet",
    "rule",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""In the order in which they are applied: nothing refers to a later kind."""


PLACES: dict[Kind, str] = {
    "tax": "taxes",
    "meter": "meters",
    "plan": "plans",
    "coupon": "coupons",
    "customer": "customers",
    "subscription": "subscriptions",
    "entitlement": "entitlements",
    "wallet": "wallets",
    "rule": "rules",
}
"""Where a catalog keeps the things of a kind, by their keys."""


class Archive(msgspec.Struct, frozen=True):
    """Take a thing out of use; what refers to it from the past still finds it."""

    kind: Kind
    key: str


Entry = (
    Tax
    | Seller
    | Meter
    | Plan
    | Coupon
    | Customer
    | Subscription
    | Entitlement
    | Wallet
    | CustomerRule
    | Archive
)
"""What can be written: a thing as it shall be, or that it is archived."""


KIND_OF: dict[type[object], Kind] = {
    Tax: "tax",
    Seller: "seller",
    Meter: "meter",
    Plan: "plan",
    Coupon: "coupon",
    Customer: "customer",
    Subscription: "subscription",
    Entitlement: "entitlement",
    Wallet: "wallet",
    CustomerRule: "rule",
}


class Catalog(msgspec.Struct, frozen=True, kw_only=True):
    """Everything of one tenant, archived things included.

    Attributes:
        version: grows with every change of any tenant.
        meters: key -> all versions, oldest first.
        plans: key -> all versions, oldest first.
        archived: (kind, key) of what is out of use.
    """

    version: int = 0
    seller: Seller = Seller()
    meters: dict[str, tuple[Meter, ...]] = {}
    plans: dict[str, tuple[Plan, ...]] = {}
    customers: dict[str, Customer] = {}
    subscriptions: dict[str, Subscription] = {}
    rules: dict[str, CustomerRule] = {}
    taxes: dict[str, Tax] = {}
    coupons: dict[str, Coupon] = {}
    entitlements: dict[str, Entitlement] = {}
    wallets: dict[str, Wallet] = {}
    archived: frozenset[tuple[Kind, str]] = frozenset()

    def live(self, kind: Kind, key: str) -> bool:
        """Whether a thing exists and is in use."""
        return key in self.keys(kind) and (kind, key) not in self.archived

    def keys(self, kind: Kind) -> Mapping[str, object]:
        """Return everything of a kind by its key."""
        if kind == "seller":
            return {"seller": self.seller}
        found: Mapping[str, object] = getattr(self, PLACES[kind])
        return found

    def meter(self, key: str, version: int | None = None) -> Meter:
        """Return one version of a meter, the newest where none is named; raises Missing."""
        for meter in reversed(self.meters.get(key, ())):
            if version is None or meter.version == version:
                return meter
        raise Missing(f"there is no meter {_named(key, version)}", field="meter")

    def plan(self, key: str, version: int | None = None) -> Plan:
        """Return one version of a plan, the newest where none is named; raises Missing."""
        for plan in reversed(self.plans.get(key, ())):
            if version is None or plan.version == version:
                return plan
        raise Missing(f"there is no plan {_named(key, version)}", field="plan")

    def plan_at(self, key: str, at_us: int) -> Plan:
        """Return the version of a plan that a period starting at an instant is opened with.

        It is the newest whose effective date has come; a version without one is in effect at once
        and for all the past.

        Raises:
            Missing: there is no such plan, or none of its versions was in effect then.
        """
        for plan in reversed(self.plans.get(key, ())):
            if plan.effective_us is None or plan.effective_us <= at_us:
                return plan
        if key not in self.plans:
            raise Missing(f"there is no plan {_named(key, None)}", field="plan")
        raise Missing(f"plan '{key}' is not in effect at {format_us(at_us)}", field="plan")

    def customer(self, key: str) -> Customer:
        """Return a customer; raises Missing."""
        if key not in self.customers:
            raise Missing(f"there is no customer '{key}'", field="customer")
        return self.customers[key]

    def payer(self, key: str) -> Customer:
        """Return who pays for a customer: its parent, or itself; raises Missing."""
        customer = self.customer(key)
        return self.customer(customer.parent) if customer.parent else customer

    def live_meters(self) -> list[Meter]:
        """Return the newest version of every meter in use, by key."""
        return [v[-1] for key, v in sorted(self.meters.items()) if self.live("meter", key)]


def _named(key: str, version: int | None) -> str:
    return f"'{key}'" if version is None else f"'{key}' version {version}"


def entry_kind(entry: Entry) -> Kind:
    """Return the kind of thing an entry is about."""
    return entry.kind if isinstance(entry, Archive) else KIND_OF[type(entry)]


def entry_key(entry: Entry) -> str:
    """Return the key of the thing an entry is about."""
    return "seller" if isinstance(entry, Seller) else entry.key


def with_entries(catalog: Catalog, entries: Iterable[Entry]) -> Catalog:
    """Return the catalog after the entries were written, in order. The version stays."""
    seller, archived = catalog.seller, set(catalog.archived)
    places: dict[Kind, dict[str, object]] = {}
    for entry in entries:
        kind, key = entry_kind(entry), entry_key(entry)
        if isinstance(entry, Archive):
            archived.add((kind, key))
            continue
        archived.discard((kind, key))
        if isinstance(entry, Seller):
            seller = entry
            continue
        place = places.setdefault(kind, dict(catalog.keys(kind)))
        if isinstance(entry, Meter):
            place[key] = _joined(_versions(place, key, Meter), entry)
        elif isinstance(entry, Plan):
            place[key] = _joined(_versions(place, key, Plan), entry)
        else:
            place[key] = entry
    fields: dict[str, object] = {PLACES[kind]: place for kind, place in places.items()}
    return msgspec.structs.replace(catalog, seller=seller, archived=frozenset(archived), **fields)


def _versions(
    place: Mapping[str, object], key: str, _type: type[_Versioned]
) -> tuple[_Versioned, ...]:
    found = place.get(key, ())
    assert isinstance(found, tuple), "meters and plans are kept by version"
    return found


def _joined(versions: tuple[_Versioned, ...], entry: _Versioned) -> tuple[_Versioned, ...]:
    """Return all versions with this one, which takes the place of its equal in number."""
    joined = [other for other in versions if other.version != entry.version]
    joined.append(entry)
    joined.sort(key=lambda thing: thing.version)
    return tuple(joined)
