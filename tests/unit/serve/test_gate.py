"""Keys at the gate, and sessions made of them."""

from pathlib import Path

import pytest

from tallybook.adapters.sql.database import open_database, sqlite_url
from tallybook.adapters.sql.keys import SqlKeys, key_digest
from tallybook.admit.key import ApiKey
from tallybook.kernel.errors import Forbidden, Unavailable
from tallybook.serve.api import gate as gates
from tallybook.serve.api.gate import Gate
from tallybook.serve.console.session import (
    LIFE_SECONDS,
    check_form,
    check_origin,
    local_path,
    new_cookie,
    read_cookie,
)

SECRET = b"s" * 32


@pytest.fixture
def keys(tmp_path: Path) -> SqlKeys:
    found = SqlKeys(open_database(sqlite_url(tmp_path / "control.db")))
    for name, scopes in {"reader": ("read",), "biller": ("billing",), "boss": ("admin",)}.items():
        found.add(
            ApiKey(
                tenant="t",
                id=f"key_{name}",
                name=name,
                shown="tb_",
                digest=key_digest(SECRET, f"tb_{name}"),
                scopes=scopes,
                created_us=1,
            )
        )
    return found


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("reader", {"read"}),
        ("biller", {"read", "billing"}),
        ("boss", {"ingest", "read", "billing", "admin"}),
    ],
)
def test_a_key_grants_its_scopes_only(keys: SqlKeys, name: str, allowed: set[str]) -> None:
    gate = Gate(keys, SECRET)
    for scope in gates.SCOPES:
        if scope in allowed:
            assert gate.check(f"Bearer tb_{name}", scope).tenant == "t"
        else:
            with pytest.raises(Forbidden) as caught:
                gate.check(f"Bearer tb_{name}", scope)
            assert caught.value.code == "forbidden"


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Basic tb_boss", "Bearer tb_boss2", "tb_boss"]
)
def test_no_good_key_is_no_key(keys: SqlKeys, header: str | None) -> None:
    with pytest.raises(Forbidden) as caught:
        Gate(keys, SECRET).check(header, "read")
    assert caught.value.code == "no-key"


def test_a_revoked_key_is_refused_after_a_refresh(keys: SqlKeys) -> None:
    gate = Gate(keys, SECRET)
    keys.revoke("t", "key_reader", 2)
    gate.refresh()
    assert gate.grant("tb_reader") is None
    assert gate.grant("tb_boss") is not None


def test_a_remembered_key_is_good_no_longer_than_it_is(keys: SqlKeys) -> None:
    gate = Gate(keys, SECRET)
    for _ in range(2):
        gate.check("Bearer tb_reader", "read")
    keys.revoke("t", "key_reader", 7)
    gate.refresh()
    for _ in range(2):
        with pytest.raises(Forbidden):
            gate.check("Bearer tb_reader", "read")


def test_guesses_are_not_remembered(keys: SqlKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "DIGESTS_MAX", 2)
    gate = Gate(keys, SECRET)
    for number in range(5):
        assert gate.grant(f"tb_guess{number}") is None
    assert gate._digests == {}
    for name in ("reader", "biller", "boss", "reader"):
        assert gate.grant(f"tb_{name}") is not None
    assert len(gate._digests) == 2


def test_keys_that_cannot_be_refreshed_are_refused(
    keys: SqlKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(keys, SECRET)
    monkeypatch.setattr(gates, "STALE_SECONDS_MAX", -1.0)
    with pytest.raises(Unavailable):
        gate.check("Bearer tb_boss", "read")


def test_a_session_lives_as_long_as_cookie_and_key(keys: SqlKeys) -> None:
    gate = Gate(keys, SECRET)
    grant = gate.grant("tb_reader")
    assert grant is not None
    cookie = new_cookie(SECRET, grant, 0)
    end = LIFE_SECONDS * 1_000_000

    session = read_cookie(SECRET, gate, cookie, end - 1_000_000)
    assert session is not None
    assert session.grant == grant
    assert read_cookie(SECRET, gate, cookie, end) is None
    assert read_cookie(b"x" * 32, gate, cookie, 1) is None
    assert read_cookie(SECRET, gate, None, 1) is None
    assert read_cookie(SECRET, gate, "a.b", 1) is None
    check_form(session, session.form_token)
    with pytest.raises(Forbidden):
        check_form(session, "")
    keys.revoke("t", "key_reader", 2)
    gate.refresh()
    assert read_cookie(SECRET, gate, cookie, 1) is None


def test_signatures_beyond_ascii_are_no_bug(keys: SqlKeys) -> None:
    gate = Gate(keys, SECRET)
    cookie = new_cookie(SECRET, gate.check("Bearer tb_boss", "read"), 0)
    assert read_cookie(SECRET, gate, cookie.partition(".")[0] + ".\xe9", 0) is None
    session = read_cookie(SECRET, gate, cookie, 0)
    assert session is not None
    with pytest.raises(Forbidden):
        check_form(session, "\xe9")


@pytest.mark.parametrize("origin", [None, "http://host:80", "https://host:80"])
def test_forms_of_this_server_pass(origin: str | None) -> None:
    check_origin(origin, "host:80")


def test_forms_of_others_do_not() -> None:
    with pytest.raises(Forbidden):
        check_origin("http://evil", "host:80")


@pytest.mark.parametrize(
    ("path", "safe"),
    [("/a?b=c", "/a?b=c"), ("//evil", "/"), ("/\\evil", "/"), ("http://evil", "/"), ("", "/")],
)
def test_the_way_back_stays_here(path: str, safe: str) -> None:
    assert local_path(path) == safe
