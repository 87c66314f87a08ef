"""What other systems' clients send, read as usage events; the pure part of each door."""

import json
import threading

import anyio
import msgspec
import pytest

from tallybook.catalog.meter import MeterSpec, check_meter
from tallybook.kernel.errors import Forbidden, Invalid
from tallybook.kernel.timestamps import parse_rfc3339
from tallybook.meter.usage import StoredEvent
from tallybook.serve.api.compat.lago import events as lago
from tallybook.serve.api.compat.openmeter.customers import own_key
from tallybook.serve.api.compat.openmeter.dialect import meant
from tallybook.serve.api.compat.openmeter.filters import (
    Condition,
    allowed,
    conditions,
    spelled_map,
)
from tallybook.serve.api.compat.openmeter.routes import openmeter_router
from tallybook.serve.api.compat.stripe import cancel, session
from tallybook.serve.api.compat.stripe import events as stripe
from tallybook.serve.api.compat.wire import as_json, aside, strict_object

# ---------------------------------------------------------------- JSON


@pytest.mark.parametrize(
    "text",
    ['{"a":1.50,"b":[1e400,-0,{"c":"é\\n"}],"d":null,"e":true}', "{}", '{"a":{}}'],
)
def test_json_comes_back_with_its_digits(text):
    again = as_json(strict_object(text.encode()))
    assert json.loads(again, parse_float=str, parse_int=str) == json.loads(
        text, parse_float=str, parse_int=str
    )


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"1", b'{"a":1,"a":2}', b'{"a":{"b":1,"b":1}}', b'{"a":NaN}', b'{"a":"\\ud800"}',
     b"\xff", b'{"a":' * 5000],
)  # fmt: skip
def test_json_that_is_no_plain_object_is_refused(body):
    with pytest.raises(Invalid):
        strict_object(body)


# ---------------------------------------------------------------- Lago


@pytest.mark.parametrize(
    ("body", "is_lago"),
    [
        (b'{"event":{}}', True),
        (b' \n{ "event" : {"a":1}}', True),
        (b'{"events":[]}', True),
        (b'{"specversion":"1.0","id":"1"}', False),
        (b'{"event":"an extension","specversion":"1.0"}', False),
        (b'{"events":3,"specversion":"1.0"}', False),
        (b"[]", False),
        (b"", False),
    ],
)
def test_lagos_shape_is_told_from_a_cloudevent(body, is_lago):
    assert lago.is_lago(body) is is_lago


def lago_event(**changes):
    given = {"transaction_id": "t", "external_subscription_id": "s", "code": "c"} | changes
    return lago.lago_events(strict_object(json.dumps({"event": given}).encode()))[0][0]


@pytest.mark.parametrize(
    ("timestamp", "wanted"),
    [
        (1700000000, "2023-11-14T22:13:20Z"),
        ("1700000000", "2023-11-14T22:13:20Z"),
        (1700000000.123, "2023-11-14T22:13:20.123Z"),
        ("1700000000.123456", "2023-11-14T22:13:20.123456Z"),
        (1700000000123, "2023-11-14T22:13:20.123Z"),
        ("2023-11-14T22:13:20Z", "2023-11-14T22:13:20Z"),
        ("2023-11-15T00:13:20+02:00", "2023-11-14T22:13:20Z"),
        ("2023-11-14T22:13:20", "2023-11-14T22:13:20Z"),
        ("2023-11-14 22:13:20", "2023-11-14T22:13:20Z"),
    ],
    ids=repr,
)
def test_lagos_times(timestamp, wanted):
    assert lago_event(timestamp=timestamp).time_us == parse_rfc3339(wanted)


@pytest.mark.parametrize("timestamp", [-1, "x", True, [], 1e30, "1e999999999", ""])
def test_times_that_are_none(timestamp):
    with pytest.raises(lago.LagoInvalid) as refused:
        lago_event(timestamp=timestamp)
    assert refused.value.details == {"timestamp": ["invalid_format"]}


def test_an_event_of_lago_as_a_usage_event():
    event = lago.usage_event(
        lago_event(external_subscription_id="sub 1/ü", timestamp=1,
                   properties={"a": 1.50, "b": "x"},
                   precise_total_amount_cents="12.5")
    )  # fmt: skip
    assert (event.id, event.source, event.type, event.subject) == (
        "t", "lago/sub%201%2F%C3%BC", "c", "sub 1/ü"
    )  # fmt: skip
    assert event.time == "1970-01-01T00:00:01Z"
    assert json.loads(bytes(event.data)) == {
        "a": 1.5, "b": "x", "precise_total_amount_cents": "12.5"
    }  # fmt: skip


