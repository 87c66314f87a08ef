"""Compaction: which files are merged, and that merging keeps every row."""

from datetime import UTC, datetime

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from tallybook.kernel.timestamps import DAY_US, FIRST_US, LAST_US, to_us
from tallybook.store.commit import all_columns
from tallybook.store.compact import (
    FANOUT,
    FILE_BYTES_MAX,
    FILE_ROWS_MAX,
    clustered,
    next_merge,
)
from tallybook.store.ports import LakeFile
from tallybook.store.schema import FIXED

ROWS = st.integers(1, 40) | st.integers(1, FILE_ROWS_MAX) | st.sampled_from([FILE_ROWS_MAX // 2])
SIZES = st.integers(1, 10**6) | st.integers(1, FILE_BYTES_MAX)


def file(first, last, rows, size=1000, name=""):
    return LakeFile(
        path=f"{first}-{last}{name}", rows=rows, bytes=size, seq_min=first, seq_max=last,
        time_min=0, time_max=0,
    )  # fmt: skip


@st.composite
def lakes(draw):
    """Return the files of a lake: ranges of commits, now and then several files of one range."""
    found, at = [], 1
    for width in draw(st.lists(st.integers(1, 4), max_size=40)):
        copies = range(draw(st.sampled_from([1, 1, 1, 1, 2, 3])))
        last = at + width - 1
        found += [file(at, last, draw(ROWS), draw(SIZES), f"-{copy}") for copy in copies]
        at += width
    return found


@given(lakes())
def test_a_merge_takes_neighbours_and_leaves_no_commit_torn(files):
    chosen = next_merge(files)
    if not chosen:
        return
    at = files.index(chosen[0])
    assert chosen == files[at : at + len(chosen)], "neighbours, in order"
    first, last = chosen[0].seq_min, max(f.seq_max for f in chosen)
    rest = [f for f in files if f not in chosen]
    assert all(f.seq_max < first or f.seq_min > last for f in rest), "no commit is torn"
    rows, size = sum(f.rows for f in chosen), sum(f.bytes for f in chosen)
    assert rows <= FILE_ROWS_MAX
    assert size <= FILE_BYTES_MAX
    final = rows >= FILE_ROWS_MAX // 2 or size >= FILE_BYTES_MAX // 2
    assert len({(f.seq_min, f.seq_max) for f in chosen}) >= (2 if final else FANOUT)


def merged(files, chosen):
    first, last = chosen[0].seq_min, max(f.seq_max for f in chosen)
    rows, size = sum(f.rows for f in chosen), sum(f.bytes for f in chosen)
    rest = [f for f in files if f not in chosen]
    return sorted([*rest, file(first, last, rows, size)], key=lambda f: f.seq_min)


@given(lakes())
def test_merging_comes_to_an_end(files):
    for _ in range(len(files) + 1):
        chosen = next_merge(files)
        if not chosen:
            return
        files = merged(files, chosen)
    raise AssertionError("still merging")


def test_a_row_is_rewritten_a_logarithmic_number_of_times():
    files, rewritten = [], 0
    for seq in range(1, 4_001):
        files.append(file(seq, seq, 100))
        while chosen := next_merge(files):
            rewritten += sum(f.rows for f in chosen)
            files = merged(files, chosen)
    assert rewritten / (4_000 * 100) < 8
    assert len(files) < 8 * FANOUT
    assert sum(f.rows for f in files) == 400_000


def test_few_or_large_files_are_left_alone():
    assert next_merge([]) == []
    assert next_merge([file(i, i, 1) for i in range(1, FANOUT)]) == []
    assert next_merge([file(i, i, FILE_ROWS_MAX // 2) for i in range(1, 30)]) == []
    assert next_merge([file(i, i, 1, FILE_BYTES_MAX // 2) for i in range(1, 30)]) == []


def test_files_that_share_commits_are_taken_together_or_not_at_all():
    large = [file(1, 8, FILE_ROWS_MAX // 2, name="a"), file(1, 8, 10, name="b")]
    small = [file(seq, seq, 10) for seq in range(9, 9 + FANOUT)]
    assert next_merge([*large, *small]) == small


def lake_table(times, tenants=("a", "b")):
    count = len(times)
    columns = {
        "tenant": [tenants[i % len(tenants)] for i in range(count)],
        "source": ["/s"] * count,
        "id": [str(i) for i in range(count)],
        "type": ["t"] * count,
        "subject": [None if i % 3 == 0 else "s" for i in range(count)],
        "time_us": times,
        "data": [f'{{"n":{i},"p":"x{i}"}}' for i in range(count)],
    }
    empty = {"received_us": 0, "flags": 0, "id_hi": 0, "id_lo": 0, "row_hash": 0, "commit_seq": 1}
    for name in FIXED.names:
        if name not in columns:
            fill = empty.get(name, None if FIXED.field(name).nullable else 0)
            columns[name] = ["e" if name == "log_epoch" else fill] * count
    return pa.table({name: columns[name] for name in FIXED.names}, schema=FIXED)


@given(st.lists(st.lists(st.integers(FIRST_US, LAST_US), max_size=6), min_size=1, max_size=4))
def test_clustering_keeps_every_row_and_fills_every_column(parts):
    tables = [lake_table(times) for times in parts]
    found = pa.concat_tables(clustered(tables, all_columns(["n_n", "t_p"], [])))
    assert found.schema.names == [*FIXED.names, "n_n", "t_p"]
    before = pa.concat_tables(tables).to_pylist()
    after = found.select(FIXED.names).to_pylist()
    key = [(r["tenant"], r["time_us"] // DAY_US, r["type"]) for r in after]
    assert key == sorted(key)
    assert sorted(map(str, before)) == sorted(map(str, after))
    assert [f"x{int(n)}" for n in found["n_n"].to_pylist()] == found["t_p"].to_pylist()


def test_days_are_days_also_far_from_now():
    day = to_us(datetime(9000, 1, 1, tzinfo=UTC))
    mixed = lake_table([day + DAY_US - 1, day, day - 1], ["a"])
    found = pa.concat_tables(clustered([mixed], all_columns([], [])))
    assert [t // DAY_US - day // DAY_US for t in found["time_us"].to_pylist()] == [-1, 0, 0]


def coded(table, names):
    """Return the table as a reader of Parquet gives it that was told to keep codes."""
    for name in names:
        at = table.schema.get_field_index(name)
        codes = table[name].dictionary_encode()
        table = table.set_column(at, table.field(at).with_type(codes.type), codes)
    return table


def texts(table):
    """Return the table with texts instead of codes."""
    plain = [
        field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field
        for field in table.schema
    ]
    return table.cast(pa.schema(plain))


@given(st.lists(st.lists(st.integers(0, 9), max_size=9), min_size=1, max_size=3), st.booleans())
def test_codes_and_texts_are_put_in_the_same_order(parts, many):
    names = ("b", "a", "ä", "c") if many else ("a",)
    tables = [lake_table([time * DAY_US // 4 for time in times], names) for times in parts]
    columns = all_columns(["t_p"], [])
    of_codes = [coded(table, ["tenant", "subject", "problem"]) for table in tables]
    plain = pa.concat_tables(map(texts, clustered(tables, columns)))
    assert pa.concat_tables(map(texts, clustered(of_codes, columns))).equals(plain)


def test_rows_that_are_equal_stay_in_the_order_of_their_commits():
    tables = [lake_table([7, 7, 7], ["a"]), lake_table([7, 7, 7], ["a"])]
    tables[1] = tables[1].set_column(2, FIXED.field("id"), pa.array(["z", "y", "x"]))
    (found,) = clustered(tables, all_columns([], []))
    by_subject = [("s", ["1", "2", "y", "x"]), (None, ["0", "z"])]
    rows = found.select(["subject", "id"]).to_pylist()
    assert [(r["subject"], r["id"]) for r in rows] == [(s, i) for s, ids in by_subject for i in ids]


def test_a_column_has_codes_where_its_values_repeat_and_texts_where_they_do_not():
    table = lake_table(list(range(64)))
    sources = pa.array([f"/s/{i}" for i in range(64)])
    table = table.set_column(1, FIXED.field("source"), sources)
    (found,) = clustered([table], all_columns([], []))
    assert found.schema.field("source").type == pa.string()
    assert pa.types.is_dictionary(found.schema.field("tenant").type)
    assert not found.schema.field("tenant").nullable
    assert sorted(found["source"].to_pylist()) == sorted(sources.to_pylist())
