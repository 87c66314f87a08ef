"""Following the table's log: what it says is what deltalake says of the same version."""

import json
import shutil

import pytest
from deltalake import DeltaTable

from tallybook.adapters.delta.event_table import DeltaEventTable
from tallybook.adapters.delta.table_log import TableLog
from tallybook.kernel.errors import Corrupt, Unavailable
from tests.unit.adapters.test_event_table import AT, commit, rows


@pytest.fixture
def table(tmp_path):
    return DeltaEventTable(tmp_path / "events")


def afresh(path):
    """What deltalake says, asked anew."""
    return TableLog(path, DeltaTable(str(path)))


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


def test_who_asks_after_the_log_was_cleaned_is_told_by_the_checkpoint(table):
    log = table.path / "_delta_log"
    commit(table, 1, ["1"])
    late = afresh(table.path)
    for seq in range(2, 6):
        commit(table, seq, [str(seq)])
    table.checkpoint(entries=1)
    for entry in sorted(log.glob("*.json"))[:5]:
        entry.unlink()
    commit(table, 6, ["6"])
    agree(late, table.path)
    assert len(late.files()) == 6


def test_a_table_that_waits_is_told_of_nothing(table):
    follower = afresh(table.path)
    version = follower.version
    table.checkpoint(entries=0)
    assert [follower.refresh() for _ in range(3)] == [version] * 3


@pytest.mark.parametrize(
    "line",
    [b"{", b"[]", json.dumps({"add": {"path": "x", "size": 1, "stats": "{}"}}).encode()],
    ids=["cut short", "no action", "a file that says nothing of its rows"],
)
def test_an_entry_that_is_none_is_named(table, line):
    commit(table, 1, ["1"])
    follower = afresh(table.path)
    entry = table.path / "_delta_log" / f"{follower.version + 1:020d}.json"
    entry.write_bytes(line)
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
