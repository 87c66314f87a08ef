"""The check in front of the routes answers as its route does, to the byte, and only what is usual.

Both answer the same requests; the one in front falls back on the route, so what it refuses, and
how, is the route's own. What counts is that it answers what it should by itself, and nothing else.
"""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tallybook.admit.issue import KeySpec
from tallybook.kernel.errors import Unavailable
from tallybook.serve.api.checks import Asked
from tallybook.serve.api.checks.quick import QuickChecks
from tallybook.serve.api.gate import Gate
from tallybook.serve.api.gateway.wire import Wire
from tallybook.serve.api.rest.access.keys import make_key
from tallybook.serve.api.rest.access.tenants import TenantSpec, make_tenant
from tests.support.api import Api
from tests.support.wire import http_scope

CATALOG = """
[[meters]]
key = "calls"
event_type = "t"
aggregation = "SUM"
value = "$.v"

[[meters]]
key = "level"
event_type = "t"
aggregation = "TIME_WEIGHTED"
value = "$.v"

[[customers]]
key = "acme"
currency = "USD"
zone = "Europe/Berlin"
subjects = ["s"]

[[customers]]
key = "bolt"
currency = "USD"
subjects = ["q"]

[[entitlements]]
customer = "acme"
feature = "sso"
type = "boolean"
start = "2026-01-01"

[[entitlements]]
customer = "acme"
feature = "seats"
type = "static"
config = '{"seats": 5}'
start = "2026-01-01"

[[entitlements]]
customer = "acme"
feature = "held"
type = "metered"
meter = "level"
period = "P1M"
start = "2026-01-01"
"""
METERED = """
[[entitlements]]
customer = "{customer}"
feature = "{feature}"
type = "metered"
meter = "calls"
period = "P1M"
included = 100
start = 2026-01-01
"""
GRANTED = {"key": "more", "amount": "50", "effective": "2026-01-09"}
VALUE = "/api/v1/entitlements/acme:calls/value"
Told = tuple[int, list[tuple[bytes, bytes]], bytes]


class Both:
    """An API whose checks are asked in front of its routes and through them."""

    def __init__(self, folder: Path) -> None:
        self.api = Api(folder)
        self.api.apply(CATALOG)
        for name in ("calls", "a.b_c-1", "gone"):
            self.api.apply(METERED.format(customer="acme", feature=name))
        self.api.apply(METERED.format(customer="bolt", feature="calls"))
        world = self.api.world
        self.keys = {
            "good": self.api.key,
            "reader": self._key(scopes=["read"]),
            "sender": self._key(scopes=["ingest"]),
            "acme": self._key(scopes=["read"], customer="acme"),
            "bolt": self._key(scopes=["read"], customer="bolt"),
            "subject": self._key(scopes=["read"], subjects=["s"]),
            "expired": self._key(scopes=["read"], expires_time="2026-01-11T00:00:00Z"),
            "none": "tb_nobody-ever-made-this-key",
        }
        for name in ("other", "closed"):
            made = make_tenant(world, TenantSpec(tenant=name)).first_key
            assert made is not None
            self.keys[name] = str(made.key)
        world.tenants.close("closed", self.api.clock.now)
        self.api.delete("/entitlements/acme:gone")
        self.gate: Gate = self.api.state["gate"]
        self.gate.refresh()
        self.passed = 0
        self.quick = QuickChecks(self._route, self.gate, self.api.state["checks"])
        self.api.get("/entitlements/acme:calls/value")
        self.api.state["checks"].warm("default")

    def close(self) -> None:
        self.quick.close()
        self.api.state["checks"].close()

    def _key(self, **said: Any) -> str:
        return str(make_key(self.api.world, "default", KeySpec(name="k", **said)).key)

    async def _route(self, scope: Any, receive: Any, send: Any) -> None:
        self.passed += 1
        await self.api.app(scope, receive, send)

    def ask(self, app: Any, scope: dict[str, Any]) -> Told:
        return asyncio.run(_asked(Wire(app, 1 << 20), scope))

    def told(self, scope: dict[str, Any]) -> tuple[Told, bool]:
        """Return what both answer, the same, and whether the one in front did by itself."""
        before = self.passed
        front = self.ask(self.quick, {**scope})
        by_itself = self.passed == before
        assert front == self.ask(self.api.app, {**scope})
        return front, by_itself

    def get(self, target: str = VALUE, key: str = "good", **more: str) -> tuple[Told, bool]:
        return self.told(scope_of(target, self.keys[key], **more))


