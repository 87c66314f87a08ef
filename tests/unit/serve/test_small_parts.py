"""Access log lines, pages of lists, charts, folders, errors."""

import re
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from tallybook.catalog.document import parse_document
from tallybook.catalog.meter import MeterSpec, check_meter
from tallybook.kernel import errors
from tallybook.kernel.errors import Conflict, Invalid, TallybookError, Unavailable
from tallybook.meter.usage import StoredEvent
from tallybook.serve.api.access_log import AccessLog, safe
from tallybook.serve.api.common.paging import cursor_of, keyed_page, place_of
from tallybook.serve.api.common.problem import encoded, problem_of, status_of
from tallybook.serve.api.rest.events import Touch, touches
from tallybook.serve.api.rest.quarantine import is_given, parse_redrive
from tallybook.serve.api.rest.runs import RunSpec, check_run
from tallybook.serve.cli.common import exit_code, grouped, grouped_money, moment, read_tables
from tallybook.serve.cli.demo import sample_catalog
from tallybook.serve.console.charts import Bar, bars, nice_top, short, spark
from tallybook.serve.console.metering import WINDOWS_FINE_MAX, charted
from tallybook.serve.console.render import money, number
from tallybook.serve.supervisor import folder, port

COMBINED = re.compile(
    r'(\S+) - - \[(\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000)\] "([^"]*)" (\d{3}) (\d+|-)'
    r' "((?:[^"\\]|\\.)*)" "((?:[^"\\]|\\.)*)"\n'
)


def test_lines_are_combined_format_whatever_is_sent(tmp_path: Path) -> None:
    log = AccessLog(tmp_path / "access.log")
    log.add("127.0.0.1", "GET /a HTTP/1.1", 200, 5, "", "agent")
    log.add("127.0.0.1", "GET /b HTTP/1.1", 204, 0, 'x" 200 1\n', "\\")
    log.close()
    lines = (tmp_path / "access.log").read_text().splitlines(keepends=True)
    found = [COMBINED.fullmatch(line) for line in lines]
    assert [m and (m[3], m[4], m[5]) for m in found] == [
        ("GET /a HTTP/1.1", "200", "5"),
        ("GET /b HTTP/1.1", "204", "-"),
    ]


def test_a_log_that_cannot_be_written_is_kept(tmp_path: Path) -> None:
    log = AccessLog(tmp_path / "absent" / "access.log")
    log.add("-", "GET / HTTP/1.1", 200, 1, "", "")
    log.flush()
    (tmp_path / "absent").mkdir()
    log.close()
    assert len((tmp_path / "absent" / "access.log").read_text().splitlines()) == 1


@pytest.mark.parametrize("text", ["plain", "ü", 'a"b', "a\\b", "a\nb", "\x1b[31m"])
def test_a_header_cannot_leave_its_quotes(text: str) -> None:
    assert not set(safe(text)) & {"\n", "\x1b"}
    assert '"' not in re.sub(r'\\"', "", safe(text))


def test_pages_join_to_the_whole() -> None:
    keys, cursor = [f"k{i:02}" for i in range(25)], None
    seen: list[str] = []
    for _ in range(3):
        found = keyed_page(keys[::-1], 10, cursor, str)
        seen += found.items
        cursor = found.next_cursor
    assert seen == keys
    assert cursor is None


@pytest.mark.parametrize("cursor", ["", "!", "bm9wZQ", cursor_of([1, 2])])
def test_a_made_up_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(Invalid):
        place_of(cursor, str)


def test_every_error_has_a_status_and_an_exit_code() -> None:
    kinds = [v for v in vars(errors).values() if isinstance(v, type) and issubclass(v, Exception)]
    statuses = {kind.__name__: status_of(kind("x")) for kind in kinds}
    assert statuses == {
        "TallybookError": 500,
        "Refused": 400,
        "Invalid": 400,
        "Missing": 404,
        "Conflict": 409,
        "Forbidden": 403,
        "Unavailable": 503,
        "Timeout": 504,
        "Throttled": 429,
        "Corrupt": 500,
    }
    assert {exit_code(kind("x")) for kind in kinds if issubclass(kind, errors.Refused)} == {1}
    assert exit_code(Unavailable("x")) == 3
    assert status_of(errors.Forbidden("x", code="no-key")) == 401
    body = msgspec.json.decode(encoded(problem_of(Invalid("no", field="f"))))
    assert body == {
        "type": "urn:tallybook:problem:invalid",
        "title": "Bad Request",
        "status": 400,
        "detail": "no",
        "code": "invalid",
        "field": "f",
    }


