"""The payload of a log row: there and back, and damage is always noticed."""

import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallybook.kernel.errors import Corrupt
from tallybook.transport.accept import AcceptLimits, accept
from tallybook.transport.codec import decode, encode
from tallybook.transport.columns import ColumnSet
from tallybook.transport.identity import hashes_array, identities, identity, keys_array
from tallybook.transport.rows import BASE, Rows

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
NOW_US = 1_795_000_000_000_000


def rows_of(*datas, columns=None, **more):
    batch = [
        {"specversion": "1.0", "id": str(i), "source": "/s", "type": "t", "data": data, **more}
        for i, data in enumerate(datas)
    ]
    made = ColumnSet(columns or {})
    return accept("t", json.dumps(batch).encode(), NOW_US, made, AcceptLimits())[0]


@given(st.lists(st.dictionaries(TEXTS, st.integers() | TEXTS, max_size=3), min_size=1, max_size=5))
def test_what_is_encoded_is_decoded(datas):
    rows = rows_of(*datas, columns={"n_a": "$.a", "t_b": "$.b"}, traceparent="x")
    table = decode(encode(rows))
    assert table.schema.names == [*BASE.names, "n_a", "t_b"]
    assert table["data"].to_pylist() == [data.decode() for data in rows.datas]
    assert table["ext"].to_pylist() == rows.exts
    assert table["id"].to_pylist() == rows.ids
    assert table["time_us"].to_pylist() == rows.times
    assert table["problem"].to_pylist() == rows.problems


PAYLOAD = encode(rows_of(*({"a": i, "b": "x" * i} for i in range(50)), columns={"n_a": "$.a"}))


@given(st.integers(0, len(PAYLOAD) * 8 - 1))
def test_one_flipped_bit_is_noticed_or_harmless(bit):
    damaged = bytearray(PAYLOAD)
    damaged[bit // 8] ^= 1 << bit % 8
    try:
        table = decode(bytes(damaged))
    except Corrupt:
        return
    assert table == decode(PAYLOAD)


@given(st.integers(0, len(PAYLOAD) - 1))
def test_a_payload_cut_short_is_noticed(size):
    with pytest.raises(Corrupt):
        decode(PAYLOAD[:size])


@given(st.binary(max_size=64))
def test_noise_is_no_payload(noise):
    for payload in (noise, PAYLOAD[:4] + noise):
        with pytest.raises(Corrupt):
            decode(payload)


def test_rows_of_many_requests_share_a_batch():
    columns = ColumnSet({"n_a": "$.a"})
    both, parts = Rows(columns), []
    for i in range(3):
        body = json.dumps(
            [{"specversion": "1.0", "id": str(i), "source": "/s", "type": "t", "data": {"a": i}}]
        ).encode()
        part, _ = accept(f"tenant-{i}", body, NOW_US + i, columns, AcceptLimits())
        parts.append(decode(encode(part)))
        both.extend(part)
    assert decode(encode(both)).to_pydict() == pa.concat_tables(parts).to_pydict()


@given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS, st.booleans()), min_size=1, max_size=6))
def test_identities_are_each_one_s_identity(wanted):
    tenants, sources, ids, bad = zip(*wanted, strict=True)
    together = identities(tenants, sources, ids, bad)
    assert together == [identity(t, s, i, quarantined=b) for t, s, i, b in wanted]
    assert len(set(together)) == len(set(wanted)), "parts do not run together"


def test_halves_and_hashes_are_what_the_lake_sorts_by():
    digest = bytes(range(240, 256))
    assert keys_array([digest]).tolist() == [[0xF0F1F2F3F4F5F6F7, 0xF8F9FAFBFCFDFEFF]]
    assert hashes_array([b"\xff" * 8]).tolist() == [(1 << 63) - 1]
    assert keys_array([]).shape == (0, 2)


def test_content_is_more_than_identity():
    def row_hash(**more):
        return decode(encode(rows_of({"a": 1}, **more)))["row_hash"].to_pylist()[0]

    same = {"subject": "s", "time": "2026-01-01T00:00:00Z"}
    assert row_hash(**same) == row_hash(subject="s", time="2026-01-01T01:00:00+01:00")
    others = [{}, {"subject": "s"}, {"time": same["time"]}, {**same, "traceparent": "x"}]
    others += [
        {**same, "type": "u"},
        {**same, "subject": "z"},
        {**same, "time": "2026-01-01T00:00:01Z"},
    ]
    assert len({row_hash(**more) for more in [same, *others]}) == len(others) + 1


def test_a_retry_that_is_stamped_anew_is_the_same_content():
    body = json.dumps([{"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}]).encode()
    found = [
        decode(encode(accept("t", body, now, ColumnSet({}), AcceptLimits())[0]))["row_hash"]
        for now in (NOW_US, NOW_US + 5)
    ]
    assert found[0] == found[1]