def test_an_old_clients_customer_is_the_subject():
    body = {"event": {"transaction_id": "t", "external_customer_id": "cus", "code": "c"}}
    (event,), _ = lago.lago_events(strict_object(json.dumps(body).encode()))
    assert event.subject == "cus"


def test_all_that_is_wrong_in_a_batch_is_told():
    last = b'{"transaction_id":[1],"external_subscription_id":"s","code":""}'
    body = b'{"events":[{"code":"c"},3,%s]}' % last
    with pytest.raises(lago.LagoInvalid) as refused:
        lago.lago_events(strict_object(body))
    assert refused.value.details == {
        "0": {"transaction_id": ["value_is_mandatory"],
              "external_subscription_id": ["value_is_mandatory"]},
        "1": {"event": ["value_is_invalid"]},
        "2": {"transaction_id": ["value_is_invalid"], "code": ["value_is_mandatory"]},
    }  # fmt: skip
    with pytest.raises(lago.LagoInvalid):
        lago.lago_events({"events": []})


def test_an_amount_that_stands_in_two_places_is_refused():
    with pytest.raises(lago.LagoInvalid) as refused:
        lago_event(properties={"precise_total_amount_cents": "1"}, precise_total_amount_cents="2")
    assert list(refused.value.details) == ["properties"]


# ---------------------------------------------------------------- Stripe

GOOD = {"event_name": "e", "payload": {"stripe_customer_id": "c", "value": "1"}}


def meter_event(fields=None, key="", fresh="fresh", timestamps="seconds", **changes):
    return stripe.meter_event((fields or GOOD) | changes, key, fresh, timestamps=timestamps)


def test_a_form_becomes_fields():
    form = b"event_name=e&payload[value]=1&payload[stripe_customer_id]=c%20d&identifier="
    assert stripe.form_fields(form) == {
        "event_name": "e", "payload": {"value": "1", "stripe_customer_id": "c d"}, "identifier": ""
    }  # fmt: skip
    assert stripe.form_fields(b"") == {}


@pytest.mark.parametrize(
    "form",
    [b"a=1&a=2", b"p[a]=1&p[a]=2", b"p=1&p[a]=2", b"p[a]=1&p=2", b"\xff=1", b"a", b"a=1&" * 300],
)
def test_a_form_that_says_two_things_is_refused(form):
    with pytest.raises(Invalid):
        stripe.form_fields(form)


def test_identities_of_stripes_events():
    assert meter_event(identifier="mine").identifier == "mine"
    assert meter_event().identifier == "fresh"
    once = meter_event(key="k").identifier
    assert meter_event(key="k").identifier == once
    assert meter_event(key="other").identifier != once
    other = {"event_name": "e", "payload": {"stripe_customer_id": "c", "value": "2"}}
    assert meter_event(other, key="k").identifier != once


def test_a_meter_event_as_a_usage_event():
    event = stripe.usage_event(meter_event(timestamp="1700000000"))
    assert (event.source, event.type, event.subject) == ("stripe", "e", "c")
    assert event.time == "2023-11-14T22:13:20Z"
    assert json.loads(bytes(event.data)) == GOOD["payload"]
    later = meter_event(timestamps="rfc3339", timestamp="2023-11-14T22:13:20Z")
    assert stripe.shown(later, 0, version=2)["timestamp"] == "2023-11-14T22:13:20Z"
    assert stripe.usage_event(meter_event()).time is None


@pytest.mark.parametrize(
    "changes",
    [{"event_name": None}, {"payload": None}, {"payload": "x"}, {"payload": {"a": 1}},
     {"payload": {"stripe_customer_id": ""}}, {"timestamp": "-1"}, {"timestamp": "99999999999999"},
     {"identifier": ""}, {"event_name": 3}],
)  # fmt: skip
def test_what_is_wrong_with_a_meter_event(changes):
    with pytest.raises(Invalid):
        meter_event(**changes)


def stored(data='{"stripe_customer_id":"c","value":"1.50","n":2}'):
    return StoredEvent(
        id="i", source="stripe", type="e", subject="c", time_us=1_000_000, received_us=2,
        commit_seq=1, data=data, ext=None, problem=None, row_hash=0,
    )  # fmt: skip


