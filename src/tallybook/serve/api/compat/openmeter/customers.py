"""Customers and subjects in OpenMeter's shapes, and what they may use.

A subject there is a subject of a customer here. One that nobody has is made a customer of its own,
whose key is the subject where it is fit for one.
"""

import hashlib
import re
from typing import Annotated, Any

import msgspec
from litestar import Controller, Response, delete, get, post, put
from litestar.params import Parameter

from tallybook.catalog.catalog import Catalog
from tallybook.catalog.customer import (
    Customer,
    CustomerSpec,
    SpanSpec,
    SubjectSpan,
    check_customer,
    customer_spec,
)
from tallybook.compose import World
from tallybook.kernel.errors import Missing
from tallybook.kernel.limits import NAME_CHARS_MAX
from tallybook.serve.api.checks import Checks
from tallybook.serve.api.checks.shown import value_view
from tallybook.serve.api.common.access import BILLING, READ
from tallybook.serve.api.compat.openmeter.meters import (
    PAGE_SIZE,
    UNKNOWN_TIME,
    PageNumber,
    PageSize,
    paged,
)
from tallybook.serve.api.gate import Grant
from tallybook.serve.api.rest.contracts.entries import archive_billed, change, create

CURRENCY = "USD"
"""Of a customer that a client makes without one, as OpenMeter has it."""
_NUMBERS = msgspec.json.Encoder(decimal_format="number")
_UNFIT = re.compile(r"[^A-Za-z0-9._:-]")

Text = Annotated[str | None, Parameter(required=False)]


class Attribution(msgspec.Struct, frozen=True, rename="camel"):
    """Whose usage a customer's is."""

    subject_keys: list[str]


