"""What a customer holds, changed by hand: credit paid out, charges withdrawn, use granted."""

from collections.abc import Mapping
from typing import Any

import msgspec
from litestar import Request, Response, post
from litestar.types import ControllerRouterHandler

from tallybook.catalog.customer import Customer
from tallybook.catalog.entitlement import Entitlement, Grant, GrantSpec, Metered, check_grant
from tallybook.compose import World
from tallybook.kernel.decimals import plain
from tallybook.kernel.errors import Conflict, Invalid, Missing
from tallybook.kernel.money import money_text
from tallybook.kernel.timestamps import format_us
from tallybook.serve.api.rest.settlement.bodies import minor_of
from tallybook.serve.api.rest.settlement.payments import RefundSpec, received_of
from tallybook.serve.console.access import BILLING_PAGE, sent_by
from tallybook.serve.console.auth import Form
from tallybook.serve.console.forms import (
    Confirmation,
    ask,
    carried,
    confirmed,
    needed,
    number_of,
    text_of,
    to,
)
from tallybook.serve.console.once import is_recorded, once_key
from tallybook.serve.console.render import money, number
from tallybook.settle.receivable.flow import pay_out, withdraw_extra


@post("/customers/{key:str}/refunds", opt=BILLING_PAGE, sync_to_thread=True)
def refund_credit(
    request: "Request[Any, Any, Any]", world: World, key: str, data: Form
) -> Response[Any]:
    """Ask whether credit was paid out to a customer, or write it down; the same form once."""
    session = sent_by(request, data)
    tenant = session.grant.tenant
    name = f"ref_{once_key(world, needed(data, 'once'))}"
    customer = world.catalog.load(tenant).customer(key)
    spec = RefundSpec(
        customer=key,
        amount=number_of(data, "amount"),
        method=needed(data, "method"),
        reference=text_of(data, "reference"),
        source=text_of(data, "source") or None,
    )
    received = msgspec.structs.replace(received_of(world, session.grant, spec, "ref"), id=name)
    if not confirmed(data):
        return ask(session, "customers", _refund(customer, spec, data))
    if not is_recorded(world, tenant, name):
        pay_out(world.settling(tenant), key, received, spec.source)
    return to(f"/payments/{name}")


def _refund(customer: Customer, spec: RefundSpec, data: Mapping[str, str]) -> Confirmation:
    minor = minor_of("amount", spec.amount, customer.currency)
    return Confirmation(
        title=f"Credit was paid out to {customer.name}?",
        text="It is posted to the ledger as money that went out. Pay it first: nothing is paid by"
        " this.",
        action=f"/customers/{customer.key}/refunds",
        button="Write the refund down",
        back=f"/customers/{customer.key}",
        fields=carried(data),
        details=(
            ("Amount", f"{customer.currency} {money(money_text(minor, customer.currency))}"),
            ("Credit of", spec.source or "the oldest, those that wait to be paid out first"),
            ("Method", spec.method),
            ("Reference", spec.reference or "–"),
        ),
    )


@post("/customers/{key:str}/charges", opt=BILLING_PAGE, sync_to_thread=True)
def withdraw_charge(
    request: "Request[Any, Any, Any]", world: World, key: str, data: Form
) -> Response[Any]:
    """Ask whether a one-off charge that waits shall be withdrawn, or withdraw it."""
    session = sent_by(request, data)
    tenant, name = session.grant.tenant, needed(data, "charge")
    if confirmed(data):
        withdraw_extra(world.settling(tenant), key, name)
        return to(f"/customers/{key}")
    waits = world.settlements.charge(tenant, name)
    customer = world.catalog.load(tenant).customer(key)
    asked = Confirmation(
        title=f"Withdraw {waits.extra.name}?",
        text="No invoice will have it. One that is billed already is credited or voided instead.",
        action=f"/customers/{key}/charges",
        button="Withdraw the charge",
        back=f"/customers/{key}",
        fields=carried(data),
        details=(
            ("Customer", customer.name),
            ("Amount", f"{waits.currency} {number(waits.extra.amount)}"),
        ),
        danger=True,
    )
    return ask(session, "customers", asked)


@post("/customers/{key:str}/grants", opt=BILLING_PAGE, sync_to_thread=True)
def grant_use(
    request: "Request[Any, Any, Any]", world: World, key: str, data: Form
) -> Response[Any]:
    """Ask whether a customer shall be granted more of a feature, or grant it; a form once."""
    session = sent_by(request, data)
    tenant = session.grant.tenant
    catalog = world.catalog.load(tenant)
    customer, entitlement = (
        catalog.customer(key),
        _metered(catalog.entitlements.get(needed(data, "entitlement")), key),
    )
    made = _grant(world, customer, data)
    if not confirmed(data):
        return ask(session, "customers", _granting(customer, entitlement, made, data))
    facts = world.entitlements.facts(tenant, [entitlement.key])[entitlement.key]
    try:
        world.entitlements.add_grant(tenant, entitlement.key, made, facts.version)
    except Conflict:
        if made.key not in {one.key for one in facts.grants}:  # else it was sent twice
            raise
    return to(f"/customers/{key}")


def _metered(found: Entitlement | None, customer: str) -> Entitlement:
    if found is None or found.customer != customer or not isinstance(found.access, Metered):
        raise Missing("the customer has no such metered feature", field="entitlement")
    return found


def _grant(world: World, customer: Customer, data: Mapping[str, str]) -> Grant:
    """Return the grant that a form means; its key comes from the form, so that it is made once."""
    amount = number_of(data, "amount")
    if amount <= 0:
        raise Invalid("amount must be above zero", field="amount")
    spec = GrantSpec(
        key=f"form-{once_key(world, needed(data, 'once'))}",
        amount=amount,
        effective=text_of(data, "effective") or format_us(world.clock.now_us()),
        expires_after=text_of(data, "expires_after") or None,
    )
    return check_grant(spec, customer.zone)


def _granting(
    customer: Customer, entitlement: Entitlement, made: Grant, data: Mapping[str, str]
) -> Confirmation:
    return Confirmation(
        title=f"Grant {customer.name} more of {entitlement.feature}?",
        text="It can be used from its date on; it is on no invoice.",
        action=f"/customers/{customer.key}/grants",
        button="Grant it",
        back=f"/customers/{customer.key}",
        fields=carried(data, effective=format_us(made.effective_us)),
        details=(
            ("Feature", entitlement.feature),
            ("Amount", number(plain(made.amount))),
            ("From", format_us(made.effective_us)),
            ("Expires after", text_of(data, "expires_after") or "never"),
        ),
    )


ROUTES: list[ControllerRouterHandler] = [refund_credit, withdraw_charge, grant_use]
