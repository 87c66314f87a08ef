"""Roll-ups of everybody: made beside the others, read where no subject matters, never needed."""

import shutil
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest

from tallybook.adapters.duckdb import rollups
from tallybook.adapters.duckdb.slices import whole_weeks
from tallybook.catalog.meter import MeterSpec, check_meter
from tallybook.kernel.errors import TallybookError, Unavailable
from tallybook.meter.usage import Ownership, UsageQuery
from tallybook.serve.worker.maintain import LakeKeeper
from tallybook.settings import Settings
from tests.sim.road import NOW_US, Road, event

METER = check_meter(
    MeterSpec(
        key="m", event_type="t", aggregation="SUM", value="$.v", group_by={"region": "$.region"}
    )
)
ALL = UsageQuery(tenant="default", meter=METER, bounds=(0, NOW_US), cut=1 << 60)
SUBJECTS, HOURS, REGIONS = 20, 3, ("eu", "us")


@pytest.fixture
def road(tmp_path):
    """Return a road with a partial of every subject, hour and region, rolled up."""
    road = Road(tmp_path)
    road.meters = [METER]
    for i, region in enumerate(REGIONS):
        road.send(
            event(
                f"{i}-{subject}-{hour}",
                f"2026-01-01T{hour:02d}:00:00Z",
                f"s{subject}",
                {"v": 1, "region": region},
            )
            for subject in range(SUBJECTS)
            for hour in range(HOURS)
        )
        road.pump()
    yield road
    road.close()


@pytest.fixture
def eager(monkeypatch):
    """Have a file of everybody beside every roll-up, however small."""
    monkeypatch.setattr(rollups, "SUMMED_BYTES_MIN", 0)


def chain(road, meter=METER):
    return road.reader.rollups.covering("default", meter, road.reader.head())


def answers(road):
    questions = [ALL, msgspec.structs.replace(ALL, group_by=("region",))]
    return [[(u.group, u.value, u.events) for u in road.reader.usage(q)] for q in questions]


def test_a_question_about_everybody_reads_as_many_partials_as_there_are_hours_and_groups(
    road, eager
):
    road.roll([METER])
    (rollup,) = chain(road)
    rows = [pq.read_metadata(path).num_rows for path in (rollup.path, rollup.everybody)]
    assert rows == [SUBJECTS * HOURS * len(REGIONS), HOURS * len(REGIONS)]

    Path(rollup.path).write_bytes(b"noise")
    each = SUBJECTS * HOURS
    assert answers(road) == [
        [((), 2 * each, 2 * each)],
        [(("eu",), each, each), (("us",), each, each)],
    ]


@pytest.mark.parametrize(
    "whose",
    [
        {"subjects": ("s1",)},
        {"by_subject": True},
        {"owners": (Ownership("s1", "A", None, None),)},
    ],
    ids=str,
)
def test_a_question_that_names_subjects_never_reads_it(road, eager, whose):
    road.roll([METER])
    asked = msgspec.structs.replace(ALL, **whose)
    before = road.reader.usage(asked)
    assert before[0].events == HOURS * len(REGIONS)
    (rollup,) = chain(road)
    Path(rollup.everybody).write_bytes(b"noise")
    assert road.reader.usage(asked) == before
    with pytest.raises(TallybookError):
        road.reader.usage(ALL)


def test_it_is_made_again_where_it_is_lacking_and_goes_with_what_it_was_made_from(
    road, eager, monkeypatch
):
    monkeypatch.setattr(rollups, "FANOUT", 1 << 30)
    road.roll([METER], steps=1)
    (narrow,) = chain(road)
    assert narrow.everybody is None, "a crash between the two leaves the first"
    before = answers(road)
    road.roll([METER])
    (narrow,) = chain(road)
    assert Path(narrow.everybody).exists()
    assert answers(road) == before

    shutil.rmtree(Path(narrow.everybody).parent)
    assert answers(road) == before
    road.roll([METER])
    assert chain(road) == [narrow]

    road.send([event("late", "2026-01-01T00:00:00Z", "s1", {"v": 1, "region": "eu"})])
    road.pump()
    road.roll([METER])
    monkeypatch.setattr(rollups, "FANOUT", 2)
    road.roll([METER])
    (wide,) = chain(road)
    assert answers(road)[0] == [((), 121, 121)]
    road.reader.rollups.sweep(1 << 60)
    left = set(Path(wide.path).parent.glob("**/*.parquet"))
    assert left == {Path(wide.path), Path(wide.everybody)}
    assert answers(road)[0] == [((), 121, 121)]


def test_a_small_roll_up_has_none(road):
    road.roll([METER])
    (rollup,) = chain(road)
    assert rollup.everybody is None
    assert answers(road)[0] == [((), 120, 120)]


