"""What a step makes of a delivery and of its endpoint: pure, every case of it.

A batch of attempts is decided one after the other, so that an endpoint's health is the same
whether its attempts come one by one or together.
"""

from collections.abc import Iterable, Mapping

import msgspec

from tallybook.deliver.delivery import (
    ANSWER_CHARS_MAX,
    ERROR_CHARS_MAX,
    Attempt,
    Delivery,
    Tried,
    begun,
)
from tallybook.deliver.endpoint import TEST_KIND, Endpoint
from tallybook.deliver.health import disabled, failed, succeeded
from tallybook.deliver.schedule import next_due_us
from tallybook.deliver.state import OPEN, after
from tallybook.kernel.book.fact import Fact, fact
from tallybook.kernel.timestamps import format_us

DISABLED_KIND = "webhook.disabled"


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """What is written together.

    Attributes:
        endpoints: in place of what they were.
        removed: ids of endpoints that are gone.
        begun: deliveries; one whose id is there already is left out.
        deliveries: in place of what they were.
        attempts: new ones.
        cancelled: ids of endpoints, all of whose open deliveries end.
        facts: to be told to whom wants them.
        aside: facts that are told by `begun` alone.
        fanned: ids of facts that nobody is to be asked about any more.
    """

    endpoints: tuple[Endpoint, ...] = ()
    removed: tuple[str, ...] = ()
    begun: tuple[Delivery, ...] = ()
    deliveries: tuple[Delivery, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    cancelled: tuple[str, ...] = ()
    facts: tuple[Fact, ...] = ()
    aside: tuple[Fact, ...] = ()
    fanned: tuple[str, ...] = ()


class EndpointTold(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `webhook.disabled`: an endpoint is told nothing any more, and why."""

    endpoint: str
    address: str
    reason: str
    failing_since: str | None


class ProbeTold(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `webhook.test`: somebody asked for it."""

    endpoint: str
    message: str


def fanned(endpoints: Iterable[Endpoint], facts: Iterable[Fact], now_us: int) -> Written:
    """Return a delivery for every endpoint that wants a fact."""
    known, told = tuple(endpoints), tuple(facts)
    wanted = ((endpoint, fact) for fact in told for endpoint in known if endpoint.wants(fact))
    return Written(
        begun=tuple(begun(endpoint, fact, now_us) for endpoint, fact in wanted),
        fanned=tuple(fact.id for fact in told),
    )


def leased(delivery: Delivery, until_us: int, lease: str) -> Delivery:
    """Return a delivery that one sender tries until an instant, and nobody else before it."""
    return msgspec.structs.replace(delivery, due_us=until_us, lease=lease)


def ended(delivery: Delivery, state: str, at_us: int) -> Delivery:
    """Return a delivery that is not on its way any more."""
    return msgspec.structs.replace(delivery, state=state, due_us=None, ended_us=at_us, lease="")


def cancelled(delivery: Delivery, at_us: int) -> Delivery:
    """Return a delivery that nobody waits for any more; one that has ended stays as it is."""
    if delivery.state not in OPEN:
        return delivery
    return ended(delivery, after(delivery.state, "cancel"), at_us)


def replayed(delivery: Delivery, now_us: int) -> Delivery:
    """Return a delivery that is tried again from the beginning, under the same id."""
    return msgspec.structs.replace(
        delivery,
        state=after(delivery.state, "replay"),
        due_us=now_us,
        tried=0,
        first_us=None,
        ended_us=None,
        lease="",
    )


def recorded(
    held: Mapping[str, Delivery],
    endpoints: Mapping[str, Endpoint],
    tries: Iterable[Tried],
    disable_after_days: int,
) -> Written:
    """Return what attempts make of deliveries and endpoints of one tenant.

    Args:
        held: deliveries as they are now, by id; one that is gone is not among them.
        endpoints: as they are now, by id.
        tries: what was tried, in the order it ended.
        disable_after_days: see `health.failed`.

    A sender whose lease has ended may still have arrived: that it was delivered always counts;
    that it failed is on record, and the state is the business of who has the lease.
    """
    deliveries, known = dict(held), dict(endpoints)
    attempts: list[Attempt] = []
    facts: list[Fact] = []
    for one in tries:
        before = deliveries.get(one.parcel.delivery.id)
        if before is None:
            continue
        tried = msgspec.structs.replace(before, attempts=before.attempts + 1)
        attempts.append(_attempt(one, tried.attempts))
        deliveries[before.id] = _moved(tried, one)
        endpoint = known.get(before.endpoint)
        if endpoint is not None:
            known[endpoint.id] = _health(endpoint, one, disable_after_days)
            facts += _told(endpoint, known[endpoint.id], one)
    return Written(
        endpoints=tuple(one for one in known.values() if endpoints[one.id] != one),
        deliveries=tuple(one for one in deliveries.values() if held[one.id] != one),
        attempts=tuple(attempts),
        cancelled=tuple(
            one.id
            for one in known.values()
            if one.state == "disabled" and endpoints[one.id].state != "disabled"
        ),
        facts=tuple(facts),
    )


def _attempt(one: Tried, number: int) -> Attempt:
    return Attempt(
        delivery=one.parcel.delivery.id,
        number=number,
        at_us=one.at_us,
        took_us=one.took_us,
        outcome=one.answer.outcome,
        code=one.answer.code,
        text=one.answer.text[:ANSWER_CHARS_MAX],
        error=one.answer.error[:ERROR_CHARS_MAX],
    )


def _moved(delivery: Delivery, one: Tried) -> Delivery:
    """Return a delivery after an attempt that is counted already."""
    end_us = one.at_us + one.took_us
    if one.answer.outcome == "delivered":
        if delivery.state == "delivered":
            return delivery
        return ended(delivery, after(delivery.state, "deliver"), end_us)
    if delivery.state not in OPEN or delivery.lease != one.parcel.delivery.lease:
        return delivery
    first_us = one.at_us if delivery.first_us is None else delivery.first_us
    tried = msgspec.structs.replace(delivery, tried=delivery.tried + 1, first_us=first_us)
    due_us = next_due_us(tried.tried, first_us, end_us, one.fraction, one.answer.retry_after_us)
    if due_us is None:
        return ended(tried, after(tried.state, "give-up"), end_us)
    state = after(tried.state, "fail")
    return msgspec.structs.replace(tried, state=state, due_us=due_us, lease="")


def _health(endpoint: Endpoint, one: Tried, disable_after_days: int) -> Endpoint:
    end_us = one.at_us + one.took_us
    answer = one.answer
    if answer.outcome == "delivered":
        return succeeded(endpoint, end_us)
    if answer.outcome == "failed":
        return failed(endpoint, end_us, answer.error, disable_after_days)
    assert answer.outcome == "gone", "there is no other outcome"
    tried = failed(endpoint, end_us, answer.error, 0)
    said = f"it answered that it is gone for good: {answer.error}"
    return tried if tried.state == "disabled" else disabled(tried, said)


def _told(before: Endpoint, now: Endpoint, one: Tried) -> tuple[Fact, ...]:
    if before.state == "disabled" or now.state != "disabled":
        return ()
    return (disabled_fact(now, one.at_us + one.took_us),)


def disabled_fact(endpoint: Endpoint, at_us: int) -> Fact:
    """Return the fact that an endpoint was disabled because it failed."""
    since = endpoint.failing_since_us
    body = EndpointTold(
        endpoint=endpoint.id,
        address=endpoint.address,
        reason=endpoint.reason,
        failing_since=None if since is None else format_us(since),
    )
    return fact(DISABLED_KIND, endpoint.id, "", at_us, body, str(at_us))


def probe_fact(endpoint: Endpoint, now_us: int) -> Fact:
    """Return a fact that is told to one endpoint because somebody asked for it."""
    body = ProbeTold(endpoint=endpoint.id, message="This is a test; nothing happened.")
    return fact(TEST_KIND, endpoint.id, "", now_us, body, str(now_us))
