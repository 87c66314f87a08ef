"""The facts of API keys that are told outside, each in the transaction that made it so."""

import msgspec

from tallybook.kernel.book.fact import Fact
from tallybook.kernel.ids import derived_id

CREATED, REVOKED = "key.created", "key.revoked"


class KeyTold(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a fact about an API key; its text is in none.

    Attributes:
        shown: its first characters.
    """

    key: str
    name: str
    shown: str
    scopes: tuple[str, ...]


def key_fact(kind: str, body: KeyTold, at_us: int) -> Fact:
    """Return the fact that a key was created or revoked."""
    return Fact(
        id=derived_id("fact", kind, body.key, ""),
        kind=kind,
        subject=body.key,
        customer="",
        at_us=at_us,
        body=msgspec.json.encode(body).decode(),
    )