class CustomerBody(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A customer as a client writes it; `metadata` is taken and not kept."""

    name: str
    key: str | None = None
    usage_attribution: Attribution | None = None
    primary_email: str | None = None
    currency: str | None = None
    billing_address: dict[str, str | None] | None = None


class CustomerShown(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A customer as a client reads it; its id is its key."""

    id: str
    key: str
    name: str
    usage_attribution: Attribution
    currency: str
    primary_email: str | None = None
    created_at: str = msgspec.field(default_factory=lambda: UNKNOWN_TIME)
    updated_at: str = msgspec.field(default_factory=lambda: UNKNOWN_TIME)


class CustomersShown(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A page of customers."""

    items: list[CustomerShown]
    total_count: int
    page: int
    page_size: int


class SubjectBody(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A subject as a client writes it."""

    key: str
    display_name: str | None = None


class SubjectShown(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A subject as a client reads it; its id is its key."""

    id: str
    key: str
    display_name: str | None = None
    created_at: str = msgspec.field(default_factory=lambda: UNKNOWN_TIME)
    updated_at: str = msgspec.field(default_factory=lambda: UNKNOWN_TIME)


def customer_shown(customer: Customer) -> CustomerShown:
    """Return a customer as a client reads it."""
    subjects = sorted({span.subject for span in customer.subjects if span.end_us is None})
    return CustomerShown(
        id=customer.key,
        key=customer.key,
        name=customer.name,
        usage_attribution=Attribution(subjects),
        currency=customer.currency,
        primary_email=customer.email or None,
    )


def own_key(subject: str) -> str:
    """Return the key of the customer that is made for a subject: the subject where it is fit."""
    if not _UNFIT.search(subject) and len(subject) <= NAME_CHARS_MAX:
        return subject
    mark = hashlib.sha256(subject.encode()).hexdigest()[:12]
    return f"{_UNFIT.sub('-', subject)[: NAME_CHARS_MAX - 13]}-{mark}"


def holder(catalog: Catalog, subject: str) -> Customer | None:
    """Return the customer in use whose subject this is now, None where it is nobody's."""
    return next((c for c in _live(catalog) if _has(c, subject)), None)


def _has(customer: Customer, subject: str) -> bool:
    return any(span.subject == subject and span.end_us is None for span in customer.subjects)


def _live(catalog: Catalog) -> list[Customer]:
    customers = sorted(catalog.customers.values(), key=lambda customer: customer.key)
    return [customer for customer in customers if catalog.live("customer", customer.key)]


def _spec(key: str, body: CustomerBody, known: CustomerSpec | None = None) -> CustomerSpec:
    base = known or CustomerSpec(key=key, currency=body.currency or CURRENCY)
    changes: dict[str, Any] = {"name": body.name}
    if body.primary_email is not None:
        changes["email"] = body.primary_email
    if body.currency:
        changes["currency"] = body.currency
    if body.billing_address is not None:
        changes["address"] = _lines(body.billing_address)
    if body.usage_attribution is not None:
        changes["subjects"] = _subjects(base, body.usage_attribution.subject_keys)
    return msgspec.structs.replace(base, **changes)


def _subjects(base: CustomerSpec, wanted: list[str]) -> list[str | SpanSpec]:
    """Return the wanted subjects; one that has dates already keeps them."""
    dated = {s.subject: s for s in base.subjects if isinstance(s, SpanSpec)}
    return [dated.get(subject, subject) for subject in dict.fromkeys(wanted)]


def _lines(address: dict[str, str | None]) -> list[str]:
    place = " ".join(filter(None, (address.get("postalCode"), address.get("city"))))
    named = (address.get(name) for name in ("line1", "line2"))
    rest = (place, address.get("state"), address.get("country"))
    return [line for line in (*named, *rest) if line]


class Customers(Controller):
    """Who pays."""

    path = "/customers"

    @get("/", opt=READ, sync_to_thread=True)
    def list_customers(
        self,
        world: World,
        grant: Grant,
        page: PageNumber = 1,
        page_size: PageSize = PAGE_SIZE,
        key: Text = None,
        name: Text = None,
        subject: Text = None,
    ) -> CustomersShown:
        """List customers in use; key, name and subject match in part, whatever the case."""
        found = [
            customer
            for customer in _live(world.catalog.load(grant.tenant))
            if _part(key, [customer.key])
            and _part(name, [customer.name])
            and _part(subject, [span.subject for span in customer.subjects])
        ]
        some = [customer_shown(customer) for customer in paged(found, page, page_size)]
        return CustomersShown(items=some, total_count=len(found), page=page, page_size=page_size)

    @post("/", opt=BILLING, sync_to_thread=True)
    def create_customer(self, world: World, grant: Grant, data: CustomerBody) -> CustomerShown:
        """Create a customer."""
        key = data.key or world.ids.new("cus")
        customer = check_customer(_spec(key, data))
        return customer_shown(create(world, grant, customer).customer(key))

    @get("/{key:str}", opt=READ, sync_to_thread=True)
    def get_customer(self, world: World, grant: Grant, key: str) -> CustomerShown:
        """Show a customer."""
        return customer_shown(world.catalog.load(grant.tenant).customer(key))

    @put("/{key:str}", opt=BILLING, sync_to_thread=True)
    def change_customer(
        self, world: World, grant: Grant, key: str, data: CustomerBody
    ) -> CustomerShown:
        """Change a customer; what OpenMeter does not know of it stays."""
        known = customer_spec(world.catalog.load(grant.tenant).customer(key))
        customer = check_customer(_spec(key, data, known))
        return customer_shown(change(world, grant, key, customer).customer(key))

    @delete("/{key:str}", opt=BILLING, sync_to_thread=True)
    def archive_customer(self, world: World, grant: Grant, key: str) -> None:
        """Take a customer out of use; Conflict where something is not billed yet."""
        archive_billed(world, grant, "customer", key, force=False)

    @get("/{key:str}/access", opt=READ, sync_to_thread=True)
    def access(self, world: World, grant: Grant, checks: Checks, key: str) -> Response[bytes]:
        """Tell of all features of a customer whether they may be used."""
        catalog = world.catalog.load(grant.tenant)
        customer = catalog.customer(key)
        told = {
            one.feature: value_view(checks.of(grant.tenant, catalog, one))
            for one in catalog.entitlements.values()
            if one.customer == customer.key and catalog.live("entitlement", one.key)
        }
        return _told({"entitlements": told})

    @get("/{key:str}/entitlements/{feature:str}/value", opt=READ, sync_to_thread=True)
    def value(
        self, world: World, grant: Grant, checks: Checks, key: str, feature: str
    ) -> Response[bytes]:
        """Tell whether a customer may use a feature, and what is left."""
        customer = world.catalog.load(grant.tenant).customer(key)
        return _told(value_view(checks.value(grant.tenant, customer.key, feature)))


@get("/v2/customers/{key:str}/entitlements/{feature:str}/value", opt=READ, sync_to_thread=True)
def customer_value(
    world: World, grant: Grant, checks: Checks, key: str, feature: str
) -> Response[bytes]:
    """Tell whether a customer may use a feature, and what is left."""
    customer = world.catalog.load(grant.tenant).customer(key)
    return _told(value_view(checks.value(grant.tenant, customer.key, feature)))


class Subjects(Controller):
    """Who used something."""

    path = "/subjects"

    @get("/", opt=READ, sync_to_thread=True)
    def list_subjects(self, world: World, grant: Grant) -> list[SubjectShown]:
        """List the subjects that customers have."""
        found = {
            span.subject: _subject_shown(span.subject, customer)
            for customer in _live(world.catalog.load(grant.tenant))
            for span in customer.subjects
            if span.end_us is None
        }
        return [found[subject] for subject in sorted(found)]

    @post("/", opt=BILLING, status_code=200, sync_to_thread=True)
    def upsert_subjects(
        self, world: World, grant: Grant, data: list[SubjectBody]
    ) -> list[SubjectShown]:
        """Make a customer of each subject that is nobody's; name those that were made so."""
        return [self._upsert(world, grant, subject) for subject in data]

    @get("/{subject:str}", opt=READ, sync_to_thread=True)
    def get_subject(self, world: World, grant: Grant, subject: str) -> SubjectShown:
        """Show a subject."""
        return _subject_shown(subject, _held(world.catalog.load(grant.tenant), subject))

    @delete("/{subject:str}", opt=BILLING, sync_to_thread=True)
    def delete_subject(self, world: World, grant: Grant, subject: str) -> None:
        """Take a subject from its customer from now on; what it used until now stays."""
        customer = _held(world.catalog.load(grant.tenant), subject)
        if customer.key == own_key(subject) and len(customer.subjects) == 1:
            archive_billed(world, grant, "customer", customer.key, force=False)
            return
        ended = tuple(_ended(span, subject, world.clock.now_us()) for span in customer.subjects)
        kept = msgspec.structs.replace(customer, subjects=tuple(s for s in ended if s is not None))
        change(world, grant, customer.key, kept)

    @get("/{subject:str}/entitlements/{feature:str}/value", opt=READ, sync_to_thread=True)
    def value(
        self, world: World, grant: Grant, checks: Checks, subject: str, feature: str
    ) -> Response[bytes]:
        """Tell whether the customer of a subject may use a feature, and what is left."""
        customer = _held(world.catalog.load(grant.tenant), subject)
        return _told(value_view(checks.value(grant.tenant, customer.key, feature)))

    def _upsert(self, world: World, grant: Grant, body: SubjectBody) -> SubjectShown:
        customer = holder(world.catalog.load(grant.tenant), body.key)
        key = own_key(body.key)
        if customer is None:
            spec = CustomerSpec(
                key=key, name=body.display_name or "", currency=CURRENCY, subjects=[body.key]
            )
            customer = create(world, grant, check_customer(spec)).customer(key)
        elif customer.key == key and body.display_name:
            named = msgspec.structs.replace(customer, name=body.display_name)
            customer = change(world, grant, key, named).customer(key)
        return _subject_shown(body.key, customer)


def _held(catalog: Catalog, subject: str) -> Customer:
    found = holder(catalog, subject)
    if found is None:
        raise Missing(f"there is no subject '{subject}'", field="subject")
    return found


def _subject_shown(subject: str, customer: Customer) -> SubjectShown:
    return SubjectShown(id=subject, key=subject, display_name=customer.name)


def _ended(span: SubjectSpan, subject: str, now_us: int) -> SubjectSpan | None:
    if span.subject != subject or span.end_us is not None:
        return span
    if span.start_us is not None and span.start_us >= now_us:
        return None
    return msgspec.structs.replace(span, end_us=now_us)


def _part(wanted: str | None, texts: list[str]) -> bool:
    return not wanted or any(wanted.lower() in text.lower() for text in texts)


def _told(body: object) -> Response[bytes]:
    return Response(_NUMBERS.encode(body), media_type="application/json")
