"""The W3C extended log format: directives say how lines are read, wherever reading begins again."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallybook.adapters.files.tail import FileTail
from tallybook.collect.flow import read_lines
from tallybook.collect.following import Followed
from tallybook.collect.formats.choice import log_format
from tallybook.collect.formats.w3c import heading_after, reader
from tallybook.collect.lines import Record
from tallybook.kernel.errors import Invalid
from tallybook.kernel.problem import Problem

IIS = """#Software: Microsoft Internet Information Services 10.0
#Version: 1.0
#Date: 2026-11-21 00:00:01
#Fields: date time s-ip cs-method cs-uri-stem cs-uri-query s-port cs-username c-ip \
cs(User-Agent) cs(Referer) sc-status sc-substatus sc-win32-status sc-bytes cs-bytes time-taken
2026-11-21 00:00:02 10.0.0.5 GET /app/a.aspx id=7&x=1 443 - 198.51.100.7 Mozilla/5.0+(X11) - \
200 0 0 5120 311 15
2026-11-21 00:00:03 10.0.0.5 POST /app/b - 443 DOM\\ann 198.51.100.8 curl/8.0 https://e.test/ \
500 19 64 - 80 2031
"""
CDN = """#Version: 1.0
#Fields: date time x-edge-location sc-bytes c-ip cs-method cs(Host) cs-uri-stem sc-status time-taken
2026-11-21\t10:05:03\tFRA56-P7\t914\t192.0.2.10\tGET\td1.example\t/pic%20one.png\t200\t0.001
"""


def read(text: str, subject: str | None = None) -> list[Record | Problem]:
    heading, under, found = "", reader(subject), []
    for line in text.splitlines():
        if line.startswith("#"):
            heading = heading_after(heading, line)
        else:
            found.append(under(heading)(line))
    return found  # type: ignore[return-value]


def data(record: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(bytes(record.data))
    return found


def test_lines_of_iis() -> None:
    first, second = read(IIS)
    assert isinstance(first, Record)
    assert (first.type, first.subject, first.time) == (
        "http.server.request", "198.51.100.7", "2026-11-21T00:00:02Z",
    )  # fmt: skip
    assert data(first) == {
        "method": "GET", "path": "/app/a.aspx?id=7&x=1", "status": 200, "bytes": 5120,
        "protocol": None, "referer": None, "user_agent": "Mozilla/5.0+(X11)", "s_ip": "10.0.0.5",
        "s_port": 443, "sc_substatus": 0, "sc_win32_status": 0, "request_length": 311,
        "time_taken": 15,
    }  # fmt: skip
    assert data(second)["user"] == "DOM\\ann"
    assert (data(second)["path"], data(second)["bytes"]) == ("/app/b", None)


def test_lines_of_a_cdn_are_apart_by_tabs() -> None:
    (found,) = read(CDN, subject="http_host")
    assert isinstance(found, Record)
    assert found.subject == "d1.example"
    assert data(found)["client"] == "192.0.2.10"
    assert (data(found)["path"], data(found)["time_taken"]) == ("/pic%20one.png", 0.001)
    assert data(found)["x_edge_location"] == "FRA56-P7"


def test_the_columns_change_in_the_middle_of_a_file() -> None:
    text = "#Fields: date time c-ip sc-status\n2026-11-21 10:00:00 a 200\n"
    text += (
        "#Fields: time sc-status date c-ip\n10:00:01 404 2026-11-21 b\n2026-11-21 10:00:02 c 200\n"
    )
    one, two, old = read(text)
    assert isinstance(one, Record)
    assert isinstance(two, Record)
    assert (data(one)["status"], data(two)["status"], two.subject) == (200, 404, "b")
    assert isinstance(old, Problem)  # of the columns before: never half an event


def test_a_day_that_only_the_directive_has() -> None:
    text = "#Date: 2026-12-31 22:00:00\n#Fields: time cs-method cs-uri\n"
    text += '22:00:01 GET "/a b"\n00:00:01 GET /c\n25:00:00 GET /d\n#Date: soon\n23:00:00 GET /e\n'
    *found, wrong, late = read(text)
    assert [one.time for one in found if isinstance(one, Record)] == [
        "2026-12-31T22:00:01Z", "2027-01-01T00:00:01Z",
    ]  # fmt: skip
    assert data(found[0])["path"] == "/a b"
    assert isinstance(wrong, Problem)
    assert wrong.code == "line-time"
    assert isinstance(late, Record)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("2026-11-21 10:00:00 a", "line-malformed"),
        ("#Fields:\n2026-11-21 10:00:00 a", "line-malformed"),
        ("#Fields: date time c-ip\n2026-11-21 10:00:00", "line-malformed"),
        ("#Fields: date time c-ip\n\n", "line-empty"),
        ("#Fields: date c-ip\n2026-11-21 a", "line-time"),
        ("#Fields: time c-ip\n10:00:00 a", "line-time"),
        ("#Fields: date time sc-status\n2026-11-21 10:00:00 2x0", "line-field"),
        ("#Fields: date time c-ip\n2026-11-21 10:00:00 " + "a" * 2000, "line-field"),
        ("#Fields: " + "a" * 5000 + "\n2026-11-21", "line-malformed"),
        ("#Date: 9999-12-31 10:00:00\n#Fields: time c-ip\n09:00:00 a", "line-time"),
    ],
)
def test_what_cannot_be_read_is_a_problem(text: str, code: str) -> None:
    (found,) = read(text)
    assert isinstance(found, Problem)
    assert found.code == code


def test_it_takes_a_subject_and_no_pattern() -> None:
    assert log_format("w3c", subject="http_host").under is not None
    with pytest.raises(Invalid):
        log_format("w3c", pattern="x")


class Kept:
    """An intake in memory."""

    def __init__(self) -> None:
        self.cursors: dict[str, str] = {}
        self.pieces: list[Any] = []

    def cursor(self, name: str) -> str | None:
        return self.cursors.get(name)

    def take(
        self, pieces: Iterable[bytes], cursors: Mapping[str, str], *, repeats: bool = False
    ) -> int:
        del repeats
        came = [json.loads(piece) for piece in pieces]
        self.pieces += came
        self.cursors |= cursors
        return len(came)


def followed(path: Path, kept: Kept) -> None:
    """Read to the end, as an agent that has just been started."""
    tail = FileTail(path, headed=True)
    while read_lines(tail, log_format("w3c"), "log:h", kept).lines:
        pass
    tail.close()


@given(st.lists(st.sampled_from(["a", "b", "fields", "stop"]), max_size=12), st.booleans())
def test_a_reader_that_begins_again_anywhere_knows_the_columns(
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[str],
    dated: bool,
) -> None:
    folder = tmp_path_factory.mktemp("w3c")
    log = folder / ("u_ex261121.log" if dated else "u_ex.log")
    log.write_text("#Software: IIS\n#Fields: date time c-ip\n2026-11-21 09:00:00 first\n")
    kept, wanted, swapped = Kept(), ["first"], False
    for number, step in enumerate(steps):
        if step == "stop":
            followed(folder / "u_ex.log", kept)
            continue
        with log.open("a") as out:
            if step == "fields":
                swapped = not swapped
                out.write(f"#Fields: {'c-ip date time' if swapped else 'date time c-ip'}\n")
                continue
            when = f"2026-11-21 10:00:{number:02d}"
            out.write(f"{step} {when}\n" if swapped else f"{when} {step}\n")
            wanted.append(step)
    followed(folder / "u_ex.log", kept)
    assert [piece["subject"] for piece in kept.pieces] == wanted
    assert len({piece["id"] for piece in kept.pieces}) == len(wanted)


def test_the_files_of_iis_are_followed_from_day_to_day(tmp_path: Path) -> None:
    """They begin alike, and are told apart by the first line after what is alike."""
    head = "#Software: Microsoft Internet Information Services 10.0\n#Fields: date time c-ip\n"
    kept, path = Kept(), tmp_path / "u_ex.log"
    first, second = tmp_path / "u_ex261120.log", tmp_path / "u_ex261121.log"
    first.write_text(head + "2026-11-20 23:00:00 a\n")
    followed(path, kept)
    with first.open("a") as out:
        out.write("2026-11-20 23:59:59 b\n")
    second.write_text(head)
    followed(path, kept)
    assert [piece["subject"] for piece in kept.pieces] == ["a", "b"]
    with second.open("a") as out:
        out.write("2026-11-21 00:00:01 c\n")
    followed(path, kept)
    assert [piece["subject"] for piece in kept.pieces] == ["a", "b", "c"]
    positions = json.loads(kept.cursors[f"file:{path}"])["files"]
    assert len(positions) == 2
    assert Followed().headed("none", "x") == Followed()
