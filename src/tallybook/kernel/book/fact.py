"""A fact to be told outside: written with what it tells of, delivered afterwards (DECISIONS 28)."""

import msgspec

from tallybook.kernel.decimals import encode_plain
from tallybook.kernel.ids import derived_id


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened.

    Attributes:
        id: derived from what happened, so that it is told once.
        kind: past tense, such as 'invoice.finalized'.
        subject: id of what it happened to.
        customer: whom it concerns; '' for nobody.
        at_us: microseconds UTC.
        body: JSON object, for the receiver.
    """

    id: str
    kind: str
    subject: str
    customer: str
    at_us: int
    body: str


def fact(
    kind: str, subject: str, customer: str, at_us: int, body: msgspec.Struct, step: str = ""
) -> Fact:
    """Return a fact with an id that derives from what happened, to what, and by which step."""
    return Fact(
        id=derived_id("fact", kind, subject, step),
        kind=kind,
        subject=subject,
        customer=customer,
        at_us=at_us,
        body=encode_plain(body).decode(),
    )