def test_a_file_that_cannot_be_looked_at_is_unavailable(road):
    gone = rollups.Rollup(1, 2, str(road.folder / "gone.parquet"))
    with pytest.raises(Unavailable):
        road.reader.rollups._merge_subjects(METER, [gone])


def unique(dimension):
    return check_meter(
        MeterSpec(
            key=dimension,
            event_type="t",
            aggregation="UNIQUE_COUNT",
            value=f"$.{dimension}",
            group_by={"region": "$.region"},
        )
    )


@pytest.mark.parametrize(
    ("of", "merged"), [("region", HOURS * len(REGIONS)), ("visitor", None)], ids=str
)
def test_where_merging_saves_little_the_roll_up_itself_is_read_and_no_round_tries_again(
    tmp_path, eager, monkeypatch, of, merged
):
    road, meter = Road(tmp_path), unique(of)
    road.meters = [meter]
    road.send(
        event(
            f"{hour}-{region}-{subject}",
            f"2026-01-01T{hour:02d}:00:00Z",
            f"s{subject}",
            {"region": region, "visitor": f"{subject}-{hour}"},
        )
        for hour in range(HOURS)
        for region in REGIONS
        for subject in range(SUBJECTS)
    )
    road.pump()
    asked = msgspec.structs.replace(ALL, meter=meter)
    before = road.reader.usage(asked)
    road.roll([meter])
    (rollup,) = chain(road, meter)
    assert (rollup.everybody == rollup.path) == (merged is None)
    assert pq.read_metadata(rollup.everybody).num_rows == (
        merged or HOURS * len(REGIONS) * SUBJECTS
    )
    assert road.reader.usage(asked) == before

    road.open_lake()
    monkeypatch.setattr(rollups, "_saves", lambda *_: pytest.fail("it was counted again"))
    assert not road.reader.rollups.build("default", meter), "after a restart neither"
    road.close()


def test_what_remembers_that_merging_saves_little_goes_with_its_roll_up(road, eager, monkeypatch):
    monkeypatch.setattr(rollups, "SAVED_MIN", 1 << 30)
    monkeypatch.setattr(rollups, "FANOUT", 1 << 30)
    road.roll([METER])
    road.send([event("late", "2026-01-01T00:00:00Z", "s1", {"v": 1, "region": "eu"})])
    road.pump()
    road.roll([METER])
    monkeypatch.setattr(rollups, "FANOUT", 2)
    road.roll([METER])
    (wide,) = chain(road)
    road.reader.rollups.sweep(1 << 60)
    folder = Path(wide.path).parent
    left = {path.name for path in folder.glob("**/*") if path.is_file()}
    assert left == {Path(wide.path).name, Path(wide.path).stem + rollups.ITSELF}
    assert answers(road)[0] == [((), 121, 121)]


def test_subjects_are_merged_some_weeks_at_a_time_to_the_same_file(tmp_path, eager, monkeypatch):
    monkeypatch.setattr(rollups, "GROUP_ROWS", 8)
    road = Road(tmp_path)
    road.meters = [METER]
    road.send(
        event(f"{day}-{subject}", f"2026-01-{day:02d}T00:00:00Z", f"s{subject}", {"v": day})
        for day in range(1, 29)
        for subject in range(SUBJECTS)
    )
    road.pump()
    road.roll([METER])
    (rollup,) = chain(road)
    whole = pq.read_table(rollup.everybody)
    before = answers(road)
    statements = []

    def cut(paths):
        statements.extend(whole_weeks(paths, 100))
        return statements

    monkeypatch.setattr(rollups, "whole_weeks", cut)
    Path(rollup.everybody).unlink()
    road.roll([METER])
    assert len(statements) >= 4, "a week at a time"
    assert pq.read_table(rollup.everybody) == whole
    assert whole.num_rows == 28
    assert answers(road) == before
    road.close()


def test_a_draft_of_a_killed_writer_is_removed_when_the_keeper_starts(road, eager, tmp_path):
    road.roll([METER])
    (rollup,) = chain(road)
    drafts = [Path(path).with_suffix(".tmp") for path in (rollup.path, rollup.everybody)]
    for draft in drafts:
        draft.write_bytes(b"half")
    road.open_lake()
    assert all(draft.exists() for draft in drafts), "one that only reads removes nothing"
    LakeKeeper(Settings(data_dir=tmp_path))
    assert not any(draft.exists() for draft in drafts)
    assert chain(road) == [rollup]


def test_drafts_that_cannot_be_removed_are_unavailable(road):
    (road.folder / "lake" / "rollups" / "odd.tmp").mkdir(parents=True)
    with pytest.raises(Unavailable):
        road.reader.rollups.drop_drafts()
