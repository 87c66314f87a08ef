"""Reading beside upkeep: a file that goes away while it is read costs a second look, no answer."""

from pathlib import Path

import pytest

from tallybook.adapters.delta.event_table import DeltaEventTable
from tallybook.adapters.duckdb import lake_files
from tallybook.adapters.duckdb.lake_files import LakeFiles
from tallybook.adapters.duckdb.usage_reader import LakeUsageReader
from tallybook.catalog.meter import MeterSpec, check_meter
from tallybook.kernel.errors import Corrupt, Invalid, Unavailable
from tallybook.kernel.timestamps import DAY_US
from tallybook.meter.usage import UsageQuery
from tallybook.serve.worker.maintain import LakeKeeper
from tallybook.settings import Settings
from tests.sim.road import NOW_US, Road, event

NOVEMBER = "2026-11-01T00:00:00Z"

SUM = check_meter(MeterSpec(key="m", event_type="t", aggregation="SUM", value="$.v"))
ASKED = UsageQuery(tenant="default", meter=SUM, bounds=(0, NOW_US * 2), cut=1 << 60)


class Stale(DeltaEventTable):
    """A table whose list of files is out of date for the next few looks."""

    old = ()
    looks = 0
    stale = False

    def head(self):
        self.stale, self.looks = self.looks > 0, self.looks - 1
        return super().head()

    def files(self):
        return self.old if self.stale else super().files()

    def version(self):
        return -2 - self.looks if self.stale else super().version()


@pytest.fixture(params=["typed", "from the envelope"])
def stale(request, tmp_path, monkeypatch):
    """Return a reader whose files were merged and deleted since it looked."""
    merge = "tallybook.serve.worker.maintain.next_merge"
    monkeypatch.setattr(merge, lambda files: list(files) if len(files) > 1 else [])
    road = Road(tmp_path)
    road.meters = [SUM] if request.param == "typed" else []
    for i in range(3):
        road.send([event(str(i), "2026-01-01T00:00:00Z", "a", {"v": i})])
        road.pump()
    table = Stale(road.table.path)
    table.old = table.files()
    reader = LakeUsageReader(table, tmp_path / "rollups", threads=1)
    assert reader.usage(ASKED)[0].value == 3  # the schemas are known now
    keeper = LakeKeeper(Settings(data_dir=tmp_path))
    keeper.compact()
    keeper.tidy(0)
    yield table, reader
    road.close()


@pytest.mark.parametrize(
    "ask",
    [
        lambda reader: reader.usage(ASKED)[0].value,
        lambda reader: sum(int(e.id) for e in reader.events(ASKED)),
        lambda reader: reader.stored("default", 9).accepted,
        lambda reader: len(reader.recent("default", limit=9)),
    ],
    ids=["usage", "events", "stored", "recent"],
)
def test_a_deleted_file_costs_a_second_look(stale, ask):
    table, reader = stale
    table.looks = 1
    assert ask(reader) == 3
    table.looks = 10**6
    with pytest.raises(Unavailable) as caught:
        ask(reader)
    assert caught.value.code == "lake-changed"


def test_a_damaged_file_is_corrupt(tmp_path):
    road = Road(tmp_path)
    road.send([event("1", "2026-01-01T00:00:00Z", "a", {"v": 1})])
    road.pump()
    (data,) = road.table.path.glob("*.parquet")
    data.write_bytes(b"PAR1 noise PAR1")
    with pytest.raises(Corrupt, match="lake file"):
        road.reader.usage(ASKED)
    road.close()


def test_a_dimension_the_meter_has_not_is_named(tmp_path):
    road = Road(tmp_path)
    asked = UsageQuery(tenant="default", meter=SUM, bounds=(0, 1), cut=9, group_by=("colour",))
    for ask in (road.reader.usage, lambda q: list(road.reader.events(q))):
        with pytest.raises(Invalid, match="colour"):
            ask(asked)
    road.close()


def test_who_is_touched_by_new_events_of_times_before_an_instant(tmp_path):
    road = Road(tmp_path)
    road.send([event("1", "2026-10-05T00:00:00Z", "a", {}), event("2", NOVEMBER, "b", {})])
    road.pump()
    first = road.reader.head()
    road.send([event("3", NOVEMBER, "a", {}), event("4", "2026-10-07T00:00:00Z", "b", {})])
    road.pump()
    head = road.reader.head()
    november = 1_793_491_200_000_000
    reader = road.reader
    assert [t.subject for t in reader.touched("default", "t", first, head)] == ["a", "b"]
    late = reader.touched("default", "t", first, head, before_us=november)
    assert [(t.subject, t.first_us < november) for t in late] == [("b", True)]
    assert reader.touched("default", "t", head, head) == []
    assert [t.subject for t in reader.touched("default", "t", 0, first, before_us=november)] == [
        "a"
    ]
    road.close()


