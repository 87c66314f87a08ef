"""`catalog.toml`: the catalog of one tenant as text, parsed and checked.

Absence never deletes (DECISIONS 25). TOML has no null: an absent `up_to` is open. Dates may be
written as TOML dates or as text; numbers are read as exact decimals.
"""

import tomllib
from datetime import date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import TypeVar

import msgspec

from tallybook.catalog.customer import (
    Customer,
    CustomerSpec,
    Seller,
    SellerSpec,
    check_customer,
    check_seller,
)
from tallybook.catalog.meter import Meter, MeterSpec, check_meter
from tallybook.catalog.plan import Plan, PlanSpec, check_plan
from tallybook.catalog.rule import CustomerRule, check_rule
from tallybook.catalog.subscription import SubscriptionSpec
from tallybook.kernel.errors import Invalid

DOCUMENT_CHARS_MAX = 4 * 1024 * 1024

_Keyed = TypeVar("_Keyed", Meter, Plan, Customer, CustomerRule)


class DocumentSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file as it is written."""

    seller: SellerSpec | None = None
    meters: list[MeterSpec] = []
    prices: dict[str, dict[str, object]] = {}
    plans: list[PlanSpec] = []
    customers: list[CustomerSpec] = []
    customer_rules: list[CustomerRule] = []
    subscriptions: list[SubscriptionSpec] = []


class CatalogDocument(msgspec.Struct, frozen=True, kw_only=True):
    """The file, checked; versions are given when it is compared with what is stored.

    Attributes:
        subscriptions: still as written: their dates need the customer's zone.
    """

    seller: Seller | None = None
    meters: tuple[Meter, ...] = ()
    plans: tuple[Plan, ...] = ()
    customers: tuple[Customer, ...] = ()
    rules: tuple[CustomerRule, ...] = ()
    subscriptions: tuple[SubscriptionSpec, ...] = ()


def parse_document(text: str) -> CatalogDocument:
    """Return the catalog that a TOML text means.

    Raises:
        Invalid: names the table and field, and what to write instead.
    """
    if len(text) > DOCUMENT_CHARS_MAX:
        raise Invalid(f"catalog.toml is longer than {DOCUMENT_CHARS_MAX} characters")
    spec = parse_spec(text)
    if len({s.key for s in spec.subscriptions}) != len(spec.subscriptions):
        raise Invalid("two subscriptions have the same key", field="subscriptions")
    return CatalogDocument(
        seller=None if spec.seller is None else check_seller(spec.seller),
        meters=_distinct("meters", [check_meter(meter) for meter in spec.meters]),
        plans=_distinct("plans", [check_plan(plan, spec.prices) for plan in spec.plans]),
        customers=_distinct("customers", [check_customer(c) for c in spec.customers]),
        rules=_distinct("customer_rules", [check_rule(rule) for rule in spec.customer_rules]),
        subscriptions=tuple(spec.subscriptions),
    )


def parse_spec(text: str) -> DocumentSpec:
    """Return the file's own shape; raises Invalid."""
    try:
        raw = tomllib.loads(text, parse_float=Decimal)
    except (tomllib.TOMLDecodeError, InvalidOperation) as error:
        raise Invalid(f"catalog.toml is not TOML: {error}") from error
    try:
        return msgspec.convert(_texts(raw), DocumentSpec)
    except msgspec.ValidationError as error:
        raise Invalid(f"catalog.toml: {error}") from error


def _texts(value: object) -> object:
    """Return TOML values with dates and times as text."""
    if isinstance(value, dict):
        return {key: _texts(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_texts(item) for item in value]
    return value.isoformat() if isinstance(value, datetime | date | time) else value


def _distinct(table: str, things: list[_Keyed]) -> tuple[_Keyed, ...]:
    keys = [thing.key for thing in things]
    twice = (
        sorted({key for key in keys if keys.count(key) > 1}) if len(set(keys)) < len(keys) else []
    )
    if twice:
        raise Invalid(f"{table}: '{twice[0]}' is there twice", field=table)
    return tuple(things)
