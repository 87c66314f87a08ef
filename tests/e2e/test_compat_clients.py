"""The published clients of OpenMeter, Stripe and Lago talk to a real server, unchanged."""

import asyncio
import base64
import gc
import json
from datetime import UTC, datetime, timedelta

import pytest

from tests.e2e.server import KEY, Server, asked, workers

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
BEARER = {"Authorization": f"Bearer {KEY}"}
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compat") / "data"
    with Server(folder, workers(2)) as running:
        yield running
    gc.collect()


def meter(server, key, event_type, aggregation="SUM", value="$.value", **more):
    body = {"key": key, "event_type": event_type, "aggregation": aggregation, **more}
    server.post("/api/v1/meters", json.dumps(body | ({"value": value} if value else {})))


def total(server, key, **params):
    server.caught_up()
    query = "&".join(f"{name}={value}" for name, value in params.items())
    rows = server.get(f"/api/v1/meters/{key}/query?{query}")["data"]
    return [row["value"] for row in rows]


def counted(server):
    return server.get("/api/v1/status")["counters"]["received"]


# ---------------------------------------------------------------- OpenMeter


@pytest.fixture(params=["", "/openmeter"], ids=["by-agent", "by-prefix"])
def openmeter(server, request):
    from openmeter import Client

    with Client(endpoint=server.url + request.param, token=KEY) as client:
        client.mark = "p" if request.param else "a"
        yield client


def om_event(mark, number, subject, **data):
    from openmeter.models import Event

    return Event(
        id=f"{mark}{number}", source=f"om-{mark}", specversion="1.0", type=f"prompt-{mark}",
        subject=subject, time=NOVEMBER + timedelta(hours=number), data=data,
    )  # fmt: skip


def test_openmeter_ingests_and_queries(server, openmeter):
    from corehttp.exceptions import HttpResponseError, ResourceNotFoundError

    mark = openmeter.mark
    slug = f"tokens-{mark}"
    made = openmeter.meters.create(
        {"slug": slug, "aggregation": "SUM", "eventType": f"prompt-{mark}",
         "valueProperty": "$.tokens", "groupBy": {"model": "$.model"}}
    )  # fmt: skip
    assert (made.id, made.slug, made.event_type, made.value_property) == (
        slug, slug, f"prompt-{mark}", "$.tokens"
    )  # fmt: skip
    openmeter.events.ingest_event(om_event(mark, 1, "ann@x.org", tokens=5, model="a"))
    openmeter.events.ingest_event(om_event(mark, 1, "ann@x.org", tokens=5, model="a"))
    openmeter.events.ingest_events(
        [om_event(mark, n, "bob", tokens="7", model="b") for n in (2, 30)]
    )
    openmeter.events.ingest_events_json([om_event(mark, 31, "bob", tokens=1, model="a")])
    with pytest.raises(HttpResponseError, match="missing-attribute"):
        openmeter.events.ingest_event({"id": "x"})
    server.caught_up()

    assert [each.slug for each in openmeter.meters.list() if each.slug == slug] == [slug]
    assert openmeter.meters.get(slug).group_by == {"model": "$.model"}
    assert openmeter.meters.query_json(slug).data[0].value == 20
    window = {"from_parameter": NOVEMBER, "to": NOVEMBER + timedelta(days=2)}
    days = openmeter.meters.query_json(slug, **window, window_size="DAY", window_time_zone="UTC")
    assert [row.value for row in days.data] == [12, 8]
    assert days.data[0].window_start == NOVEMBER
    by = openmeter.meters.query_json(slug, group_by=["model", "subject"], subject=["bob"])
    assert {(row.group_by["model"], row.subject, row.value) for row in by.data} == {
        ("a", "bob", 1), ("b", "bob", 14)
    }  # fmt: skip
    only = openmeter.meters.query_json(slug, filter_group_by={"model": "b"})
    assert only.data[0].value == 14
    rest = openmeter.meters.query_json(
        slug, advanced_meter_group_by_filters={"model": {"$nin": ["b"]}}
    )
    assert rest.data[0].value == 6
    none = openmeter.meters.query_json(
        slug, advanced_meter_group_by_filters={"model": {"$eq": "zz"}}
    )
    assert none.data == []
    posted = openmeter.meters.query(
        slug, {"filterGroupBy": {"model": ["a"]}, "groupBy": ["subject"]}
    )
    assert {(row.subject, row.value) for row in posted.data} == {("ann@x.org", 5), ("bob", 1)}
    for csv in (openmeter.meters.query_csv(slug), openmeter.meters.query_csv_post(slug)):
        text = csv if isinstance(csv, str) else b"".join(csv).decode()
        assert text.splitlines()[0] == "window_start,window_end,subject,value"
        assert text.splitlines()[1].endswith(",20")
    assert openmeter.meters.list_subjects(slug) == ["ann@x.org", "bob"]
    assert openmeter.meters.list_group_by_values(slug, "model") == ["a", "b"]
    assert openmeter.meters.update(slug, {"name": "Tokens"}).name == "Tokens"
    with pytest.raises(ResourceNotFoundError):
        openmeter.meters.get("nothing")


