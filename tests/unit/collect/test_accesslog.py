"""Access-log lines: what a line says, and what is a problem instead."""

import re
from collections import Counter
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallybook.adapters.files.lines import LineFile
from tallybook.collect.fileid import Origin
from tallybook.collect.formats.accesslog import parse_combined, parse_common
from tallybook.collect.formats.choice import log_format, piece_of
from tallybook.collect.formats.moments import clf_time, moment
from tallybook.collect.lines import Record, text_of
from tallybook.kernel.problem import Problem
from tallybook.kernel.timestamps import EPOCH, SECOND_US, parse_rfc3339

HEAD = '10.0.0.1 - - [17/May/2015:10:05:03 +0200] "GET /a?b=c HTTP/1.1" 200 512'
LINE = HEAD + ' "http://r/" "Agent (x) \\"quoted\\""'


def data_of(found: object) -> dict[str, object]:
    assert isinstance(found, Record), found
    return msgspec.json.decode(found.data)


def test_a_combined_line() -> None:
    found = parse_combined(LINE)
    assert isinstance(found, Record)
    assert found.type == "http.server.request"
    assert found.subject == "10.0.0.1"
    assert found.time == "2015-05-17T10:05:03+02:00"
    assert data_of(found) == {
        "method": "GET",
        "path": "/a?b=c",
        "status": 200,
        "bytes": 512,
        "protocol": "HTTP/1.1",
        "referer": "http://r/",
        "user_agent": 'Agent (x) "quoted"',
    }


def test_a_common_line_has_no_referer_and_names_the_user() -> None:
    found = data_of(parse_common(HEAD.replace("- - [", "- käthe [".replace("ä", "a"))))
    assert found["referer"] is None
    assert found["user"] == "kathe"


def test_a_dash_is_zero_bytes_and_no_referer() -> None:
    found = data_of(parse_combined(HEAD.replace(" 512", " -") + ' "-" "-"'))
    assert found["bytes"] == 0
    assert found["referer"] is None
    assert found["user_agent"] is None


@pytest.mark.parametrize("request_field", ["-", "", r"\x16\x03\x01\x02", "GET /", "quit", "A B C"])
def test_a_request_that_is_none_was_still_answered(request_field: str) -> None:
    found = data_of(parse_combined(LINE.replace("GET /a?b=c HTTP/1.1", request_field)))
    assert (found["method"], found["path"]) == ("_OTHER", request_field)
    assert found["protocol"] is None
    assert found["status"] == 200


def test_a_target_may_hold_spaces() -> None:
    found = data_of(parse_combined(LINE.replace("/a?b=c", "/a b c")))
    assert (found["method"], found["path"]) == ("GET", "/a b c")


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("", "line-empty"),
        ("   ", "line-empty"),
        (LINE[:-1], "line-unfinished"),
        (LINE[:-30], "line-unfinished"),
        (LINE + " ", "line-malformed"),
        (LINE + ' "extra"', "line-malformed"),
        (" " + LINE, "line-malformed"),
        (HEAD, "line-malformed"),
        (LINE.replace(" 200 ", " 20 "), "line-malformed"),
        (LINE.replace(" 512 ", " -1 "), "line-malformed"),
        (LINE.replace(" 512 ", f" {10**18} "), "line-malformed"),
        (LINE.replace(" 200 ", " ٢٠٠ "), "line-malformed"),
        (LINE.replace("May", "Mai"), "line-time"),
        (LINE.replace("17/May", "31/Feb"), "line-time"),
        (LINE.replace("+0200", "+2500"), "line-time"),
        ("\x00" * 40, "line-malformed"),
    ],
)
def test_what_does_not_match_to_the_last_character_is_a_problem(line: str, code: str) -> None:
    found = parse_combined(line)
    assert isinstance(found, Problem)
    assert found.code == code


@given(st.integers(min_value=0, max_value=len(LINE) - 1))
def test_no_cut_of_a_combined_line_is_counted(length: int) -> None:
    assert isinstance(parse_combined(LINE[:length]), Problem)


@given(st.binary(max_size=200))
def test_no_bytes_break_the_parser(raw: bytes) -> None:
    for parse in (parse_combined, parse_common):
        assert isinstance(parse(text_of(raw)), Record | Problem)
        quoted = LINE.replace("Agent", text_of(raw))
        assert isinstance(parse_combined(quoted), Record | Problem)


def test_bytes_that_are_not_utf8_stay_readable() -> None:
    found = parse_combined(text_of(LINE.encode().replace(b"Agent", b"\xe4\xff")))
    assert data_of(found)["user_agent"] == r'\xe4\xff (x) "quoted"'


def test_long_runs_of_quotes_and_backslashes_take_no_time() -> None:
    assert isinstance(parse_combined(HEAD + ' "' + '\\"' * 30_000), Problem)
    assert isinstance(parse_combined('"' * 60_000), Problem)


@given(st.integers(min_value=0, max_value=7_258_118_400))
def test_the_common_time_is_the_same_instant(seconds: int) -> None:
    at = EPOCH + timedelta(seconds=seconds)
    spelled = clf_time(at.strftime("%d/%b/%Y:%H:%M:%S +0000"))
    assert spelled is not None
    assert parse_rfc3339(spelled) == seconds * SECOND_US


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1431857103, "2015-05-17T10:05:03Z"),
        ("1431857103.25", "2015-05-17T10:05:03.250000Z"),
        (1431857103250, "2015-05-17T10:05:03.250000Z"),
        ("2015-05-17T10:05:03+02:00", "2015-05-17T10:05:03+02:00"),
        (True, None),
        ("yesterday", None),
        (-1, None),
        ("1e30", None),
        (None, None),
        ([], None),
    ],
)
def test_times_of_exports(value: object, expected: str | None) -> None:
    assert moment(value) == expected


@pytest.mark.shared
def test_the_real_log_is_counted_line_by_line(shared_dir: Path) -> None:
    path = shared_dir / "access-2015-05.log"
    path = path if path.exists() else shared_dir / "data" / "access-2015-05.log"
    with path.open("rb") as file:
        lines = list(LineFile(file))
    origin, form = Origin("file:x", "f" * 32), log_format("combined")
    events = [msgspec.json.decode(piece_of(line, origin, form)) for line in lines]
    counted = [e for e in events if e["type"] == "http.server.request"]
    assert len(events) == 10_000
    assert len(counted) == 9_999
    assert [e["data"]["code"] for e in events if e not in counted] == ["line-unfinished"]
    assert len({e["id"] for e in events}) == 10_000
    repeated = sum(n - 1 for n in Counter(line.content for line in lines).values())
    assert repeated == 19
    assert len({e["subject"] for e in counted}) == 1_753
    plain = Counter(
        (m[1], m[2])
        for m in (re.search(r'\[(\d\d)/.*?" (\d{3}) ', text_of(line.content)) for line in lines)
        if m is not None
    )
    ours = Counter((e["time"][8:10], str(e["data"]["status"])) for e in counted)
    assert plain - ours == Counter({("20", "200"): 1})  # the line that was cut off
