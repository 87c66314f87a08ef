"""`catalog.toml`: the catalog of one tenant as text, parsed and checked.

Absence never deletes (DECISIONS 25). TOML has no null: an absent `up_to` is open. Dates may be
written as TOML dates or as text; numbers are read as exact decimals.
"""

import tomllib
from collections import Counter
from datetime import date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import TypeVar

import msgspec

from tallybook.catalog.coupon import Coupon, CouponSpec, check_coupon
from tallybook.catalog.customer import (
    Customer,
    CustomerSpec,
    Seller,
    SellerSpec,
    check_customer,
    check_seller,
)
from tallybook.catalog.entitlement import EntitlementSpec, Wallet, WalletSpec, check_wallet
from tallybook.catalog.meter import Meter, MeterSpec, check_meter
from tallybook.catalog.plan import Plan, PlanSpec, check_plan
from tallybook.catalog.rule import CustomerRule, check_rule
from tallybook.catalog.subscription import SubscriptionSpec
from tallybook.catalog.tax import Tax, TaxSpec, check_tax
from tallybook.kernel.decimals import check_numbers
from tallybook.kernel.errors import Invalid

DOCUMENT_CHARS_MAX = 4 * 1024 * 1024

_Keyed = TypeVar("_Keyed", Tax, Meter, Plan, Coupon, Customer, Wallet, CustomerRule)


class DocumentSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file as it is written."""

    seller: SellerSpec | None = None
    taxes: list[TaxSpec] = []
    meters: list[MeterSpec] = []
    prices: dict[str, dict[str, object]] = {}
    plans: list[PlanSpec] = []
    coupons: list[CouponSpec] = []
    customers: list[CustomerSpec] = []
    customer_rules: list[CustomerRule] = []
    subscriptions: list[SubscriptionSpec] = []
    entitlements: list[EntitlementSpec] = []
    wallets: list[WalletSpec] = []
    usage_plans: list[dict[str, object]] | None = None
    routes: list[dict[str, object]] | None = None


class CatalogDocument(msgspec.Struct, frozen=True, kw_only=True):
    """The file, checked; versions are given when it is compared with what is stored.

    Attributes:
        subscriptions: still as written: their dates need the customer's zone.
        entitlements: still as written, for the same reason.
        usage_plans: still as written: they are the gate's; None where the file says nothing of any.
        routes: still as written, for they are the router's.
    """

    seller: Seller | None = None
    taxes: tuple[Tax, ...] = ()
    meters: tuple[Meter, ...] = ()
    plans: tuple[Plan, ...] = ()
    coupons: tuple[Coupon, ...] = ()
    customers: tuple[Customer, ...] = ()
    rules: tuple[CustomerRule, ...] = ()
    subscriptions: tuple[SubscriptionSpec, ...] = ()
    entitlements: tuple[EntitlementSpec, ...] = ()
    wallets: tuple[Wallet, ...] = ()
    usage_plans: tuple[dict[str, object], ...] | None = None
    routes: tuple[dict[str, object], ...] | None = None


def parse_document(text: str) -> CatalogDocument:
    """Return the catalog that a TOML text means.

    Raises:
        Invalid: names the table and field, and what to write instead.
    """
    if len(text) > DOCUMENT_CHARS_MAX:
        raise Invalid(f"catalog.toml is longer than {DOCUMENT_CHARS_MAX} characters")
    spec = parse_spec(text)
    _once("subscriptions", [one.key for one in spec.subscriptions])
    _once("entitlements", [f"{one.customer}:{one.feature}" for one in spec.entitlements])
    return CatalogDocument(
        seller=None if spec.seller is None else check_seller(spec.seller),
        taxes=_distinct("taxes", [check_tax(tax) for tax in spec.taxes]),
        meters=_distinct("meters", [check_meter(meter) for meter in spec.meters]),
        plans=_distinct("plans", [check_plan(plan, spec.prices) for plan in spec.plans]),
        coupons=_distinct("coupons", [check_coupon(coupon) for coupon in spec.coupons]),
        customers=_distinct("customers", [check_customer(c) for c in spec.customers]),
        rules=_distinct("customer_rules", [check_rule(rule) for rule in spec.customer_rules]),
        subscriptions=tuple(spec.subscriptions),
        entitlements=tuple(spec.entitlements),
        wallets=_distinct("wallets", [check_wallet(wallet) for wallet in spec.wallets]),
        usage_plans=None if spec.usage_plans is None else tuple(spec.usage_plans),
        routes=None if spec.routes is None else tuple(spec.routes),
    )


def parse_spec(text: str) -> DocumentSpec:
    """Return the file's own shape; raises Invalid."""
    try:
        raw = tomllib.loads(text, parse_float=Decimal)
    except (ValueError, InvalidOperation) as error:  # or an integer longer than Python reads
        raise Invalid(f"catalog.toml is not TOML: {error}") from error
    try:
        spec = msgspec.convert(_texts(raw), DocumentSpec)
    except msgspec.ValidationError as error:
        raise Invalid(f"catalog.toml: {error}") from error
    check_numbers(spec)
    return spec


def _texts(value: object) -> object:
    """Return TOML values with dates and times as text."""
    if isinstance(value, dict):
        return {key: _texts(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_texts(item) for item in value]
    return value.isoformat() if isinstance(value, datetime | date | time) else value


def _distinct(table: str, things: list[_Keyed]) -> tuple[_Keyed, ...]:
    _once(table, [thing.key for thing in things])
    return tuple(things)


def _once(table: str, keys: list[str]) -> None:
    """Refuse a table that declares a thing twice."""
    twice = [key for key, times in Counter(keys).items() if times > 1]
    if twice:
        raise Invalid(f"{table}: '{min(twice)}' is there twice", field=table)
