"""States, schedule, health and wishes: pure."""

from itertools import product
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallybook.deliver.delivery import Answer, Delivery, Parcel, Tried, begun
from tallybook.deliver.endpoint import (
    ENDPOINTS_MAX,
    Endpoint,
    Secret,
    check_customers,
    check_description,
    check_kinds,
    matches,
    rotated,
)
from tallybook.deliver.health import disabled, enabled, failed, succeeded
from tallybook.deliver.kinds import KINDS, NAMES, schemas
from tallybook.deliver.message import message_of
from tallybook.deliver.schedule import (
    ATTEMPTS_MIN,
    HORIZON_US,
    PAUSES_US,
    RETRY_AFTER_MAX_US,
    next_due_us,
)
from tallybook.deliver.state import OPEN, STATES, TRANSITIONS, after
from tallybook.deliver.steps import cancelled, leased, recorded, replayed
from tallybook.kernel.book.fact import Fact
from tallybook.kernel.errors import Conflict, Invalid
from tallybook.kernel.timestamps import DAY_US, HOUR_US, SECOND_US

FACT = Fact(id="f", kind="invoice.paid", subject="inv", customer="c", at_us=5, body='{"a":1.50}')
STEPS = ("deliver", "fail", "give-up", "cancel", "replay")
BAD = Answer(outcome="failed", code=500, error="it answered 500")
GOOD = Answer(outcome="delivered", code=200)


def endpoint(**said: Any) -> Endpoint:
    return Endpoint(**{"id": "e", "channel": "webhook", "address": "a", "created_us": 1} | said)


def parcel(delivery: Delivery, lease: str = "me") -> Parcel:
    mine = leased(delivery, 99, lease)
    return Parcel(tenant="t", endpoint=endpoint(), delivery=mine, fact=FACT)


def tried(one: Parcel, answer: Answer, at_us: int = 10, fraction: float = 0.5) -> Tried:
    return Tried(parcel=one, at_us=at_us, took_us=1, answer=answer, fraction=fraction)


def test_every_state_and_step_is_decided():
    for state, step in product(STATES, STEPS):
        if (state, step) in TRANSITIONS:
            assert after(state, step) in STATES
        else:
            with pytest.raises(Conflict):
                after(state, step)
    assert all((state, "replay") in TRANSITIONS for state in STATES)
    assert all((state, "cancel") in TRANSITIONS for state in OPEN)


def test_the_pauses_are_the_recommended_ones_and_make_three_days():
    hours = [pause / HOUR_US for pause in PAUSES_US]
    assert hours == [5 / 3600, 300 / 3600, 0.5, 2, 5, 10, 14, 20, 24]
    assert HORIZON_US == 3 * DAY_US + 3 * HOUR_US + 35 * 60 * SECOND_US + 5 * SECOND_US


@given(st.lists(st.floats(0, 1), min_size=400, max_size=400))
def test_a_fact_is_tried_for_three_days_whatever_the_jitter(fractions):
    now, number, times = 0, 0, [0]
    while True:
        number += 1
        due = next_due_us(number, 0, now, fractions[number % 400])
        if due is None:
            break
        assert due > now
        assert due - now <= max(PAUSES_US[min(number, 9) - 1], SECOND_US)
        now = due
        times.append(due)
        if number > 300:  # a hundred zeroes in a row: pauses of a second
            return
    assert times[-1] >= HORIZON_US
    assert times[-1] == HORIZON_US or number == ATTEMPTS_MIN
    assert number >= ATTEMPTS_MIN


def test_the_whole_pause_gives_the_schedule_itself():
    now, dues = 0, []
    for number in range(1, 11):
        due = next_due_us(number, 0, now, 1.0)
        if due is None:
            break
        dues.append(due - now)
        now = due
    assert dues == list(PAUSES_US)
    assert next_due_us(10, 0, HORIZON_US, 1.0) is None