def meter(aggregation="SUM", value="$.value", **more):
    return check_meter(
        MeterSpec(key="m", event_type="e", aggregation=aggregation, value=value, **more)
    )


def test_an_event_is_taken_back_by_its_opposite():
    asked = cancel.adjustment({"event_name": "e", "type": "cancel", "cancel": {"identifier": "i"}})
    event = cancel.weigh_out([meter(), meter(value="$.n")], asked, stored())
    assert (event.id, event.source, event.subject) == ("cancel:i", "stripe", "c")
    assert event.time == "1970-01-01T00:00:01Z"
    assert json.loads(bytes(event.data)) == {"stripe_customer_id": "c", "value": "-1.5", "n": "-2"}
    alone = cancel.weigh_out([], asked, stored('{"value":"x"}'))
    assert json.loads(bytes(alone.data)) == {"value": "x"}


@pytest.mark.parametrize(
    "other", [meter("COUNT", None), meter("MAX"), meter(group_by={"v": "$.value"})]
)
def test_what_no_event_can_take_back_is_refused(other):
    with pytest.raises(Invalid):
        cancel.weigh_out([meter(), other], cancel.Adjustment("e", "i"), stored())


@pytest.mark.parametrize(
    "fields",
    [{}, {"event_name": "e"}, {"event_name": "e", "type": "undo"},
     {"event_name": "e", "type": "cancel"}, {"event_name": "e", "type": "cancel", "cancel": "i"}],
)  # fmt: skip
def test_adjustments_that_say_nothing(fields):
    with pytest.raises(Invalid):
        cancel.adjustment(fields)


def test_a_session_stands_for_its_key_for_fifteen_minutes():
    secret, minute = b"s" * 32, 60_000_000
    token = str(session.open_session(secret, "key_1", 0)["authentication_token"])
    assert session.key_of_session(secret, token, 14 * minute) == "key_1"
    with pytest.raises(Invalid) as ended:
        session.key_of_session(secret, token, 15 * minute)
    assert ended.value.code == "temporary_session_expired"
    claim, _, mac = token.removeprefix("tbs_").partition(".")
    forged = [
        token[:-2] + "AA",
        f"tbs_{claim}",
        f"tbs_{claim}.{mac}x!",
        "tbs_é.é",
        "tbs_",
        "tbs_e30." + mac,
    ]
    for text in forged:
        with pytest.raises(Forbidden):
            session.key_of_session(secret, text, 0)
    with pytest.raises(Forbidden):
        session.key_of_session(b"t" * 32, token, 0)


# ---------------------------------------------------------------- OpenMeter

AGENT = [(b"User-Agent", b"python-openmeter/0.0.0 Python/3.11.7")]


@pytest.mark.parametrize(
    ("method", "path", "headers", "wanted"),
    [
        ("GET", "/api/v1/meters", AGENT, "/openmeter/api/v1/meters"),
        (
            "GET",
            "/api/v1/meters",
            [(b"user-agent", b"app python-openmeter/1")],
            "/openmeter/api/v1/meters",
        ),
        ("GET", "/api/v1/meters", [], "/api/v1/meters"),
        ("GET", "/api/v1/meters", [(b"user-agent", b"myopenmeter/1")], "/api/v1/meters"),
        ("GET", "/openmeter/api/v1/meters", [], "/openmeter/api/v1/meters"),
        ("GET", "/openmeter/api/v1/meters/m/query", [], "/api/v1/meters/m/query"),
        ("GET", "/api/v1/meters/m/query", AGENT, "/api/v1/meters/m/query"),
        ("POST", "/openmeter/api/v1/events", [], "/api/v1/events"),
        ("POST", "/openmeter/api/v1/keys", [], "/api/v1/keys"),
        ("GET", "/openmeter/other", [], "/openmeter/other"),
        ("PATCH", "/api/v1/meters", AGENT, "/api/v1/meters"),
    ],
)
def test_which_requests_are_meant_for_openmeters_shapes(method, path, headers, wanted):
    assert meant(method, path, headers) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("{'a': 'x', 'b': ''}", {"a": ("x",), "b": (None,)}),
        ('{"a": "x"}', {"a": ("x",)}),
        ('{"a": ["x", "y"]}', {"a": ("x", "y")}),
        ("{}", {}),
    ],
)
def test_a_filter_as_one_text(text, wanted):
    assert spelled_map(text) == wanted