def test_openmeter_keeps_subjects_and_customers(server, openmeter):
    from corehttp.exceptions import ResourceNotFoundError

    mark = openmeter.mark
    subject, other = f"carl@{mark}", f"dora-{mark}"
    made = openmeter.subjects.upsert([{"key": subject, "displayName": "Carl"}, {"key": other}])
    assert [(each.key, each.display_name) for each in made] == [(subject, "Carl"), (other, other)]
    again = openmeter.subjects.upsert([{"key": subject, "displayName": "Carla"}])
    assert again[0].display_name == "Carla"
    assert {subject, other} <= {each.key for each in openmeter.subjects.list()}
    assert openmeter.subjects.get(subject).key == subject

    key = f"acme-{mark}"
    customer = openmeter.customers.create(
        {"name": "Acme", "key": key, "currency": "EUR", "primaryEmail": "a@x.org",
         "usageAttribution": {"subjectKeys": [f"s1-{mark}", f"s2-{mark}"]},
         "billingAddress": {"line1": "1 Road", "city": "Bonn", "postalCode": "53111"}}
    )  # fmt: skip
    assert customer.usage_attribution.subject_keys == [f"s1-{mark}", f"s2-{mark}"]
    assert server.get(f"/api/v1/customers/{key}")["address"] == ["1 Road", "53111 Bonn"]
    listed = openmeter.customers.list(key=key)
    assert (listed.total_count, listed.items_property[0].id) == (1, key)
    assert openmeter.customers.get(key).currency == "EUR"
    changed = openmeter.customers.update(
        key, {"name": "Acme 2", "usageAttribution": {"subjectKeys": [f"s1-{mark}"]}}
    )
    assert (changed.name, changed.usage_attribution.subject_keys) == ("Acme 2", [f"s1-{mark}"])
    unnamed = openmeter.customers.create({"name": "No key"})
    assert unnamed.key

    meter_key = f"calls-{mark}"
    openmeter.meters.create(
        {"slug": meter_key, "aggregation": "COUNT", "eventType": f"call-{mark}"}
    )
    events = [
        {"id": f"{n}{mark}", "source": "c", "specversion": "1.0", "type": f"call-{mark}",
         "subject": who, "time": "2026-11-02T00:00:00Z"}
        for n, who in enumerate([f"s1-{mark}", f"s1-{mark}", other])
    ]  # fmt: skip
    openmeter.events.ingest_events(events)
    server.caught_up()
    one = openmeter.meters.query_json(meter_key, filter_customer_id=[key])
    assert [row.value for row in one.data] == [2]
    both = openmeter.meters.query_json(meter_key, filter_customer_id=[key, other])
    assert [row.value for row in both.data] == [3]
    split = openmeter.meters.query_json(meter_key, group_by=["customer_id"])
    assert {(row.customer_id, row.value) for row in split.data} == {(key, 2), (other, 1)}

    stored = openmeter.events.list(customer_id=[key], limit=10)
    assert {each.event.id for each in stored} == {f"0{mark}", f"1{mark}"}
    assert {each.customer_id for each in stored} == {key}
    wanted = {"type": {"$eq": f"call-{mark}"}, "time": {"$gte": "2026-11-01T00:00:00Z"}}
    paged = list(openmeter.events_v2.list(limit=1, filter=wanted))
    assert len(paged) == 3

    openmeter.subjects.delete(subject)
    openmeter.customers.delete(unnamed.key)
    with pytest.raises(ResourceNotFoundError):
        openmeter.subjects.get(subject)
    openmeter.meters.delete(meter_key)
    assert meter_key not in [each.slug for each in openmeter.meters.list()]


