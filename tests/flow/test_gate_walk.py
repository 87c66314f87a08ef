"""The gate, walked: every route as nobody, as another tenant, with each lesser scope.

Generated from the OpenAPI document and the application's own routes, so that a new route cannot be
forgotten: it fails here until `tests/support/gatehouse/story.py` has a call of it.
"""

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from openapi_spec_validator import validate

from tallybook.adapters.sql.access.audit import Question
from tallybook.serve.api.gate import SCOPES, Grant
from tests.support.gatehouse import story as told
from tests.support.gatehouse.house import FIRST_KEY, House, house
from tests.support.gatehouse.story import API, EDGE, ENTITLEMENT_KEY, MARK, Call, Story, named

FREE = {("GET", path) for path in ("/health/live", "/health/ready", "/metrics")}
"""Shows nothing of anybody (DECISIONS 36)."""
BY_CERTIFICATE = ("POST", f"{API}/edges/certificates/renew")
"""Knows its caller by the certificate of the connection, never by a key."""
STREAMING = f"{API}/streams/{{name}}/sse"
LAGO_EVENT = f"{API}/events/{{transaction_id}}"
STRIPE = {f"/v1/billing/{what}" for what in ("meter_events", "meter_event_adjustments")} | {
    f"/v2/billing/{what}"
    for what in ("meter_events", "meter_event_adjustments", "meter_event_session")
}
"""Refuse in Stripe's words, with its statuses; its stream takes tokens of a session."""
STRIPE_STREAM = "/v2/billing/meter_event_stream"
EVENT_DOORS = {"/v1/metrics", "/write", f"{API}/events", f"{API}/write", "/api/v2/write",
               f"{API}/logs", f"{API}/events/batch", LAGO_EVENT,
               *STRIPE, STRIPE_STREAM}  # fmt: skip
READ_BY_BOUND = {
    ("GET", f"{API}/meters/{{key}}/query"),
    ("GET", f"{API}/events"),
    ("GET", f"{API}/entitlements/{{key}}/value"),
    ("GET", f"{API}/customers/{{key}}/access"),
    ("GET", "/openapi.json"),
    ("GET", "/openmeter/openapi.json"),
}
ADMIN_PLACES = ("/keys", "/audit", "/users")
ADMIN_CHANGES = {
    ("DELETE", "/edges/{name}"),
    ("POST", "/usage-plans"),
    ("PUT", "/usage-plans/{key}"),
    ("DELETE", "/usage-plans/{key}"),
    ("POST", "/webhooks"),
    ("PATCH", "/webhooks/{id}"),
    ("DELETE", "/webhooks/{id}"),
    ("POST", "/webhooks/{id}/rotate-secret"),
}
QUERIES = {
    "/payment-requests": "?currency=USD",
    "/entitlements/{key}/history": "?from=2025-05-01",
    "/streams/{name}/dead-letters": f"?group={named('group')}",
    "/streams/{name}/records": "?wait_seconds=0",
    "/meters/{key}/query": "?from=2025-01-01T00:00:00Z",
}
EMPTY = ({"items": [], "next_cursor": None}, [], b"")
PARAMS = {
    "/billing-runs/{id}": "run",
    "/coupons/{key}": named("coupon"),
    "/credit-notes/{name}": "note",
    "/customers/{key}": named("customer"),
    "/doors/{door}": "influx",
    "/edges/{name}": EDGE,
    "/entitlements/{key}": ENTITLEMENT_KEY,
    "/events/{transaction_id}": "lago-1",
    "/invoices/{name}": "invoice-paid",
    "/keys/{id}": "key",
    "/meters/{key}": named("meter"),
    "/payments/{name}": "payment",
    "/plans/{key}": named("plan"),
    "/quarantine/{id}": "piece-dropped",
    "/routes/{key}": named("rule"),
    "/streams/{name}": named("stream"),
    "/streams/{name}/groups/{group}": named("group"),
    "/subscriptions/{key}": named("subscription"),
    "/taxes/{key}": named("tax"),
    "/tenants/{tenant}": "acme",
    "/usage-plans/{key}": named("usage"),
    "/users/{name}": named("user"),
    "/wallets/{key}": named("wallet"),
    "/webhooks/deliveries/{id}": "delivery",
    "/webhooks/{id}": "hook",
}
"""The end of a path -> what stands in its last place: a name in the story, or a text."""


