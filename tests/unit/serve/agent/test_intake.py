"""What the agent keeps: events, positions and windows together, whatever is cut where."""

import sys
from collections import defaultdict
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
import pytest

from tallybook.adapters.http.sender import ZstdPacking
from tallybook.adapters.memory.event_log import MemoryEventLog
from tallybook.adapters.sqlite.event_log import SqliteEventLog
from tallybook.collect.aggregate.rule import EdgeRule, RuleSet
from tallybook.collect.fileid import line_digest
from tallybook.collect.flow import read_lines
from tallybook.collect.following import Chunk, Followed, Position
from tallybook.collect.formats.choice import log_format
from tallybook.collect.lines import Line
from tallybook.kernel.errors import Unavailable
from tallybook.kernel.timestamps import parse_rfc3339
from tallybook.serve.agent.intake import SpoolIntake
from tallybook.transport.ports import EventLog

PACKING = ZstdPacking()
RULE = EdgeRule(
    name="r", match="http.server.request", group_by={"status": "$.status"}, value="$.bytes"
)
RULES = RuleSet(version="1", rules=(RULE,))
LINE = '10.0.0.{} - - [17/May/2015:10:{:02d}:{:02d} +0000] "GET / HTTP/1.1" {} {} "-" "x"'
FORM = log_format("combined")


def moment(minute: int, second: int = 0) -> int:
    us = parse_rfc3339(f"2015-05-17T10:{minute:02d}:{second:02d}Z")
    assert us is not None
    return us


def line(client: int, minute: int, second: int, status: int, size: int) -> bytes:
    return LINE.format(client, minute, second, status, size).encode()


class Told:
    """`LineSource` from a list, three lines at a time."""

    name = "/log"

    def __init__(self, lines: Sequence[bytes]) -> None:
        self.lines = lines

    def read(self, followed: Followed, bytes_max: int) -> Chunk:
        position = followed.find("f") or Position(fingerprint="f")
        found: list[Line] = []
        at = 0
        for raw in self.lines:
            one = Line(at, len(raw), raw, line_digest(raw), at + len(raw) + 1)
            at = one.end
            if one.offset >= position.offset and len(found) < 3:
                found.append(one)
        if found:
            followed = followed.moved(position.after(found[-1]), 1)
        return Chunk(lines=tuple(found), fingerprint="f", followed=followed)


