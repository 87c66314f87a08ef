"""Following the table's log: what it says is what deltalake says of the same version."""

import json
import shutil

import pytest
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from tallybook.adapters.delta import table_log
from tallybook.adapters.delta.event_table import DeltaEventTable
from tallybook.adapters.delta.table_log import TableLog
from tallybook.kernel.errors import Corrupt, Unavailable
from tests.unit.adapters.test_event_table import AT, commit, rows


@pytest.fixture
def table(tmp_path):
    return DeltaEventTable(tmp_path / "events")


def afresh(path):
    """What deltalake says, asked anew."""
    return TableLog(path)


def agree(log, path):
    fresh = afresh(path)
    assert log.refresh() == fresh.version == DeltaTable(str(path)).version()
    assert log.files() == fresh.files()
    names = ["tallybook/commit_seq", "tallybook/log/epoch/0", "tallybook/count/accepted/t", "none"]
    assert [log.number(name) for name in names] == [fresh.number(name) for name in names]


def test_commits_merges_and_checkpoints_are_followed(table):
    follower, keeper = afresh(table.path), DeltaEventTable(table.path)
    for seq in range(1, 30):
        commit(table, seq, [str(seq), str(seq + 100)][: seq % 3], time_us=seq)
        if seq % 7 == 0:
            keeper.refresh()
            old = [file for file in keeper.files() if file.seq_min > seq - 7]
            merged = [rows(file.seq_min, ["1"] * file.rows) for file in old]
            keeper.replace(old, merged)
        if seq % 10 == 0:
            keeper.tidy(0)
        agree(follower, table.path)
    assert len(follower.files()) < 15
    assert (keeper.head(), keeper.offset(AT)) == (29, 2_900)


def committed_and_cleaned(table, first, last):
    """Make commits, sum them up, and let go of all entries but the last."""
    for seq in range(first, last + 1):
        commit(table, seq, [str(seq)])
    assert table.checkpoint(entries=1)
    for entry in sorted((table.path / "_delta_log").glob("*.json"))[:-1]:
        entry.unlink()


def test_who_asks_after_the_log_was_cleaned_is_told_by_the_checkpoint(table):
    commit(table, 1, ["1"])
    late = afresh(table.path)
    committed_and_cleaned(table, 2, 5)
    commit(table, 6, ["6"])
    agree(late, table.path)
    assert len(late.files()) == 6


def test_a_lake_goes_on_over_a_cleaned_log(table):
    late = DeltaEventTable(table.path)
    committed_and_cleaned(table, 1, 3)
    commit(late, 4, ["4"])
    assert [(late.head(), len(late.files())), (table.head(), len(table.files()))] == [(4, 4)] * 2
    assert late.offset(AT) == 400


@pytest.mark.parametrize("hint", [b"", b'{"vers', None], ids=["empty", "torn", "gone"])
def test_a_hint_that_a_power_cut_took_is_done_without(table, monkeypatch, hint):
    late, told = afresh(table.path), table.path / "_delta_log" / "_last_checkpoint"
    committed_and_cleaned(table, 1, 3)
    commit(table, 4, ["4"])
    told.unlink()
    if hint is not None:
        told.write_bytes(hint)
    assert late.refresh() == 0, "not looked at every time"
    monkeypatch.setattr(table_log, "LIST_SECONDS", 0.0)
    agree(late, table.path)
    assert table.checkpoint(entries=1), "and it is written again"


def test_a_hole_in_the_log_is_told(table, monkeypatch):
    monkeypatch.setattr(table_log, "LIST_SECONDS", 0.0)
    late = afresh(table.path)
    for seq in range(1, 4):
        commit(table, seq, [str(seq)])
    (table.path / "_delta_log" / f"{1:020d}.json").unlink()
    with pytest.raises((Corrupt, DeltaError)):
        late.refresh()
    assert (late.version, late.files()) == (0, [])


def test_who_is_far_behind_begins_anew(table, monkeypatch):
    monkeypatch.setattr(table_log, "FOLLOWED_MAX", 5)
    late, begun, begin = afresh(table.path), [], TableLog._begin
    for seq in range(1, 10):
        commit(table, seq, [str(seq)])
    monkeypatch.setattr(TableLog, "_begin", lambda log: (begun.append(log.version), begin(log)))
    late.refresh()
    assert begun == [5]
    monkeypatch.undo()
    agree(late, table.path)


def test_names_are_spelled_as_addresses(table):
    commit(table, 1, ["1"])
    (file,) = table.files()
    follower = afresh(table.path)
    entry = table.path / "_delta_log" / f"{follower.version + 1:020d}.json"
    stats = {"numRecords": 1, "minValues": {"commit_seq": 2, "time_us": 5}}
    stats["maxValues"] = stats["minValues"]
    add = {"path": "a%20b.parquet", "size": 1, "stats": json.dumps(stats)}
    gone = {"path": file.path.rpartition("/")[2].replace("-", "%2D")}
    entry.write_text(json.dumps({"add": add}) + "\n" + json.dumps({"remove": gone}))
    follower.refresh()
    assert [f.path for f in follower.files()] == [f"{table.path}/a b.parquet"]


def test_a_table_that_waits_is_told_of_nothing(table):
    follower = afresh(table.path)
    version = follower.version
    table.checkpoint(entries=0)
    assert [follower.refresh() for _ in range(3)] == [version] * 3


FILE = {"path": "x", "size": 1, "stats": '{"numRecords": 0}'}
STRANGE = {
    "cut short": "{",
    "no action": "[]",
    "a file that says nothing of its rows": {"add": {**FILE, "stats": "{}"}},
    "a file without bounds": {"add": {**FILE, "stats": '{"numRecords": 1}'}},
    "no statistics": {"add": {**FILE, "stats": None}},
    "rows deleted beside the file": {"add": {**FILE, "deletionVector": {"storageType": "u"}}},
    "a file elsewhere": {"add": {**FILE, "path": "s3://bucket/x"}},
    "removed elsewhere": {"remove": {"path": "/x"}},
    "another protocol": {"protocol": {"minReaderVersion": 3, "minWriterVersion": 7}},
}


@pytest.mark.parametrize("line", STRANGE.values(), ids=STRANGE)
def test_an_entry_that_is_none_is_named(table, line):
    commit(table, 1, ["1"])
    follower = afresh(table.path)
    entry = table.path / "_delta_log" / f"{follower.version + 1:020d}.json"
    entry.write_text(line if isinstance(line, str) else json.dumps(line))
    with pytest.raises(Corrupt, match=entry.name):
        follower.refresh()
    assert len(follower.files()) == 1
    entry.unlink()
    agree(follower, table.path)


def test_a_log_that_is_gone_is_no_log_without_news(table):
    follower = afresh(table.path)
    shutil.rmtree(table.path / "_delta_log")
    with pytest.raises(FileNotFoundError):
        follower.refresh()
    with pytest.raises(Unavailable):
        table.head()
