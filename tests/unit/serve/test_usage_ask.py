"""Queries as OpenMeter's clients spell them, and answers as they read them."""

from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from tallybook.catalog.meter import MeterSpec, check_meter
from tallybook.kernel.errors import Invalid
from tallybook.kernel.timestamps import MINUTE_US
from tallybook.meter.usage import Usage, UsageQuery
from tallybook.meter.window import GRID_US
from tallybook.serve.api.rest.usage import Ask, answer, parse_ask, to_csv, to_json

NOVEMBER = ("2026-11-01T00:00:00Z", 1793491200_000_000)


def test_nothing_asked_is_everything() -> None:
    assert parse_ask([]) == Ask()


def test_every_parameter_is_read() -> None:
    ask = parse_ask(
        [
            ("from", NOVEMBER[0]),
            ("to", "2026-11-02T01:00:00+01:00"),
            ("windowSize", "HOUR"),
            ("windowTimeZone", "Asia/Kolkata"),
            ("groupBy", "region"),
            ("groupBy", "status,tier"),
            ("filterGroupBy[region]", "eu,us"),
            ("filterGroupBy[tier]", "gold"),
            ("filterGroupBy[tier]", ""),
            ("numbers", "string"),
        ]
    )
    assert ask == Ask(
        start_us=NOVEMBER[1],
        end_us=NOVEMBER[1] + 86_400_000_000,
        window="HOUR",
        zone="Asia/Kolkata",
        group_by=("region", "status", "tier"),
        where={"region": ("eu", "us"), "tier": ("gold", None)},
        numbers="string",
    )


def test_a_subject_is_a_group_too() -> None:
    assert parse_ask([("groupBy", "subject")]) == Ask(by_subject=True)
    assert parse_ask([("subject", "a,b"), ("subject", "c")]) == Ask(
        subjects=("a,b", "c"), by_subject=True
    )


@pytest.mark.parametrize(
    ("pair", "field"),
    [
        (("from", "yesterday"), "from"),
        (("to", "2026-11-01"), "to"),
        (("windowSize", "WEEK"), "windowSize"),
        (("numbers", "float"), "numbers"),
    ],
)
def test_what_cannot_be_read_names_its_parameter(pair: tuple[str, str], field: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_ask([pair])
    assert caught.value.field == field


def test_an_unescaped_plus_is_understood() -> None:
    assert parse_ask([("from", "2026-11-01T01:00:00 01:00")]).start_us == NOVEMBER[1]


def row(value: str | None, group: tuple[str | None, ...] = ("200",)) -> Usage:
    exact = None if value is None else Decimal(value)
    return Usage(
        start_us=0, end_us=60_000_000, value=exact, events=1, problems=0, digest=0, group=group
    )


def test_values_keep_all_their_digits() -> None:
    ask = Ask(start_us=0, end_us=60_000_000, group_by=("status",))
    long = "12345678901234567890.123456789012"
    text = to_json(ask, [row(long), row("100.000000000000"), row(None, (None,))]).decode()
    assert f'"value":{long},' in text
    assert '"value":100,' in text
    assert text.startswith('{"from":"1970-01-01T00:00:00Z","to":"1970-01-01T00:01:00Z","data":[{')
    assert (
        '{"value":null,"windowStart":"1970-01-01T00:00:00Z","windowEnd":"1970-01-01T00:01:00Z"'
        in text
    )
    assert text.endswith('"subject":null,"groupBy":{"status":null}}]}')
    spelled = to_json(msgspec.structs.replace(ask, numbers="string"), [row(long)]).decode()
    assert f'"value":"{long}"' in spelled


def test_csv_has_a_header_and_empty_fields() -> None:
    ask = Ask(start_us=0, end_us=60_000_000, group_by=("status",))
    assert to_csv(ask, [row("1.50"), row(None, (None,))]).decode().split("\r\n") == [
        "window_start,window_end,subject,status,value",
        "1970-01-01T00:00:00Z,1970-01-01T00:01:00Z,,200,1.5",
        "1970-01-01T00:00:00Z,1970-01-01T00:01:00Z,,,",
        "",
    ]


@pytest.mark.parametrize(
    ("start", "end", "asked"),
    [
        (None, None, (20 * GRID_US, 30 * GRID_US)),
        (7, None, (7, 30 * GRID_US)),
        (40 * GRID_US, None, (40 * GRID_US, 40 * GRID_US + MINUTE_US)),
        (None, 25 * GRID_US, (20 * GRID_US, 25 * GRID_US)),
        (None, 5 * GRID_US, (5 * GRID_US - MINUTE_US, 5 * GRID_US)),
    ],
)
def test_what_is_not_asked_is_where_usage_is_and_never_an_error(
    start: int | None, end: int | None, asked: tuple[int, int]
) -> None:
    """Also where all usage lies before what is asked, or after it."""

    def found(query: UsageQuery) -> list[Usage]:
        assert query.bounds == asked
        return []

    extent = (20 * GRID_US, 30 * GRID_US)
    usage = SimpleNamespace(head=lambda: 1, extent=lambda *_: extent, usage=found)
    meter = check_meter(MeterSpec(key="m", event_type="t", aggregation="COUNT"))
    world: Any = SimpleNamespace(usage=usage)
    full, _ = answer(world, "t", meter, Ask(start_us=start, end_us=end))
    assert (full.start_us, full.end_us) == asked
