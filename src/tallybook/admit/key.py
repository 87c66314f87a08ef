"""API keys as they are stored, and what a presented one grants.

The text of a key is nowhere in here: a digest of it is what the server knows (DECISIONS 32).
"""

from collections.abc import Iterable, Mapping

import msgspec

from tallybook.kernel.errors import Forbidden

INGEST, READ, BILLING, ADMIN, OPERATOR = "ingest", "read", "billing", "admin", "operator"

SCOPES = (INGEST, READ, BILLING, ADMIN, OPERATOR)
"""ingest: send events. read: see everything of the tenant. billing: catalog, contracts, invoices,
money and quarantine, and read. admin: all of these, keys, usage plans and the audit log. operator:
make and close tenants; it grants nothing of any tenant's data."""

ROLES: Mapping[str, tuple[str, ...]] = {
    "sender": (INGEST,),
    "viewer": (READ,),
    "biller": (READ, BILLING),
    "owner": (ADMIN,),
    "operator": (ADMIN, OPERATOR),
}
"""Named sets of scopes, for people."""

_IMPLIED: Mapping[str, frozenset[str]] = {
    BILLING: frozenset({READ}),
    ADMIN: frozenset({INGEST, READ, BILLING}),
}


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key as it is stored, without its text.

    Attributes:
        shown: its first characters, for people.
        digest: hex of its HMAC-SHA-256 under the server's secret.
        scopes: what it may do, some of `SCOPES`.
        subjects: the only subjects that it may send events of and read usage of; empty for all.
        customer: whose key it is: it sends and reads for this customer only; '' for nobody's.
        usage_plan: the usage plan that limits it; '' for the tenant's own.
        created_us: microseconds UTC, as all instants here.
        expires_us: from this instant on it is refused; None never.
        revoked_us: since when it is refused; None while it is good.
        last_used_us: the last minute in which it was used, to the minute; None if never.
        replaces: id of the key that it was rotated from; ''.
        successor: id of the key that it was rotated to; ''.
    """

    tenant: str
    id: str
    name: str
    shown: str
    digest: str
    scopes: tuple[str, ...]
    created_us: int
    subjects: tuple[str, ...] = ()
    customer: str = ""
    usage_plan: str = ""
    expires_us: int | None = None
    revoked_us: int | None = None
    last_used_us: int | None = None
    replaces: str = ""
    successor: str = ""


class Grant(msgspec.Struct, frozen=True):
    """What a request may do.

    Attributes:
        tenant: whose data.
        key_id: which key; of a person who signed in with a password, 'user:' and the name.
        scopes: a subset of `SCOPES`.
        subjects: the only subjects that it may send events of and read usage of; empty for all.
        customer: the only customer that it sends and reads for; '' for all.
        usage_plan: the usage plan that limits it; '' for the tenant's own.
        expires_us: from this instant on it is refused; None never.
        closed: whether its tenant was closed.
    """

    tenant: str
    key_id: str
    scopes: frozenset[str]
    subjects: tuple[str, ...] = ()
    customer: str = ""
    usage_plan: str = ""
    expires_us: int | None = None
    closed: bool = False

    @property
    def bound(self) -> bool:
        """Whether it is for some subjects, or one customer, only."""
        return bool(self.subjects or self.customer)

    def allows(self, scope: str) -> bool:
        """Whether the scope is granted; admin grants all but operator, billing may read."""
        return scope in self.scopes or any(scope in _IMPLIED.get(held, ()) for held in self.scopes)


def granted(key: ApiKey, *, closed: bool = False) -> Grant:
    """Return what a key grants while it is good.

    Args:
        key: not revoked.
        closed: whether its tenant was closed.
    """
    return Grant(
        tenant=key.tenant,
        key_id=key.id,
        scopes=frozenset(key.scopes),
        subjects=key.subjects,
        customer=key.customer,
        usage_plan=key.usage_plan,
        expires_us=key.expires_us,
        closed=closed,
    )


def alive(grant: Grant | None, now_us: int) -> Grant:
    """Return the grant of a presented key where the key is good.

    The reasons to refuse it are looked for in a fixed order, so that equal requests hear the same:
    unknown or revoked ('no-key'), expired ('key-expired'), the tenant closed ('tenant-closed').

    Args:
        grant: of the key; None where no key that is not revoked has this text.
        now_us: the present instant.

    Raises:
        Forbidden: it is not good.
    """
    if grant is None:
        raise Forbidden("this API key is not known or was revoked", code="no-key")
    if grant.expires_us is not None and grant.expires_us <= now_us:
        raise Forbidden("this API key has expired", code="key-expired")
    if grant.closed:
        raise Forbidden("this tenant is closed", code="tenant-closed")
    return grant


def allowed(grant: Grant, scope: str, *, bound: bool = True) -> Grant:
    """Return the grant where it allows a route.

    Args:
        grant: of a good key.
        scope: what the route needs.
        bound: whether the route keeps to the grant's subjects and customer by itself.

    Raises:
        Forbidden: it lacks the scope, or is bound to subjects and the route is not for these.
    """
    if not grant.allows(scope):
        message = f"this API key may not do that: it lacks the scope '{scope}'"
        raise Forbidden(message, code="forbidden")
    if grant.bound and not bound:
        message = "this API key may not do that: it is only for some subjects or one customer"
        raise Forbidden(message, code="forbidden")
    return grant


def scopes_of(scopes: Iterable[str], roles: Iterable[str] = ()) -> tuple[str, ...]:
    """Return scopes and those of roles without repeats, in the order of `SCOPES`.

    Raises:
        KeyError: a role is none.
    """
    found = {*scopes, *(scope for role in roles for scope in ROLES[role])}
    return tuple(scope for scope in SCOPES if scope in found)
