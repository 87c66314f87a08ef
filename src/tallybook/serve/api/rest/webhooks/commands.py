"""What API and console do with endpoints: made, changed, given a new secret."""

import msgspec

from tallybook.adapters.webhook.signing import new_secret
from tallybook.compose import World
from tallybook.deliver.endpoint import (
    ALL,
    Endpoint,
    Secret,
    check_customers,
    check_description,
    check_kinds,
    rotated,
)
from tallybook.deliver.flow import add, change, endpoint_of, secret_place
from tallybook.deliver.health import disabled, enabled
from tallybook.deliver.kinds import NAMES
from tallybook.kernel.errors import Invalid
from tallybook.kernel.timestamps import parse_rfc3339

BY_HAND = "disabled by hand"
CHANNEL = "webhook"


class EndpointSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An endpoint to add.

    Attributes:
        url: https://…, of a public address.
        kinds: patterns such as 'invoice.*' or 'payment.received'; ['*'] is everything.
        customers: keys; none for everybody's, and what concerns nobody.
    """

    url: str
    description: str = ""
    kinds: list[str] = msgspec.field(default_factory=lambda: [ALL])
    customers: list[str] = []


class EndpointChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to change of an endpoint; absent stays as it is.

    Attributes:
        enabled: false stops telling it anything, true begins again with its failures forgotten.
    """

    url: str | msgspec.UnsetType = msgspec.UNSET
    description: str | msgspec.UnsetType = msgspec.UNSET
    kinds: list[str] | msgspec.UnsetType = msgspec.UNSET
    customers: list[str] | msgspec.UnsetType = msgspec.UNSET
    enabled: bool | msgspec.UnsetType = msgspec.UNSET


def add_endpoint(world: World, tenant: str, spec: EndpointSpec) -> tuple[Endpoint, str]:
    """Store a new endpoint; return it with its secret, which is shown once.

    Raises:
        Invalid: a field is out of range, or the address is not one to send to.
        Conflict: there are too many.
    """
    now_us, name, secret = world.clock.now_us(), world.ids.new("whe"), new_secret()
    sealed = world.seal.close(secret, secret_place(tenant, name))
    endpoint = Endpoint(
        id=name,
        channel=CHANNEL,
        address=world.webhooks.check(spec.url),
        created_us=now_us,
        description=check_description(spec.description),
        kinds=check_kinds(spec.kinds, NAMES),
        customers=check_customers(spec.customers),
        secrets=(Secret(sealed=sealed, created_us=now_us),),
    )
    return add(world.post, tenant, endpoint), secret


def change_endpoint(world: World, tenant: str, name: str, asked: EndpointChange) -> Endpoint:
    """Change an endpoint; raises Missing, Invalid."""
    fields: dict[str, object] = {}
    if not isinstance(asked.url, msgspec.UnsetType):
        fields["address"] = world.webhooks.check(asked.url)
    if not isinstance(asked.description, msgspec.UnsetType):
        fields["description"] = check_description(asked.description)
    if not isinstance(asked.kinds, msgspec.UnsetType):
        fields["kinds"] = check_kinds(asked.kinds, NAMES)
    if not isinstance(asked.customers, msgspec.UnsetType):
        fields["customers"] = check_customers(asked.customers)

    def changed(before: Endpoint) -> Endpoint:
        after = msgspec.structs.replace(before, **fields)
        if asked.enabled is True and before.state == "disabled":
            return enabled(after)
        if asked.enabled is False and before.state != "disabled":
            return disabled(after, BY_HAND)
        return after

    return change(world.post, tenant, name, changed, world.clock.now_us())


def rotate_secret(world: World, tenant: str, name: str, overlap_hours: int) -> tuple[Endpoint, str]:
    """Give an endpoint a new secret; return it with the secret, which is shown once.

    Raises:
        Missing: there is no such endpoint.
        Invalid: the overlap is out of range.
    """
    now_us, secret = world.clock.now_us(), new_secret()
    sealed = world.seal.close(secret, secret_place(tenant, name))
    changed = change(
        world.post, tenant, name, lambda one: rotated(one, sealed, now_us, overlap_hours), now_us
    )
    return changed, secret


def find_endpoint(world: World, tenant: str, name: str) -> Endpoint:
    """Return an endpoint; raises Missing."""
    return endpoint_of(world.post.endpoints(tenant), name)


def instant(field: str, text: str) -> int:
    """Return an RFC 3339 time as microseconds; raises Invalid."""
    found = parse_rfc3339(text)
    if found is None:
        raise Invalid(f"{field} must be a time such as 2026-11-01T00:00:00Z", field=field)
    return found
