"""Endpoints and deliveries over HTTP, as a program uses them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tallybook.deliver.kinds import NAMES
from tests.support.api import Api


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with Api(tmp_path) as made:
        yield made


def add(api: Api, **said: Any) -> Any:
    return api.post("/webhooks", {"url": "https://example.com/x"} | said)


def test_a_secret_is_shown_when_it_is_made_and_never_again(api: Api) -> None:
    made = add(api, kinds=["invoice.*"], description="d", customers=["acme"])
    assert made["secret"].startswith("whsec_")
    shown = api.get(f"/webhooks/{made['id']}")
    assert "secret" not in shown
    assert (shown["kinds"], shown["customers"]) == (["invoice.*"], ["acme"])
    assert (shown["state"], shown["secrets"]) == ("active", 1)
    assert api.get("/webhooks")["items"] == [shown]
    turned = api.post(f"/webhooks/{made['id']}/rotate-secret", {}, 200)
    assert turned["secret"] != made["secret"]
    assert (turned["secrets"], turned["old_secret_until"]) == (2, "2026-01-11T00:00:00Z")
    ended = api.post(f"/webhooks/{made['id']}/rotate-secret", {"overlap_hours": 0}, 200)
    assert (ended["secrets"], ended["old_secret_until"]) == (1, None)
    stored = b"".join(p.read_bytes() for p in api.world.settings.data_dir.glob("control.db*"))
    for secret in (made["secret"], turned["secret"], ended["secret"]):
        assert secret.removeprefix("whsec_").encode() not in stored


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        ({"url": "http://example.com/"}, "plain-http", "url"),
        ({"url": "https://10.1.2.3/"}, "private-address", "url"),
        ({"url": "nothing"}, "invalid", "url"),
        ({"url": "https://e.com/", "kinds": ["invoices.*"]}, "unknown-kind", "kinds"),
        ({"url": "https://e.com/", "kinds": []}, "invalid", "kinds"),
        ({"url": "https://e.com/", "customers": [""]}, "invalid", "customers"),
        ({"url": "https://e.com/", "description": "x" * 256}, "invalid", "description"),
        ({"url": "https://e.com/", "other": 1}, "invalid", "other"),
    ],
)
def test_what_is_wrong_is_refused_by_field(
    api: Api, body: dict[str, Any], code: str, field: str
) -> None:
    told = api.post("/webhooks", body, 400)
    assert (told["code"], told["field"]) == (code, field)


def test_what_is_not_named_stays(api: Api) -> None:
    made = add(api, description="d")
    at = f"/webhooks/{made['id']}"
    status, changed = api.call("PATCH", at, {"url": "https://example.org/y"})
    assert status == 200
    assert (changed["url"], changed["description"]) == ("https://example.org/y", "d")
    status, changed = api.call("PATCH", at, {"kinds": ["key.*"], "customers": ["c"]})
    assert (changed["kinds"], changed["customers"]) == (["key.*"], ["c"])
    assert api.call("PATCH", at, {"url": "http://example.org/"})[0] == 400
    _, changed = api.call("PATCH", at, {"enabled": False})
    assert (changed["state"], changed["reason"]) == ("disabled", "disabled by hand")
    assert api.call("PATCH", at, {"enabled": False})[1] == changed
    assert api.post(f"{at}/test", None, 409)["code"] == "endpoint-disabled"
    assert api.call("PATCH", at, {"enabled": True})[1]["state"] == "active"


def test_a_test_its_delivery_and_its_replay(api: Api) -> None:
    made = add(api)
    sent = api.post(f"/webhooks/{made['id']}/test", None)
    detail = api.get(f"/webhooks/deliveries/{sent['id']}")
    assert (detail["tried"], detail["body"]["type"]) == ([], "webhook.test")
    assert detail["body"]["id"] == detail["fact"]
    of_endpoint = f"/webhooks/{made['id']}/deliveries"
    for query, count in (
        ("", 1), ("?state=pending", 1), ("?state=delivered", 0), ("?kind=webhook.test", 1),
        ("?kind=invoice.paid", 0), ("?since=2026-01-10T00:00:01Z", 0), ("?limit=1", 1),
    ):  # fmt: skip
        assert len(api.get(f"{of_endpoint}{query}")["items"]) == count, query
    assert api.get(f"{of_endpoint}?state=odd", 400)["field"]
    assert api.get(f"{of_endpoint}?since=odd", 400)["field"] == "since"
    assert api.post(f"/webhooks/deliveries/{sent['id']}/replay", None, 200)["state"] == "pending"
    replayed = api.post(f"/webhooks/{made['id']}/replay", {"since": "2026-01-01T00:00:00Z"}, 200)
    assert replayed["deliveries"] >= 0
    api.delete(f"/webhooks/{made['id']}")
    assert api.get(f"/webhooks/{made['id']}", 404)["code"] == "not-found"
    assert api.get("/webhooks/deliveries?state=cancelled")["items"]
    assert api.get("/webhooks/deliveries/dlv_no", 404)["code"] == "not-found"


def test_what_happened_before_an_endpoint_comes_with_a_replay(api: Api) -> None:
    api.post("/keys", {"name": "k", "scopes": ["read"]})
    made = add(api, kinds=["key.created"])
    since = {"since": "2026-01-01T00:00:00Z"}
    assert api.post(f"/webhooks/{made['id']}/replay", since, 200)["deliveries"] == 2
    assert api.post(f"/webhooks/{made['id']}/replay", since, 200)["deliveries"] == 0
    later = {"since": "2027-01-01T00:00:00Z"}
    assert api.post(f"/webhooks/{made['id']}/replay", later, 400)["field"] == "since"


def test_every_kind_is_listed_with_its_schema(api: Api) -> None:
    found = api.get("/webhooks/kinds")
    assert tuple(one["kind"] for one in found) == NAMES
    assert all(schema["properties"] for one in found for schema in one["schemas"])


def test_there_is_a_bound_on_endpoints(api: Api) -> None:
    for number in range(200):
        add(api, description=str(number))
    assert api.post("/webhooks", {"url": "https://e.com/"}, 409)["code"] == "too-many-endpoints"
    page = api.get("/webhooks?limit=150")
    rest = api.get(f"/webhooks?limit=150&cursor={page['next_cursor']}")
    assert len({one["id"] for one in page["items"] + rest["items"]}) == 200