def test_what_is_new_is_told_by_tenant_and_type(tmp_path):
    road = Road(tmp_path)
    road.send([event("1", "2026-10-05T00:00:00Z", "a", {}), event("2", NOVEMBER, "b", {})])
    road.pump()
    first = road.reader.head()
    road.send([event("3", NOVEMBER, "c", {}), event("4", "2026-10-07T00:00:00Z", "c", {})])
    road.pump()
    head, news = road.reader.head(), road.reader.news
    kinds = {("default", "t"), ("default", "u"), ("other", "t")}
    told = {("default", "t"): road.reader.touched("default", "t", first, head)}
    assert news(kinds, first, head) == told
    assert [one.subject for one in told["default", "t"]] == ["c"]
    assert [one.subject for one in news(kinds, 0, head)["default", "t"]] == ["a", "b", "c"]
    assert news(kinds, head, head) == news({("other", "t")}, 0, head) == news([], 0, head) == {}
    road.close()


def test_the_first_and_the_last_event_are_found_where_they_can_be(tmp_path, monkeypatch):
    monkeypatch.setattr(lake_files, "PORTION_FILES", 1)
    road = Road(tmp_path)
    days = [5, 1, 3, 7, 2]
    for day in days:
        road.send([event(str(day), f"2026-10-{day:02d}T00:00:00Z", "a", {})])
        road.pump()
    first, last = road.reader.span("default", "t", road.reader.head())
    assert (last - first) == 6 * DAY_US
    assert road.reader.span("default", "t", 1) == (first + 4 * DAY_US, first + 4 * DAY_US)
    for file in road.table.files():
        if first < file.time_min < last:
            Path(file.path).write_bytes(b"noise")
    assert road.reader.span("default", "t", road.reader.head()) == (first, last)
    road.close()


def test_a_page_of_the_newest_reads_the_files_that_may_hold_them(tmp_path, monkeypatch):
    monkeypatch.setattr(lake_files, "PORTION_FILES", 1)  # then four, then all
    road = Road(tmp_path)
    for day in (5, 1, 9, 7, 3, 8):
        road.send([event(str(day), f"2026-10-{day:02d}T00:00:00Z", "a", {})])
        road.pump()
    whole = road.reader.recent("default", limit=10)
    assert [one.id for one in whole] == ["9", "8", "7", "5", "3", "1"]
    for file in road.table.files():
        if file.time_max == whole[-1].time_us:
            Path(file.path).write_bytes(b"noise")
    assert road.reader.recent("default", limit=5) == whole[:5]
    place = (whole[0].time_us, whole[0].source, whole[0].id)
    assert road.reader.recent("default", limit=3, before=place) == whole[1:4]
    assert road.reader.recent("default", limit=9, since_us=whole[3].time_us) == whole[:4]
    with pytest.raises((Corrupt, Unavailable)):
        road.reader.recent("default", limit=6)
    road.close()


def test_files_of_one_kind_share_what_is_known_of_their_columns(tmp_path):
    """There are thousands of them, and a list of names for each is megabytes."""
    road = Road(tmp_path)
    for number in range(3):
        road.send([event(str(number), NOVEMBER, "a", {})])
        road.pump()
    source = road.reader.source
    kinds = {id(source._typed(file.path)) for file in road.table.files()}
    assert len(road.table.files()) == 3
    assert len(kinds) == 1
    road.close()


class Moving:
    """A table of which another thread takes note of a commit while its files are listed."""

    def __init__(self):
        self.newest, self.moves = 1, 1

    def head(self):
        return self.newest

    version = head

    def files(self):
        listed = tuple(range(self.newest))
        self.newest, self.moves = self.newest + self.moves, 0
        return listed


def test_files_that_are_older_than_the_version_are_listed_again():
    files = LakeFiles(Moving())
    assert files.now() == (1, (0,))
    assert files.now() == (2, (0, 1))
    assert files.now() == (2, (0, 1))