async def _asked(app: Any, scope: dict[str, Any]) -> Told:
    heard: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        heard.append(message)

    await app(scope, receive, send)
    body = b"".join(message.get("body", b"") for message in heard[1:])
    return heard[0]["status"], sorted(heard[0]["headers"]), body


def scope_of(target: str, key: str, method: str = "GET", **headers: str) -> dict[str, Any]:
    given = {"host": "localhost:8080", "authorization": f"Bearer {key}"}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return http_scope(method, target, given | named)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    made = Both(tmp_path_factory.mktemp("quick"))
    yield made
    made.close()


@pytest.mark.parametrize(
    "target",
    [
        VALUE,
        f"{VALUE}?amount=100",
        f"{VALUE}?amount=100.000000000001",
        f"{VALUE}?amount=0",
        "/api/v1/entitlements/acme:a.b_c-1/value",
        "/api/v1/entitlements/bolt:calls/value?amount=007",
        VALUE.replace("calls", "sso"),
        VALUE.replace("calls", "seats"),
        VALUE.replace("calls", "seats") + "?amount=9",
    ],
)
@pytest.mark.parametrize("key", ["good", "reader"])
def test_what_is_usual_is_answered_in_front(both: Both, target: str, key: str) -> None:
    (status, headers, body), by_itself = both.get(target, key)
    assert (status, by_itself) == (200, True), body
    assert dict(headers)[b"content-type"] == b"application/json"


@pytest.mark.parametrize("query", ["", "?at=2026-01-05"])
def test_what_no_event_changes_names_no_snapshot_and_reads_no_lake(both: Both, query: str) -> None:
    checks = both.api.state["checks"]
    parts = checks._parts
    checks._parts = msgspec.structs.replace(parts, reader=lambda: pytest.fail("it is read"))
    try:
        for name, config in (("sso", b"null"), ("seats", rb'"{\"seats\": 5}"')):
            (status, _, body), _ = both.get(VALUE.replace("calls", name) + query)
            assert (status, b'"hasAccess":true' in body) == (200, True)
            assert b'"cut":null,"config":' + config in body
    finally:
        checks._parts = parts


def test_only_what_the_control_database_can_tell_is_asked_of_it(tmp_path: Path) -> None:
    both, asked = Both(tmp_path), list[str]()
    checks = both.api.state["checks"]

    class Noting:
        at_once = checks.at_once

        def soon(self, theirs: Sequence[Asked]) -> Any:
            asked.extend(one.key for one in theirs)
            return checks.soon(theirs)

    noting: Any = Noting()
    quick = QuickChecks(both._route, both.gate, noting)
    try:
        for name in ("none", "gone", "held", "sso", "calls"):
            both.ask(quick, scope_of(VALUE.replace("calls", name), both.keys["good"]))
        assert asked == []
        both.api.post("/entitlements/bolt:calls/grants", GRANTED)
        passed = both.passed
        both.ask(quick, scope_of(VALUE, both.keys["good"]))
        assert (asked, both.passed) == (["acme:calls"], passed)
    finally:
        quick.close()
        both.close()


