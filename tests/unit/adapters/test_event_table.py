"""The lake's table: one commit is one fact, and it survives merges, checkpoints and clean-up."""

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake.exceptions import DeltaError

from tallybook.adapters.delta import event_table
from tallybook.adapters.delta.event_table import DeltaEventTable
from tallybook.adapters.delta.table_log import TableLog
from tallybook.kernel.errors import Conflict, Corrupt, Unavailable
from tallybook.meter.usage import Counters
from tallybook.store.commit import all_columns
from tallybook.store.compact import clustered
from tallybook.store.ports import Commit, LogPosition
from tallybook.store.schema import FIXED, typed_field

AT = LogPosition("epoch", 0)


def rows(seq, ids, *, time_us=5, columns=()):
    count = len(ids)
    values = {
        "tenant": ["t"] * count, "source": ["/s"] * count, "id": ids, "type": ["t"] * count,
        "subject": [None] * count, "time_us": [time_us] * count, "received_us": [6] * count,
        "ext": [None] * count, "data": ['{"a":1}'] * count, "problem": [None] * count,
        "flags": [0] * count, "id_hi": [-int(i) for i in ids], "id_lo": [int(i) for i in ids],
        "row_hash": [int(i) * 7 for i in ids], "commit_seq": [seq] * count,
        "partition": [0] * count, "log_epoch": ["epoch"] * count, "log_offset": [seq] * count,
    }  # fmt: skip
    table = pa.table({name: values[name] for name in FIXED.names}, schema=FIXED)
    for name in columns:
        field = typed_field(name)
        table = table.append_column(field, pa.nulls(count, field.type))
    return table


def commit(table, seq, ids, **more):
    counters = {"t": Counters(received=seq * 10, accepted=seq)}
    made = Commit(seq=seq, offsets={AT: seq * 100}, counters=counters)
    table.append(rows(seq, ids, **more), made)


@pytest.fixture
def table(tmp_path):
    return DeltaEventTable(tmp_path / "events")


def known(table, after=0):
    return [(seq, keys[:, 1].tolist(), h.tolist()) for seq, keys, h in table.keys_after(after)]


def test_an_empty_lake(table):
    assert (table.head(), table.offset(AT), table.files()) == (0, 0, [])
    assert table.counters("t") == Counters()
    assert known(table) == []


def test_a_commit_is_rows_offsets_and_counters_at_once(table):
    commit(table, 1, ["1", "2"])
    other = DeltaEventTable(table.path)
    assert (other.head(), other.offset(AT)) == (1, 100)
    assert other.counters("t") == Counters(received=10, accepted=1)
    assert other.counters("someone else") == Counters()
    (file,) = other.files()
    assert (file.rows, file.seq_min, file.seq_max, file.time_min, file.time_max) == (2, 1, 1, 5, 5)


def test_a_commit_of_duplicates_alone_moves_the_head(table):
    commit(table, 1, ["1"])
    commit(table, 2, [])
    commit(table, 3, ["3"])
    assert (table.head(), table.offset(AT)) == (3, 300)
    assert [f.seq_min for f in table.files()] == [1, 3]
    assert known(table) == [(1, [1], [7]), (2, [], []), (3, [3], [21])]


def test_a_second_pump_is_refused(table):
    commit(table, 1, ["1"])
    other = DeltaEventTable(table.path)
    commit(other, 2, ["2"])
    for seq in (1, 2, 4):
        with pytest.raises(Conflict, match="second pump"):
            commit(table, seq, ["9"])
    assert [f.rows for f in table.files()] == [1, 1]


def test_what_a_commit_noted_is_known_to_whoever_looks_whatever_happened_between(table):
    other = DeltaEventTable(table.path)
    for seq in range(1, 8):
        commit(table, seq, [str(seq)])
        if seq % 3 == 0:
            pieces = clustered([rows(s, [str(s)]) for s in (seq - 1, seq)], all_columns([], []))
            other.refresh()
            other.replace(of(other, seq - 1, seq), pieces)
        for asked in (table, other, DeltaEventTable(table.path)):
            assert (asked.head(), asked.offset(AT)) == (seq, 100 * seq)
            assert asked.counters("t") == Counters(received=10 * seq, accepted=seq)
            assert asked.counters("nobody") == Counters()


def test_keys_are_read_back_by_commit_whatever_was_merged(table):
    for seq in range(1, 7):
        commit(table, seq, [str(seq), str(seq + 50)] if seq != 4 else [])
    before = known(table)
    merged = clustered([rows(s, [str(s), str(s + 50)]) for s in (2, 3)], all_columns([], []))
    table.replace(of(table, 2, 3), merged)
    assert known(table) == before
    assert known(table, after=2) == before[2:]
    assert known(table, after=6) == []


