"""Sessions of the console: their cookies, forged forms, and who can be kept out by guessing."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tallybook.serve.console import entering
from tallybook.serve.console.entering import Attempts
from tallybook.serve.console.session import known_browser, new_known
from tests.support.api import SetClock
from tests.support.gatehouse.house import FIRST_KEY, Answer, House, house

FORM = {"content-type": "application/x-www-form-urlencoded"}
PASSWORD = "a long enough sentence"
WRONG = "another long sentence"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    monkeypatch.setattr(entering, "ATTEMPTS", Attempts(8))
    monkeypatch.setattr(entering, "BROWSERS", Attempts(5))
    with house(tmp_path / "data") as made:
        body = {"name": "ada", "roles": ["owner"], "password": PASSWORD}
        assert made.ask("POST", "/api/v1/users", FIRST_KEY, body).status == 201
        made.gate.refresh()
        yield made


def login(server: House, form: str, headers: dict[str, str] | None = None) -> Answer:
    return server.ask("POST", "/login", None, form.encode(), FORM | (headers or {}))


def typed(password: str) -> str:
    return f"name=ada&password={password.replace(' ', '+')}"


def known_of(server: House) -> dict[str, str]:
    """Return the cookie of a browser in which Ada signed in."""
    return {"cookie": f"tallybook_known={new_known(server.world.secret, 'default/ada', 'b1')}"}


def test_who_guesses_at_a_name_does_not_keep_its_owner_out(
    server: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SetClock("2026-01-01")  # a lock of a second outlasts the slowest machine
    clock.now = server.world.clock.now_us()
    monkeypatch.setattr(server.world, "clock", clock)
    for _ in range(10):
        assert login(server, typed(WRONG)).status == 401
    user = server.world.users.get("default", "ada")
    assert user.locked_until_us > server.world.clock.now_us()
    assert login(server, typed(PASSWORD)).status == 401, "locked, and the address has no more tries"
    assert login(server, typed(PASSWORD), known_of(server)).status == 303
    assert login(server, f"key={FIRST_KEY}").status == 303, "a key is never kept out"


def test_a_known_browser_guesses_slowly_too(server: House) -> None:
    for _ in range(5):
        assert login(server, typed(WRONG), known_of(server)).status == 401
    assert login(server, typed(PASSWORD), known_of(server)).status == 401


def test_a_browser_is_known_for_the_person_it_knows(server: House) -> None:
    secret = server.world.secret
    cookie = new_known(secret, "default/ada", "b1")
    assert known_browser(secret, "default/ada", cookie) == "b1"
    for person, shown in [
        ("default/bob", cookie),
        ("default/ada", cookie.replace("b1", "b2")),
        ("default/ada", "b1."),
        ("default/ada", ""),
        ("default/ada", None),
        ("default/ada", "b1.é"),
    ]:
        assert known_browser(secret, person, shown) == ""
    assert known_browser(b"another", "default/ada", cookie) == ""


@pytest.mark.parametrize(
    ("proxy", "secure"),
    [({}, False), ({"x-forwarded-proto": "https"}, True), ({"x-forwarded-proto": "http"}, False)],
)
def test_cookies_are_for_this_site_alone(
    server: House, proxy: dict[str, str], secure: bool
) -> None:
    for form in (f"key={FIRST_KEY}", typed(PASSWORD)):
        cookie = login(server, form, proxy).headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert "path=/" in cookie
        assert ("secure" in cookie) == secure


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1.evil"])
def test_another_site_signs_nobody_in(server: House, origin: str) -> None:
    answer = login(server, f"key={FIRST_KEY}", {"origin": origin, "host": "127.0.0.1"})
    assert answer.status == 403
    assert "set-cookie" not in answer.headers


def pages(server: House) -> list[tuple[str, Any]]:
    """Return every page that a form is posted to."""
    return sorted(
        (route.path_format, handler.opt)
        for route in server.gate_app.routes
        for handler in getattr(route, "route_handlers", ())
        if "POST" in handler.http_methods and handler.opt.get("page", "") not in {"", None}
    )


def test_every_form_needs_its_token(server: House) -> None:
    entered = login(server, f"key={FIRST_KEY}")
    cookie = {"cookie": entered.headers["set-cookie"].partition(";")[0]}
    found = pages(server)
    assert len(found) >= 25
    rows = len(server.ask("GET", "/api/v1/audit?limit=1000", FIRST_KEY).json["items"])
    for path, _ in found:
        place = re.sub(r"\{[^}]*\}", "1", path)
        for token in ("", "token=", "token=0000&confirmed=yes"):
            answer = server.ask("POST", place, None, token.encode(), FORM | cookie)
            assert answer.status == 403, (path, answer.status, answer.body[:300])
            assert b"stale-form" in answer.body or b"too old" in answer.body, path
        nobody = server.ask("POST", place, None, b"token=", FORM)
        assert (nobody.status, nobody.headers["location"].partition("?")[0]) == (303, "/login")
    after = server.ask("GET", "/api/v1/audit?limit=1000", FIRST_KEY).json["items"]
    assert len(after) == rows, "nothing was changed"


def test_every_form_is_refused_to_those_who_may_not(server: House) -> None:
    viewer = server.key("default", "read")
    entered = login(server, f"key={viewer}")
    cookie = {"cookie": entered.headers["set-cookie"].partition(";")[0]}
    for path, opt in pages(server):
        if opt["page"] == "read":
            continue
        place = re.sub(r"\{[^}]*\}", "1", path)
        answer = server.ask("POST", place, None, b"token=", FORM | cookie)
        assert answer.status == 403, path
        assert b"stale-form" not in answer.body, path


def test_unknown_and_revoked_keys_hear_the_same(server: House) -> None:
    gone = server.key("default", "read")
    (key,) = [one for one in server.world.keys.good() if one.shown == gone[:8]]
    server.world.keys.revoke("default", key.id, server.world.clock.now_us())
    server.gate.refresh()
    paths = ("/api/v1/meters", "/api/v1/meters/nothing", "/api/v1/keys/key_x")
    for path in paths:
        told = [server.ask("GET", path, text) for text in (gone, "tb_never", "x", "")]
        bodies = {re.sub(rb'"(request_id|instance)":"[^"]*",?', b"", one.body) for one in told[:3]}
        assert {one.status for one in told} == {401}
        assert len(bodies) == 1
