"""Who runs the server hears of silent edges, gaps, and certificates that nobody renewed."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from tallybook.adapters.sql.edge.certificates import Certificate
from tallybook.adapters.sql.edge.edges import Sighting
from tallybook.adapters.sqlite.door_log import SeriesCount
from tallybook.adapters.x509 import authority as x509
from tallybook.collect.sending.fleet import Seen
from tallybook.collect.sending.parcel import Note, Parcel, Waiting
from tallybook.compose import World
from tallybook.serve.api.rest.fleet import figures
from tallybook.serve.api.rest.metrics import _gauge
from tallybook.serve.doctor import fleet
from tallybook.serve.doctor.finding import Finding
from tallybook.settings import Settings

SECOND = 1_000_000
DAY = 86_400 * SECOND


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    (tmp_path / "secret").write_bytes(b"s" * 32)
    made = World(Settings(data_dir=tmp_path))
    yield made
    made.engine.dispose()


def heard(
    world: World, name: str, *numbers: int, ago: int = 0, lag: int = 0, ahead: int = 0
) -> None:
    """Note batches of an edge that was heard so many seconds ago."""
    at_us = world.clock.now_us() - ago * SECOND
    for number in numbers:
        waiting = Waiting(
            first=number, batches=2, events=7, oldest_us=at_us + ahead * SECOND - lag * SECOND
        )
        parcel = Parcel(edge=name, incarnation="life", number=number, waiting=waiting)
        note = Note(parcel, at_us + ahead * SECOND)
        world.edges.note([Sighting("t", Seen(note=note, at_us=at_us, stored=True))])


def issued(world: World, name: str, days: float, **more: object) -> None:
    now = world.clock.now_us()
    world.certificates.add(
        Certificate(
            tenant="t", serial=f"{name}{days}", name=name, kind="edge",
            issued_us=now - DAY + int(days), expires_us=now + int(days * DAY), **more,
        )  # type: ignore[arg-type]
    )  # fmt: skip


def warned(found: Iterator[Finding]) -> list[str]:
    return [one.text for one in found if one.level != "good"]


def scraped(world: World) -> dict[str, float]:
    registry = CollectorRegistry()
    for made in (figures.edges, figures.certificates, figures.doors):
        made(partial(_gauge, registry), world)
    lines = generate_latest(registry).decode().splitlines()
    values = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name.removeprefix("tallybook_"): float(value) for name, _, value in values}


def test_a_fleet_that_is_well(world: World) -> None:
    assert warned(fleet.edges(world)) == ["none was seen yet"]
    heard(world, "web-1", 1, 2, 3)
    (good,) = fleet.edges(world)
    assert (good.level, good.text) == ("good", "1 seen, none silent, behind or with a gap")
    found = scraped(world)
    assert found['edges{state="live"}'] == 1
    assert found["edge_missing_batches"] == 0
    assert found["edge_waiting_events"] == 7


def test_each_trouble_is_named_with_its_edges(world: World) -> None:
    for number in range(7):
        heard(world, f"silent-{number}", 1, ago=7200)
    heard(world, "late", 1, lag=1200)
    heard(world, "gap", 1, 5)
    heard(world, "skewed", 1, ahead=90)
    silent, late, gaps, skewed = warned(fleet.edges(world))
    assert silent.startswith("silent-0 (2 h), silent-1 (2 h)")
    assert silent.endswith("and 2 more silent")
    assert late == "late (20 min) behind"
    assert gaps == "batches are missing of gap (3)"
    assert skewed == "the clock is wrong of skewed (+90 s)"
    found = scraped(world)
    states = [found[f'edges{{state="{state}"}}'] for state in ("live", "behind", "silent")]
    assert states == [2, 1, 7]
    assert found["edge_missing_batches"] == 3
    assert found["edge_lag_seconds"] == 1200
    assert found["edge_clock_offset_seconds"] == 90


def test_certificates_that_nobody_renewed(world: World) -> None:
    assert list(fleet.certificates(world)) == []
    issued(world, "fine", 30.5)
    issued(world, "renewed", 5.5)
    issued(world, "renewed", 80.5)
    issued(world, "revoked", 3, revoked_us=1)
    (good,) = fleet.certificates(world)
    assert good.text == "2 in use, the first expires in 30 days"
    issued(world, "soon", 13.5)
    issued(world, "over", -1)
    assert sorted(warned(fleet.certificates(world))) == [
        "the certificate of edge over has expired",
        "the certificate of edge soon expires in 13 days",
    ]
    found = scraped(world)
    assert found["certificates_expiring"] == 2
    assert found['certificate_expires_seconds{kind="edge"}'] < 0


def test_an_authority_that_expires_is_an_error_when_it_has(world: World) -> None:
    now_us = world.clock.now_us()
    x509.found(world.settings.ca_dir, "test", now_us - 3640 * DAY)
    found = list(fleet.certificates(world))
    assert [one.level for one in found] in (["warning"], ["good"])
    assert scraped(world)['certificate_expires_seconds{kind="authority"}'] > 0


@pytest.mark.parametrize(
    ("count", "level"),
    [
        (SeriesCount(known=10, forgotten=3), "good"),
        (SeriesCount(known=3_600_000), "warning"),
        (SeriesCount(known=950_000, fullest="a", fullest_known=900_000), "warning"),
    ],
)
def test_series_that_crowd(
    world: World, count: SeriesCount, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list(fleet.series(world)) == []
    monkeypatch.setattr(fleet, "read_series", lambda _path: count)
    (one,) = fleet.series(world)
    assert one.level == level
    assert ("forgotten" in one.text) == bool(count.forgotten)
