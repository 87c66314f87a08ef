"""Endpoints, deliveries and attempts as the API shows them; times are RFC 3339."""

from typing import Any

import msgspec

from tallybook.deliver.delivery import Attempt, Delivery
from tallybook.deliver.endpoint import Endpoint
from tallybook.deliver.message import message_of
from tallybook.kernel.book.fact import Fact
from tallybook.kernel.timestamps import format_us


class EndpointView(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint, without its secret.

    Attributes:
        kinds: patterns of what it is told; customers: whose, empty for everybody's.
        state: active, failing or disabled; `reason` says why.
        failures: in a row.
        delivered: deliveries ever; failed: failed attempts ever.
        secrets: how many sign now: two or more while one is replaced.
        old_secret_until: when the older one signs no more; null where there is one secret.
    """

    id: str
    url: str
    description: str
    kinds: list[str]
    customers: list[str]
    state: str
    reason: str
    created_time: str
    failing_since: str | None
    failures: int
    last_success_time: str | None
    last_failure_time: str | None
    delivered: int
    failed: int
    secrets: int
    old_secret_until: str | None


class SecretView(EndpointView, frozen=True, kw_only=True):
    """An endpoint with its secret, in this answer and never again: a repeat has none.

    Attributes:
        secret: `whsec_…`, to verify signatures with.
    """

    secret: str | msgspec.UnsetType = msgspec.UNSET


class DeliveryView(msgspec.Struct, frozen=True, kw_only=True):
    """One fact on its way to one endpoint.

    Attributes:
        fact: id of the fact, the `webhook-id` of every attempt.
        state: pending, retrying, delivered, given_up or cancelled.
        attempts: made so far.
        next_time: when it is tried next; null once it has ended.
    """

    id: str
    endpoint: str
    fact: str
    kind: str
    customer: str | None
    time: str
    state: str
    attempts: int
    next_time: str | None
    ended_time: str | None


class AttemptView(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt.

    Attributes:
        outcome: delivered, failed or gone.
        status: of HTTP; null where no answer came.
        answer: its first KiB.
    """

    number: int
    time: str
    seconds: float
    outcome: str
    status: int | None
    answer: str
    error: str


class DeliveryDetail(DeliveryView, frozen=True, kw_only=True):
    """A delivery with its attempts, the oldest first, and the body that is sent."""

    tried: list[AttemptView]
    body: Any


class KindView(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of fact; schemas: JSON Schema of its `data`, one of these."""

    kind: str
    about: str
    schemas: list[Any]


def endpoint_view(endpoint: Endpoint, now_us: int) -> EndpointView:
    """Return an endpoint as the API shows it."""
    return EndpointView(**_shown(endpoint, now_us))


def secret_view(endpoint: Endpoint, secret: str, now_us: int) -> SecretView:
    """Return an endpoint with its new secret."""
    return SecretView(**_shown(endpoint, now_us), secret=secret)


def _shown(endpoint: Endpoint, now_us: int) -> dict[str, Any]:
    signing = endpoint.signing(now_us)
    return {
        "id": endpoint.id,
        "url": endpoint.address,
        "description": endpoint.description,
        "kinds": list(endpoint.kinds),
        "customers": list(endpoint.customers),
        "state": endpoint.state,
        "reason": endpoint.reason,
        "created_time": format_us(endpoint.created_us),
        "failing_since": _time(endpoint.failing_since_us),
        "failures": endpoint.failures,
        "last_success_time": _time(endpoint.succeeded_us),
        "last_failure_time": _time(endpoint.failed_us),
        "delivered": endpoint.delivered_total,
        "failed": endpoint.failed_total,
        "secrets": len(signing),
        "old_secret_until": _time(max((one.expires_us or 0 for one in signing), default=0) or None),
    }


def delivery_view(delivery: Delivery) -> DeliveryView:
    """Return a delivery as the API shows it."""
    return DeliveryView(**_delivery(delivery))


def delivery_detail(delivery: Delivery, fact: Fact, attempts: list[Attempt]) -> DeliveryDetail:
    """Return a delivery with its attempts and body."""
    return DeliveryDetail(
        **_delivery(delivery),
        tried=[attempt_view(one) for one in attempts],
        body=msgspec.Raw(message_of(fact)),
    )


def attempt_view(attempt: Attempt) -> AttemptView:
    """Return an attempt as the API shows it."""
    return AttemptView(
        number=attempt.number,
        time=format_us(attempt.at_us),
        seconds=round(attempt.took_us / 1_000_000, 3),
        outcome=attempt.outcome,
        status=attempt.code,
        answer=attempt.text,
        error=attempt.error,
    )


def _delivery(delivery: Delivery) -> dict[str, Any]:
    return {
        "id": delivery.id,
        "endpoint": delivery.endpoint,
        "fact": delivery.fact,
        "kind": delivery.kind,
        "customer": delivery.customer or None,
        "time": format_us(delivery.at_us),
        "state": delivery.state,
        "attempts": delivery.attempts,
        "next_time": _time(delivery.due_us),
        "ended_time": _time(delivery.ended_us),
    }


def _time(at_us: int | None) -> str | None:
    return None if at_us is None else format_us(at_us)