@pytest.mark.parametrize(
    "text", ["x", "[1]", "{'a': 1}", "__import__('os')", "(" * 3000, "a" * 9000]
)
def test_a_filter_that_is_none_is_refused_not_passed_over(text):
    with pytest.raises(Invalid):
        spelled_map(text)


@pytest.mark.parametrize(
    ("condition", "wanted"),
    [
        ({"$eq": "b"}, "b"),
        ({"$ne": "b"}, "a c None"),
        ({"$in": ["a", "c"]}, "a c"),
        ({"$nin": ["a", ""]}, "b c"),
        ({"$like": "_"}, "a b c"),
        ({"$like": "%a%"}, "a"),
        ({"$nlike": "a"}, "b c None"),
        ({"$ilike": "A"}, "a"),
        ({"$nilike": "A"}, "b c None"),
        ({"$gt": "a", "$lt": "c"}, "b"),
        ({"$gte": "b"}, "b c"),
        ({"$lte": "a"}, "a None"),
        ({"$or": [{"$eq": "a"}, {"$eq": "c"}]}, "a c"),
        ({"$and": [{"$gt": "a"}, {"$ne": "c"}]}, "b"),
    ],
)
def test_conditions_let_values_through(condition, wanted):
    read = conditions(json.dumps({"d": condition}))["d"]
    assert " ".join(str(value) for value in allowed(read, ["a", "b", "c", None])) == wanted


@pytest.mark.parametrize("text", ["{", '{"d": {"$regex": "x"}}', '{"d": 3}', "x" * 9000])
def test_conditions_that_are_none_are_refused(text):
    with pytest.raises(Invalid):
        conditions(text)
    assert Condition().holds("anything")


def test_the_key_of_a_subject_is_fit_and_its_own():
    assert own_key("customer-1") == "customer-1"
    assert own_key("a@b.c") != own_key("a-b.c")
    for subject in ("a@b.c", "ü" * 500, "/"):
        key = own_key(subject)
        assert len(key) <= 128
        assert msgspec.json.encode(key) == f'"{key}"'.encode()


def test_every_route_in_openmeters_shapes_names_its_scope_and_no_bound_key_reaches_it():
    handlers = [h for route in openmeter_router().routes for h in route.route_handlers]
    assert len(handlers) > 20
    for handler in handlers:
        if handler.opt:  # OPTIONS is Litestar's own and says nothing of a tenant
            assert handler.opt["scope"] in {"read", "billing"}, handler
            assert not handler.opt.get("bound"), handler


# ---------------------------------------------------------------- careless and hostile bodies


@pytest.mark.parametrize("seconds", ["9" * 5000, "9" * 13, "-1", "1e9", " 1", "١٢"])
def test_no_second_of_stripes_is_more_than_refused(seconds):
    """Python refuses to read numbers of thousands of digits with an error of its own."""
    fields = {"event_name": "x", "payload": {"stripe_customer_id": "c"}, "timestamp": seconds}
    with pytest.raises(Invalid) as caught:
        stripe.meter_event(fields, "", "fresh", timestamps="seconds")
    assert (caught.value.code, caught.value.field) == ("parameter_invalid", "timestamp")


def test_no_event_of_stripes_takes_the_place_of_an_adjustment():
    """An event under the adjustment's identity would make the adjustment a duplicate of it."""
    fields = {
        "event_name": "x", "payload": {"stripe_customer_id": "c"}, "identifier": "cancel:order-1",
    }  # fmt: skip
    with pytest.raises(Invalid, match="must not begin with 'cancel:'"):
        stripe.meter_event(fields, "", "fresh", timestamps="seconds")


def test_a_batch_of_lago_is_bounded_and_so_is_what_is_wrong_with_it():
    body = strict_object(b'{"events":[' + b",".join([b"{}"] * 10_001) + b"]}")
    with pytest.raises(lago.LagoInvalid) as caught:
        lago.lago_events(body)
    assert caught.value.details == {"events": ["too_many_events"]}
    with pytest.raises(lago.LagoInvalid) as caught:
        lago.lago_events({"events": body["events"][:10_000]})
    assert list(caught.value.details) == [str(at) for at in range(100)]


def test_large_bodies_are_read_beside_the_event_loop():
    async def reading(size: int) -> bool:
        here = threading.get_ident()
        return await aside(b"x" * size, lambda _: threading.get_ident()) != here

    assert not anyio.run(reading, 1_000)
    assert anyio.run(reading, 100_000)