def test_openmeter_lists_the_events_of_a_time(server, openmeter):
    subject = f"when-{openmeter.mark}"
    openmeter.events.ingest_event(om_event(openmeter.mark, 71, subject, tokens=1, model="a"))
    server.caught_up()
    future = datetime.now(UTC) + timedelta(days=1)
    assert openmeter.events.list(subject=subject, ingested_at_from=future) == []
    assert openmeter.events.list(subject=subject, from_parameter=future) == []
    assert len(openmeter.events.list(subject=subject, ingested_at_to=future, to=future)) == 1


def test_openmeter_asks_what_a_customer_may_use(server, openmeter):
    from corehttp.exceptions import ResourceNotFoundError

    key = f"owner-{openmeter.mark}"
    openmeter.customers.create(
        {"name": "O", "key": key, "usageAttribution": {"subjectKeys": [f"o-{openmeter.mark}"]}}
    )
    server.post(
        "/api/v1/entitlements",
        json.dumps(
            {
                "customer": key,
                "feature": "sso",
                "type": "static",
                "start": "2026-01-01",
                "config": '{"n":1}',
            }
        ),
    )
    told = openmeter.customer_entitlement.get_customer_entitlement_value(key, "sso")
    assert (told.has_access, told.config) == (True, '{"n":1}')
    assert openmeter.customer.get_customer_access(key).entitlements["sso"].has_access
    v2 = openmeter.customer_entitlement_v2.get_customer_entitlement_value(key, "sso")
    assert v2.has_access
    with pytest.raises(ResourceNotFoundError):
        openmeter.customer_entitlement.get_customer_entitlement_value(key, "nothing")


def test_openmeter_without_a_good_key_is_told_so(server):
    from corehttp.exceptions import ClientAuthenticationError
    from openmeter import Client

    with Client(endpoint=server.url, token="tb_wrong") as client:
        for ask in (client.meters.list, client.subjects.list, client.customers.list,
                    client.events.list, lambda: client.events.ingest_events([])):  # fmt: skip
            with pytest.raises(ClientAuthenticationError):
                ask()


def test_openmeters_client_for_asyncio(server):
    from openmeter.aio import Client

    async def story():
        async with Client(endpoint=server.url, token=KEY) as client:
            await client.meters.create(
                {"slug": "aio", "aggregation": "SUM", "eventType": "aio", "valueProperty": "$.n"}
            )
            await client.events.ingest_event(
                {"id": "1", "source": "aio", "specversion": "1.0", "type": "aio",
                 "subject": "s", "data": {"n": "0.1"}}
            )  # fmt: skip
            await client.events.ingest_events(
                [{"id": str(n), "source": "aio", "specversion": "1.0", "type": "aio",
                  "subject": "s", "data": {"n": "0.2"}} for n in (1, 2)]
            )  # fmt: skip
            await asyncio.to_thread(server.caught_up)
            answer = await client.meters.query_json("aio")
            return answer.data[0].value, [each.slug for each in await client.meters.list()]

    value, slugs = asyncio.run(story())
    assert value == 0.3
    assert "aio" in slugs


# ---------------------------------------------------------------- Stripe


@pytest.fixture
def stripe_client(server):
    import stripe

    return stripe.StripeClient(
        KEY, base_addresses={"api": server.url, "meter_events": server.url}, max_network_retries=0
    )