class Town(msgspec.Struct):
    """A server with a tenant that has everything, and another that has nothing.

    Attributes:
        rival, visitor: owners' keys of tenants that have nothing; the visitor only looks.
        keys: what they are for -> key of the rich tenant.
        rows: calls of the story -> rows of the audit log that they left.
    """

    house: House
    story: Story
    rival: str
    visitor: str
    keys: dict[str, str]
    rows: dict[tuple[str, str], list[Any]]
    tenancy: Story

    def owner(self) -> str:
        """Return the rich tenant's owner's key."""
        return self.story.key


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with house(tmp_path_factory.mktemp("walk") / "data") as server:
        owner, rival, visitor = (server.tenant(name) for name in ("acme", "rival", "visitor"))
        story, tenancy = Story(server, "acme", owner), Story(server, "default", FIRST_KEY)
        rows: dict[tuple[str, str], list[Any]] = {}
        for part in (*told.LIVING, told.tenancy):
            teller = tenancy if part is told.tenancy else story
            for call in part():
                before = logged(server, teller.tenant)
                teller.prepare(call)
                seen = logged(server, teller.tenant)
                teller.tell(call, prepared=True)
                fresh = [one for one in logged(server, teller.tenant) if one not in seen]
                rows.setdefault((call.method, API + call.template), []).extend(fresh)
                assert len(before) <= len(seen)
        sent = {"transaction_id": "lago-1", "external_subscription_id": "s", "code": "t"}
        lago = server.ask("POST", f"{API}/events/batch", owner, {"events": [sent]})
        assert lago.status == 200, lago.body
        while server.pump.step() is not None:
            pass
        keys = {scope: server.key("acme", scope) for scope in SCOPES if scope != "operator"}
        keys["bound"] = server.key("acme", "ingest", "read", subjects=[named("subject")])
        keys["customer"] = server.key("acme", "ingest", "read", customer=named("customer"))
        yield Town(server, story, rival, visitor, keys, rows, tenancy)
        for call in told.farewell():
            story.tell(call)
            assert any(one.change.route.startswith(call.method) for one in logged(server, "acme"))


def logged(server: House, tenant: str) -> list[Any]:
    return server.world.audit.listed(tenant, Question(), 100_000)


def documented(town: Town) -> list[tuple[str, str]]:
    """Return method and path of everything in the OpenAPI document."""
    paths = town.house.ask("GET", "/openapi.json", FIRST_KEY).json["paths"]
    found = [(method.upper(), path) for path, methods in paths.items() for method in methods]
    assert len(found) > 150
    return found


def routed(town: Town) -> list[tuple[str, str, Any]]:
    """Return method, path and options of everything that is routed, documented or not."""
    app: Any = town.house.gate_app
    return [
        (method, route.path_format, handler.opt)
        for route in app.routes
        for handler in getattr(route, "route_handlers", ())
        for method in sorted(handler.http_methods - {"OPTIONS", "HEAD"})
    ]


def path_of(town: Town, template: str) -> str:
    """Return a documented path with the rich tenant's things in it."""
    bare = template.removeprefix(API)
    parts = bare.split("/")
    for length, part in enumerate(parts, 1):
        if part.startswith("{"):
            place = "/".join(bare.split("/")[:length])
            assert place in PARAMS, f"{place}: say in PARAMS what stands there"
            name = PARAMS[place]
            parts[length - 1] = town.story.made.get(name, name)
    head = API if template.startswith(API) else ""
    return head + "/".join(parts) + QUERIES.get(bare, "")


def changing(town: Town) -> list[Call]:
    """Return every call that changes something or asks with a body."""
    return [call for part in told.PARTS for call in part()]


