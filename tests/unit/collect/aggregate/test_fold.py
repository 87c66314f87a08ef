"""Aggregation at the edge: windows and what is passed on add up to all that was read."""

from collections import defaultdict
from decimal import Decimal
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallybook.collect.aggregate.document import parse_rules
from tallybook.collect.aggregate.fold import (
    CLOSED_MAX,
    KEY_CHARS_MAX,
    Closed,
    Tally,
    closed_after,
    crowded,
    due,
    fold,
    kept_in_mind,
)
from tallybook.collect.aggregate.rule import EdgeRule, RuleSet, checked, compiled
from tallybook.collect.aggregate.window import WINDOW_US, Window, cursor_of, window_event
from tallybook.collect.spool import encode_event
from tallybook.kernel.errors import Invalid
from tallybook.kernel.event import UsageEvent
from tallybook.kernel.timestamps import SECOND_US, format_us

BEGIN_US = 1_763_712_000 * SECOND_US
REQUESTS = EdgeRule(
    name="requests",
    match="http.server.request",
    group_by={"status": "$.status"},
    value="$.bytes",
)


def piece(n: int, second: int, data: Any, **more: Any) -> bytes:
    event = UsageEvent(
        **{
            "id": str(n),
            "source": "log:web",
            "type": "http.server.request",
            "subject": "10.0.0.1",
            "time": format_us(BEGIN_US + second * SECOND_US),
            "data": msgspec.Raw(msgspec.json.encode(data)),
            **more,
        }
    )
    return encode_event(event)


def folded(
    pieces: list[bytes], *rules: EdgeRule, tally: Tally | None = None
) -> tuple[list[bytes], Tally]:
    found = RuleSet(version="3", rules=checked(rules or (REQUESTS,)))
    before = tally or Tally()
    got = fold(pieces, compiled(found), found.version, before)
    return got.passed, Tally({**before.windows, **got.windows}, got.closed)


def made(window: Window) -> dict[str, Any]:
    event = window_event(window, "web-1")
    return dict(msgspec.json.decode(event.data))


def test_a_window_tells_count_sum_least_greatest_and_last() -> None:
    passed, tally = folded(
        [
            piece(1, 5, {"status": 200, "bytes": 10}),
            piece(2, 50, {"status": 200, "bytes": "2.5"}),
            piece(3, 20, {"status": 200, "bytes": 30}),
        ]
    )
    assert passed == []
    (window,) = tally.windows.values()
    event = window_event(window, "web-1")
    assert event.type == "http.server.request.minute"
    assert (event.source, event.subject) == ("edge:web-1", "10.0.0.1")
    assert event.time == format_us(BEGIN_US)
    assert made(window) == {
        "count": 3,
        "sum": 42.5,
        "min": 2.5,
        "max": 30,
        "last": 2.5,
        "first_time": format_us(BEGIN_US + 5 * SECOND_US),
        "last_time": format_us(BEGIN_US + 50 * SECOND_US),
        "rule": "requests",
        "version": "3",
        "part": 0,
        "status": 200,
    }


def test_keys_subjects_and_minutes_have_windows_of_their_own() -> None:
    _, tally = folded(
        [
            piece(1, 0, {"status": 200, "bytes": 1}),
            piece(2, 0, {"status": 404, "bytes": 1}),
            piece(3, 59, {"bytes": 1}),
            piece(4, 60, {"status": 200, "bytes": 1}),
            piece(5, 0, {"status": 200, "bytes": 1}, subject="10.0.0.2"),
            piece(6, 0, {"status": 200, "bytes": 1}, subject=None),
        ]
    )
    windows = list(tally.windows.values())
    assert len(windows) == 6
    assert made(windows[2])["status"] is None
    assert len({window_event(w, "web-1").id for w in windows}) == 6
    assert len({cursor_of(w.identity) for w in windows}) == 6
    assert window_event(windows[5], "web-1").subject == "web-1"


def test_a_rule_without_a_value_only_counts_and_may_forget_the_subject() -> None:
    count = EdgeRule(name="all", match="http.server.request", type="hits", keep_subject=False)
    _, tally = folded([piece(n, 1, {}, subject=f"10.0.0.{n}") for n in range(5)], count)
    (window,) = tally.windows.values()
    event = window_event(window, "web-1")
    assert (event.type, event.subject) == ("hits", "web-1")
    assert set(made(window)) == {
        "count", "first_time", "last_time", "rule", "version", "part"
    }  # fmt: skip
    assert made(window)["count"] == 5