def sent(log: EventLog) -> list[dict[str, Any]]:
    """Every event of the spool, once an identity, as a server keeps them."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for row in log.read(0, 10**6):
        for piece in PACKING.unpack(row.payload or b""):
            event = msgspec.json.decode(piece)
            known = found.setdefault((event["source"], event["id"]), event)
            assert known == event, "one identity, two contents"
    return list(found.values())


def totals(events: Sequence[dict[str, Any]]) -> dict[tuple[str, str, int], tuple[int, int]]:
    """Requests and bytes by minute, client and status."""
    found: dict[tuple[str, str, int], tuple[int, int]] = defaultdict(lambda: (0, 0))
    for event in events:
        data = event["data"]
        key = (event["time"][:16], event["subject"], data["status"])
        requests, size = found[key]
        if event["type"] == "http.server.request.minute":
            found[key] = (requests + data["count"], size + data["sum"])
        else:
            found[key] = (requests + 1, size + data["bytes"])
    return dict(found)


LINES = [
    line(n % 3, minute, n * 7 % 60, 200 + n % 2, n)
    for n, minute in enumerate((0, 0, 0, 1, 0, 1, 1, 2, 0, 2, 1, 3))
]


def work(log: EventLog, rules: RuleSet = RULES, windows_max: int = 8000) -> None:
    """Read everything, three lines a round, and close windows as time goes by."""
    intake = SpoolIntake(log, PACKING, 1 << 30, "web-1", windows_max)
    intake.follow(rules)
    for minute in count(1):
        found = read_lines(Told(LINES), FORM, "log:web", intake)
        intake.close_windows(moment(minute, 10))
        if not found.lines:
            break
    intake.close_windows(moment(59))
    assert intake.windows == 0


def raw_totals() -> dict[tuple[str, str, int], tuple[int, int]]:
    log = MemoryEventLog()
    work(log, RuleSet())
    return totals(sent(log))


def test_windows_add_up_to_what_was_read() -> None:
    log = MemoryEventLog()
    work(log)
    assert {e["type"] for e in sent(log)} == {"http.server.request.minute"}
    assert totals(sent(log)) == raw_totals()
    assert log.cursors().keys() == {"file:/log", "windows-closed"}


def test_a_crowd_of_windows_is_closed_early_and_still_adds_up() -> None:
    log = MemoryEventLog()
    work(log, windows_max=2)
    assert totals(sent(log)) == raw_totals()


class Crashed(BaseException):
    """The process is gone."""


class Crash:
    """Raises before the n-th statement of the files under test."""

    def __init__(self, statements: int) -> None:
        self.left = statements
        self.done = False

    def __call__(self, frame: FrameType, what: str, _: object) -> Any:
        name = frame.f_code.co_filename
        if what == "call" and not any(part in name for part in ("/collect/", "agent/intake")):
            return None
        if what == "line" and not self.done:
            self.left -= 1
            if self.left < 0:
                self.done = True
                raise Crashed
        return self


def crashed(log: EventLog, statements: int) -> bool:
    """Work until the crash; return whether it came before the end."""
    crash = Crash(statements)
    before = sys.gettrace()
    sys.settrace(crash)
    try:
        work(log)
    except Crashed:
        return True
    finally:
        sys.settrace(before)
    return False


def test_a_crash_between_any_two_statements_neither_loses_nor_doubles_a_line() -> None:
    expected = raw_totals()
    step = 0
    while True:
        log = MemoryEventLog()
        if not crashed(log, step):
            break
        work(log)
        assert totals(sent(log)) == expected, f"crash before statement {step}"
        step += 13  # coprime to the loops: other statements on every pass
    assert step > 3_900, "the crashes came everywhere"


@pytest.mark.slow(60)
def test_crash_after_crash_before_every_statement() -> None:
    expected = raw_totals()
    for step in range(4_200):
        log = MemoryEventLog()
        crashed(log, step)
        crashed(log, step * 7 % 4_001)
        work(log)
        assert totals(sent(log)) == expected, f"crash before statement {step}"


class Refusing(SqliteEventLog):
    """Fails now and then: before the commit, or after it without telling."""

    def __init__(self, path: Path, trouble: dict[int, str]) -> None:
        super().__init__(path)
        self._trouble = trouble
        self._calls = 0

    def append(self, *args: Any, **kwargs: Any) -> int:
        self._calls += 1
        kind = self._trouble.get(self._calls)
        if kind == "before":
            raise Unavailable("disk full")
        last = super().append(*args, **kwargs)
        if kind == "after":
            raise Unavailable("no answer from the disk")
        return last


@pytest.mark.parametrize("kind", ["before", "after"])
@pytest.mark.parametrize("call", range(1, 10))
def test_a_disk_that_fails_is_asked_what_it_has(tmp_path: Path, kind: str, call: int) -> None:
    log = Refusing(tmp_path / "spool.db", {call: kind, call + 3: kind})
    intake = SpoolIntake(log, PACKING, 1 << 30, "web-1")
    intake.follow(RULES)
    minute = 0
    while True:
        minute += 1
        try:
            found = read_lines(Told(LINES), FORM, "log:web", intake)
            intake.close_windows(moment(min(minute, 59), 10))
        except Unavailable:
            continue
        if not found.lines:
            break
    for _ in range(3):
        try:
            intake.close_windows(moment(59))
        except Unavailable:
            continue
    assert intake.windows == 0
    assert totals(sent(log)) == raw_totals()
    log.close()


def test_other_rules_close_the_windows_of_the_ones_before() -> None:
    log = MemoryEventLog()
    intake = SpoolIntake(log, PACKING, 1 << 30, "web-1")
    intake.follow(RULES)
    read_lines(Told(LINES[:4]), FORM, "log:web", intake)
    intake.follow(RuleSet(version="2", rules=RULES.rules))
    read_lines(Told(LINES[:4]), FORM, "log:web", intake)
    again = SpoolIntake(log, PACKING, 1 << 30, "web-1")
    assert again.windows == intake.windows == 4
    again.close_windows(moment(59))
    assert {e["data"]["version"] for e in sent(log)} == {"1", "2"}
    assert totals(sent(log)) == {
        key: figures for key, figures in totals(sent(log)).items() if figures[0]
    }


def test_a_source_that_repeats_itself_is_never_added_up() -> None:
    log = MemoryEventLog()
    intake = SpoolIntake(log, PACKING, 1 << 30, "web-1")
    intake.follow(RULES)
    twice = b'{"specversion":"1.0","type":"http.server.request","source":"s","id":"1",'
    twice += b'"time":"2015-05-17T10:00:00Z","data":{"bytes":1}}'
    assert intake.take([twice, twice], {"mqtt": "1"}, repeats=True) == 2
    assert intake.windows == 0
    assert (intake.cursor("mqtt"), intake.cursor("other")) == ("1", None)
    assert len(sent(log)) == 1


def test_the_spool_is_full_at_its_size() -> None:
    log = MemoryEventLog()
    intake = SpoolIntake(log, PACKING, 10)
    assert intake.used_share() < 1
    intake.take([b'{"id":"1"}'], {})
    assert intake.used_share() >= 1