def test_a_sender_that_stood_still_is_not_the_endpoints_fault():
    assert next_due_us(1, 0, 9 * DAY_US, 0.5) == 9 * DAY_US + PAUSES_US[0] // 2
    assert next_due_us(ATTEMPTS_MIN, 0, 9 * DAY_US, 0.5) is None


def test_retry_after_is_honoured_up_to_a_day():
    assert next_due_us(1, 0, 0, 0.5, 3 * HOUR_US) == 3 * HOUR_US
    assert next_due_us(1, 0, 0, 0.5, 9 * DAY_US) == RETRY_AFTER_MAX_US
    late = HORIZON_US - HOUR_US
    assert next_due_us(9, 0, late, 1.0, 2 * HOUR_US) == late + 2 * HOUR_US
    assert next_due_us(9, 0, late, 1.0) == HORIZON_US


@pytest.mark.parametrize(
    ("patterns", "kind", "wanted"),
    [
        (["*"], "invoice.paid", True),
        (["invoice.*"], "invoice.paid", True),
        (["invoice.*"], "invoices.paid", False),
        (["invoice.paid"], "invoice.paid", True),
        (["invoice.paid"], "invoice.voided", False),
        (["payment.*", "invoice.voided"], "invoice.voided", True),
        (["invoice"], "invoice.paid", False),
        ([], "invoice.paid", False),
    ],
)
def test_patterns(patterns, kind, wanted):
    assert matches(patterns, kind) is wanted


def test_wishes_are_checked():
    assert check_kinds(["invoice.*", "invoice.*", "*"], NAMES) == ("invoice.*", "*")
    for wrong in ([], ["invoices.*"], ["*"] * 101, ["inv*"]):
        with pytest.raises(Invalid):
            check_kinds(wrong, NAMES)
    assert check_customers(["a", "a"]) == ("a",)
    for wrong in ([""], ["x" * 129], ["a"] * 1001):
        with pytest.raises(Invalid):
            check_customers(wrong)
    assert check_description("d") == "d"
    with pytest.raises(Invalid):
        check_description("x" * 256)
    assert ENDPOINTS_MAX > 1


def test_an_endpoint_wants_what_it_asked_for():
    assert endpoint().wants(FACT)
    assert not endpoint(state="disabled").wants(FACT)
    assert not endpoint(kinds=("payment.*",)).wants(FACT)
    assert endpoint(customers=("c",)).wants(FACT)
    assert not endpoint(customers=("d",)).wants(FACT)
    assert not endpoint().wants(msgspec.structs.replace(FACT, kind="webhook.test"))


def test_rotation_lets_the_old_secret_sign_for_a_while():
    one = endpoint(secrets=(Secret(sealed="a", created_us=1),))
    two = rotated(one, "b", 100, 1)
    assert [s.sealed for s in two.signing(100)] == ["b", "a"]
    assert [s.sealed for s in two.signing(100 + HOUR_US)] == ["b"]
    three = rotated(two, "c", 200, 48)
    assert [s.sealed for s in three.signing(200)] == ["c", "b", "a"]
    assert three.secrets[2].expires_us == 100 + HOUR_US, "a second rotation prolongs nothing"
    assert [s.sealed for s in rotated(three, "d", 300, 0).secrets] == ["d"]
    for wrong in (-1, 169):
        with pytest.raises(Invalid):
            rotated(one, "b", 100, wrong)