def test_the_first_rule_that_matches_takes_the_event() -> None:
    errors = EdgeRule(
        name="errors", match="http.server.request", where={"$.status": ["500", "502"]}, type="e"
    )
    named = EdgeRule(
        name="named", match="http.server.request", where={"$.deep[1].path": ["/x"]}, type="n"
    )
    passed, tally = folded(
        [
            piece(1, 0, {"status": 500}),
            piece(2, 0, {"status": "502"}),
            piece(3, 0, {"status": 200}),
            piece(4, 0, {"deep": [0, {"path": "/x"}]}),
            piece(5, 0, {"deep": [0]}),
            piece(6, 0, {"deep": {"path": "/x"}}),
            piece(7, 0, {"deep": 5}),
            piece(8, 0, {}, type="other"),
        ],
        errors,
        named,
    )
    assert sorted((w.type, w.count) for w in tally.windows.values()) == [("e", 2), ("n", 1)]
    assert len(passed) == 5


@pytest.mark.parametrize(
    "data",
    [
        {"bytes": None},
        {"bytes": True},
        {"bytes": "many"},
        {"bytes": "1e20"},
        {"bytes": "0.1234567890123"},
        {},
        {"bytes": {"a": 1}},
        {"bytes": 1, "status": [200]},
        {"bytes": 1, "status": {"code": 200}},
        {"bytes": 1, "status": "x" * (KEY_CHARS_MAX + 1)},
    ],
)
def test_what_cannot_be_added_up_without_loss_is_passed_on(data: dict[str, Any]) -> None:
    event = piece(1, 0, data)
    passed, tally = folded([event])
    assert (passed, tally.windows) == ([event], {})


@pytest.mark.parametrize(
    "event",
    [
        b"[]",
        b"{",
        piece(1, 0, {"bytes": 1}, time=None),
        piece(1, 0, {"bytes": 1}, time="yesterday"),
        piece(1, 0, {"bytes": 1}, time="1969-12-31T23:59:59Z"),
        piece(1, 0, {"bytes": 1}, time="9999-12-31T23:59:59Z"),
        piece(1, 0, [1]),
    ],
)
def test_what_has_no_window_is_passed_on(event: bytes) -> None:
    passed, tally = folded([event])
    assert (passed, tally.windows) == ([event], {})


def test_a_sum_that_no_meter_keeps_is_left_where_it_is() -> None:
    big = 9 * 10**19
    passed, tally = folded([piece(n, 0, {"bytes": big, "status": 1}) for n in range(3)])
    (window,) = tally.windows.values()
    assert (window.count, len(passed)) == (1, 2)


def test_another_rule_under_the_same_version_does_not_mix() -> None:
    count = msgspec.structs.replace(REQUESTS, value=None)
    _, tally = folded([piece(1, 0, {"status": 200})], count)
    passed, after = folded([piece(2, 0, {"status": 200, "bytes": 1})], tally=tally)
    assert len(passed) == 1
    assert after.windows == tally.windows


def test_late_events_make_another_part_with_another_id() -> None:
    first = piece(1, 10, {"status": 200, "bytes": 1})
    _, tally = folded([first])
    assert due(tally, BEGIN_US + WINDOW_US + 10 * SECOND_US - 1) == []
    (window,) = due(tally, BEGIN_US + WINDOW_US + 10 * SECOND_US)
    closed = Tally({}, closed_after(tally.closed, [window]))
    _, late = folded([piece(2, 11, {"status": 200, "bytes": 2})], tally=closed)
    (part,) = late.windows.values()
    assert (window.part, part.part) == (0, 1)
    assert window_event(window, "e").id != window_event(part, "e").id
    assert window_event(window, "e").id == window_event(window, "e").id
    assert window_event(window, "e").source != window_event(window, "f").source
    _, more = folded([piece(3, 12, {"status": 500, "bytes": 2})], tally=late)
    assert sorted(w.part for w in more.windows.values()) == [1, 2]
    _, next_minute = folded([piece(4, 61, {"status": 200, "bytes": 2})], tally=late)
    assert sorted(w.part for w in next_minute.windows.values()) == [0, 1]


def test_an_id_is_spelled_in_the_words_of_the_event_unless_it_is_too_long() -> None:
    _, tally = folded(
        [
            piece(1, 0, {"status": 200, "bytes": 1}),
            piece(2, 0, {"status": "x" * 1000, "bytes": 1}),
            piece(3, 0, {"status": "x" * 1001, "bytes": 1}),
            piece(4, 0, {"status": 200, "bytes": 1}, subject="x/y"),
        ]
    )
    ids = [window_event(w, "e").id for w in tally.windows.values()]
    assert ids[0] == 'requests@3/2025-11-21T08:00:00Z/8:10.0.0.1/"status":200'
    assert [len(one) for one in ids[1:3]] == [32, 32]
    assert len(set(ids)) == 4