def test_stripe_sends_meter_events(server, stripe_client):
    meter(server, "stripe-api", "api_requests")
    for _ in range(2):  # sent twice, counted once
        told = stripe_client.v1.billing.meter_events.create(
            {"event_name": "api_requests", "identifier": "req-1", "timestamp": 1793491200,
             "payload": {"stripe_customer_id": "cus_1", "value": "25"}}
        )  # fmt: skip
    assert (told.object, told.identifier, told.event_name) == (
        "billing.meter_event", "req-1", "api_requests"
    )  # fmt: skip
    assert told.payload.to_dict() == {"stripe_customer_id": "cus_1", "value": "25"}
    assert told.timestamp == 1793491200
    second = stripe_client.v2.billing.meter_events.create(
        {"event_name": "api_requests", "identifier": "req-2", "timestamp": "2026-11-01T00:00:00Z",
         "payload": {"stripe_customer_id": "cus_2", "value": "1.5"}}
    )  # fmt: skip
    assert (second.object, second.identifier) == ("v2.billing.meter_event", "req-2")
    assert total(server, "stripe-api") == [26.5]
    assert total(server, "stripe-api", subject="cus_1") == [25]


def test_stripes_module_sends_meter_events_too(server):
    import stripe

    meter(server, "stripe-module", "module_requests")
    before = stripe.api_base, stripe.api_key
    stripe.api_base, stripe.api_key = server.url, KEY
    try:
        send = {"event_name": "module_requests",
                "payload": {"stripe_customer_id": "cus_1", "value": 25}}  # fmt: skip
        for _ in range(2):  # no identifier: the Idempotency-Key tells that it is one request
            told = stripe.billing.MeterEvent.create(**send, idempotency_key="once")
        assert told.identifier
        other = stripe.billing.MeterEvent.create(
            event_name="module_requests", idempotency_key="once",
            payload={"stripe_customer_id": "cus_1", "value": 1},
        )  # fmt: skip
        assert other.identifier != told.identifier
        stripe.billing.MeterEvent.create(**send)
    finally:
        stripe.api_base, stripe.api_key = before
    assert total(server, "stripe-module") == [51]


def test_stripe_streams_with_a_session(server, stripe_client):
    import stripe

    meter(server, "stripe-stream", "stream_requests")
    session = stripe_client.v2.billing.meter_event_session.create()
    assert session.authentication_token.startswith("tbs_")
    stream = stripe.StripeClient(
        session.authentication_token, base_addresses={"meter_events": server.url}
    )
    events = [
        {"event_name": "stream_requests", "identifier": f"s-{n}",
         "payload": {"stripe_customer_id": "cus_1", "value": str(n)}}
        for n in range(1, 5)
    ]  # fmt: skip
    stream.v2.billing.meter_event_stream.create({"events": events})
    assert total(server, "stripe-stream") == [10]
    bad = [*events, {"event_name": "stream_requests", "payload": {"value": "1"}}]
    with pytest.raises(stripe.InvalidRequestError, match=r"events\[4\].payload"):
        stream.v2.billing.meter_event_stream.create({"events": bad})
    forged = stripe.StripeClient("tbs_e30.AAAA", base_addresses={"meter_events": server.url})
    with pytest.raises(stripe.AuthenticationError):
        forged.v2.billing.meter_event_stream.create({"events": events})


def test_stripe_takes_an_event_back(server, stripe_client):
    import stripe

    meter(server, "stripe-back", "back_requests")
    sent = {"event_name": "back_requests", "payload": {"stripe_customer_id": "c", "value": "7"}}
    for name in ("keep", "take"):
        stripe_client.v1.billing.meter_events.create({**sent, "identifier": name})
    for _ in range(2):
        told = stripe_client.v1.billing.meter_event_adjustments.create(
            {"event_name": "back_requests", "type": "cancel", "cancel": {"identifier": "take"}}
        )
    assert (told.object, told.status) == ("billing.meter_event_adjustment", "complete")
    assert total(server, "stripe-back") == [7]
    meter(server, "stripe-calls", "back_requests", "COUNT", None)
    with pytest.raises(stripe.InvalidRequestError, match=r"stripe-calls \(COUNT\)"):
        stripe_client.v1.billing.meter_event_adjustments.create(
            {"event_name": "back_requests", "type": "cancel", "cancel": {"identifier": "keep"}}
        )


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"event_name": ""}, "event_name"),
        ({"payload": {"value": "1"}}, "payload[stripe_customer_id]"),
        ({"payload": {"stripe_customer_id": "c", "value": "many"}}, "payload[value]"),
        ({"timestamp": "soon"}, "timestamp"),
        ({"timestamp": 4102444800}, "timestamp"),
        ({"identifier": "x" * 101}, "identifier"),
    ],
)
def test_stripe_is_told_what_is_wrong(server, stripe_client, wrong, param):
    import stripe

    good = {"event_name": "e", "payload": {"stripe_customer_id": "c", "value": "1"}}
    server.caught_up()
    before = counted(server)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        stripe_client.v1.billing.meter_events.create({**good, **wrong})
    assert refused.value.param == param
    assert refused.value.http_status == 400
    server.caught_up()
    assert counted(server) == before


