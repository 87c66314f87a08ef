"""One suite for every `Post` and `PostReader`: each test tries to break a sentence of the port."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import msgspec
import pytest

from tallybook.adapters.memory.post import MemoryPost
from tallybook.adapters.sql.database import open_database, sqlite_url, write
from tallybook.adapters.sql.outbox import add_facts
from tallybook.adapters.sql.post.store import SqlPost
from tallybook.deliver.delivery import Answer, Attempt, Delivery, Parcel, Tried, begun
from tallybook.deliver.endpoint import Endpoint, Secret
from tallybook.deliver.flow import (
    add,
    change,
    fan_out,
    probe,
    put_on_record,
    remove,
    replay,
    replay_since,
    take,
)
from tallybook.deliver.health import disabled, enabled
from tallybook.deliver.ports import Asked, Ready
from tallybook.deliver.schedule import RETRY_AFTER_MAX_US
from tallybook.deliver.steps import Written
from tallybook.kernel.book.fact import Fact
from tallybook.kernel.errors import Conflict, Invalid, Missing
from tallybook.kernel.timestamps import HOUR_US

NOW = 1_000_000_000
LEASED = NOW + 60_000_000


@dataclass
class Stores:
    """A post, and the way facts come into it."""

    post: Any
    tell: Callable[[str, Sequence[Fact]], None]


@pytest.fixture(params=["memory", "sqlite", "postgresql", "mariadb"])
def stores(
    request: pytest.FixtureRequest, tmp_path: Path, databases_of_session: Callable[[str], str]
) -> Iterator[Stores]:
    if request.param == "memory":
        post = MemoryPost()
        yield Stores(post, post.tell)
        return
    if request.param == "sqlite":
        url = sqlite_url(tmp_path / "control.db")
    else:
        url = databases_of_session(request.param)
    with sql_stores(url) as made:
        yield made


@contextmanager
def sql_stores(url: str) -> Iterator[Stores]:
    engine = open_database(url)

    def tell(tenant: str, facts: Sequence[Fact]) -> None:
        with write(engine) as connection:
            add_facts(connection, tenant, facts)

    yield Stores(SqlPost(engine), tell)
    engine.dispose()


def fact(name: str, kind: str = "invoice.paid", customer: str = "c", at_us: int = NOW) -> Fact:
    body = '{"id":"inv_1","ünïcode":"✓"}'
    return Fact(id=name, kind=kind, subject="inv_1", customer=customer, at_us=at_us, body=body)


def endpoint(name: str = "e1", **said: Any) -> Endpoint:
    secret = Secret(sealed="v1.x", created_us=1, expires_us=None)
    fields = {"channel": "webhook", "address": "https://example.com/", "created_us": 5}
    return Endpoint(**{"id": name, "secrets": (secret,), **fields, **said})


def tried(parcel: Parcel, answer: Answer | None = None, at_us: int = NOW, **said: Any) -> Tried:
    answer = answer or Answer(outcome="delivered", code=200, text="ok")
    return Tried(
        **{"parcel": parcel, "at_us": at_us, "took_us": 7, "answer": answer, "fraction": 0.5} | said
    )


def deliveries(stores: Stores, tenant: str = "t", **asked: Any) -> list[Delivery]:
    found: list[Delivery] = stores.post.deliveries(tenant, Asked(**asked))
    return found


def begin(stores: Stores, *facts: Fact, tenant: str = "t") -> list[Parcel]:
    """Tell facts to e1 and take all their deliveries."""
    stores.tell(tenant, facts)
    fan_out(stores.post, NOW, 100)
    return take(stores.post, (tenant, "e1"), NOW, 100, LEASED, "me")


def test_an_endpoint_is_read_as_it_was_written(stores: Stores) -> None:
    odd = endpoint(
        description='dé"s',
        kinds=("a.*", "b"),
        customers=("c", "ü"),
        state="failing",
        reason="no answer",
        failing_since_us=3,
        failures=4,
        succeeded_us=1,
        failed_us=2,
        delivered_total=9_000_000_000,
        failed_total=8,
        secrets=(
            Secret(sealed="n", created_us=6),
            Secret(sealed="o", created_us=1, expires_us=99),
        ),
    )
    add(stores.post, "t", odd)
    add(stores.post, "t", endpoint("e0", created_us=1))
    assert stores.post.endpoints("t") == [endpoint("e0", created_us=1), odd]
    assert stores.post.endpoints("other") == []


def test_changing_an_endpoint_changes_that_one(stores: Stores) -> None:
    add(stores.post, "t", endpoint())
    add(stores.post, "u", endpoint())
    changed = change(
        stores.post, "t", "e1", lambda one: msgspec.structs.replace(one, description="d"), NOW
    )
    assert changed.description == "d"
    assert stores.post.endpoints("t") == [changed]
    assert stores.post.endpoints("u") == [endpoint()]
    with pytest.raises(Missing):
        change(stores.post, "t", "nobody", lambda one: one, NOW)


def test_a_fact_becomes_one_delivery_for_each_endpoint_that_wants_it(stores: Stores) -> None:
    add(stores.post, "t", endpoint())
    add(stores.post, "t", endpoint("e2", kinds=("payment.*",)))
    add(stores.post, "t", endpoint("e3", customers=("somebody-else",)))
    add(stores.post, "t", endpoint("e4", state="disabled"))
    add(stores.post, "u", endpoint())
    stores.tell("t", [fact("f1"), fact("f2", "payment.received")])
    assert stores.post.waits()
    assert fan_out(stores.post, NOW, 100) == 2
    assert fan_out(stores.post, NOW, 100) == 0
    assert not stores.post.waits()
    found = {(one.endpoint, one.fact) for one in deliveries(stores)}
    assert found == {("e1", "f1"), ("e1", "f2"), ("e2", "f2")}
    assert deliveries(stores, tenant="u") == []


def test_a_fact_told_again_is_delivered_once(stores: Stores) -> None:
    add(stores.post, "t", endpoint())
    stores.tell("t", [fact("f1")])
    stores.tell("t", [fact("f1")])
    fan_out(stores.post, NOW, 100)
    stores.tell("t", [fact("f1")])
    fan_out(stores.post, NOW, 100)
    assert len(deliveries(stores)) == 1


def test_facts_fan_out_in_bounded_pieces_and_none_is_left(stores: Stores) -> None:
    add(stores.post, "t", endpoint())
    stores.tell("t", [fact(f"f{n}") for n in range(7)])
    stores.tell("u", [fact(f"f{n}") for n in range(3)])
    pieces = [fan_out(stores.post, NOW, 4) for _ in range(4)]
    assert pieces == [4, 4, 2, 0]
    assert len(deliveries(stores)) == 7
    assert stores.post.figures().facts == 0


def test_what_a_failed_transaction_did_has_not_happened(stores: Stores) -> None:
    add(stores.post, "t", endpoint())
    stores.tell("t", [fact("f1")])

    def failing() -> None:
        with stores.post.writing() as transaction:
            made = tuple(begun(endpoint(), one, NOW) for one in transaction.waiting(10)["t"])
            transaction.put("t", Written(begun=made, fanned=("f1",)), NOW)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    assert deliveries(stores) == []
    assert fan_out(stores.post, NOW, 10) == 1


def test_older_facts_are_taken_first(stores: Stores) -> None:
    add(stores.post, "t", endpoint())
    parcels = begin(stores, fact("f2", at_us=NOW - 1), fact("f3"), fact("f1", at_us=NOW - 2))
    assert [one.fact.id for one in parcels] == ["f1", "f2", "f3"]
    assert parcels[0].fact == fact("f1", at_us=NOW - 2)
    assert parcels[0].endpoint == endpoint()


def test_what_is_taken_is_nobody_elses_until_the_lease_ends(stores: Stores) -> None:
    add(stores.post, "t", endpoint())
    (mine,) = begin(stores, fact("f1"))
    assert mine.delivery.lease == "me"
    assert stores.post.ready(LEASED - 1) == []
    assert take(stores.post, ("t", "e1"), LEASED - 1, 9, LEASED, "you") == []
    assert stores.post.ready(LEASED) == [Ready("t", "e1", answers=None)]
    (theirs,) = take(stores.post, ("t", "e1"), LEASED, 9, LEASED + 9, "you")
    assert theirs.delivery.lease == "you"


def test_at_most_so_many_are_taken(stores: Stores) -> None:
    add(stores.post, "t", endpoint())
    stores.tell("t", [fact(f"f{n}") for n in range(3)])
    fan_out(stores.post, NOW, 100)
    assert len(take(stores.post, ("t", "e1"), NOW, 2, LEASED, "me")) == 2
    assert len(take(stores.post, ("t", "e1"), NOW, 2, LEASED, "me")) == 1


def test_leases_of_a_gone_sender_are_released(stores: Stores) -> None:
    add(stores.post, "t", endpoint())
    stores.tell("t", [fact("f1"), fact("f2")])
    fan_out(stores.post, NOW, 100)
    take(stores.post, ("t", "e1"), NOW, 1, LEASED, "node_1%.abc")
    take(stores.post, ("t", "e1"), NOW, 1, LEASED, "node_11.abc")
    assert stores.post.release("node_1%.", NOW + 1) == 1
    assert stores.post.release("node_1%.", NOW + 1) == 0
    assert len(take(stores.post, ("t", "e1"), NOW + 1, 9, LEASED, "me")) == 1


def test_an_attempt_is_on_record_with_what_it_made_of_the_delivery(stores: Stores) -> None:
    add(stores.post, "t", endpoint())
    (parcel,) = begin(stores, fact("f1"))
    put_on_record(stores.post, [tried(parcel)], NOW, 5)
    delivery, told, attempts = stores.post.delivery("t", parcel.delivery.id)
    assert (delivery.state, delivery.due_us, delivery.ended_us) == ("delivered", None, NOW + 7)
    assert told == fact("f1")
    (made,) = attempts
    assert made == Attempt(
        delivery=delivery.id, number=1, at_us=NOW, took_us=7, outcome="delivered", code=200,
        text="ok",
    )  # fmt: skip
    (after,) = stores.post.endpoints("t")
    assert (after.succeeded_us, after.delivered_total) == (NOW + 7, 1)
    probe(stores.post, "t", "e1", NOW)
    assert stores.post.ready(NOW) == [Ready("t", "e1", answers=True)]


def test_a_failed_attempt_is_due_again_and_every_attempt_is_kept(stores: Stores) -> None:
    add(stores.post, "t", endpoint())
    (parcel,) = begin(stores, fact("f1"))
    bad = Answer(
        outcome="failed", code=500, text="bad\0 \ud7ff" + "x" * 5_000, error="it answered 500"
    )
    put_on_record(stores.post, [tried(parcel, bad)], NOW, 5)
    (delivery,) = deliveries(stores)
    assert delivery.state == "retrying"
    assert delivery.due_us is not None
    assert stores.post.ready(delivery.due_us) == [Ready("t", "e1", answers=False)]
    (again,) = take(stores.post, ("t", "e1"), delivery.due_us, 9, LEASED * 2, "me")
    put_on_record(stores.post, [tried(again, bad)], NOW, 5)
    _, _, attempts = stores.post.delivery("t", delivery.id)
    assert [one.number for one in attempts] == [1, 2]
    assert len(attempts[0].text) == 1024
    (after,) = stores.post.endpoints("t")
    assert (after.state, after.failures, after.failed_total) == ("failing", 2, 2)


def test_a_removed_endpoint_gets_nothing_more_and_its_log_stays(stores: Stores) -> None:
    add(stores.post, "t", endpoint())
    (parcel,) = begin(stores, fact("f1"))
    remove(stores.post, "t", "e1", NOW)
    assert stores.post.endpoints("t") == []
    (delivery,) = deliveries(stores)
    assert (delivery.state, delivery.ended_us) == ("cancelled", NOW)
    assert stores.post.ready(LEASED) == []
    put_on_record(stores.post, [tried(parcel)], NOW, 5)  # it was under way
    assert deliveries(stores)[0].state == "delivered"
    with pytest.raises(Missing):
        remove(stores.post, "t", "e1", NOW)
    with pytest.raises(Missing):
        replay(stores.post, "t", delivery.id, NOW)


def test_a_disabled_endpoint_is_told_nothing_until_it_is_enabled(stores: Stores) -> None:
    add(stores.post, "t", endpoint())
    (parcel,) = begin(stores, fact("f1"))
    change(stores.post, "t", "e1", lambda one: disabled(one, "why"), NOW)
    assert deliveries(stores)[0].state == "cancelled"
    stores.tell("t", [fact("f2")])
    fan_out(stores.post, NOW, 9)
    assert [one.fact for one in deliveries(stores)] == ["f1"]
    for command in (
        partial(probe, stores.post, "t", "e1", NOW),
        partial(replay, stores.post, "t", parcel.delivery.id, NOW),
        partial(replay_since, stores.post, stores.post, "t", "e1", 0, NOW),
    ):
        with pytest.raises(Conflict, match="why"):
            command()
    change(stores.post, "t", "e1", enabled, NOW)
    assert replay_since(stores.post, stores.post, "t", "e1", 0, NOW) == 2
    assert {one.state for one in deliveries(stores)} == {"pending"}
    assert len(deliveries(stores)) == 2


def test_gone_disables_the_endpoint_and_tells_it(stores: Stores) -> None:
    add(stores.post, "t", endpoint())
    add(stores.post, "t", endpoint("e2", kinds=("webhook.*",)))
    first, _ = begin(stores, fact("f1"), fact("f2"))
    gone = Answer(outcome="gone", code=410, error="410 Gone")
    put_on_record(stores.post, [tried(first, gone)], NOW, 5)
    after = {one.id: one for one in stores.post.endpoints("t")}
    assert after["e1"].state == "disabled"
    assert {one.state for one in deliveries(stores)} == {"cancelled"}
    fan_out(stores.post, NOW, 9)
    (told,) = deliveries(stores, endpoint="e2")
    assert told.kind == "webhook.disabled"


def test_a_test_is_told_to_one_endpoint_alone(stores: Stores) -> None:
    add(stores.post, "t", endpoint())
    add(stores.post, "t", endpoint("e2"))
    made = probe(stores.post, "t", "e1", NOW)
    assert fan_out(stores.post, NOW, 9) == 0
    assert deliveries(stores) == [made]
    assert replay_since(stores.post, stores.post, "t", "e2", 0, NOW) == 0
    (parcel,) = take(stores.post, ("t", "e1"), NOW, 9, LEASED, "me")
    assert parcel.fact.kind == "webhook.test"


def test_a_replayed_delivery_is_tried_from_the_beginning(stores: Stores) -> None:
    add(stores.post, "t", endpoint())
    (parcel,) = begin(stores, fact("f1"))
    put_on_record(stores.post, [tried(parcel)], NOW, 5)
    again = replay(stores.post, "t", parcel.delivery.id, NOW + 50)
    assert (again.state, again.due_us, again.attempts, again.tried) == ("pending", NOW + 50, 1, 0)
    (parcel,) = take(stores.post, ("t", "e1"), NOW + 50, 9, LEASED, "me")
    put_on_record(stores.post, [tried(parcel)], NOW, 5)
    assert [one.number for one in stores.post.delivery("t", again.id)[2]] == [1, 2]
    with pytest.raises(Missing):
        replay(stores.post, "t", "dlv_nobody", NOW)


def test_everything_since_a_time_is_replayed_and_nothing_older(stores: Stores) -> None:
    add(stores.post, "t", endpoint())
    facts = [fact(f"f{n}", at_us=n) for n in range(1, 6)]
    parcels = begin(stores, *facts)
    change(stores.post, "t", "e1", lambda one: disabled(one, "x"), NOW)
    put_on_record(stores.post, [tried(parcels[4])], NOW, 5)  # the newest arrived after all
    change(stores.post, "t", "e1", enabled, NOW)
    with pytest.raises(Invalid):
        replay_since(stores.post, stores.post, "t", "e1", NOW + 1, NOW)
    assert replay_since(stores.post, stores.post, "t", "e1", 3, NOW) == 2
    states = {one.fact: one.state for one in deliveries(stores)}
    assert states == {
        "f1": "cancelled", "f2": "cancelled", "f3": "pending", "f4": "pending", "f5": "delivered",
    }  # fmt: skip


def test_nothing_is_begun_for_an_endpoint_that_is_removed_during_a_replay(stores: Stores) -> None:
    """A delivery without an endpoint would be on its way for good."""

    class Removing:
        """Reads; somebody removes the endpoint meanwhile."""

        def __getattr__(self, name: str) -> Any:
            def read(*said: Any) -> Any:
                found = getattr(stores.post, name)(*said)
                if any(one.id == "e1" for one in stores.post.endpoints("t")):
                    remove(stores.post, "t", "e1", NOW)
                return found

            return read

    add(stores.post, "t", endpoint())
    begin(stores, fact("f1"))
    change(stores.post, "t", "e1", lambda one: disabled(one, "x"), NOW)
    stores.tell("t", [fact("f2")])
    fan_out(stores.post, NOW, 9)
    change(stores.post, "t", "e1", enabled, NOW)
    with pytest.raises(Missing):
        replay_since(stores.post, Removing(), "t", "e1", 0, NOW)
    add(stores.post, "t", endpoint())
    with pytest.raises(Missing):
        replay_since(stores.post, Late(stores.post), "t", "e1", 0, NOW)
    assert {one.state for one in deliveries(stores) if one.fact == "f2"} <= {"cancelled"}
    assert stores.post.figures().waiting == 0


class Late:
    """Reads; the endpoint is removed once facts that it missed are looked for."""

    def __init__(self, post: Any) -> None:
        self.post = post

    def deliveries(self, tenant: str, asked: Asked) -> list[Delivery]:
        found: list[Delivery] = self.post.deliveries(tenant, asked)
        return found

    def facts(self, tenant: str, since_us: int, after: str, limit: int) -> list[Fact]:
        found: list[Fact] = self.post.facts(tenant, since_us, after, limit)
        remove(self.post, tenant, "e1", NOW)
        return found


def test_what_a_clock_ahead_of_the_time_has_put_off_is_due(stores: Stores) -> None:
    """The clock was a year ahead for a moment: that must not be a year's silence."""
    add(stores.post, "t", endpoint())
    stores.tell("t", [fact("f1"), fact("f2")])
    fan_out(stores.post, NOW, 9)
    year_us = 365 * 24 * HOUR_US
    first, second = take(stores.post, ("t", "e1"), NOW + year_us, 9, LEASED + year_us, "gone")
    failed = Answer(outcome="failed", code=500, error="x", retry_after_us=RETRY_AFTER_MAX_US)
    put_on_record(stores.post, [tried(first, failed, at_us=NOW + year_us)], NOW + year_us, 5)
    assert stores.post.ready(NOW) == [Ready("t", "e1", answers=False)]
    again = take(stores.post, ("t", "e1"), NOW, 9, LEASED, "me")
    assert {one.delivery.id for one in again} == {first.delivery.id, second.delivery.id}
    assert take(stores.post, ("t", "e1"), NOW, 9, LEASED, "me") == []
    put_on_record(stores.post, [tried(one, failed) for one in again], NOW, 5)
    assert stores.post.ready(NOW) == []  # a day is as far as anything is ever put off
    assert stores.post.ready(NOW + 24 * HOUR_US + 7) == [Ready("t", "e1", answers=False)]