@pytest.mark.parametrize(
    "target",
    [
        f"{VALUE}?at=2026-01-05",
        f"{VALUE}?amount=",
        f"{VALUE}?amount=-1",
        f"{VALUE}?amount=nan",
        f"{VALUE}?amount=1e3",
        f"{VALUE}?amount=1e-999999999",
        f"{VALUE}?amount=%31",
        f"{VALUE}?amount=+1",
        f"{VALUE}?amount=1&amount=2",
        f"{VALUE}?amount=1&amount=x",
        f"{VALUE}?amount=1_0",
        f"{VALUE}?amount=\u0661",
        f"{VALUE}?amount={'9' * 2000}",
        f"{VALUE}?wanted=5",
        f"{VALUE}?format=csv",
        f"{VALUE}?&",
        f"{VALUE}?at=yesterday",
        f"{VALUE}/",
        f"/{VALUE}",
        VALUE.replace("/value", "//value"),
        VALUE.replace("acme", "%61cme"),
        VALUE.replace("acme:", "bolt/../acme:"),
        VALUE.replace("calls", "cal%6cs"),
        VALUE.replace("calls", "calls "),
        VALUE.replace("calls", "calls\n"),
        f"{VALUE}\n",
        VALUE.replace("calls", "c\u00e4lls"),
        VALUE.replace("acme:calls", ".."),
        VALUE.replace("acme:calls", ""),
        VALUE.replace("acme:calls", "x" * 300),
        VALUE.replace("calls", "none"),
        VALUE.replace("calls", "gone"),
        VALUE.replace("calls", "held"),
        VALUE.replace("/value", "/values"),
        VALUE.replace("/api/v1", "/openmeter/api/v1"),
        VALUE.upper(),
    ],
)
def test_what_needs_a_closer_look_goes_on_to_the_route(both: Both, target: str) -> None:
    _, by_itself = both.get(target)
    assert not by_itself


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE", "OPTIONS", "get"])
def test_only_get_is_answered_in_front(both: Both, method: str) -> None:
    _, by_itself = both.told(scope_of(VALUE, both.keys["good"], method))
    assert not by_itself


@pytest.mark.parametrize(
    ("key", "entitlement", "status"),
    [
        ("acme", "acme:calls", 200),
        ("acme", "bolt:calls", 404),
        ("bolt", "bolt:calls", 200),
        ("bolt", "acme:calls", 404),
        ("subject", "acme:calls", 404),
        ("sender", "acme:calls", 403),
        ("expired", "acme:calls", 401),
        ("none", "acme:calls", 401),
        ("other", "acme:calls", 404),
        ("closed", "acme:calls", 401),
    ],
)
def test_a_key_sees_what_it_may(both: Both, key: str, entitlement: str, status: int) -> None:
    (told, _, body), by_itself = both.get(VALUE.replace("acme:calls", entitlement), key)
    assert told == status or (key == "closed" and told in {401, 403}), body
    assert by_itself == (status == 200)


@pytest.mark.parametrize(
    "given",
    [
        [],
        [(b"authorization", b"")],
        [(b"authorization", b"Bearer")],
        [(b"authorization", b"Basic KEY")],
        [(b"authorization", b"Bearer \xff\xfe")],
        [(b"authorization", b"Bearer KEY"), (b"authorization", b"Bearer tb_x")],
        [(b"authorization", b"Bearer KEY"), (b"host", b"local host")],
        [(b"authorization", b"Bearer KEY"), (b"host", b"a b"), (b"host", b"localhost")],
        [(b"authorization", b"Bearer KEY"), (b"host", b"b@a")],
    ],
)
def test_headers_that_are_unusual_go_on_to_the_route(
    both: Both, given: list[tuple[bytes, bytes]]
) -> None:
    scope = scope_of(VALUE, "")
    key = both.keys["good"].encode()
    scope["headers"] = [(name, value.replace(b"KEY", key)) for name, value in given]
    _, by_itself = both.told(scope)
    assert not by_itself


