"""Merges of roll-ups take a slice at a time: each partial once, in order, few at once."""

import gc
from itertools import chain, pairwise

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallybook.adapters.duckdb.slices import slices, weeks, whole_weeks
from tallybook.kernel.errors import Corrupt
from tallybook.meter.sql import WEEK_US

GROUP_ROWS = 4
PARTIALS = st.lists(
    st.tuples(
        st.integers(-2 * WEEK_US, 3 * WEEK_US) | st.sampled_from([-WEEK_US, 0, WEEK_US]),
        st.sampled_from(["", "a", "b", "ba", "ä", "z"]) | st.none(),
    ),
    max_size=60,
)


def written(path, partials):
    rows = sorted(partials, key=order)
    table = pa.table(
        {
            "bucket_us": pa.array([at for at, _ in rows], pa.int64()),
            "subject": pa.array([subject for _, subject in rows], pa.string()),
        }
    )
    pq.write_table(table, path, row_group_size=GROUP_ROWS)
    return str(path)


def order(partial):
    at, subject = partial
    return (at // WEEK_US, subject is None, subject or "", at)


ENGINE = duckdb.connect()


def read(paths, piece):
    marks = ", ".join("?" * len(paths))
    text = f"SELECT bucket_us, subject FROM read_parquet([{marks}]) WHERE {piece.text}"
    return ENGINE.execute(text, [*paths, *piece.params]).fetchall()


@settings(max_examples=100, deadline=None)
@given(st.lists(PARTIALS, min_size=1, max_size=3), st.integers(1, 40))
def test_every_partial_meets_one_slice_and_slices_follow_the_order(tmp_path_factory, files, most):
    folder = tmp_path_factory.mktemp("rolled")
    paths = [written(folder / f"{at}.parquet", rows) for at, rows in enumerate(files)]

    found = [sorted(read(paths, piece), key=order) for piece in slices(paths, most)]

    assert list(chain(*found)) == sorted(chain(*files), key=order)


@settings(max_examples=100, deadline=None)
@given(st.lists(PARTIALS, min_size=1, max_size=3), st.integers(1, 40))
def test_no_slice_parts_a_week_whose_subjects_are_merged(tmp_path_factory, files, most):
    folder = tmp_path_factory.mktemp("rolled")
    paths = [written(folder / f"{at}.parquet", rows) for at, rows in enumerate(files)]

    found = [sorted(read(paths, piece), key=order) for piece in whole_weeks(paths, most)]

    assert list(chain(*found)) == sorted(chain(*files), key=order)
    for before, after in pairwise(filter(None, found)):
        assert before[-1][0] // WEEK_US < after[0][0] // WEEK_US


@pytest.mark.parametrize("weeks", [1, 4])
def test_a_slice_holds_no_more_than_asked_and_what_lies_at_its_ends(tmp_path, weeks):
    rows = [
        (week * WEEK_US + hour, f"s{subject:03d}")
        for week in range(weeks)
        for subject in range(100)
        for hour in range(3)
    ]
    paths = [written(tmp_path / f"{at}.parquet", rows) for at in range(5)]

    found = [len(read(paths, piece)) for piece in slices(paths, 200)]

    assert sum(found) == 5 * len(rows)
    assert max(found) <= 200 + 2 * GROUP_ROWS * len(paths)
    assert len(found) <= 1 + sum(found) // 100


def test_few_partials_are_one_slice(tmp_path):
    paths = [written(tmp_path / f"{at}.parquet", [(at * WEEK_US, "a")]) for at in range(9)]

    (whole,) = slices(paths)

    assert len(read(paths, whole)) == 9


def test_a_damaged_file_is_corrupt(tmp_path):
    path = tmp_path / "1.parquet"
    path.write_bytes(b"none")

    with pytest.raises(Corrupt):
        list(slices([str(path)]))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(-2 * WEEK_US, 3 * WEEK_US), min_size=1, max_size=60), st.integers(1, 40)
)
def test_every_raw_row_meets_one_slice_of_weeks_and_slices_follow_the_order(times, most):
    rows = pa.table({"time_us": pa.array(times, pa.int64())})
    cursor = ENGINE.cursor()
    cursor.register("raw", rows)

    found = [
        sorted(
            cursor.execute(f"SELECT time_us FROM raw WHERE {piece.text}", piece.params).fetchall()
        )
        for piece in weeks(min(times), max(times), len(times), most)
    ]

    assert [at for (at,) in chain(*found)] == sorted(times)
    assert len(found) <= max(1, -(-len(times) // most))
    for before, after in pairwise(filter(None, found)):
        assert before[-1][0] // WEEK_US < after[0][0] // WEEK_US


def test_rows_that_spread_over_weeks_are_rolled_up_about_so_many_at_a_time():
    times = [week * WEEK_US + at for week in range(8) for at in range(100)]
    rows = pa.table({"time_us": pa.array(times, pa.int64())})
    cursor = ENGINE.cursor()
    cursor.register("raw", rows)

    found = [
        len(cursor.execute(f"SELECT time_us FROM raw WHERE {piece.text}", piece.params).fetchall())
        for piece in weeks(min(times), max(times), len(times), 200)
    ]

    assert found == [200] * 4


def footers():
    """Return how many objects there are of what reads Parquet."""
    return sum(type(each).__module__ == "pyarrow._parquet" for each in gc.get_objects())


def test_what_is_read_of_a_file_is_let_go_at_once(tmp_path):
    path = written(tmp_path / "1.parquet", [(at, "s") for at in range(20)])
    gc.collect()
    gc.disable()
    try:
        before = footers()
        assert list(slices([path], 1))
        assert footers() == before
    finally:
        gc.enable()
