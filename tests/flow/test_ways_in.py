"""However a key is presented, it is the same key: its limits hold, its bounds, its end."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.gatehouse.house import FIRST_KEY, Answer, House, house

PLAN = {
    "key": "few",
    "limits": [{"type": "quota", "key": "day", "limit": 1000, "window": "day"}],
}
TINY = {
    "key": "one",
    "default": True,
    "limits": [{"type": "quota", "key": "day", "limit": 1, "window": "day", "per": "tenant"}],
}
STRIPE_EVENT = b"event_name=t&payload[stripe_customer_id]=s&payload[value]=1&identifier=%s"
FORM = {"content-type": "application/x-www-form-urlencoded"}
LINE = b"cpu,host=a value=1 1767225600000000000"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with house(tmp_path_factory.mktemp("ways") / "data") as made:
        made.ask("POST", "/api/v1/usage-plans", FIRST_KEY, PLAN)
        refresh(made)
        yield made


def refresh(server: House) -> None:
    server.gate.refresh()
    server.app._admission._parts.plans.refresh()


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def left(answer: Answer) -> int:
    """Return what is left of the quota as an answer says."""
    return int(answer.headers["ratelimit"].partition("r=")[2].partition(";")[0])


def session(server: House, key: str) -> str:
    answer = server.ask("POST", "/v2/billing/meter_event_session", key, b"")
    assert answer.status == 200, answer.body
    return str(answer.json["authentication_token"])


def test_every_form_of_a_key_counts_under_its_plan(server: House) -> None:
    key = server.key("default", "ingest", "read", usage_plan="few")
    refresh(server)
    token = session(server, key)
    stream = {"events": [{"event_name": "t", "payload": {"stripe_customer_id": "s"}}]}
    event = {"id": "1", "source": "t", "type": "t", "specversion": "1.0", "subject": "s"}
    write, stripe = "/api/v2/write", "/v1/billing/meter_events"
    asked: list[tuple[str, str, Any, dict[str, str]]] = [
        ("POST", "/api/v1/events", [event], {"authorization": f"Bearer {key}"}),
        ("GET", "/api/v1/meters", None, {"authorization": f"bearer {key}"}),
        ("POST", write, LINE, {"authorization": f"Token {key}"}),
        ("POST", write, LINE, {"authorization": f"Token somebody:{key}"}),
        ("POST", write, LINE, {"authorization": basic("u", key)}),
        ("POST", write, LINE, {"authorization": basic(key, "")}),
        ("POST", write, LINE, {"x-api-key": key}),
        ("POST", write, LINE, {"api-key": key}),
        ("POST", f"/write?p={key}", LINE, {}),
        ("POST", stripe, STRIPE_EVENT % b"a", {"authorization": basic(key, ""), **FORM}),
        ("POST", stripe, STRIPE_EVENT % b"b", {"authorization": f"Bearer {token}", **FORM}),
        (
            "POST",
            "/v2/billing/meter_event_stream",
            stream,
            {"authorization": f"Bearer {token}"},
        ),
        ("POST", "/api/v1/events/batch", {"events": []}, {"authorization": f"Bearer {key}"}),
        ("GET", "/api/v1/events/nothing", None, {"authorization": f"Bearer {key}"}),
    ]
    before = 999
    for method, path, body, headers in asked:
        answer = server.ask(method, path, None, body, headers)
        assert answer.status not in {401, 403}, (path, answer.body)
        assert left(answer) == before - 1, (method, path, headers)
        before -= 1


def test_two_keys_in_one_request_are_refused(server: House) -> None:
    """One part would read the first of them, another the last, and count under neither."""
    key = server.key("default", "ingest", "read")
    for method, path in (("POST", "/api/v1/events"), ("GET", "/api/v1/meters"), ("POST", "/write")):
        answer = server.ask(method, path, key, None, {"Authorization": "Bearer nobody"})
        assert answer.status == 400
        assert answer.json["field"] == "Authorization"


def test_a_session_of_stripe_is_its_key(server: House) -> None:
    key = server.key("default", "ingest", subjects=["mine"])
    token = session(server, key)
    bearer = {"authorization": f"Bearer {token}"}
    others = {"events": [{"event_name": "t", "payload": {"stripe_customer_id": "s"}}]}
    refused = server.ask("POST", "/v2/billing/meter_event_stream", None, others, bearer)
    assert b"may not send events of this subject" in refused.body
    again = server.ask("POST", "/v2/billing/meter_event_session", None, b"", bearer)
    assert again.status in {401, 403}, "a session would live for ever"
    for path in ("/api/v1/events", "/api/v2/write", "/api/v1/meters"):
        assert server.ask("POST", path, None, [], bearer).status in {401, 405}
    (mine,) = [one for one in server.world.keys.good() if one.subjects == ("mine",)]
    server.world.keys.revoke("default", mine.id, server.world.clock.now_us())
    server.gate.refresh()
    gone = server.ask("POST", "/v2/billing/meter_event_stream", None, others, bearer)
    assert gone.status == 401


def test_a_console_session_counts_for_its_key(server: House) -> None:
    key = server.key("default", "read", usage_plan="few")
    refresh(server)
    form = f"key={key}".encode()
    entered = server.ask("POST", "/login", None, form, FORM)
    assert entered.status == 303
    cookie = {"cookie": entered.headers["set-cookie"].partition(";")[0]}
    assert left(server.ask("GET", "/", None, None, cookie)) == 999
    assert left(server.ask("GET", "/", None, None, cookie)) == 998
    assert left(server.ask("GET", "/api/v1/meters", key)) == 997
    assert "ratelimit" not in server.ask("GET", "/login", None).headers
    forged = {"cookie": cookie["cookie"] + "0"}
    assert server.ask("GET", "/", None, None, forged).status == 303


def test_a_crowd_of_parameters_is_refused_not_a_failure(server: House) -> None:
    key = server.key("default", "ingest", usage_plan="few")
    refresh(server)
    crowd = "&".join(f"a{n}=1" for n in range(60))
    for path in ("/write", "/api/v2/write", "/v1/billing/meter_events", "/v1/metrics"):
        answer = server.ask("POST", f"{path}?{crowd}", key, LINE)
        assert answer.status == 400, (path, answer.body)
        assert b"parameters" in answer.body


def test_nobody_locks_themselves_out(tmp_path: Path) -> None:
    with house(tmp_path / "data") as server:
        server.ask("POST", "/api/v1/usage-plans", FIRST_KEY, TINY)
        viewer = server.key("default", "read")
        refresh(server)
        assert server.ask("GET", "/api/v1/meters", FIRST_KEY).status == 200
        refused = server.ask("GET", "/api/v1/meters", FIRST_KEY)
        assert refused.json["code"] == "quota-exceeded"
        assert server.ask("GET", "/api/v1/usage-plans", viewer).status == 429
        shown = server.ask("GET", "/api/v1/usage-plans/one", FIRST_KEY)
        assert shown.json["key"] == "one"
        assert "ratelimit" not in shown.headers
        wider = json.loads(json.dumps(TINY))
        wider["limits"][0]["limit"] = 50
        answer = server.ask("PUT", "/api/v1/usage-plans/one", FIRST_KEY, wider)
        assert answer.status == 200, answer.body
        refresh(server)
        assert server.ask("GET", "/api/v1/meters", FIRST_KEY).status == 200