def needed(method: str, path: str) -> str:
    """Return the scope that a route should need, said here once more and independently."""
    bare = path.removeprefix(API)
    if bare.startswith("/tenants"):
        return "operator"
    if bare.startswith(ADMIN_PLACES) or (method, bare) in ADMIN_CHANGES:
        return "admin"
    if path in EVENT_DOORS and method == "POST":
        return "ingest"
    if (method, bare) == ("GET", "/edges/rules"):
        return "ingest"
    asks = {(call.method, call.template) for call in told.questions()}
    return "read" if method == "GET" or (method, bare) in asks else "billing"


# ------------------------------------------------------------------ nothing is forgotten


def test_every_route_that_changes_something_has_its_call(town: Town) -> None:
    known = {(call.method, API + call.template) for call in changing(town)}
    asked = {(m, p) for m, p in documented(town) if m != "GET" and p not in EVENT_DOORS}
    assert asked - known - {BY_CERTIFICATE} == set(), "tell them in gatehouse/story.py"
    assert known - asked == set(), "gone from the API"


def test_every_place_that_is_shown_has_something_to_show(town: Town) -> None:
    for method, template in documented(town):
        if method == "GET" and template != STREAMING:
            answer = town.house.ask("GET", path_of(town, template), key_for(town, template))
            fixed_fee = template.endswith("/explain")  # it has no events
            assert answer.status in {200, 204} or fixed_fee, (template, answer.body[:300])


def key_for(town: Town, template: str) -> str:
    return FIRST_KEY if template.startswith(f"{API}/tenants") else town.owner()


# ------------------------------------------------------------------ nobody


def strangers(town: Town) -> dict[str, str | None]:
    server = town.house
    revoked, expired, closed = (server.key("acme", "admin") for _ in range(3))
    del closed
    for key in server.world.keys.listed("acme"):
        if key.shown == revoked[:8]:
            server.world.keys.revoke("acme", key.id, 1)
        elif key.shown == expired[:8]:
            server.world.keys.change(msgspec.structs.replace(key, expires_us=2))
    gone = server.tenant("gone") if "gone" not in _tenants(server) else None
    if gone is not None:
        server.world.tenants.close("gone", 1)
    server.gate.refresh()
    return {"nobody": None, "unknown": "tb_" + "x" * 43, "revoked": revoked, "expired": expired,
            "closed": gone or "tb_gone"}  # fmt: skip


def _tenants(server: House) -> set[str]:
    return {one.tenant for one in server.world.tenants.listed()}


REFUSALS = {
    "nobody": (401, "no-key"),
    "unknown": (401, "no-key"),
    "revoked": (401, "no-key"),
    "expired": (401, "key-expired"),
    "closed": (403, "tenant-closed"),
}


def test_without_a_good_key_nothing_is_shown_or_changed(town: Town) -> None:
    before = snapshot(town)
    for who, key in strangers(town).items():
        status, code = REFUSALS[who]
        for method, template in documented(town):
            answer = town.house.ask(method, path_of_any(town, template), key, {})
            if (method, template) in FREE:
                assert answer.status == 200
                continue
            if (method, template) == BY_CERTIFICATE:
                assert (answer.status, answer.json["code"]) == (401, "certificate-needed")
                continue
            assert answer.status == status, (who, method, template, answer.status)
            assert MARK.encode() not in answer.body
            if template not in EVENT_DOORS:
                assert answer.json["code"] == code, (who, method, template)
    assert snapshot(town) == before


def path_of_any(town: Town, template: str) -> str:
    """Return a path of any method: of a call, where no GET has it."""
    for call in changing(town):
        if API + call.template == template:
            return call.path(town.story.made)
    return path_of(town, template)


def _filled(template: str) -> str:
    """Return a path with something that fits in the place of each parameter."""
    return re.sub(r"\{[^}]*\}", MARK, template.replace("{seq}", "1"))


def test_pages_are_for_those_who_signed_in(town: Town) -> None:
    pages = [(m, p) for m, p, opt in routed(town) if "page" in opt and opt["page"] is not None]
    assert len(pages) > 40
    for method, template in pages:
        answer = town.house.ask(method, _filled(template), None, b"")
        assert answer.status == 303, (method, template)
        assert answer.headers["location"].startswith("/login")