def test_stripe_without_a_good_key_is_told_so(server):
    import stripe

    client = stripe.StripeClient("tb_wrong", base_addresses={"api": server.url})
    with pytest.raises(stripe.AuthenticationError):
        client.v1.billing.meter_events.create({"event_name": "e", "payload": {}})


def test_stripes_key_may_be_a_basic_user(server):
    meter(server, "stripe-basic", "basic_requests")
    user = base64.b64encode(f"{KEY}:".encode()).decode()
    answer = asked("POST", f"{server.url}/v1/billing/meter_events",
        headers={"Authorization": f"Basic {user}"},
        data={"event_name": "basic_requests", "payload[stripe_customer_id]": "c",
              "payload[value]": "3"},
    )  # fmt: skip
    assert answer.status_code == 200, answer.text
    assert total(server, "stripe-basic") == [3]


# ---------------------------------------------------------------- Lago


@pytest.fixture
def lago(server):
    from lago_python_client import Client

    return Client(api_key=KEY, api_url=server.url)


def lago_event(number, **changes):
    from lago_python_client.models import Event

    given = {
        "transaction_id": f"tx-{number}", "external_subscription_id": "sub_1", "code": "lago-api",
        "timestamp": 1793491200 + number, "properties": {"gb": "0.5", "region": "eu"},
        "precise_total_amount_cents": None,
    }  # fmt: skip
    return Event(**given | changes)


def test_lago_sends_events_one_by_one_and_in_batches(server, lago):
    from lago_python_client.models import BatchEvent

    meter(server, "lago-gb", "lago-api", value="$.gb")
    for _ in range(2):
        told = lago.events.create(lago_event(1))
    assert (told.transaction_id, told.external_subscription_id, told.code) == (
        "tx-1", "sub_1", "lago-api"
    )  # fmt: skip
    assert told.timestamp == "2026-11-01T00:00:01Z"
    lago.events.batch_create(
        BatchEvent(events=[lago_event(1), lago_event(2, external_subscription_id="sub_2")])
    )
    both = {"events": [lago_event(3).dict(), lago_event(4).dict()]}
    answer = asked("POST", f"{server.url}/api/v1/events", json=both, headers=BEARER)
    assert answer.status_code == 200, answer.text
    assert [each["transaction_id"] for each in answer.json()["events"]] == ["tx-3", "tx-4"]
    assert total(server, "lago-gb") == [2]
    assert total(server, "lago-gb", subject="sub_1") == [1.5]
    found = lago.events.find("tx-2")
    assert (found.external_subscription_id, found.properties) == (
        "sub_2", {"gb": "0.5", "region": "eu"}
    )  # fmt: skip


def test_the_same_transaction_of_two_subscriptions_is_two_events(server, lago):
    meter(server, "lago-two", "lago-two", "COUNT", None)
    for subscription in ("a", "b", "a"):
        lago.events.create(lago_event(1, code="lago-two", external_subscription_id=subscription))
    assert total(server, "lago-two") == [2]


