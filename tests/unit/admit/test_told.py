"""What is told of keys and logs: facts without a key's text, verdicts that name the last row."""

import msgspec
import pytest

from tallybook.adapters.memory.counts import MemoryCounts, SharedCounts
from tallybook.admit.key import ApiKey
from tallybook.admit.plan import window
from tallybook.admit.plan.decide import Tell
from tallybook.admit.plan.flow import let_through, mark, standings
from tallybook.admit.plan.limit import Concurrency, Quota, check_limit
from tallybook.admit.plan.use import Reported
from tallybook.admit.told import created_fact, revoked_fact
from tallybook.admit.trail import Anchor, Change, Entry, Head, Verdict, anchored, chained
from tests.unit.admit.plan.sample import NOON_NS, bound_to

KEY = ApiKey(
    tenant="t", id="key_1", name="k", shown="tb_12345", digest="d" * 64, scopes=("read",),
    created_us=5, customer="acme",
)  # fmt: skip


def rows(number: int) -> list[Entry]:
    change = Change(actor="server", action="create", kind="key", subject="k")
    return chained(b"s" * 32, "t", Head(), [change] * number, 0)[0]


def test_a_key_is_told_without_its_text() -> None:
    made = created_fact(KEY)
    assert (made.kind, made.subject, made.customer, made.at_us) == (
        "key.created", "key_1", "acme", 5,
    )  # fmt: skip
    assert msgspec.json.decode(made.body)["expires"] is None
    assert KEY.digest not in made.body
    ended = msgspec.structs.replace(KEY, revoked_us=9, expires_us=1_800_000_000_000_000)
    gone = revoked_fact(ended)
    assert (gone.kind, gone.at_us) == ("key.revoked", 9)
    assert msgspec.json.decode(gone.body)["expires"].startswith("2027-")
    assert made.id != gone.id


def test_a_verdict_names_the_last_row_of_a_whole_log() -> None:
    assert Verdict(whole=True, rows=2).ending("d").kept == "2:d"
    assert Verdict(whole=True, rows=0).ending("").kept == ""
    assert Verdict(whole=False, rows=2).ending("d").kept == ""


def test_a_log_has_the_row_that_it_is_known_to_have_had() -> None:
    whole, found = Verdict(whole=True, rows=3), rows(3)
    here = Anchor(seq=2, digest=found[1].digest)
    assert anchored(whole, here, found[1]) == whole
    other = anchored(whole, Anchor(seq=2, digest="0" * 64), found[1])
    assert (other.whole, other.wrong_seq) == (False, 2)
    for row in (found[2], None):
        cut = anchored(whole, Anchor(seq=9, digest="0" * 64), row)
        assert (cut.whole, cut.wrong_seq) == (False, 4)
        assert "it had row 9" in cut.reason
    wrong = Verdict(whole=False, rows=1, wrong_seq=1, reason="r")
    assert anchored(wrong, here, found[1]) is wrong, "the first reason is the one that is told"


def test_what_was_told_is_marked_and_nothing_counted_by_looking() -> None:
    counts = MemoryCounts(SharedCounts())
    bound = bound_to(Quota(key="q", limit=10, window="day", warn=(50,)))
    decision = let_through(counts, [bound], NOON_NS, 5)
    (tell,) = decision.tells
    assert isinstance(tell, Tell)
    mark(counts, tell)
    assert let_through(counts, [bound], NOON_NS).tells == ()
    assert [one.left for one in standings(counts, [bound], NOON_NS)] == [4]
    assert [one.left for one in standings(counts, [bound], NOON_NS)] == [4]


def test_requests_at_once_have_a_range_too() -> None:
    limit = Concurrency(key="c", limit=2)
    assert check_limit(limit, "limits[0]") is limit


def test_windows_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window, "KNOWN_MAX", 1)
    quotas = [Quota(key="q", limit=1, window="day", hour=hour) for hour in (3, 4, 5)]
    first = [window.window(quota, "UTC", NOON_NS // 1000) for quota in quotas]
    assert [window.window(quota, "UTC", NOON_NS // 1000) for quota in quotas] == first
    assert len(window._known) == 1


def test_a_report_names_its_counter() -> None:
    report = Reported(tenant="t", key_id="k", route="api", status="2xx", generation="g")
    assert (report.counter.key_id, report.counter.route) == ("k", "api")