def test_deliveries_are_listed_newest_first_by_pages_and_filters(stores: Stores) -> None:
    add(stores.post, "t", endpoint())
    kinds = ("invoice.paid", "payment.received")
    facts = [fact(f"f{n}", kinds[n % 2], at_us=n // 2) for n in range(6)]
    parcels = begin(stores, *facts)
    put_on_record(stores.post, [tried(one) for one in parcels[:2]], NOW, 5)
    every = deliveries(stores)
    assert [one.at_us for one in every] == [2, 2, 1, 1, 0, 0]
    pages, before = [], None
    while some := deliveries(stores, limit=2, before=before):
        pages += some
        before = (some[-1].at_us, some[-1].id)
    assert pages == every
    assert [one.kind for one in deliveries(stores, kind="invoice.paid")] == ["invoice.paid"] * 3
    assert [one.at_us for one in deliveries(stores, states=("delivered",))] == [0, 0]
    assert len(deliveries(stores, since_us=1)) == 4
    assert deliveries(stores, endpoint="e9") == []


def test_what_has_ended_is_forgotten_after_its_time_and_nothing_else(stores: Stores) -> None:
    add(stores.post, "t", endpoint())
    old, new, _ = begin(stores, fact("f1"), fact("f2"), fact("f3"))
    stores.tell("t", [fact("f4", customer="x")])
    put_on_record(stores.post, [tried(old)], NOW, 5)
    put_on_record(stores.post, [tried(new, at_us=NOW + 100)], NOW, 5)
    assert stores.post.forget(NOW, 100) == 0
    assert stores.post.forget(NOW + 50, 100) == 2  # the delivery and its fact
    assert stores.post.forget(NOW + 50, 100) == 0
    assert {one.fact for one in deliveries(stores)} == {"f2", "f3"}
    with pytest.raises(Missing):
        stores.post.delivery("t", old.delivery.id)
    assert fan_out(stores.post, NOW, 9) == 1
    assert [one.id for one in stores.post.facts("t", 0, "", 9)] == ["f2", "f3", "f4"]


def test_figures_tell_how_it_is(stores: Stores) -> None:
    empty = stores.post.figures()
    assert (empty.facts, empty.waiting, empty.oldest_us, empty.endpoints) == (0, 0, None, {})
    add(stores.post, "t", endpoint())
    add(stores.post, "u", endpoint(state="disabled"))
    first, _ = begin(stores, fact("f1", at_us=3), fact("f2", at_us=4))
    put_on_record(stores.post, [tried(first)], NOW, 5)
    stores.tell("t", [fact("f3")])
    told = stores.post.figures()
    assert (told.facts, told.waiting, told.oldest_us) == (1, 1, 4)
    assert told.endpoints == {"active": 1, "disabled": 1}
    assert (told.delivered, told.failed) == (1, 0)


def test_many_senders_at_once_share_the_work_and_nothing_is_taken_twice(stores: Stores) -> None:
    add(stores.post, "t", endpoint())
    stores.tell("t", [fact(f"f{n:03}") for n in range(120)])
    taken: list[str] = []
    wrong: list[BaseException] = []

    def work(name: str) -> None:
        try:
            while True:
                try:
                    fan_out(stores.post, NOW, 10)
                    some = take(stores.post, ("t", "e1"), NOW, 7, LEASED, name)
                except Conflict:  # a database undid one of two that waited for each other
                    continue
                taken.extend(one.fact.id for one in some)
                if not some and stores.post.figures().facts == 0 and not stores.post.ready(NOW):
                    return
        except BaseException as error:
            wrong.append(error)
            raise

    senders = [Thread(target=work, args=(f"s{n}",)) for n in range(3)]
    for one in senders:
        one.start()
    for one in senders:
        one.join(60)
    assert wrong == []
    assert sorted(taken) == [f"f{n:03}" for n in range(120)]