def test_too_many_windows_close_the_oldest_minutes_whole() -> None:
    _, tally = folded([piece(n, n * 60 // 2, {"status": 200 + n, "bytes": 1}) for n in range(10)])
    assert crowded(tally.windows, 10) == []
    early = crowded(tally.windows, 7)
    assert [w.identity.start_us for w in early] == [BEGIN_US + m * WINDOW_US for m in (0, 0, 1, 1)]


def test_only_the_oldest_of_very_many_closed_rules_are_forgotten() -> None:
    few = {f"r@{n}": Closed(n, 0) for n in range(CLOSED_MAX)}
    assert kept_in_mind(few) == few
    many = {**few, "r@new": Closed(CLOSED_MAX + 1, 0)}
    assert set(many) - set(kept_in_mind(many)) == {"r@0"}


events = st.lists(
    st.tuples(
        st.integers(0, 400),
        st.sampled_from([200, 404, "200", None]),
        st.one_of(
            st.decimals(-1000, 1000, allow_nan=False, places=3).map(str),
            st.sampled_from([None, "x", "0.1234567890123"]),
        ),
    ),
    max_size=60,
)


@given(events, st.lists(st.integers(0, 60), max_size=6), st.lists(st.integers(0, 600)), st.data())
def test_windows_and_what_is_passed_on_are_all_that_was_read(
    told: list[tuple[int, Any, Any]], cuts: list[int], closings: list[int], data: st.DataObject
) -> None:
    """For any cut, any order and any moment of closing."""
    pieces = [piece(n, s, {"status": k, "bytes": v}) for n, (s, k, v) in enumerate(told)]
    pieces = data.draw(st.permutations(pieces))
    bounds = [0, *sorted(min(c, len(pieces)) for c in cuts), len(pieces)]
    moments = iter([*closings, *[10**6] * len(bounds)])
    tally, passed, sent = Tally(), [], []
    for start, end in pairwise(bounds):
        some, tally = folded(pieces[start:end], tally=tally)
        passed += some
        closing = due(tally, BEGIN_US + next(moments) * SECOND_US)
        sent += [window_event(w, "e") for w in closing]
        left = {i: w for i, w in tally.windows.items() if w not in closing}
        tally = Tally(left, closed_after(tally.closed, closing))
    sent += [window_event(w, "e") for w in tally.windows.values()]
    assert len({e.id for e in sent}) == len(sent)
    assert totals([encode_event(e) for e in sent], passed) == totals([], pieces)


def totals(sent: list[bytes], raw: list[bytes]) -> dict[str, tuple[int, Decimal]]:
    """Count and sum by key and minute, over windows and raw events alike."""
    found: dict[str, tuple[int, Decimal]] = defaultdict(lambda: (0, Decimal(0)))
    for text in [*sent, *raw]:
        event = msgspec.json.decode(text)
        data = msgspec.json.decode(msgspec.json.encode(event["data"]), strict=False)
        key = f"{event['time'][:16]} {data.get('status')!r}"
        count, total = found[key]
        if "count" in data:
            members = msgspec.json.decode(text, type=Sent).data
            found[key] = (count + members.count, total + members.sum)
            continue
        value = data.get("bytes")
        worth = Decimal(value) if value not in {None, "x"} else Decimal(0)
        found[key] = (count + 1, total + worth)
    return dict(found)


class Figures(msgspec.Struct):
    count: int
    sum: Decimal


class Sent(msgspec.Struct):
    data: Figures


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "No"}, "name"),
        ({"match": " "}, "match"),
        ({"type": "http.server.request"}, "type"),
        ({"type": "x" * 2000}, "type"),
        ({"match": "io.tallybook.unparsed"}, "match"),
        ({"match": "io.tallybook.edge.gap"}, "match"),
        ({"group_by": {"count": "$.x"}}, "group_by"),
        ({"group_by": {"a b": "$.x"}}, "group_by"),
        ({"group_by": {"a": "x"}}, "path"),
        ({"where": {"x": ["1"]}}, "path"),
        ({"value": "$..x"}, "path"),
        ({"late_seconds": 3601}, "late_seconds"),
        ({"late_seconds": -1}, "late_seconds"),
    ],
)
def test_a_rule_that_cannot_be_is_refused_by_name(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as refused:
        checked((msgspec.structs.replace(REQUESTS, **changes),))
    assert refused.value.field == field


def test_two_rules_of_one_name_and_too_many_are_refused() -> None:
    with pytest.raises(Invalid, match="called"):
        checked((REQUESTS, REQUESTS))
    many = tuple(msgspec.structs.replace(REQUESTS, name=f"r{n}") for n in range(101))
    with pytest.raises(Invalid, match="100"):
        checked(many)


def test_rules_are_declared_as_a_file() -> None:
    text = """
    [[rules]]
    name = "r"
    match = "x"
    group_by = { status = "$.status" }
    """
    (rule,) = parse_rules(text)
    assert (rule.name, rule.made_type, rule.group_by) == ("r", "x.minute", {"status": "$.status"})
    assert parse_rules("") == ()


@pytest.mark.parametrize(
    "text",
    ["[[rules", "rules = 1", "[[rules]]\nname = 1", "[[rules]]\nname = 'a'\nmatch = 'b'\nx = 1",
     "[[rules]]\nname = 'A'\nmatch = 'b'", "other = 1"],
)  # fmt: skip
def test_a_file_that_declares_no_rules_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        parse_rules(text)
