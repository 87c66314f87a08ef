"""What an endpoint reads of a fact: one JSON object, the same bytes at every attempt."""

import msgspec

from tallybook.kernel.book.fact import Fact
from tallybook.kernel.timestamps import format_us


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A fact as it is told outside; the members type, timestamp and data are the standard's.

    Attributes:
        id: of the fact; the same whenever it is told again.
        type: its kind, such as 'invoice.paid'.
        timestamp: when it happened, RFC 3339.
        subject: id or key of what it happened to.
        customer: key of whom it concerns; null for nobody.
        data: of this kind, see docs/guides/webhooks.md.

    Source: standardwebhooks.com, Payload structure
    """

    id: str
    type: str
    timestamp: str
    subject: str
    customer: str | None
    data: msgspec.Raw


def message_of(fact: Fact) -> bytes:
    """Return a fact as JSON."""
    return msgspec.json.encode(
        Message(
            id=fact.id,
            type=fact.kind,
            timestamp=format_us(fact.at_us),
            subject=fact.subject,
            customer=fact.customer or None,
            data=msgspec.Raw(fact.body.encode()),
        )
    )