def test_a_merge_keeps_every_row_and_all_that_was_committed(table):
    for seq in (1, 2, 3):
        commit(table, seq, [str(seq)])
    table.replace(of(table, 1, 2), clustered([rows(1, ["1"]), rows(2, ["2"])], all_columns([], [])))
    assert [(f.seq_min, f.seq_max, f.rows) for f in table.files()] == [(1, 2, 2), (3, 3, 1)]
    for _ in range(2):
        assert (table.head(), table.offset(AT)) == (3, 300)
        assert table.counters("t") == Counters(received=30, accepted=3)
        assert len(table.tidy(0)) in {0, 2}
        table = DeltaEventTable(table.path)
    commit(table, 4, ["4"])
    assert table.head() == 4


def test_a_merge_of_other_rows_or_of_files_that_are_gone_changes_nothing(table):
    for seq in (1, 2):
        commit(table, seq, [str(seq)])
    files = of(table, 1, 2)
    with pytest.raises(Corrupt, match="1 rows are no replacement for the 2"):
        table.replace(files, [rows(1, ["1"])])
    assert len(list(table.path.glob("*.parquet"))) == 2
    assert table.replace(files, [rows(1, ["1"]), rows(2, ["2"])]) == 2
    with pytest.raises(Conflict, match="no longer part"):
        table.replace(files, [rows(1, ["1", "2"])])
    (merged,) = table.files()
    assert (merged.seq_min, merged.seq_max, merged.rows) == (1, 2, 2)


def of(table, first, last):
    return [f for f in table.files() if first <= f.seq_min and f.seq_max <= last]


def test_typed_columns_come_and_stay(table):
    commit(table, 1, ["1"])
    commit(table, 2, ["2"], columns=["n_b", "t_a"])
    assert table.typed_columns() == ["n_b", "t_a"]
    commit(table, 3, ["3"], columns=["t_a"])
    assert DeltaEventTable(table.path).typed_columns() == ["n_b", "t_a"]


def test_clean_up_keeps_what_a_reader_may_still_use(table):
    for seq in (1, 2):
        commit(table, seq, [str(seq)])
    table.replace(of(table, 1, 2), [rows(1, ["1", "2"])])
    assert table.tidy(1) == []
    assert len(table.tidy(0)) == 2


def test_checkpoints_keep_the_head(table):
    keeper = DeltaEventTable(table.path)
    for seq in range(1, 60):
        commit(table, seq, [str(seq)])
        assert keeper.checkpoint(entries=40) is (seq == 39), "the first entry makes the table"
    assert list((table.path / "_delta_log").glob("*39.checkpoint.parquet"))
    other = DeltaEventTable(table.path)
    assert (other.head(), other.offset(AT), len(other.files())) == (59, 5900, 59)


def test_a_damaged_data_file_is_named(table):
    commit(table, 1, ["1"])
    (data,) = table.path.glob("*.parquet")
    data.write_bytes(b"PAR1 no parquet PAR1")
    with pytest.raises(Corrupt, match="events"):
        known(table)
    data.unlink()
    with pytest.raises(Unavailable):
        known(table)


class Failing:
    """A table whose log cannot be read any more."""

    def refresh(self):
        raise DeltaError("the log is gone")

    def number(self, _name):
        raise DeltaError("the log is gone")


@pytest.mark.parametrize(
    "ask",
    [
        lambda table: table.head(),
        lambda table: table.offset(AT),
        lambda table: table.counters("t"),
        lambda table: table.typed_columns(),
    ],
    ids=["head", "offset", "counters", "columns"],
)
def test_a_log_that_cannot_be_read_is_unavailable(table, ask):
    table._log = Failing()
    with pytest.raises(Unavailable, match="the log is gone"):
        ask(table)


def test_a_folder_that_cannot_be_used_is_unavailable(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable):
        DeltaEventTable(tmp_path / "file")


def test_many_processes_may_make_the_table_at_once(tmp_path):
    """The first start of a server: every process that needs the lake finds or makes it."""
    code = (
        "import sys; from pathlib import Path;"
        "from tallybook.adapters.delta.event_table import DeltaEventTable;"
        "sys.stdin.readline(); print(DeltaEventTable(Path(sys.argv[1])).head())"
    )
    for attempt in range(3):
        command = [sys.executable, "-c", code, str(tmp_path / f"t{attempt}")]
        starting = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(4)
        ]
        for process in starting:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        assert [process.communicate()[0].strip() for process in starting] == ["0"] * 4


def test_a_commit_never_outlives_the_file_it_names(table, monkeypatch):
    happened = []
    synced, entered = event_table._fsync, TableLog.enter
    monkeypatch.setattr(event_table, "_fsync", lambda p: (happened.append(p), synced(p)))

    def entering(*entry):
        happened.append("commit")
        return entered(*entry)

    monkeypatch.setattr(TableLog, "enter", entering)
    commit(table, 1, ["1", "2"])
    (file,) = table.files()
    before = happened[: happened.index("commit")]
    assert [str(path) for path in before] == [file.path, str(table.path)]
    assert happened[len(before) :] == ["commit", table.path / "_delta_log"]


