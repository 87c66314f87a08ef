"""Use cases of delivering: facts fan out, attempts are taken and put on record, and replayed.

Source: docs/guides/webhooks.md
"""

from collections.abc import Callable, Iterable, Mapping

import msgspec

from tallybook.deliver.delivery import Answer, Delivery, Parcel, Tried, begun
from tallybook.deliver.endpoint import ENDPOINTS_MAX, Endpoint
from tallybook.deliver.message import message_of
from tallybook.deliver.ports import Asked, Channel, Post, PostReader, PostTransaction, Seal
from tallybook.deliver.state import UNTOLD
from tallybook.deliver.steps import Written, fanned, leased, probe_fact, recorded, replayed
from tallybook.kernel.errors import Conflict, Corrupt, Invalid, Missing

REPLAYED_AT_ONCE = 500


def fan_out(post: Post, now_us: int, limit: int) -> int:
    """Make a delivery of every waiting fact for every endpoint that wants it.

    Returns:
        How many facts were looked at; below `limit` none is left.

    Guarantees: that a fact was looked at and its deliveries are one transaction; a kill in between
    is a fact that is looked at again, and there is one delivery of a fact to an endpoint.
    """
    with post.writing() as transaction:
        waiting = transaction.waiting(limit)
        for tenant, facts in waiting.items():
            written = fanned(transaction.endpoints(tenant), facts, now_us)
            transaction.put(tenant, written, now_us)
    return sum(len(facts) for facts in waiting.values())


def take(
    post: Post, place: tuple[str, str], now_us: int, limit: int, until_us: int, lease: str
) -> list[Parcel]:
    """Take deliveries of an endpoint to try them.

    Args:
        post: where they are kept.
        place: tenant and endpoint.
        now_us: microseconds UTC.
        limit: at most so many.
        until_us: when somebody else may try them, should this sender be gone.
        lease: who takes them.

    Guarantees: until then nobody else takes one of them.
    """
    tenant, name = place
    with post.writing() as transaction:
        found = {one.id: one for one in transaction.endpoints(tenant)}
        endpoint = found.get(name)
        if endpoint is None or endpoint.state == "disabled":
            transaction.put(tenant, Written(cancelled=(name,)), now_us)
            return []
        due = transaction.due(tenant, name, now_us, limit)
        mine = tuple(leased(one, until_us, lease) for one in due)
        transaction.put(tenant, Written(deliveries=mine), now_us)
        told = {one.id: fact for one, fact in transaction.held(tenant, [one.id for one in mine])}
    return [
        Parcel(tenant=tenant, endpoint=endpoint, delivery=one, fact=told[one.id]) for one in mine
    ]


def attempt(channels: Mapping[str, Channel], seal: Seal, parcel: Parcel, now_us: int) -> Answer:
    """Tell an endpoint a fact, once; whatever goes wrong is an answer."""
    endpoint = parcel.endpoint
    channel = channels.get(endpoint.channel)
    if channel is None:
        return Answer(outcome="failed", error=f"nothing can send by '{endpoint.channel}'")
    try:
        place = secret_place(parcel.tenant, endpoint.id)
        secrets = [seal.open(one.sealed, place) for one in endpoint.signing(now_us)]
    except Corrupt as error:
        return Answer(outcome="failed", error=error.message)
    body = message_of(parcel.fact)
    return channel.send(endpoint.address, parcel.fact, body, secrets, now_us)


def put_on_record(post: Post, tries: Iterable[Tried], now_us: int, disable_after_days: int) -> None:
    """Write attempts, and what they make of deliveries and endpoints, in one transaction."""
    of_tenant: dict[str, list[Tried]] = {}
    for one in tries:
        of_tenant.setdefault(one.parcel.tenant, []).append(one)
    with post.writing() as transaction:
        for tenant, made in sorted(of_tenant.items()):
            ids = sorted({one.parcel.endpoint.id for one in made})
            endpoints = {one.id: one for one in transaction.endpoints(tenant, ids)}
            names = sorted({one.parcel.delivery.id for one in made})
            held = {one.id: one for one, _ in transaction.held(tenant, names)}
            written = recorded(held, endpoints, made, disable_after_days)
            transaction.put(tenant, written, now_us)


def endpoint_of(found: Iterable[Endpoint], name: str) -> Endpoint:
    """Return one of some endpoints; raises Missing."""
    for one in found:
        if one.id == name:
            return one
    raise Missing(f"there is no endpoint {name}", field="id")


def secret_place(tenant: str, endpoint: str) -> str:
    """Return for what an endpoint's secrets are sealed."""
    return f"endpoint/{tenant}/{endpoint}"


def add(post: Post, tenant: str, endpoint: Endpoint) -> Endpoint:
    """Store a new endpoint; raises Conflict where there are too many."""
    with post.writing() as transaction:
        if len(transaction.endpoints(tenant)) >= ENDPOINTS_MAX:
            message = f"there are {ENDPOINTS_MAX} endpoints; remove one first"
            raise Conflict(message, code="too-many-endpoints")
        transaction.put(tenant, Written(endpoints=(endpoint,)), endpoint.created_us)
    return endpoint


