"""Keys, people and the audit log, as a client of a whole server in one process lives with them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import update

from tallybook.adapters.sql.access.audit import LOG, PENDING, STALE_US, Question
from tallybook.adapters.sql.access.recording import Recording, within
from tallybook.adapters.sql.database import write
from tallybook.admit.trail import Change
from tallybook.kernel.timestamps import MINUTE_US
from tallybook.serve.api.gate import Gate
from tallybook.serve.console import entering
from tallybook.serve.console.entering import Attempts
from tests.support.gatehouse.house import FIRST_KEY, House, house

API = "/api/v1"
PASSWORD = "correct horse battery staple"
FORM = {"content-type": "application/x-www-form-urlencoded"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[House]:
    with house(tmp_path / "data") as made:
        yield made


def event(id: str, subject: str | None, **more: Any) -> dict[str, Any]:
    """Return an event as a client sends it."""
    known = {"id": id, "source": "s", "type": "t", "specversion": "1.0", "data": {"n": 1}}
    return known | ({} if subject is None else {"subject": subject}) | more


def sold(server: House) -> None:
    """Let there be a meter, two customers and a feature of the first."""
    for path, body in (
        ("meters", {"key": "m", "event_type": "t", "aggregation": "COUNT"}),
        ("customers", {"key": "acme", "currency": "USD", "subjects": [
            "a1", {"subject": "a2", "start": "2026-01-01", "end": "2026-02-01"}]}),
        ("customers", {"key": "other", "currency": "USD", "subjects": ["b1"]}),
        ("entitlements", {"customer": "acme", "feature": "f", "type": "boolean",
                          "start": "2025-01-01"}),
        ("entitlements", {"customer": "other", "feature": "f", "type": "boolean",
                          "start": "2025-01-01"}),
    ):  # fmt: skip
        assert server.ask("POST", f"{API}/{path}", FIRST_KEY, body).status == 201, path
    times = ("2025-12-31T10:00:00Z", "2026-01-10T10:00:00Z", "2026-02-10T10:00:00Z")
    server.send(
        FIRST_KEY,
        *(event(f"{subject}-{n}", subject, time=time)
          for subject in ("a1", "a2", "b1") for n, time in enumerate(times)),
    )  # fmt: skip


# ------------------------------------------------------------------ bound keys


def test_a_bound_key_sends_events_of_its_subjects_only(server: House) -> None:
    key = server.key("default", "ingest", subjects=["a1", "a2"])
    good, bad = event("1", "a1"), event("2", "b1")
    assert server.ask("POST", f"{API}/events", key, [good]).status == 204
    refused = server.ask("POST", f"{API}/events", key, [good, bad, event("3", None)])
    assert (refused.status, refused.json["code"]) == (403, "forbidden")
    assert [one["index"] for one in refused.json["errors"]] == [1, 2]
    mixed = server.ask("POST", f"{API}/events", key, [bad, {"id": "x"}])
    assert (mixed.status, len(mixed.json["errors"])) == (400, 2)
    partly = server.ask("POST", f"{API}/events?partial=true", key, [good, bad]).json
    assert (partly["stored"], partly["quarantined"][0]["code"]) == (1, "forbidden")


@pytest.mark.parametrize("bound", [{"subjects": ["a1"]}, {"customer": "acme"}])
def test_a_bound_key_writes_what_is_of_its_subjects_at_the_front_doors(
    server: House, bound: dict[str, Any]
) -> None:
    sold(server)
    key = server.key("default", "ingest", **bound)
    lines = b"cpu,host=a1 v=1i 1764583200000000000\ncpu,host=b1 v=1i 1764583200000000000"
    refused = server.ask("POST", "/write", key, lines)
    assert (refused.status, refused.json["code"]) == (400, "invalid")
    assert "may not send events of 'b1'" in refused.json["message"]
    records = server.ask("POST", f"{API}/logs", key, b'{"host":"a1"}\n{"host":"b1"}').json
    assert (records["stored"], records["quarantined"]) == (1, 1)
    reader = server.key("default", "read", subjects=["a1"])
    assert server.ask("POST", "/write", reader, lines).status == 403, "it lacks the scope"
    while server.pump.step() is not None:
        pass
    pieces = server.ask("GET", f"{API}/quarantine", FIRST_KEY).json["items"]
    assert [piece["code"] for piece in pieces] == ["forbidden", "forbidden"]
    for subject, found in (("a1", 2), ("b1", 0)):
        events = server.ask("GET", f"{API}/events?subject={subject}", FIRST_KEY).json["items"]
        assert len([one for one in events if one["source"].startswith("door:")]) == found


def test_what_a_bound_key_may_not_send_is_redriven_by_others(server: House) -> None:
    key = server.key("default", "ingest", subjects=["a1"])
    server.send(key, event("1", "b1", region="eu"))
    (piece,) = server.ask("GET", f"{API}/quarantine", FIRST_KEY).json["items"]
    assert piece["code"] == "forbidden"
    path = f"{API}/quarantine/{piece['id']}/redrive"
    assert server.ask("POST", path, FIRST_KEY, {}).status == 200
    while server.pump.step() is not None:
        pass
    (found,) = server.ask("GET", f"{API}/events?subject=b1&id=1", FIRST_KEY).json["items"]
    assert (found["problem"], found["extensions"]) == (None, {"region": "eu"})


def test_a_customers_key_sends_for_the_subjects_it_has_now(server: House) -> None:
    sold(server)
    key = server.key("default", "ingest", customer="acme")
    assert server.ask("POST", f"{API}/events", key, [event("n1", "a1")]).status == 204
    for subject in ("a2", "b1"):
        assert server.ask("POST", f"{API}/events", key, [event("n2", subject)]).status == 403
    nobody = server.key("default", "ingest", customer="nobody")
    assert server.ask("POST", f"{API}/events", nobody, [event("n3", "a1")]).status == 403


def test_bound_keys_read_what_they_are_for(server: House) -> None:
    sold(server)
    query = f"{API}/meters/m/query?from=2025-01-01T00:00:00Z&to=2027-01-01T00:00:00Z"

    def seen(key: str, more: str = "") -> dict[str, str]:
        answer = server.ask("GET", query + more, key)
        assert answer.status == 200, answer.body
        return {row["subject"]: str(row["value"]) for row in answer.json["data"]}

    by_subject = server.key("default", "read", subjects=["a1", "b1"])
    assert seen(by_subject) == {"a1": "3", "b1": "3"}
    assert seen(by_subject, "&subject=a2") == {}
    assert seen(by_subject, "&subject=b1&subject=a2") == {"b1": "3"}
    of_acme = server.key("default", "read", customer="acme")
    assert seen(of_acme) == {"a1": "3", "a2": "1"}, "a2 was its own for a month"
    assert server.ask("GET", f"{query}&filterCustomerId=other", of_acme).status == 403
    assert server.ask("GET", f"{query}&groupBy=customer_id", by_subject).status == 403

    def listed(key: str, more: str) -> list[str]:
        answer = server.ask("GET", f"{API}/events{more}", key)
        assert answer.status == 200, answer.body
        return [one["id"] for one in answer.json["items"]]

    assert server.ask("GET", f"{API}/events", by_subject).status == 400, "it has to name one"
    assert listed(by_subject, "?subject=a2") == []
    assert listed(by_subject, "?subject=b1&limit=2") == ["b1-2", "b1-1"]
    assert listed(of_acme, "?subject=a2") == ["a2-1"]
    assert listed(server.key("default", "read", subjects=["a1"]), "") == ["a1-2", "a1-1", "a1-0"]

    assert server.ask("GET", f"{API}/entitlements/acme:f/value", of_acme).status == 200
    assert server.ask("GET", f"{API}/entitlements/other:f/value", of_acme).status == 404
    assert server.ask("GET", f"{API}/entitlements/none:f/value", of_acme).status == 404
    assert server.ask("GET", f"{API}/customers/acme/access", of_acme).status == 200
    assert server.ask("GET", f"{API}/customers/other/access", of_acme).status == 404
    assert server.ask("GET", f"{API}/customers/acme/access", by_subject).status == 404


# ------------------------------------------------------------------ keys


def test_a_rotation_leaves_no_gap(server: House) -> None:
    made = server.ask("POST", f"{API}/keys", FIRST_KEY, {"name": "n", "roles": ["viewer"]}).json
    path = f"{API}/keys/{made['id']}"
    fresh = server.ask("POST", f"{path}/rotate", FIRST_KEY, {"overlap_seconds": 60}).json
    server.gate.refresh()
    for key in (made["key"], fresh["key"]):
        assert server.ask("GET", f"{API}/meters", key).status == 200
    later: list[int] = [server.world.clock.now_us()]
    gate = Gate(server.world.keys, server.world.secret, lambda: later[0])
    ends = next(one for one in server.world.keys.listed("default") if one.id == made["id"])
    assert ends.expires_us is not None
    later[0] = ends.expires_us - 1
    assert gate.grant(made["key"]) is not None
    later[0] = ends.expires_us
    assert gate.grant(made["key"]) is None
    assert gate.grant(fresh["key"]) is not None
    again = server.ask("POST", f"{path}/rotate", FIRST_KEY, {})
    assert (again.status, again.json["code"]) == (409, "key-rotated")
    shown = server.ask("GET", path, FIRST_KEY).json
    assert shown["successor"] == fresh["id"]
    assert "key" not in shown


def test_nobody_rises_above_themselves(server: House) -> None:
    owner = server.key("default", "admin")
    above = server.ask("POST", f"{API}/keys", owner, {"name": "n", "roles": ["operator"]})
    assert above.status == 403
    (first,) = [k for k in server.world.keys.listed("default") if k.name == "first key"]
    for method, path, body in (
        ("POST", f"/keys/{first.id}/rotate", {}),
        ("PUT", f"/keys/{first.id}", {"name": "mine"}),
        ("DELETE", f"/keys/{first.id}", None),
    ):
        assert server.ask(method, API + path, owner, body).status == 403, path
    acme = server.tenant("acme")
    (only,) = server.world.keys.listed("acme")
    last = server.ask("DELETE", f"{API}/keys/{only.id}", acme)
    assert (last.status, last.json["code"]) == (409, "last-owner")


def test_when_a_key_was_last_used_is_known_to_the_minute(server: House) -> None:
    key = server.key("default", "read")
    (stored,) = [k for k in server.world.keys.listed("default") if k.shown == key[:8]]
    assert stored.last_used_us is None
    before = server.world.clock.now_us() // MINUTE_US
    server.ask("GET", f"{API}/meters", key)
    server.gate.tell_used()
    version = server.world.keys.version()
    found = server.world.keys.get("default", stored.id).last_used_us
    assert found is not None
    assert before * MINUTE_US <= found <= server.world.clock.now_us()
    assert found % MINUTE_US == 0
    server.world.keys.used({("default", stored.id): 0})
    assert server.world.keys.get("default", stored.id).last_used_us == found, "never back"
    assert server.world.keys.version() == version, "use is no change that all must learn"


def test_a_closed_tenant_is_refused_until_it_is_opened(server: House) -> None:
    made = server.ask("POST", f"{API}/tenants", FIRST_KEY, {"tenant": "acme", "name": "Acme"})
    key = made.json["first_key"]["key"]
    server.gate.refresh()
    assert server.ask("GET", f"{API}/meters", key).status == 200
    assert server.ask("GET", f"{API}/tenants", key).status == 403
    assert server.ask("POST", f"{API}/tenants/acme/close", FIRST_KEY).json["open"] is False
    server.gate.refresh()
    assert server.ask("GET", f"{API}/meters", key).json["code"] == "tenant-closed"
    assert server.ask("POST", f"{API}/events", key, []).status == 403
    assert server.ask("POST", f"{API}/tenants/acme/open", FIRST_KEY).json["open"] is True
    server.gate.refresh()
    assert server.ask("GET", f"{API}/meters", key).status == 200
    for tenant in ("default", "acme"):
        again = server.ask("POST", f"{API}/tenants", FIRST_KEY, {"tenant": tenant})
        assert again.status == 409
    own = server.ask("POST", f"{API}/tenants/default/close", FIRST_KEY)
    assert (own.status, own.json["code"]) == (409, "own-tenant")


def test_a_secret_is_not_given_twice(server: House) -> None:
    headers = {"idempotency-key": "once"}
    asked = ("POST", f"{API}/tenants", FIRST_KEY, {"tenant": "acme"}, headers)
    first, again = server.ask(*asked), server.ask(*asked)
    assert first.json["first_key"]["key"].startswith("tb_")
    assert again.json["tenant"] == "acme"
    assert "key" not in again.json["first_key"]


# ------------------------------------------------------------------ people


def sign_in(server: House, name: str, password: str) -> tuple[int, dict[str, str]]:
    body = f"name={name}&password={password.replace(' ', '+')}".encode()
    answer = server.ask("POST", "/login", None, body, FORM)
    cookie = answer.headers.get("set-cookie", "").partition(";")[0]
    return answer.status, FORM | ({"cookie": cookie} if cookie else {})


def person(server: House, name: str = "ada", role: str = "owner") -> None:
    body = {"name": name, "roles": [role], "password": PASSWORD}
    made = server.ask("POST", f"{API}/users", FIRST_KEY, body)
    assert made.status == 201, made.body
    assert PASSWORD not in str(made.json)
    server.gate.refresh()


def test_people_sign_in_and_what_they_do_has_their_name(server: House) -> None:
    person(server)
    status, session = sign_in(server, "ada", PASSWORD)
    assert status == 303
    page = server.ask("GET", "/keys", None, None, session)
    assert page.status == 200
    found = re.search(rb'name="token" value="([0-9a-f]+)"', page.body)
    assert found is not None
    body = b"name=n&role=viewer&subjects=&customer=&expires=&token=" + found[1]
    assert server.ask("POST", "/keys", None, body, session).status == 200
    row, first = server.world.audit.listed("default", Question(kind="key"), 9)
    assert (first.change.actor, first.change.action) == ("server", "create")
    assert (row.change.actor, row.change.action) == ("user:default/ada", "create")
    assert row.change.subject.startswith("key_")
    stored = server.world.users.get("default", "ada")
    assert stored.password.startswith("$argon2id$")
    assert stored.last_login_us is not None


@pytest.mark.parametrize("how", ["password", "sign-out", "end", "close"])
def test_sessions_end_with_the_person(server: House, how: str) -> None:
    acme = server.tenant("acme")
    body = {"name": "ada", "roles": ["viewer"], "password": PASSWORD}
    assert server.ask("POST", f"{API}/users", acme, body).status == 201
    server.gate.refresh()
    status, session = sign_in(server, "acme/ada", PASSWORD)
    assert status == 303
    assert server.ask("GET", "/meters", None, None, session).status == 200
    path = f"{API}/users/ada"
    if how == "end":
        assert server.ask("DELETE", path, acme).status == 204
    elif how == "close":
        server.ask("POST", f"{API}/tenants/acme/close", FIRST_KEY)
    else:
        assert server.ask("POST", f"{path}/{how}", acme, {}).status == 200
    server.gate.refresh()
    assert server.ask("GET", "/meters", None, None, session).status == 303
    assert sign_in(server, "acme/ada", PASSWORD)[0] == (303 if how == "sign-out" else 401)


def test_guesses_are_slowed_by_name(server: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entering, "ATTEMPTS", Attempts(20))
    person(server)
    for _ in range(6):
        assert sign_in(server, "ada", "not the password")[0] == 401
    user = server.world.users.get("default", "ada")
    assert user.failures > 4
    assert user.locked_until_us > user.created_us
    server.world.users.failed(user, server.world.clock.now_us() + 3_600_000_000)
    assert sign_in(server, "ada", PASSWORD)[0] == 401, "locked, and told no more than that"
    shown = server.ask("GET", f"{API}/users/ada", FIRST_KEY).json
    assert "locked_until" in shown
    made = server.ask("POST", f"{API}/users/ada/password", FIRST_KEY, {}).json
    server.gate.refresh()
    assert sign_in(server, "ada", made["password"])[0] == 303
    assert sign_in(server, "nobody", PASSWORD)[0] == 401


def test_guesses_are_slowed_by_address() -> None:
    attempts = Attempts(20)
    assert all(attempts.one_more("a") for _ in range(entering.ATTEMPTS_A_MINUTE_MAX))
    assert not attempts.one_more("a")
    assert attempts.one_more("b")


def test_a_bound_key_does_not_sign_in(server: House) -> None:
    key = server.key("default", "read", customer="acme")
    assert server.ask("POST", "/login", None, f"key={key}".encode(), FORM).status == 401


# ------------------------------------------------------------------ the audit log


def test_a_refused_or_dry_request_leaves_nothing(server: House) -> None:
    sold(server)
    before = len(server.world.audit.listed("default", Question(), 999))
    body = {"key": "m", "event_type": "t", "aggregation": "COUNT"}
    assert server.ask("POST", f"{API}/meters", FIRST_KEY, body).status == 409
    assert server.ask("POST", f"{API}/meters", FIRST_KEY, {}).status == 400
    assert server.ask("DELETE", f"{API}/meters/none", FIRST_KEY).status == 404
    assert len(server.world.audit.listed("default", Question(), 999)) == before


def test_what_a_dying_process_changed_is_in_the_log_too(server: House) -> None:
    audit, now_us = server.world.audit, server.world.clock.now_us()
    recording = Recording("req_died", now_us)
    recording.tenant = "default"
    recording.draft = Change(actor="key:k", action="revoke", kind="key", subject="key_x")
    with within(recording):
        server.world.keys.used({})
    assert recording.commits == 1
    assert audit.settle_old(now_us) == 0, "it may still be at work"
    assert audit.settle_old(now_us + STALE_US + 1) == 1
    (row,) = audit.listed("default", Question(actor="key:k"), 9)
    assert (row.change.outcome, row.change.subject) == ("unknown", "key_x")
    with server.world.engine.connect() as connection:
        assert connection.execute(PENDING.select()).first() is None
    assert audit.verified("default").whole


def test_what_is_rolled_back_leaves_no_row(server: House) -> None:
    recording = Recording("req_lost", 1)
    recording.tenant = "default"
    recording.draft = Change(actor="key:k", action="x", kind="key", subject="s")
    with pytest.raises(ZeroDivisionError), within(recording), write(server.world.engine):
        raise ZeroDivisionError
    assert recording.commits == 0
    server.world.audit.finish(recording, [], 1)
    assert server.world.audit.listed("default", Question(actor="key:k"), 9) == []


def test_tampering_in_the_database_shows(server: House) -> None:
    sold(server)
    audit = server.world.audit
    assert audit.verified("default").whole
    with write(server.world.engine) as connection:
        change = update(LOG).where(LOG.c.seq == 2).values(actor="key:somebody-else")
        connection.execute(change)
    verdict = server.ask("GET", f"{API}/audit/verify", FIRST_KEY).json
    assert (verdict["whole"], verdict["wrong_seq"]) == (False, 2)
    with write(server.world.engine) as connection:
        connection.execute(LOG.delete().where(LOG.c.seq >= 2))
    assert audit.verified("default").reason.startswith("the log ends with row 1")


def test_the_request_id_of_the_client_is_kept(server: House) -> None:
    body = {"key": "t", "rate": "1"}
    server.ask("POST", f"{API}/taxes", FIRST_KEY, body, {"x-request-id": "from-me"})
    (row,) = server.world.audit.listed("default", Question(kind="tax"), 9)
    assert row.change.request_id == "from-me"
    assert msgspec.json.decode(row.change.after or "")["rate"] == "1"


# ------------------------------------------------------------------ the page of people


def test_people_are_looked_after_on_a_page(server: House) -> None:
    person(server)
    _, session = sign_in(server, "ada", PASSWORD)

    def send(path: str, said: str = "") -> Any:
        page = server.ask("GET", "/people", None, None, session)
        found = re.search(rb'name="token" value="([0-9a-f]+)"', page.body)
        assert found is not None
        return server.ask("POST", path, None, f"{said}&token=".encode() + found[1], session)

    def password(answer: Any) -> str:
        found = re.search(rb'<code class="long">([^<]+)</code>', answer.body)
        assert (answer.status, found is not None) == (200, True), answer.body
        return found[1].decode() if found else ""

    first = password(send("/people", "name=bob%40example.com&role=viewer"))
    server.gate.refresh()
    status, of_bob = sign_in(server, "bob@example.com", first)
    assert status == 303
    assert server.ask("GET", "/meters", None, None, of_bob).status == 200
    assert server.ask("GET", "/people", None, None, of_bob).status == 403
    assert send("/people/bob@example.com/sign-out").status == 303
    server.gate.refresh()
    assert server.ask("GET", "/meters", None, None, of_bob).status == 303
    second = password(send("/people/bob@example.com/password"))
    assert sign_in(server, "bob@example.com", first)[0] == 401
    assert sign_in(server, "bob@example.com", second)[0] == 303
    assert b"Let bob@example.com sign in no more?" in send("/people/bob@example.com/end").body
    assert server.world.users.get("default", "bob@example.com").ended_us is None
    assert send("/people/bob@example.com/end", "confirmed=yes").status == 303
    server.gate.refresh()
    assert sign_in(server, "bob@example.com", second)[0] == 401
    page = server.ask("GET", "/people?all=yes", None, None, session)
    assert b"ended" in page.body
    rows = server.world.audit.listed("default", Question(subject="bob@example.com"), 9)
    assert {row.change.actor for row in rows} == {"user:default/ada"}
    assert [row.change.kind for row in rows] == ["user"] * 4, rows
    assert not any(word in str(rows) for word in (first, second))


# ------------------------------------------------------------------ the page of tenants


def test_an_operator_looks_after_tenants_on_a_page(server: House) -> None:
    owner = server.key("default", "admin")
    told = server.ask("POST", "/login", None, f"key={owner}".encode(), FORM)
    refused = {"cookie": told.headers["set-cookie"].partition(";")[0]}
    assert server.ask("GET", "/tenants", None, None, refused).status == 403
    assert b'href="/tenants"' not in server.ask("GET", "/", None, None, refused).body
    told = server.ask("POST", "/login", None, f"key={FIRST_KEY}".encode(), FORM)
    session = FORM | {"cookie": told.headers["set-cookie"].partition(";")[0]}

    def page() -> str:
        return server.ask("GET", "/tenants", None, None, session).body.decode()

    def send(path: str, said: str = "") -> Any:
        found = re.search(r'name="token" value="([0-9a-f]+)"', page())
        assert found is not None
        return server.ask("POST", path, None, f"{said}&token={found[1]}".encode(), session)

    assert '<span class="tag">yours</span>' in page()
    made = send("/tenants", "tenant=globex&name=Globex+%3CLtd%3E").body.decode()
    (key,) = re.findall(r'<code class="long">(tb_[^<]+)</code>', made)
    assert "Globex &lt;Ltd&gt;" in page()
    assert key not in page()
    server.gate.refresh()
    assert server.ask("GET", f"{API}/meters", key).status == 200
    row = re.search(r"globex.*?</tr>", page(), re.DOTALL)
    assert row is not None
    assert re.findall(r'<td class="num">(\d+)</td>', row[0]) == ["0", "1"]
    assert "Close Globex" in send("/tenants/globex/close").body.decode()
    assert server.world.tenants.get("globex").closed_us is None
    assert send("/tenants/globex/close", "confirmed=yes").status == 303
    server.gate.refresh()
    assert server.ask("GET", f"{API}/meters", key).status == 403
    assert '<span class="tag bad">closed</span>' in page()
    assert send("/tenants/globex/open").status == 303
    assert send("/tenants/default/close", "confirmed=yes").status == 409
    assert send("/tenants/nobody/open").status == 404
    rows = server.world.audit.listed("default", Question(subject="globex"), 9)
    assert [row.change.action for row in rows] == ["open", "close", "create"]
    assert key not in str(rows)
