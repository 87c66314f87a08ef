"""The audit log: rows that hang together, and no secret in any of them."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallybook.admit.tenant import check_closing, check_tenant, check_tenant_name
from tallybook.admit.trail import JSON_BYTES_MAX, Change, Entry, Head, chained, shown, verified
from tallybook.admit.user import (
    FREE_FAILURES,
    LOCK_SECONDS_MAX,
    check_password,
    check_user_name,
    locked_until,
    named,
)
from tallybook.kernel.errors import Conflict, Invalid

SECRET = b"s" * 32
changes = st.lists(
    st.builds(
        Change,
        actor=st.just("key:k"),
        action=st.sampled_from(["create", "change"]),
        kind=st.just("meter"),
        subject=st.text(max_size=8),
        before=st.none() | st.text(max_size=8),
        after=st.none() | st.text(max_size=8),
    ),
    min_size=1,
    max_size=8,
)


def log_of(told: list[Change]) -> tuple[list[Entry], Head]:
    """Write changes one by one, as requests do."""
    head, entries = Head(), list[Entry]()
    for at, change in enumerate(told):
        fresh, head = chained(SECRET, "t", head, [change], at)
        entries += fresh
    return entries, head


@given(changes)
def test_a_log_hangs_together_however_it_was_written(told: list[Change]) -> None:
    entries, head = log_of(told)
    assert verified(SECRET, "t", entries, head).whole
    assert [entry.seq for entry in entries] == list(range(1, len(told) + 1))
    at_once, end = chained(SECRET, "t", Head(), told, 0)
    assert verified(SECRET, "t", at_once, end).whole


@given(changes, st.data())
def test_whatever_is_done_to_a_row_shows(told: list[Change], data: st.DataObject) -> None:
    entries, head = log_of(told)
    at = data.draw(st.integers(0, len(entries) - 1))
    one = entries[at]
    field = data.draw(st.sampled_from(["actor", "action", "kind", "subject", "before", "after"]))
    other = msgspec.structs.replace(one.change, **{field: f"{getattr(one.change, field)}!"})
    forged = msgspec.structs.replace(one, change=other)
    for tampered in (
        [*entries[:at], forged, *entries[at + 1 :]],
        [*entries[:at], msgspec.structs.replace(one, at_us=one.at_us + 1), *entries[at + 1 :]],
        [*entries[:at], *entries[at + 1 :]],
        [*entries[:at], one, *entries[at:]],
    ):
        verdict = verified(SECRET, "t", tampered, head)
        assert not verdict.whole
        assert verdict.reason
        assert verdict.wrong_seq is not None


@given(changes)
def test_whoever_lacks_the_secret_cannot_write_a_log(told: list[Change]) -> None:
    entries, head = log_of(told)
    forged, end = chained(b"x" * 32, "t", Head(), told, 0)
    assert not verified(SECRET, "t", forged, end).whole
    assert not verified(SECRET, "u", entries, head).whole, "nor move one to another tenant"
    cut = entries[:-1]
    last = cut[-1].digest if cut else ""
    assert not verified(SECRET, "t", cut, head).whole
    sealed = Head(seq=len(cut), digest=last, seal=head.seal)
    assert verified(SECRET, "t", cut, sealed).whole == (not cut)


def test_a_row_of_another_log_does_not_follow() -> None:
    change = Change(actor="server", action="create", kind="key", subject="k")
    entries, head = log_of([change, change])
    other = msgspec.structs.replace(entries[1], previous="0" * 64)
    assert "does not follow" in verified(SECRET, "t", [entries[0], other], head).reason


def test_an_empty_log_is_whole() -> None:
    assert verified(SECRET, "t", [], Head()).whole


@pytest.mark.parametrize(
    ("raw", "kept"),
    [
        (b"", None),
        (b"  ", None),
        (b'{"a": 1.10}', '{"a":1.10}'),
        (b"[1,{}]", "[1,{}]"),
        (b'{"password": "x", "n": 1e99999999999999999999}',
         '{"password":"(hidden)","n":"1e99999999999999999999"}'),
        (b"not json", '"not json"'),
        (b"\xff", '"\ufffd"'),
        (b'{"secret": "x", "password": "", "in": [{"token": {"a": 1}}]}',
         '{"secret":"(hidden)","password":"","in":[{"token":"(hidden)"}]}'),
        (b'{"key": "tb_' + b"a" * 43 + b'"}', '{"key":"(hidden)"}'),
        (b'{"secret_text": "whsec_' + b"b" * 32 + b'"}', '{"secret_text":"(hidden)"}'),
        (b'{"url": "https://me:pass@host/x"}', '{"url":"https://(hidden)@host/x"}'),
        (b"key = tb_" + b"c" * 43, '"key = (hidden)"'),
    ],
)  # fmt: skip
def test_json_is_kept_without_secrets(raw: bytes, kept: str | None) -> None:
    assert shown(raw) == kept


def test_what_is_too_long_is_kept_as_its_hash() -> None:
    kept = json.loads(shown(b'"' + b"x" * JSON_BYTES_MAX + b'"') or "")
    assert kept["too_long"]
    assert kept["bytes"] == JSON_BYTES_MAX + 2
    assert shown(b"[" * 2000 + b"]" * 2000) is not None


# ------------------------------------------------------------------ tenants and people


def test_ids_of_tenants() -> None:
    assert check_tenant("acme-2") == "acme-2"
    for wrong in ("", "Acme", "-a", "a" * 64, "a b", "a\n"):
        with pytest.raises(Invalid):
            check_tenant(wrong)
    with pytest.raises(Conflict):
        check_tenant("default")
    assert check_tenant_name("Acme Ltd") == "Acme Ltd"
    for wrong in ("x" * 256, "a\tb"):
        with pytest.raises(Invalid):
            check_tenant_name(wrong)


def test_nobody_locks_oneself_out() -> None:
    check_closing("acme", "default")
    for tenant, own in (("default", "acme"), ("acme", "acme")):
        with pytest.raises(Conflict):
            check_closing(tenant, own)


def test_names_and_passwords() -> None:
    assert check_user_name("ada@example.com") == "ada@example.com"
    for wrong in ("", "Ada", "a/b", "a b", "-a"):
        with pytest.raises(Invalid):
            check_user_name(wrong)
    assert check_password("correct horse battery", "ada") == "correct horse battery"
    for weak in ("short", "x" * 257, "aaaaaaaaaaaaaaaa", "i am ada lovelace"):
        with pytest.raises(Invalid):
            check_password(weak, "ada")
    assert named("ada") == ("default", "ada")
    assert named(" acme/ada ") == ("acme", "ada")


@given(st.integers(1, 500))
def test_guesses_take_ever_longer(failures: int) -> None:
    wait, before = (locked_until(number, 0) for number in (failures, failures - 1))
    assert before <= wait <= LOCK_SECONDS_MAX * 1_000_000
    assert (wait == 0) == (failures <= FREE_FAILURES)