def test_health_follows_the_attempts():
    one = failed(endpoint(), 10, "it answered 500", 5)
    assert (one.state, one.failing_since_us, one.failures) == ("failing", 10, 1)
    one = failed(one, 10 + 5 * DAY_US - 1, "x", 5)
    assert one.state == "failing"
    one = failed(one, 10 + 5 * DAY_US, "it answered 502", 5)
    assert one.state == "disabled"
    assert "it answered 502" in one.reason
    assert failed(one, 99 * DAY_US, "y", 5).reason == one.reason
    assert succeeded(one, 5).state == "disabled", "only people enable again"
    again = enabled(one)
    assert (again.state, again.reason, again.failing_since_us) == ("active", "", None)
    assert failed(failed(endpoint(), 1, "x", 0), 99 * DAY_US, "x", 0).state == "failing"
    well = succeeded(failed(endpoint(), 1, "x", 5), 9)
    assert (well.state, well.reason, well.failures, well.succeeded_us) == ("active", "", 0, 9)
    assert disabled(endpoint(), "r" * 900).reason == "r" * 400


def test_a_delivery_walks_its_states():
    one = begun(endpoint(), FACT, 9)
    assert (one.state, one.due_us) == ("pending", 5)
    held = leased(one, 99, "me")
    written = recorded({one.id: held}, {"e": endpoint()}, [tried(parcel(one), BAD)], 5)
    (retrying,) = written.deliveries
    assert (retrying.state, retrying.tried, retrying.first_us, retrying.lease) == (
        "retrying", 1, 10, "",
    )  # fmt: skip
    assert cancelled(retrying, 50).state == "cancelled"
    assert cancelled(cancelled(retrying, 50), 60).ended_us == 50
    again = replayed(cancelled(retrying, 50), 70)
    assert (again.state, again.due_us, again.tried, again.attempts) == ("pending", 70, 0, 1)


def test_a_delivery_that_is_tried_to_the_end_is_given_up():
    one = leased(begun(endpoint(), FACT, 9), 99, "me")
    last = msgspec.structs.replace(one, tried=12, attempts=12, first_us=0, state="retrying")
    late = tried(parcel(last), BAD, at_us=HORIZON_US)
    written = recorded({one.id: last}, {"e": endpoint()}, [late], 0)
    (ended,) = written.deliveries
    assert (ended.state, ended.due_us, ended.ended_us) == ("given_up", None, HORIZON_US + 1)


def test_a_sender_whose_lease_ended_changes_nothing_but_that_it_arrived():
    one = begun(endpoint(), FACT, 9)
    theirs = leased(one, 99, "you")
    failing = recorded({one.id: theirs}, {}, [tried(parcel(one), BAD)], 5)
    (kept,) = failing.deliveries
    assert (kept.state, kept.lease, kept.attempts, kept.tried) == ("pending", "you", 1, 0)
    arrived = recorded({one.id: theirs}, {}, [tried(parcel(one), GOOD)] * 2, 5)
    (kept,) = arrived.deliveries
    assert (kept.state, kept.attempts, kept.ended_us) == ("delivered", 2, 11)
    assert recorded({}, {}, [tried(parcel(one), GOOD)], 5).attempts == ()


def test_gone_ends_an_endpoint_once():
    one, two = (
        begun(endpoint(), FACT, 9),
        begun(endpoint(), msgspec.structs.replace(FACT, id="g"), 9),
    )
    gone = Answer(outcome="gone", code=410, error="410 Gone")
    held = {d.id: leased(d, 99, "me") for d in (one, two)}
    written = recorded(held, {"e": endpoint()}, [tried(parcel(d), gone) for d in (one, two)], 5)
    assert written.cancelled == ("e",)
    (fact,) = written.facts
    assert fact.kind == "webhook.disabled"
    assert written.endpoints[0].state == "disabled"


def test_the_message_keeps_the_bodys_digits():
    assert message_of(FACT) == (
        b'{"id":"f","type":"invoice.paid","timestamp":"1970-01-01T00:00:00.000005Z",'
        b'"subject":"inv","customer":"c","data":{"a":1.50}}'
    )
    nobody = msgspec.structs.replace(FACT, customer="")
    assert b'"customer":null' in message_of(nobody)


def test_every_kind_has_a_schema():
    assert len(set(NAMES)) == len(KINDS)
    for kind in KINDS:
        assert all(found["properties"] for found in schemas(kind))