def test_spellings_of_a_good_key_are_all_good(both: Both) -> None:
    for text in (f"bearer {both.keys['good']}", f"BEARER  {both.keys['good']} "):
        scope = scope_of(VALUE, "") | {"headers": [(b"authorization", text.encode())]}
        (status, _, _), by_itself = both.told(scope)
        assert (status, by_itself) == (200, True)


def test_what_a_client_knows_is_not_sent_again(both: Both) -> None:
    (_, headers, _), _ = both.get()
    tag = dict(headers)[b"etag"].decode()
    (status, _, body), by_itself = both.get(if_none_match=tag)
    assert (status, body, by_itself) == (304, b"", True)
    (status, _, _), _ = both.get(accept="text/csv")
    assert status == 200


def test_below_another_root_the_route_answers(both: Both) -> None:
    _, by_itself = both.told(scope_of(VALUE, both.keys["good"]) | {"root_path": "/below"})
    assert not by_itself


def test_grants_catalog_and_use_count_at_once(tmp_path: Path) -> None:
    both = Both(tmp_path)
    try:
        both.api.post("/entitlements/acme:calls/grants", GRANTED)
        (_, _, body), by_itself = both.get()
        assert b'"balance":150,' in body
        assert not by_itself  # other terms: the lake is asked
        (_, _, body), by_itself = both.get(VALUE.replace("acme", "bolt"))
        assert by_itself  # its terms were compared, and are the same
        assert b'"balance":100,' in body
        both.api.put("/entitlements/acme:calls", changed(both.api, included="7"))
        (_, _, body), by_itself = both.get()
        assert b'"balance":57,' in body
        both.api.event("2026-01-09", '{"v": 30}')
        both.api.state["checks"].follow()
        (_, _, body), by_itself = both.get()
        assert b'"balance":27,' in body
        assert b'"cut":1' in body
        assert by_itself
        both.api.clock.set("2026-02-01")  # another period, in which the grant does not come again
        (_, _, body), by_itself = both.get()
        assert b'"balance":7,' in body
        assert by_itself
        both.api.delete("/entitlements/acme:calls")
        (status, _, _), _ = both.get()
        assert status == 404
    finally:
        both.close()


def changed(api: Api, **said: str) -> dict[str, Any]:
    shown = api.get("/entitlements/acme:calls")
    del shown["key"], shown["archived"]
    return {**shown, **said}


def test_many_at_once_are_answered_each_by_its_own(both: Both) -> None:
    async def all_of_them() -> list[Told]:
        keys = ["good", "acme", "bolt", "other", "none"]
        names = ["acme:calls", "bolt:calls", "acme:none"]
        scopes = [
            scope_of(VALUE.replace("acme:calls", name), both.keys[key])
            for name in names
            for key in keys
        ]
        app = Wire(both.quick, 1 << 20)
        told = await asyncio.gather(*(_asked(app, {**scope}) for scope in scopes))
        for scope, one in zip(scopes, told, strict=True):
            assert one == await _asked(Wire(both.api.app, 1 << 20), scope)
        return told

    assert [status for status, _, _ in asyncio.run(all_of_them())] == [
        *(200, 200, 404, 404, 401),
        *(200, 404, 200, 404, 401),
        *(404, 404, 404, 404, 401),
    ]


@pytest.mark.parametrize("error", [Unavailable("away"), AssertionError("a bug")])
def test_what_goes_wrong_in_front_is_the_routes_to_answer(both: Both, error: Exception) -> None:
    class Failing:
        def at_once(self, _asked: object) -> Any:
            raise error

        soon = at_once

    checks: Any = Failing()
    quick = QuickChecks(both.api.app, both.gate, checks)
    try:
        told = both.ask(quick, scope_of(VALUE, both.keys["good"]))
        assert told == both.ask(both.api.app, scope_of(VALUE, both.keys["good"]))
        assert told[0] == 200
    finally:
        quick.close()
