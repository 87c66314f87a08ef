"""Roll-ups of everybody: made beside the others, read where no subject matters, never needed."""

import shutil
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest

from tallybook.adapters.duckdb import rollups
from tallybook.catalog.meter import MeterSpec, check_meter
from tallybook.kernel.errors import TallybookError, Unavailable
from tallybook.meter.usage import Ownership, UsageQuery
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


def chain(road):
    return road.reader.rollups.covering("default", METER, road.reader.head())


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