def test_an_entry_is_synced_before_anybody_sees_it(table, monkeypatch):
    happened = []
    synced, linked = os.fsync, Path.hardlink_to
    monkeypatch.setattr(os, "fsync", lambda n: (happened.append(content(n)), synced(n)))
    monkeypatch.setattr(
        Path, "hardlink_to", lambda new, old: (happened.append(new.name), linked(new, old))
    )
    commit(table, 1, ["1"])
    entry = table.path / "_delta_log" / f"{table.version():020d}.json"
    assert entry.read_bytes() in happened[: happened.index(entry.name)], "all of it"


def content(descriptor):
    path = Path(f"/proc/self/fd/{descriptor}")
    return path.read_bytes() if path.is_file() else None


def test_a_merge_that_comes_between_is_made_durable_and_the_commit_follows_it(table, monkeypatch):
    keeper, entered, tries = DeltaEventTable(table.path), TableLog.enter, []
    for seq in (1, 2):
        commit(table, seq, [str(seq)])

    def entering(log, content):
        if not tries:
            keeper.refresh()
            keeper.replace(of(keeper, 1, 2), [rows(1, ["1", "2"])])
        tries.append(entered(log, content))
        return tries[-1]

    monkeypatch.setattr(TableLog, "enter", entering)
    synced, sync = [], DeltaEventTable._fsync_version
    monkeypatch.setattr(
        DeltaEventTable, "_fsync_version", lambda t, v: (synced.append((t, v)), sync(t, v))
    )
    commit(table, 3, ["3"])
    assert tries == [False, True]
    assert (table, keeper.version()) in synced
    assert [(file.seq_min, file.rows) for file in table.files()] == [(1, 2), (3, 1)]
    assert table.files() == DeltaEventTable(table.path).files()


def test_what_was_merged_again_and_deleted_holds_nobody_up(table):
    keeper = DeltaEventTable(table.path)
    for seq in (1, 2, 3):
        commit(table, seq, [str(seq)])
    keeper.refresh()
    keeper.replace(of(keeper, 1, 2), [rows(1, ["1", "2"])])
    keeper.replace(keeper.files(), [rows(1, ["1", "2", "3"])])
    assert len(keeper.tidy(0)) == 4
    commit(table, 4, ["4"])
    assert [(file.seq_min, file.rows) for file in table.files()] == [(1, 3), (4, 1)]


def test_a_link_that_was_made_and_denied_is_found(table, monkeypatch):
    """A network's file system answers a repeated request: it is there, for it made it."""
    linked = Path.hardlink_to

    def denying(new, old):
        linked(new, old)
        raise FileExistsError

    monkeypatch.setattr(Path, "hardlink_to", denying)
    commit(table, 1, ["1"])
    assert known(table) == [(1, [1], [7])]


def test_a_commit_comes_between_the_choice_of_files_and_their_merge(table):
    keeper = DeltaEventTable(table.path)
    for seq in (1, 2):
        commit(table, seq, [str(seq)])
    keeper.refresh()
    chosen = of(keeper, 1, 2)

    def pieces():
        commit(table, 3, ["3"])
        yield rows(1, ["1", "2"])

    keeper.replace(chosen, pieces())
    assert [(file.seq_min, file.rows) for file in keeper.files()] == [(1, 2), (3, 1)]
    assert (keeper.head(), table.head()) == (3, 3)


def test_a_checkpoint_is_durable_before_what_it_stands_for_goes(table, monkeypatch):
    happened = []
    synced = event_table._fsync
    monkeypatch.setattr(event_table, "_fsync", lambda p: (happened.append(p.name), synced(p)))
    commit(table, 1, ["1"])
    happened.clear()
    assert table.checkpoint(entries=1)
    assert happened == [f"{1:020d}.checkpoint.parquet", "_last_checkpoint", "_delta_log"]


def test_a_second_pump_that_was_first_is_found_and_leaves_no_file(table, monkeypatch):
    other, entered = DeltaEventTable(table.path), TableLog.enter

    def entering(log, content):
        monkeypatch.setattr(TableLog, "enter", entered)
        commit(other, 1, ["7"])
        return entered(log, content)

    monkeypatch.setattr(TableLog, "enter", entering)
    with pytest.raises(Conflict, match="second pump"):
        commit(table, 1, ["1"])
    assert known(table) == [(1, [7], [49])]
    assert len(list(table.path.glob("*.parquet"))) == 1


def test_drafts_of_dead_processes_go(table):
    log = table.path / "_delta_log"
    old, young = log / "_commit_dead.json.tmp", log / "_commit_live.json.tmp"
    for draft in (old, young):
        draft.write_text("{")
    os.utime(old, (1, 1))
    commit(table, 1, ["1"])
    table.tidy(1)
    assert not old.exists()
    assert young.exists()
    assert DeltaEventTable(table.path).head() == 1
