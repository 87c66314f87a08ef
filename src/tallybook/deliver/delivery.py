"""One fact on its way to one endpoint, and what became of each attempt; no channel is assumed."""

from typing import Literal

import msgspec

from tallybook.deliver.endpoint import Endpoint
from tallybook.deliver.state import DeliveryState
from tallybook.kernel.book.fact import Fact
from tallybook.kernel.ids import derived_id

Outcome = Literal["delivered", "failed", "gone"]
"""gone: the other side says that it will never want anything again."""

ANSWER_CHARS_MAX = 1024
ERROR_CHARS_MAX = 400


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What came of telling an endpoint something, in the words of its channel.

    Attributes:
        outcome: see `Outcome`.
        code: the channel's own word for it, such as an HTTP status; None where none came.
        text: the beginning of what was answered.
        error: why it failed; '' where it did not.
        retry_after_us: how long the other side asks to be left alone; None where it does not.
    """

    outcome: Outcome
    code: int | None = None
    text: str = ""
    error: str = ""
    retry_after_us: int | None = None


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One try to tell an endpoint something, as it is kept.

    Attributes:
        delivery: id of what was tried.
        number: from 1, over replays too.
        at_us: when it began, microseconds UTC.
        took_us: how long it took.
        outcome: see `Outcome`.
        code: see `Answer`.
        text: the first KiB of the answer.
        error: why it failed; '' where it did not.
    """

    delivery: str
    number: int
    at_us: int
    took_us: int
    outcome: Outcome
    code: int | None = None
    text: str = ""
    error: str = ""


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One fact on its way to one endpoint.

    Attributes:
        id: derived from endpoint and fact: there is one delivery of both, ever.
        endpoint: id of who is told.
        fact: id of what is told; the receiver knows repetitions by it.
        kind: of the fact.
        customer: of the fact.
        at_us: when the fact was, microseconds UTC, as all *_us.
        state: see `deliver.state`.
        due_us: when it is tried next; None once it has ended.
        attempts: made so far.
        tried: of these, since it was created or replayed last.
        first_us: when the first of `tried` began; None before.
        ended_us: when it was delivered, given up or cancelled; None while it is on its way.
        lease: who is trying it right now; '' for nobody. A lease ends at `due_us`.
    """

    id: str
    endpoint: str
    fact: str
    kind: str
    customer: str
    at_us: int
    state: DeliveryState = "pending"
    due_us: int | None = None
    attempts: int = 0
    tried: int = 0
    first_us: int | None = None
    ended_us: int | None = None
    lease: str = ""


class Parcel(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that one attempt needs."""

    tenant: str
    endpoint: Endpoint
    delivery: Delivery
    fact: Fact


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt that was made, before it is on record.

    Attributes:
        parcel: what was tried.
        at_us: when it began.
        took_us: how long it took.
        answer: what came of it.
        fraction: a random number from 0 to 1, for the pause before the next attempt.
    """

    parcel: Parcel
    at_us: int
    took_us: int
    answer: Answer
    fraction: float


def begun(endpoint: Endpoint, fact: Fact, now_us: int) -> Delivery:
    """Return the delivery of a fact to an endpoint, due at once, older facts first."""
    return Delivery(
        id=delivery_id(endpoint.id, fact.id),
        endpoint=endpoint.id,
        fact=fact.id,
        kind=fact.kind,
        customer=fact.customer,
        at_us=fact.at_us,
        due_us=min(fact.at_us, now_us),
    )


def delivery_id(endpoint: str, fact: str) -> str:
    """Return the id of the one delivery of a fact to an endpoint."""
    return derived_id("dlv", endpoint, fact)