def test_lago_sends_an_exact_amount(server, lago):
    meter(server, "lago-amount", "lago-paid", value="$.precise_total_amount_cents")
    lago.events.create(lago_event(50, code="lago-paid", precise_total_amount_cents="1234.567"))
    assert total(server, "lago-amount", numbers="string") == ["1234.567"]


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"transaction_id": ""}, "transaction_id"),
        ({"external_subscription_id": ""}, "external_subscription_id"),
        ({"code": ""}, "code"),
        ({"timestamp": "soon"}, "timestamp"),
        ({"timestamp": 4102444800}, "timestamp"),
        ({"precise_total_amount_cents": "much"}, "precise_total_amount_cents"),
        ({"code": "x" * 2000}, "code"),
    ],
)
def test_lago_is_told_what_is_wrong_and_nothing_is_stored(server, lago, wrong, field):
    from lago_python_client.exceptions import LagoApiError
    from lago_python_client.models import BatchEvent

    server.caught_up()
    before = counted(server)
    with pytest.raises(LagoApiError) as refused:
        lago.events.create(lago_event(900, **wrong))
    assert refused.value.status_code == 422
    assert list(refused.value.response["error_details"]) == [field]
    with pytest.raises(LagoApiError) as refused:
        lago.events.batch_create(BatchEvent(events=[lago_event(901), lago_event(902, **wrong)]))
    assert refused.value.response["error_details"] == {
        "1": refused.value.response["error_details"]["1"]
    }
    assert field in refused.value.response["error_details"]["1"]
    server.caught_up()
    assert counted(server) == before


def test_lago_without_a_good_key_is_told_so(server):
    from lago_python_client import Client
    from lago_python_client.exceptions import LagoApiError

    client = Client(api_key="tb_wrong", api_url=server.url)
    for send in (lambda: client.events.create(lago_event(1)), lambda: client.events.find("tx-1")):
        with pytest.raises(LagoApiError) as refused:
            send()
        assert refused.value.status_code == 401


# ---------------------------------------------------------------- Influx


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ({"Authorization": f"Token {KEY}"}, ""),
        ({"Authorization": f"Token user:{KEY}"}, ""),
        ({"Authorization": "Basic " + base64.b64encode(f"u:{KEY}".encode()).decode()}, ""),
        ({"Authorization": "Basic " + base64.b64encode(f"{KEY}:".encode()).decode()}, ""),
        ({}, f"?u=me&p={KEY}"),
    ],
    ids=["token", "token-with-user", "password", "user", "parameters"],
)
def test_influx_may_name_its_key_in_any_of_its_ways(server, headers, query):
    answer = asked("POST", f"{server.url}/write{query}", headers=headers, content="cpu,host=a v=1i")
    assert answer.status_code == 204, answer.text
    wrong = {name: value.replace(KEY, "tb_no") for name, value in headers.items()}
    wrong = {"Authorization": "Token tb_no"} if wrong == headers else wrong
    assert (
        asked("POST", f"{server.url}/write", headers=wrong, content="cpu v=1i").status_code == 401
    )


# ---------------------------------------------------------------- keys


def test_a_key_for_one_subject_sends_for_no_other(server):
    import stripe
    from lago_python_client import Client
    from lago_python_client.exceptions import LagoApiError

    spec = {"name": "one", "scopes": ["ingest"], "subjects": ["mine"]}
    key = server.post("/api/v1/keys", json.dumps(spec))["key"]
    server.known(key)
    client = stripe.StripeClient(key, base_addresses={"api": server.url}, max_network_retries=0)

    def send(subject):
        client.v1.billing.meter_events.create(
            {"event_name": "bound", "payload": {"stripe_customer_id": subject, "value": "1"}}
        )

    send("mine")
    with pytest.raises(stripe.StripeError) as refused:
        send("theirs")
    assert refused.value.code == "forbidden"
    lago = Client(api_key=key, api_url=server.url)
    lago.events.create(lago_event(1, code="bound", external_subscription_id="mine"))
    with pytest.raises(LagoApiError):
        lago.events.create(lago_event(2, code="bound", external_subscription_id="theirs"))
    with pytest.raises(LagoApiError) as unread:
        lago.events.find("tx-1")
    assert unread.value.status_code == 403
    meter(server, "bound", "bound", "COUNT", None)
    assert total(server, "bound", groupBy="subject") == [2]