def test_nothing_is_routed_that_neither_names_a_scope_nor_is_open_on_purpose(town: Town) -> None:
    free = {(m, p) for m, p, opt in routed(town) if opt.get("scope", "admin") is None
            and opt.get("page") is None}  # fmt: skip
    open_pages = {("GET", "/login"), ("POST", "/login"), ("GET", "/static/console.css")}
    assert free <= FREE | open_pages | {BY_CERTIFICATE}


# ------------------------------------------------------------------ another tenant


def snapshot(town: Town) -> dict[str, Any]:
    """Return everything that the rich tenant's owner sees, but for what moves by itself."""
    moving = ("/status", "/keys", "/audit", "/tenants", "/usage", "/edges")
    found = {}
    for method, template in documented(town):
        bare = template.removeprefix(API)
        if method != "GET" or template == STREAMING or not template.startswith(API):
            continue
        if bare.startswith(moving) or bare.endswith(("/reconcile", "/value", "/history")):
            continue
        answer = town.house.ask("GET", path_of(town, template), town.owner())
        found[template] = (answer.status, _still(_read(answer.body)))
    return found


def _read(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError:
        return body


def _still(value: Any) -> Any:
    """Return an answer without instants of its own making."""
    if isinstance(value, dict):
        return {name: _still(inner) for name, inner in value.items() if name != "at"}
    return [_still(inner) for inner in value] if isinstance(value, list) else value


def test_another_tenant_sees_nothing_of_it(town: Town) -> None:
    secrets = [text for text in town.story.made.values() if len(text) > 12] + [MARK]
    for method, template in documented(town):
        if method != "GET" or template.startswith(f"{API}/tenants") or template == STREAMING:
            continue
        answer = town.house.ask("GET", path_of(town, template), town.visitor)
        shows_own = template.startswith(f"{API}/doors")
        if "{" in template and not shows_own:
            nothing = answer.status == 200 and _read(answer.body) in EMPTY
            assert answer.status == 404 or nothing, (template, answer.status, answer.body[:200])
            told_back = [part for part in path_of(town, template).split("/") if MARK in part]
            text = answer.body.decode()
            for part in told_back:
                text = text.replace(part.partition("?")[0], "")
        else:
            text = answer.body.decode()
        assert answer.status in {200, 404}, template
        if (method, template) not in FREE and not template.endswith("openapi.json"):
            for secret in secrets:
                asked_for = secret in path_of(town, template)
                assert asked_for or secret not in text, (template, secret)


def test_another_tenant_changes_nothing_of_it(town: Town) -> None:
    before = snapshot(town)
    calls = [call for part in (*told.LIVING, told.farewell) for call in part()]
    own = {("DELETE", "/doors/{door}")}  # what each tenant has, and what PUT makes, is its own
    foreign = [one for one in calls if one.params and one.method != "PUT"]
    for call in [*foreign, *(one for one in calls if one not in foreign)]:
        answer = town.house.ask(
            call.method, call.path(town.story.made), town.rival, call.content(town.story.made)
        )
        if call in foreign and (call.method, call.template) not in own:
            assert 400 <= answer.status < 500, (call, answer.status, answer.body[:200])
            assert answer.status not in {401, 403}, call
    assert snapshot(town) == before
    for row in logged(town.house, "acme"):
        assert row.change.actor != actor_of(town, town.rival)


def test_what_is_another_thing_now_is_not_changed(town: Town) -> None:
    asked = 0
    for call in changing(town):
        if call.method == "POST":
            continue  # it makes something
        path = call.path(town.story.made)
        stale = {"if-match": '"as-it-was"'}
        got = town.house.ask(call.method, path, town.owner(), call.content(town.story.made), stale)
        assert (got.status, got.json["code"]) == (412, "precondition-failed"), (call, got.body)
        asked += 1
    assert asked > 25


def actor_of(town: Town, key: str) -> str:
    grant = town.house.gate.grant(key)
    assert isinstance(grant, Grant)
    return f"key:{grant.key_id}"


# ------------------------------------------------------------------ lesser scopes


@pytest.mark.parametrize("scope", ["ingest", "read", "billing", "admin"])
def test_a_key_does_what_its_scope_says_and_no_more(town: Town, scope: str) -> None:
    before = snapshot(town)
    key, grant = town.keys[scope], Grant("acme", "k", frozenset({scope}))
    refused = let = 0
    for method, template in documented(town):
        if (method, template) in FREE | {BY_CERTIFICATE} or template == STREAMING:
            continue
        may = grant.allows(needed(method, template))
        if may and method != "GET":
            continue  # the story and the other tests make these calls
        answer = town.house.ask(method, path_of_any(town, template), key, {})
        if may:
            assert answer.status not in {401, 403}, (method, template, answer.body)
            let += 1
        else:
            assert answer.status == 403, (method, template, answer.status, answer.body[:200])
            assert MARK.encode() not in answer.body
            refused += 1
    assert refused > 4
    assert let > 0
    assert snapshot(town) == before


def test_a_bound_key_is_refused_wherever_it_is_not_said_to_be_understood(town: Town) -> None:
    for key in (town.keys["bound"], town.keys["customer"]):
        for method, template in documented(town):
            if (method, template) in FREE | {BY_CERTIFICATE} or template in EVENT_DOORS:
                continue
            answer = town.house.ask(method, path_of_any(town, template), key, {})
            if (method, template) in READ_BY_BOUND:
                assert answer.status != 401, (method, template)
            else:
                assert answer.status == 403, (method, template, answer.status)


def test_what_a_viewer_may_not_do_on_pages(town: Town) -> None:
    cookie = sign_in(town, town.keys["read"])
    above = {"billing", "admin", "operator"}
    posts = [(m, p) for m, p, opt in routed(town) if opt.get("page") in above]
    assert len(posts) > 10
    for method, template in posts:
        answer = town.house.ask(method, _filled(template), None, b"token=x", cookie)
        assert answer.status == 403, (method, template, answer.status)


def test_pages_of_another_tenant_show_nothing_of_it(town: Town) -> None:
    cookie = sign_in(town, town.visitor)
    for method, template, opt in routed(town):
        if method != "GET" or opt.get("page") is None or "{" not in template:
            continue
        if template not in {p.removeprefix(API) for _, p in documented(town)}:
            continue
        path = path_of(town, API + template).removeprefix(API)
        answer = town.house.ask("GET", path, None, None, cookie)
        assert answer.status in {404, 200}, (template, answer.status)
        text = answer.body.decode()
        for part in path.split("/"):
            text = text.replace(part, "") if part else text
        assert named("customer") not in text, template
        assert named("name") not in text, template


def sign_in(town: Town, key: str) -> dict[str, str]:
    form = {"content-type": "application/x-www-form-urlencoded"}
    answer = town.house.ask("POST", "/login", None, f"key={key}".encode(), form)
    assert answer.status == 303, answer.body
    return form | {"cookie": answer.headers["set-cookie"].partition(";")[0]}


# ------------------------------------------------------------------ in OpenMeter's shapes


def shaped(town: Town) -> list[tuple[str, str, str]]:
    """Return method, path with the rich tenant's things in it, and template."""
    paths = town.house.ask("GET", "/openmeter/openapi.json", FIRST_KEY).json["paths"]
    found = {"slug": "meter", "subject": "subject", "feature": "feature", "name": "label"}
    made = {
        template: re.sub(r"\{(\w+)\}", lambda part: named(found.get(part[1], "customer")), template)
        for template in paths
    }
    return [(method.upper(), made[path], path) for path in paths for method in paths[path]]


def test_every_route_in_openmeters_shapes_is_in_its_document(town: Town) -> None:
    below = {(m, re.sub(r":\w+\}", "}", p)) for m, p, _ in routed(town)
             if p.startswith("/openmeter/api/")}  # fmt: skip
    assert {(m, template) for m, _, template in shaped(town)} == below
    assert len(below) > 20
    document = town.house.ask("GET", "/openmeter/openapi.json", FIRST_KEY).json
    validate(document)


def test_routes_in_openmeters_shapes_ask_for_a_key_its_tenant_and_its_scope(town: Town) -> None:
    before = snapshot(town)
    outside = strangers(town).items()
    for method, path, _ in shaped(town):
        for who, key in outside:
            assert town.house.ask(method, path, key, {}).status in {401, 403}, (who, path)
        foreign = town.house.ask(method, path, town.visitor, {} if method != "GET" else None)
        text = foreign.body.decode()
        for part in path.split("/"):
            text = text.replace(part, "") if part else text
        assert MARK not in text, (method, path)
        assert method == "GET" or 400 <= foreign.status < 500, (method, path, foreign.status)
        for scope in ("ingest", "read", "bound", "customer"):
            may = scope == "read" and method == "GET"
            answer = town.house.ask(method, path, town.keys[scope], {})
            assert (answer.status == 403) is not may, (scope, method, path, answer.status)
    assert snapshot(town) == before


# ------------------------------------------------------------------ the audit log


def test_every_route_that_changes_something_leaves_a_row(town: Town) -> None:
    for (method, template), rows in town.rows.items():
        teller = town.tenancy if "/tenants" in template else town.story
        here = [one for one in rows if one.change.route == f"{method} {template}"]
        assert here, f"{method} {template} left nothing in the audit log"
        for row in here:
            assert row.change.actor == actor_of(town, teller.key)
            assert row.change.outcome == "done"
            assert row.change.request_id


def test_rows_say_what_was_before_and_after(town: Town) -> None:
    def told_of(method: str, template: str) -> Any:
        rows = town.rows[method, API + template]
        return next(one.change for one in rows if one.change.route == f"{method} {API}{template}")

    for place in ("meters/{key}", "customers/{key}", "keys/{id}", "usage-plans/{key}",
                  "routes/{key}"):  # fmt: skip
        change = told_of("PUT", f"/{place}")
        before, after = msgspec.json.decode(change.before), msgspec.json.decode(change.after)
        assert before != after, place
        assert set(before) - {"description"} <= set(after) | {"key"}, place
        assert MARK in change.after
    hook = told_of("PATCH", "/webhooks/{id}")
    assert named("hook") in hook.before
    assert named("other") in hook.after
    assert told_of("POST", "/meters").before is None
    assert told_of("POST", "/meters").subject == named("meter")
    assert told_of("POST", "/keys").subject == town.story.made["key"]
    finalized = told_of("POST", "/invoices/{name}/finalize")
    assert (finalized.kind, finalized.action) == ("invoice", "finalize")


def test_no_secret_stands_in_the_log(town: Town) -> None:
    for tenant in ("acme", "default", "rival"):
        for row in logged(town.house, tenant):
            text = msgspec.json.encode(row).decode()
            assert re.search(r"\b(tb|whsec)_[A-Za-z0-9_+/=-]{16,}", text) is None, row
            assert row.digest not in text[:40]
        assert town.house.world.audit.verified(tenant).whole


def test_questions_leave_nothing(town: Town) -> None:
    before = len(logged(town.house, "acme"))
    for call in told.questions():
        answer = town.house.ask(
            call.method, call.path(town.story.made), town.owner(), call.content(town.story.made)
        )
        assert answer.status < 500, call
    snapshot(town)
    assert len(logged(town.house, "acme")) == before


def test_the_log_is_read_page_by_page_and_as_csv(town: Town) -> None:
    path = f"{API}/audit?kind=key&limit=2"
    first = town.house.ask("GET", path, town.owner()).json
    assert [one["kind"] for one in first["items"]] == ["key", "key"]
    rest = town.house.ask("GET", f"{path}&cursor={first['next_cursor']}", town.owner()).json
    assert rest["items"][0]["seq"] < first["items"][-1]["seq"]
    csv = town.house.ask("GET", path, town.owner(), None, {"accept": "text/csv"})
    assert csv.body.startswith(b"seq,time,actor,action,kind,subject")
    assert csv.headers["next-cursor"] == first["next_cursor"]
    mine = (
        f"{API}/audit?subject={named('meter')}&action=change&actor={actor_of(town, town.owner())}"
    )
    assert len(town.house.ask("GET", mine, town.owner()).json["items"]) == 1
    none = f"{API}/audit?from=2999-01-01T00:00:00Z"
    assert town.house.ask("GET", none, town.owner()).json["items"] == []
    assert town.house.ask("GET", f"{API}/audit?from=then", town.owner()).status == 400
    assert town.house.ask("GET", f"{API}/audit/verify", town.owner()).json["whole"]
