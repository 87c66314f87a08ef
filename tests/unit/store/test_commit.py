"""From log rows to one commit: every event of a row is counted, readable or not."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallybook.meter.usage import Counters
from tallybook.store.commit import all_columns, concat, judge_batch, read_rows
from tallybook.store.dedupe import judge, make_run
from tallybook.store.ports import LogPosition
from tallybook.store.schema import FIXED
from tallybook.transport.accept import AcceptLimits, accept
from tallybook.transport.codec import encode
from tallybook.transport.columns import ROUNDED, ColumnSet
from tallybook.transport.ports import LogRow

NOW_US = 1_795_000_000_000_000
AT = LogPosition("epoch", 3)
COLUMNS = all_columns(["n_a", "t_b"], [])
NONE = ColumnSet({})


def event(event_id, data, **more):
    core = {"specversion": "1.0", "source": "/s", "type": "t"}
    return {**core, "id": event_id, "data": data, **more}


def payload(*events, columns=NONE, tenant="t"):
    body = json.dumps(events).encode()
    return encode(accept(tenant, body, NOW_US, columns, AcceptLimits())[0])


def row(offset, events, stored):
    return LogRow(offset=offset, events=events, events_total=events, appended_us=5, payload=stored)


def test_a_row_is_filled_and_placed():
    stored = payload(event("1", {"a": "1.5", "b": "x"}), {"id": "2"})
    table = read_rows([row(7, 2, stored)], AT, COLUMNS)
    assert table["n_a"].to_pylist() == [pytest.approx(1.5), None]
    assert table["t_b"].to_pylist() == ["x", None]
    assert table["log_offset"].to_pylist() == [7, 7]
    assert table["partition"].to_pylist() == [3, 3]
    assert table["log_epoch"].to_pylist() == ["epoch", "epoch"]


@given(st.sets(st.sampled_from(["n_a", "t_a", "t_b", "n_c__d"])))
def test_a_column_is_the_same_whether_accept_or_the_pump_filled_it(known):
    wanted = all_columns(["n_a", "t_a", "t_b", "n_c__d"], [])
    data = {"a": "0.1234567890125", "b": 5, "c": {"d": "1e30"}}
    early = payload(event("1", data), columns=all_columns(known, []))
    late = payload(event("1", data))
    found = [read_rows([row(1, 1, stored)], AT, wanted) for stored in (early, late)]
    assert found[0].to_pydict() == found[1].to_pydict()
    assert found[0]["flags"].to_pylist() == [ROUNDED]


def test_a_column_no_meter_uses_any_more_is_dropped_unless_the_table_has_it():
    stored = payload(event("1", {"a": 1, "b": "x"}), columns=COLUMNS)
    assert read_rows([row(1, 1, stored)], AT, all_columns(["t_b"], [])).schema.names[-4] == "t_b"
    assert "n_a" in read_rows([row(1, 1, stored)], AT, all_columns(["t_b"], ["n_a"])).schema.names


GOOD = payload(event("1", {"a": 1}), event("2", {"a": 2}))


@pytest.mark.parametrize(
    "stored",
    [None, b"", b"noise", GOOD[:-1], GOOD[:4] + b"\0" + GOOD[5:], b"TBR\x09" + GOOD[4:]],
)
@pytest.mark.parametrize("events", [1, 2, 300])
def test_a_damaged_row_is_as_many_quarantined_pieces_as_it_held(stored, events):
    table = read_rows([row(9, events, stored)], AT, COLUMNS)
    assert table.num_rows == events
    assert all(p.startswith("corrupt-log-row: ") for p in table["problem"].to_pylist())
    assert table["time_us"].to_pylist() == [5] * events
    judged = judge_batch(table, 1, lambda k, h: judge([], k, h), lambda _: Counters())
    assert judged.counters == {"default": Counters(received=events, quarantined=events)}


def test_a_row_that_holds_fewer_than_it_declares_is_damaged():
    assert set(read_rows([row(9, 3, GOOD)], AT, COLUMNS)["tenant"].to_pylist()) == {"default"}
    assert read_rows([row(9, 2, GOOD)], AT, COLUMNS)["problem"].null_count == 2


def test_rows_are_read_together_as_one_by_one():
    early = payload(event("1", {"a": 1, "b": "x"}), columns=COLUMNS)
    late = payload(event("2", {"a": 2}), event("3", {"b": "y"}), tenant="other")
    rows = [row(5, 2, late), row(6, 1, early), row(8, 3, None), row(9, 2, late), row(10, 2, late)]
    one_by_one = concat([read_rows([each], AT, COLUMNS) for each in rows])
    together = read_rows(rows, AT, COLUMNS)
    assert together.to_pydict() == one_by_one.to_pydict()
    assert together["log_offset"].to_pylist() == [5, 5, 6, 8, 8, 8, 9, 9, 10, 10]


def test_damaged_rows_of_two_places_are_different_pieces():
    places = [(9, AT), (10, AT), (9, LogPosition("other", 3)), (9, LogPosition("epoch", 4))]
    tables = [read_rows([row(offset, 2, None)], at, NONE) for offset, at in places]
    judged = judge_batch(concat(tables), 1, lambda k, h: judge([], k, h), lambda _: Counters())
    assert judged.rows.num_rows == 8
    known = [make_run(1, 1, judged.keys, judged.row_hash)]
    again = judge_batch(tables[0], 2, lambda k, h: judge(known, k, h), lambda _: Counters())
    assert again.rows.num_rows == 0


def test_counters_add_up_per_tenant():
    first = payload(event("1", {}), event("1", {}), event("1", {"x": 1}), {"id": "bad"}, tenant="a")
    second = payload(event("1", {}), tenant="b")
    batch = concat(
        [read_rows([row(i, n, p)], AT, NONE) for i, (n, p) in enumerate([(4, first), (1, second)])]
    )
    before = {"a": Counters(received=10, accepted=9, duplicate=1), "b": Counters()}
    judged = judge_batch(batch, 5, lambda k, h: judge([], k, h), before.__getitem__)
    assert judged.counters["a"] == Counters(
        received=14, accepted=10, duplicate=3, quarantined=1, id_conflict=1
    )
    assert judged.counters["b"] == Counters(received=1, accepted=1)
    assert judged.rows.num_rows == len(judged.keys) == len(judged.row_hash) == 3
    assert judged.conflicts["data"].to_pylist() == ['{"x": 1}']
    assert set(judged.rows["commit_seq"].to_pylist()) == {5}
    assert judged.rows.schema.names == FIXED.names


def test_a_quarantined_piece_does_not_stop_its_corrected_event():
    bad, good = event("1", {}, time="never"), event("1", {})
    batch = concat(
        [read_rows([row(i, 1, payload(e))], AT, NONE) for i, e in enumerate([bad, good, bad])]
    )
    judged = judge_batch(batch, 1, lambda k, h: judge([], k, h), lambda _: Counters())
    assert judged.counters["t"] == Counters(received=3, accepted=1, duplicate=1, quarantined=1)
