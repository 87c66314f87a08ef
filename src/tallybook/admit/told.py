"""The facts of API keys that are told outside, each in the transaction that made it so."""

import msgspec

from tallybook.admit.key import ApiKey
from tallybook.kernel.book.fact import Fact
from tallybook.kernel.ids import derived_id
from tallybook.kernel.timestamps import format_us


class KeyTold(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a fact about an API key, without its text.

    Attributes:
        shown: its first characters.
        customer: whose key it is; '' for nobody's.
        expires: RFC 3339; null for never.
        replaces: id of the key that it was rotated from; ''.
    """

    key: str
    name: str
    shown: str
    scopes: tuple[str, ...]
    customer: str
    expires: str | None
    replaces: str


def created_fact(key: ApiKey) -> Fact:
    """Return the fact that a key was made."""
    return _fact("key.created", key, key.created_us)


def revoked_fact(key: ApiKey) -> Fact:
    """Return the fact that a key is refused from now on."""
    assert key.revoked_us is not None, "it was revoked"
    return _fact("key.revoked", key, key.revoked_us)


def _fact(kind: str, key: ApiKey, at_us: int) -> Fact:
    body = KeyTold(
        key=key.id,
        name=key.name,
        shown=key.shown,
        scopes=key.scopes,
        customer=key.customer,
        expires=None if key.expires_us is None else format_us(key.expires_us),
        replaces=key.replaces,
    )
    return Fact(
        id=derived_id("fact", kind, key.tenant, key.id),
        kind=kind,
        subject=key.id,
        customer=key.customer,
        at_us=at_us,
        body=msgspec.json.encode(body).decode(),
    )