def change(
    post: Post, tenant: str, name: str, changed: Callable[[Endpoint], Endpoint], now_us: int
) -> Endpoint:
    """Change an endpoint; one that is disabled has its open deliveries cancelled.

    Raises:
        Missing: there is no such endpoint.
    """
    with post.writing() as transaction:
        before = endpoint_of(transaction.endpoints(tenant, [name]), name)
        after = changed(before)
        ended = (name,) if after.state == "disabled" else ()
        transaction.put(tenant, Written(endpoints=(after,), cancelled=ended), now_us)
    return after


def remove(post: Post, tenant: str, name: str, now_us: int) -> None:
    """Remove an endpoint; what was on its way is cancelled, its log stays for its time.

    Raises:
        Missing: there is no such endpoint.
    """
    with post.writing() as transaction:
        endpoint_of(transaction.endpoints(tenant, [name]), name)
        transaction.put(tenant, Written(removed=(name,), cancelled=(name,)), now_us)


def probe(post: Post, tenant: str, name: str, now_us: int) -> Delivery:
    """Tell one endpoint that this is a test; returns the delivery, which is on its way.

    Raises:
        Missing: there is no such endpoint.
        Conflict: it is disabled.
    """
    with post.writing() as transaction:
        endpoint = _able(transaction, tenant, name)
        fact = probe_fact(endpoint, now_us)
        delivery = begun(endpoint, fact, now_us)
        transaction.put(tenant, Written(aside=(fact,), begun=(delivery,)), now_us)
    return delivery


def replay(post: Post, tenant: str, name: str, now_us: int) -> Delivery:
    """Send one delivery again, whatever became of it, under the same id.

    Raises:
        Missing: there is no such delivery, or its endpoint was removed.
        Conflict: its endpoint is disabled.
    """
    with post.writing() as transaction:
        held = transaction.held(tenant, [name])
        if not held:
            raise Missing(f"there is no delivery {name}", field="id")
        _able(transaction, tenant, held[0][0].endpoint)
        again = replayed(held[0][0], now_us)
        transaction.put(tenant, Written(deliveries=(again,)), now_us)
    return again


def replay_since(
    post: Post, reader: PostReader, tenant: str, name: str, since_us: int, now_us: int
) -> int:
    """Send an endpoint everything since an instant that it was not told; return how much.

    That is what was given up or cancelled, and what happened while it was disabled.

    Raises:
        Missing: there is no such endpoint.
        Conflict: it is disabled.
    """
    if since_us > now_us:
        raise Invalid("since lies in the future", field="since")
    with post.writing() as transaction:
        _able(transaction, tenant, name)
    again = _replay_ended(post, reader, tenant, name, since_us, now_us)
    return again + _begin_missed(post, reader, tenant, name, since_us, now_us)


def _replay_ended(
    post: Post, reader: PostReader, tenant: str, name: str, since_us: int, now_us: int
) -> int:
    count = 0
    asked = Asked(endpoint=name, states=UNTOLD, since_us=since_us, limit=REPLAYED_AT_ONCE)
    while some := reader.deliveries(tenant, asked):
        with post.writing() as transaction:
            _able(transaction, tenant, name)  # still: nothing is begun for one that is gone
            held = transaction.held(tenant, sorted(one.id for one in some))
            again = tuple(replayed(one, now_us) for one, _ in held if one.state in UNTOLD)
            transaction.put(tenant, Written(deliveries=again), now_us)
        count += len(again)
        asked = msgspec.structs.replace(asked, before=(some[-1].at_us, some[-1].id))
    return count


def _begin_missed(
    post: Post, reader: PostReader, tenant: str, name: str, since_us: int, now_us: int
) -> int:
    """Begin deliveries of facts that happened while nobody was there to want them."""
    count, after = 0, ""
    while facts := reader.facts(tenant, since_us, after, REPLAYED_AT_ONCE):
        after = facts[-1].id
        with post.writing() as transaction:
            endpoint = _able(transaction, tenant, name)
            wanted = [begun(endpoint, fact, now_us) for fact in facts if endpoint.wants(fact)]
            there = {one.id for one, _ in transaction.held(tenant, [one.id for one in wanted])}
            missed = tuple(one for one in wanted if one.id not in there)
            transaction.put(tenant, Written(begun=missed), now_us)
        count += len(missed)
    return count


def _able(transaction: PostTransaction, tenant: str, name: str) -> Endpoint:
    """Return an endpoint that can be told something; raises Missing, Conflict."""
    endpoint = endpoint_of(transaction.endpoints(tenant, [name]), name)
    if endpoint.state == "disabled":
        message = f"endpoint {name} is disabled ({endpoint.reason}); enable it first"
        raise Conflict(message, code="endpoint-disabled")
    return endpoint