def test_a_chart_shows_every_window() -> None:
    found = [Bar(f"{i}<", f"t{i}", Decimal(i)) for i in range(30)]
    drawn = bars(found, "a & b")
    assert drawn.count("<rect") == 60
    assert "a &amp; b" in drawn
    assert "<<" not in drawn
    assert "style=" not in drawn
    assert bars([], "nothing").count("<svg") == 2
    assert "polyline" in spark([Decimal(1), Decimal(0)])
    assert spark([]) == ""


@pytest.mark.parametrize("text", ["0.001", "1", "7", "9.5", "99", "1001", "1e20"])
def test_an_axis_ends_just_above_its_greatest_value(text: str) -> None:
    value = Decimal(text)
    assert value <= nice_top(value) <= value * Decimal("2.1")


def test_numbers_are_short_on_an_axis_and_whole_elsewhere() -> None:
    assert [short(Decimal(t)) for t in ("0", "12.5", "1200", "34000000")] == [
        "0",
        "12.5",
        "1.2k",
        "34M",
    ]
    assert [number(Decimal("-1234567.500")), number(None)] == ["−1,234,567.5", "–"]
    assert [grouped("1234.50"), grouped(Decimal("-0.5")), grouped(None)] == [
        "1,234.5",
        "-0.5",
        None,
    ]
    assert [money("1234.50"), grouped_money("-1234.50")] == ["1,234.50", "-1,234.50"]


@pytest.mark.parametrize("seconds", [0, 1, 59, 600, 3600, 9000, 86400, 86400 * 30, 86400 * 900])
def test_a_chart_covers_its_events_with_few_bars(seconds: int) -> None:
    first = 1_793_491_217_123_456
    shown = charted((first, first + seconds * 1_000_000))
    assert shown is not None
    assert shown.start_us <= first
    assert first + seconds * 1_000_000 < shown.end_us
    assert len(shown.borders) <= max(WINDOWS_FINE_MAX + 2, 125)


def event(data: str) -> StoredEvent:
    return StoredEvent(
        id="1",
        source="s",
        type="t",
        subject=None,
        time_us=0,
        received_us=0,
        commit_seq=1,
        data=data,
        ext=None,
        problem=None,
        row_hash=1,
    )


def test_an_event_tells_what_each_meter_made_of_it() -> None:
    def meter(key: str, **more: object) -> MeterSpec:
        return msgspec.convert({"key": key, "event_type": "t", **more}, MeterSpec)

    specs = [
        meter("count", aggregation="COUNT"),
        meter("sum", aggregation="SUM", value="$.n"),
        meter("eu", aggregation="COUNT", filter={"$.region": ["eu"]}),
        meter("who", aggregation="UNIQUE_COUNT", value="$.who"),
    ]
    meters = [check_meter(spec) for spec in specs]
    assert touches(meters, event('{"n":"1.50","region":"eu","who":"a"}')) == [
        Touch("count", "1"),
        Touch("sum", "1.5"),
        Touch("eu", "1"),
        Touch("who", "a"),
    ]
    assert touches(meters, event('{"n":"many","region":"us"}')) == [
        Touch("count", "1"),
        Touch("sum", reason="$.n is not a number in range: many"),
        Touch("eu", reason="$.region is not one of eu", filtered=True),
        Touch("who", reason="$.who is missing"),
    ]


def test_a_redrive_keeps_the_numbers_of_its_event() -> None:
    asked = parse_redrive(b'{"event":{"data":{"n":1.10}},"reason":"r"}')
    assert (bytes(asked.event), asked.reason) == (b'{"data":{"n":1.10}}', "r")
    assert not is_given(parse_redrive(b"").event)
    assert not is_given(parse_redrive(b'{"event":null}').event)
    for body in (b"[]", b'{"evnt":{}}', b"{"):
        with pytest.raises(Invalid):
            parse_redrive(body)


NOW = 1_793_491_200_000_000


def test_a_run_names_a_month_or_an_instant() -> None:
    assert check_run(RunSpec(period="2026-11"), NOW).period == "2026-11"
    assert check_run(RunSpec(until="now"), NOW).until == "2026-11-01T00:00:00Z"


@pytest.mark.parametrize(
    "spec",
    [
        RunSpec(),
        RunSpec(period="2026-11", until="now"),
        RunSpec(period="2026-13"),
        RunSpec(period="November"),
        RunSpec(until="2026-11-01T00:00:01Z"),
        RunSpec(until="soon"),
    ],
)
def test_other_runs_are_refused(spec: RunSpec) -> None:
    with pytest.raises(Invalid):
        check_run(spec, NOW)


def test_people_write_dates_times_and_ages() -> None:
    assert moment("2026-11-01", "--from") == "2026-11-01T00:00:00Z"
    assert moment("2026-11-01T01:00:00+01:00", "--from") == "2026-11-01T01:00:00+01:00"
    assert moment(None, "--from") is None
    assert str(moment("24h", "--from")) < str(moment("now", "--from"))
    with pytest.raises(Invalid):
        moment("soon", "--from")


def test_the_sample_catalog_is_a_catalog() -> None:
    from tallybook.kernel.timestamps import from_us

    document = parse_document(sample_catalog(from_us(NOW)).decode())
    assert [s.start for s in document.subscriptions] == ["2026-11-01"]
    assert len(document.meters) == 6


# ---------------------------------------------------------------- folder and port


def test_a_fresh_folder_gets_a_secret_and_a_key_once(tmp_path: Path) -> None:
    data = tmp_path / "new" / "data"
    folder.prepare(data)
    key = folder.first_key(data, None)
    assert key is not None
    assert key.startswith("tb_")
    assert (data / "first-key").read_text().strip() == key
    assert folder.first_key(data, None) is None
    assert {(data / n).stat().st_mode & 0o777 for n in ("first-key", "secret")} == {0o600}


@pytest.mark.parametrize(
    "wanted", ["short", "tb_short", "no_prefix_but_long_enough", "tb_ with blanks in it"]
)
def test_a_weak_first_key_is_refused(tmp_path: Path, wanted: str) -> None:
    with pytest.raises(Conflict):
        folder.first_key(tmp_path, wanted)
    assert not (tmp_path / "secret").exists()


def test_one_lock_a_folder(tmp_path: Path) -> None:
    import os

    assert not folder.is_locked(tmp_path)
    held = folder.lock(tmp_path)
    assert folder.is_locked(tmp_path)
    with pytest.raises(Conflict) as caught:
        folder.lock(tmp_path)
    assert caught.value.code == "folder-locked"
    os.close(held)
    assert not folder.is_locked(tmp_path)


def test_a_reserved_port_is_taken_for_others(tmp_path: Path) -> None:
    with port.reserve("127.0.0.1", 0) as held:
        number = held.getsockname()[1]
        with pytest.raises(Unavailable):
            port.reserve("127.0.0.1", number)
    assert port.url("0.0.0.0", 80) == "http://127.0.0.1:80"
    assert port.url("::1", 80) == "http://[::1]:80"


def test_half_of_a_server_file_is_no_server(tmp_path: Path) -> None:
    assert folder.read_info(tmp_path) is None
    (tmp_path / "server.json").write_text('{"url":')
    assert folder.read_info(tmp_path) is None


def test_errors_are_ours(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TallybookError, match="cannot be used"):
        folder.prepare(tmp_path / "file")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("[[rows]]\nkey = 1\n[[rows]]\nkey = 2\n", [{"key": 1}, {"key": 2}]),
        ("other = 1\n", []),
    ],
)
def test_tables_of_a_file_are_read(tmp_path, text, wanted):
    file = tmp_path / "rows.toml"
    file.write_text(text)
    assert read_tables(file, "rows") == wanted


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[[rows]\n", "is not TOML"),
        (b"\xff", "is not TOML"),
        (b"rows = 1\n", r"each under \[\[rows\]\]"),
        (b"rows = [1]\n", r"each under \[\[rows\]\]"),
        (None, "cannot be read"),
    ],
)
def test_a_file_without_tables_is_refused(tmp_path, content, message):
    file = tmp_path / "rows.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(Invalid, match=message):
        read_tables(file, "rows")
