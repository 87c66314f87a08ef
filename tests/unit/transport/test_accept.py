"""The two roads of accept make the same rows; what is refused is refused in order, by index."""

import base64
import json
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tallybook.kernel.errors import Invalid
from tallybook.kernel.event import UNPARSED_TYPE
from tallybook.kernel.limits import ATTRIBUTE_CHARS_MAX, EVENT_BYTES_MAX
from tallybook.kernel.timestamps import FIRST_US, format_us, to_us
from tallybook.transport import accept as road
from tallybook.transport.accept import AcceptLimits, accept
from tallybook.transport.careful import careful_event
from tallybook.transport.codec import decode, encode
from tallybook.transport.columns import ColumnSet, text_of

NOW_US = to_us(datetime(2026, 11, 21, tzinfo=UTC))
LIMITS = AcceptLimits()
COLUMNS = ColumnSet(
    {
        "n_bytes": "$.bytes",
        "n_a__b": "$.a.b",
        "n_list___1": "$.list[1]",
        "t_bytes": "$.bytes",
        "t_path": "$.path",
        "t__xfc_": "$['ü']",
    }
)

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
ATTRIBUTES = TEXTS.map(lambda text: "x" + text)
SCALARS = st.none() | st.booleans() | st.integers(-(10**30), 10**30) | TEXTS
SCALARS |= st.decimals(allow_nan=False, allow_infinity=False, places=6).map(float)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(["bytes", "a", "b", "list", "path", "ü"]) | TEXTS
DATA = st.dictionaries(KEYS, VALUES, max_size=4)
TIMES = st.one_of(
    st.integers(FIRST_US, NOW_US).map(format_us),
    st.datetimes(datetime(1600, 1, 1), datetime(2026, 11, 20)).map(  # noqa: DTZ001
        lambda at: at.isoformat() + "+05:30"
    ),
    st.sampled_from(["2016-12-31T23:59:60Z", "2026-01-01 00:00:00.1234567z", None]),
)


@st.composite
def events(draw, *, ext=False):
    """Return a valid event, with everything optional now and then."""
    found = {"specversion": "1.0", "id": draw(ATTRIBUTES), "source": draw(ATTRIBUTES)}
    found["type"] = draw(ATTRIBUTES)
    optional = {
        "subject": st.none() | ATTRIBUTES,
        "time": TIMES,
        "data": st.none() | DATA,
        "datacontenttype": st.sampled_from(["application/json", None]),
    }
    if ext:
        optional |= {
            "traceparent": ATTRIBUTES,
            "sampled": st.booleans(),
            "n": st.integers(-(10**20), 10**20),
            "dataschema": ATTRIBUTES,
        }
    for name, strategy in optional.items():
        if draw(st.booleans()):
            found[name] = draw(strategy)
    order = draw(st.permutations(list(found)))
    return {name: found[name] for name in order}


def columns_of(rows):
    """Return every column of the rows, as the log would hold them."""
    return decode(encode(rows)).to_pydict()


def texts_of(rows):
    """Return the texts of all cells: white space within an array is no part of any."""
    return [[text_of(cell) for cell in column] for column in rows.cells]


def take(body, *, careful=False, limits=LIMITS):
    if careful:
        return road._careful("t", road.events_of(body, limits), NOW_US, COLUMNS, limits)
    return accept("t", body, NOW_US, COLUMNS, limits)


def spellings(batch):
    compact = json.dumps(batch, separators=(",", ":"), ensure_ascii=False).encode()
    return [
        compact,
        json.dumps(batch, separators=(",", ":")).encode(),
        json.dumps(batch, ensure_ascii=False).encode(),
        json.dumps(batch, indent=2).encode(),
        b" \n" + compact.replace(b'{"', b'{\t"', 1) + b"\r\n",
    ]


WITHIN = {"specversion": "1.0", "id": "x", "source": "x", "type": "x", "data": {"a": {"b": [None]}}}


@example([WITHIN])
@given(st.lists(events(), min_size=1, max_size=4) | st.lists(events(ext=True), max_size=4))
def test_both_roads_make_the_same_rows(batch):
    for body in spellings(batch):
        rows, refused = take(body)
        slow, slow_refused = take(body, careful=True)
        assert refused == slow_refused == []
        for name in set(rows.__slots__) - {"cells"}:
            assert getattr(rows, name) == getattr(slow, name), name
        assert texts_of(rows) == texts_of(slow)
        if batch:
            assert columns_of(rows) == columns_of(slow)


ODD = st.one_of(
    events(ext=True),
    st.sampled_from([
        5, None, [], {}, {**WITHIN, "specversion": "2.0"}, {**WITHIN, "id": ""},
        {**WITHIN, "time": "tomorrow"}, {**WITHIN, "time": "2999-01-01T00:00:00Z"},
        {**WITHIN, "subject": ""}, {**WITHIN, "type": "t" * 300}, {**WITHIN, "data": [1]},
        {**WITHIN, "type": "io.tallybook.unparsed", "data": {"code": "c", "message": "m"}},
    ]),
)  # fmt: skip


@given(st.lists(st.tuples(st.integers(0, 40), ODD), min_size=1, max_size=6), st.booleans())
def test_a_few_odd_ones_do_not_change_what_becomes_of_the_others(odd, compact):
    batch = [{**WITHIN, "id": str(n), "data": {"n": n, "a": {"b": "x"}}} for n in range(40)]
    for place, one in odd:
        batch.insert(place, one)
    body = json.dumps(batch, separators=(",", ":") if compact else None).encode()
    rows, refused = take(body)
    slow, slow_refused = take(body, careful=True)
    assert refused == slow_refused
    assert columns_of(rows) == columns_of(slow)


@pytest.mark.parametrize("separators", [(",", ":"), None])
@pytest.mark.parametrize(
    "odd", [5, {}, {**WITHIN, "data": [1]}, {**WITHIN, "time": "never"}, {**WITHIN, "trace": "x"}]
)
def test_only_the_odd_one_is_looked_at_closely(monkeypatch, odd, separators):
    looked = []

    def careful(raw, *more):
        looked.append(json.loads(raw))
        return careful_event(raw, *more)

    monkeypatch.setattr(road, "careful_event", careful)
    batch = [{**WITHIN, "id": str(n), "data": {"n": n, "a": {"b": "x"}}} for n in range(40)]
    batch.insert(7, odd)
    rows, _ = take(json.dumps(batch, separators=separators).encode())
    assert (looked, len(rows)) == ([odd], 41)


@given(st.lists(events(ext=True), min_size=1, max_size=4))
def test_a_row_is_what_was_sent(batch):
    for body in spellings(batch):
        rows, _ = take(body)
        assert rows.ids == [e["id"] for e in batch]
        assert rows.sources == [e["source"] for e in batch]
        assert rows.types == [e["type"] for e in batch]
        assert rows.subjects == [e.get("subject") for e in batch]
        assert rows.stamped == [e.get("time") is None for e in batch]
        assert [json.loads(data) for data in rows.datas] == [e.get("data") for e in batch]
        assert rows.tenants == ["t"] * len(batch)
        core = {"id", "source", "type", "specversion", "subject", "time", "data"}
        for event, ext in zip(batch, rows.exts, strict=True):
            kept = {k: v for k, v in event.items() if k not in core and v is not None}
            assert (json.loads(ext) if ext else {}) == kept
            assert list(json.loads(ext) if ext else {}) == list(kept), "in the order received"


@given(st.lists(events(), min_size=1, max_size=3), events(ext=True))
def test_company_does_not_change_a_row(batch, other):
    """An event sent again beside one that takes the careful road is the same content."""
    alone, _ = take(json.dumps(batch).encode())
    together, _ = take(json.dumps([*batch, {**other, "traceparent": "x"}]).encode())
    count = len(batch)
    assert columns_of(alone)["row_hash"] == columns_of(together)["row_hash"][:count]


def event(**more):
    return {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", **more}


def refusal(piece):
    """Return the only refusal of one event, on whichever road, beside a good one."""
    body = piece if isinstance(piece, bytes) else json.dumps(piece).encode()
    rows, refused = take(b"[" + json.dumps(event(id="0")).encode() + b"," + body + b"]")
    assert len(rows) == 2
    assert rows.problems[0] is None
    assert len(refused) == 1
    assert refused[0].index == 1
    problem = refused[0].problem
    assert rows.problems[1] == f"{problem.code}: {problem.message}"
    encode(rows)
    return refused[0]


LONG = "x" * (ATTRIBUTE_CHARS_MAX + 1)
FUTURE = "2026-11-22T00:00:00.000001Z"


@pytest.mark.parametrize(
    ("piece", "code", "field"),
    [
        ({"data": {"x": "y" * EVENT_BYTES_MAX}, "id": 5, "id2": LONG}, "too-large", ""),
        ([], "malformed", ""),
        ("text", "malformed", ""),
        (None, "malformed", ""),
        (7, "malformed", ""),
        ({"id": 5}, "malformed", "id"),
        ({"source": True}, "malformed", "source"),
        (event(time=5), "malformed", "time"),
        (event(subject={}), "malformed", "subject"),
        (event(rate=1.5), "malformed", "rate"),
        (event(tags=["a"]), "malformed", "tags"),
        (event(data=5), "malformed", "data"),
        (event(data=[{}]), "malformed", "data"),
        (event(data={}, data_base64="e30="), "malformed", "data"),
        (event(data_base64="%"), "malformed", "data_base64"),
        (event(data_base64=5), "malformed", "data_base64"),
        ({"specversion": "0.3", "data": 5}, "malformed", "data"),
        ({"specversion": "0.3"}, "wrong-version", "specversion"),
        ({"specversion": "", "id": ""}, "wrong-version", "specversion"),
        ({"id": "1", "source": "/s", "type": "t"}, "missing-attribute", "specversion"),
        ({"specversion": "1.0", "source": "/s", "type": ""}, "missing-attribute", "id"),
        (event(source=None), "missing-attribute", "source"),
        ({"specversion": "1.0", "id": "1", "source": LONG}, "missing-attribute", "type"),
        (event(id="", time=FUTURE), "attribute-out-of-range", "id"),
        (event(source=LONG, time=FUTURE), "attribute-out-of-range", "source"),
        (event(type="", time=FUTURE), "attribute-out-of-range", "type"),
        (event(subject=""), "attribute-out-of-range", "subject"),
        (event(subject=LONG), "attribute-out-of-range", "subject"),
        (event(time="yesterday"), "attribute-out-of-range", "time"),
        (event(time=""), "attribute-out-of-range", "time"),
        (event(time="0000-01-01T00:00:00Z"), "attribute-out-of-range", "time"),
        (event(time="2026-01-01T00:00:00." + "0" * 2000 + "Z"), "attribute-out-of-range", "time"),
        (event(Trace="x"), "attribute-out-of-range", "Trace"),
        (event(**{"a b": "x"}), "attribute-out-of-range", "a b"),
        (event(trace=LONG), "attribute-out-of-range", "trace"),
        (event(time=FUTURE), "time-in-future", "time"),
        (event(time="9999-12-31T23:59:59Z"), "time-in-future", "time"),
    ],
)
def test_every_refusal_in_its_order(piece, code, field):
    found = refusal(piece)
    assert (found.problem.code, found.problem.subject) == (code, field)
    assert not found.filed


def test_the_future_begins_after_a_day():
    rows, refused = take(json.dumps([event(time="2026-11-22T00:00:00Z")]).encode())
    assert refused == []
    assert rows.times == [NOW_US + 24 * 3600 * 1_000_000]


@pytest.mark.parametrize(
    "piece",
    [
        b'{"specversion":"1.0","id":"1","id":"2","source":"/s","type":"t"}',
        b'{"specversion":"1.0","id":"1","id":"1","source":"/s","type":"t"}',
        b'{"specversion":"1.0","\\u0069d":"2","id":"1","source":"/s","type":"t"}',
        b'{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{},"data":{}}',
        b'{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"a":1,"a":2}}',
        b'{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"a":1,"\\u0061":1}}',
        b'{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"b":{"a":1,"a":1}}}',
        b'{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"b":[[1,{"a":1,"a":1}]]}}',
        b'{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"b":[{"c":{"":1,"":2}}]}}',
        b'{"specversion":"1.0","id":"1","source":"/s","type":"t","x":"1","x":"2"}',
        b'{"specversion":"1.0","id":"1","source":"/s","type":"t","data":'
        + b'{"a":' * 20
        + b'{"b":1,"b":2}'
        + b"}" * 20
        + b"}",
    ],
)
def test_a_key_twice_is_refused_at_every_depth(piece):
    for body in (piece, piece.replace(b":", b": "), piece.replace(b",", b" ,\n")):
        found = refusal(body)
        assert found.problem.code == "malformed"
        assert "twice" in found.problem.message


def test_a_key_twice_in_base64_too():
    data = base64.b64encode(b'{"a":1,"a":2}').decode()
    assert "twice" in refusal(event(data_base64=data)).problem.message


def test_base64_data_is_the_data():
    data = b' {"bytes": 5, "path": "/\xc3\xbc"} '
    rows, refused = take(json.dumps([event(data_base64=base64.b64encode(data).decode())]).encode())
    assert refused == []
    assert rows.datas == [data.strip()]
    assert columns_of(rows)["t_path"] == ["/ü"]


@pytest.mark.parametrize(
    "raw", [b"\xff", b"{", b"NaN", b'{"a":NaN}', b'{"\\ud800":1}', b'{"a":"\xff"}']
)
def test_base64_of_no_json_object_is_refused(raw):
    found = refusal(event(data_base64=base64.b64encode(raw).decode()))
    assert found.problem.code == "malformed"


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (" ,\n", "\t: ")])
def test_data_is_kept_byte_for_byte(separators):
    data = b'{"n": 1.50,"e":1E+2 , "s":"\\u00fc\\/", "big":123456789012345678901234567890,"o":{ }}'
    body = json.dumps([event(data=None)], separators=separators).encode()
    body = body.replace(b"null", data)
    for careful in (False, True):
        rows, refused = take(body, careful=careful)
        assert refused == []
        assert rows.datas == [data]


@pytest.mark.parametrize(
    "number",
    [
        "1e400",
        "-1e400",
        "1" * 10_000,
        "0." + "1" * 10_000,
        "1e-999999999",
        "0e-2147483648",
        "1E999999999",
    ],
)
@pytest.mark.parametrize("spelling", ["{}", '"{}"'])
def test_no_number_is_a_reason_to_refuse(number, spelling):
    value = spelling.replace("{}", number)
    body = (
        json.dumps([event(data={"bytes": 0})]).replace('"bytes": 0', f'"bytes": {value}').encode()
    )
    for careful in (False, True):
        rows, refused = take(body, careful=careful)
        assert refused == []
        found = columns_of(rows)
        assert found["n_bytes"][0] in {None, 0}
        assert found["t_bytes"] == [number]


def test_a_number_that_fits_nothing_is_no_attribute():
    piece = json.dumps(event(n=0)).replace('"n": 0', '"n": ' + "1" * 10_000).encode()
    assert refusal(piece).problem.code == "malformed"


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":', b"[[[[[[[[[[[[[[[[[[[["])
@pytest.mark.parametrize("times", [20, 400, 3_000])
def test_deep_nesting_never_crashes(opening, times):
    closing = bytes({91: 93, 123: 125}[c] for c in reversed(opening) if c in b"[{")
    deep = opening * times + b"1" + closing * times
    body = b"[" + json.dumps(event(data={"x": 0})).encode().replace(b"0}", deep + b"}") + b"]"
    try:
        rows, refused = take(body)
    except Invalid as error:
        codes = [error.code]
    else:
        codes = [r.problem.code for r in refused]
        encode(rows)
    assert codes in ([], ["malformed"], ["too-large"])


@pytest.mark.parametrize(
    "piece",
    [
        b'{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"a":"\xff"}}',
        b'{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"\xff":1}}',
        b'{"specversion":"1.0","id":"\xff","source":"/s","type":"t"}',
        b'{"specversion":"1.0","id":"1","source":"/s","type":"t","ext":"\xc3"}',
        b'{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"a":"\xed\xa0\x80"}}',
    ],
)
def test_invalid_utf8_is_refused_and_still_can_be_stored(piece):
    assert refusal(piece).problem.code == "malformed"
    rows, _ = take(b"[" + piece + b"]")
    assert "\ufffd" in columns_of(rows)["data"][0]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"null",
        b"[",
        b"[1",
        b'[{"a":1}',
        b"[{},]",
        b"[NaN]",
        b"[{}] {}",
        b"\xef\xbb\xbf[]",
        b"[1]x",
        b"\x00",
        "[{}]".encode("utf-16"),
        b'[{"a":"\\ud800"}]',
        b"[01]",
        b'["\x01"]',
    ],
)
def test_what_is_no_array_is_refused_whole(body):
    with pytest.raises(Invalid) as caught:
        take(body)
    assert (caught.value.code, caught.value.field) == ("malformed", "body")


def test_nothing_is_an_empty_batch():
    rows, refused = take(b" [ ] ")
    assert (len(rows), refused) == (0, [])


def test_requests_have_bounds():
    body = json.dumps([event(id=str(i)) for i in range(3)]).encode()
    few = AcceptLimits(request_events_max=2)
    small = AcceptLimits(request_bytes_max=len(body) - 1)
    for limits in (few, small):
        with pytest.raises(Invalid) as caught:
            take(body, limits=limits)
        assert caught.value.code == "too-large"
    assert len(take(body, limits=AcceptLimits(request_events_max=3))[0]) == 3
    assert len(take(body, limits=AcceptLimits(request_bytes_max=len(body)))[0]) == 3


@given(st.integers(0, 40), st.booleans(), st.booleans(), st.integers(0, 5))
def test_an_event_s_size_is_judged_alike_on_both_roads(extra, spaced, indented, company):
    big = event(
        id="ü" * 900, subject="\n" * 900, data={"x": "y" * (EVENT_BYTES_MAX - 6100 + extra)}
    )
    batch = [event(id=str(i)) for i in range(company)] + [big]
    indent = 1 if indented else None
    separators = (", ", ": ") if spaced else (",", ":")
    for escape in (True, False):
        body = json.dumps(batch, separators=separators, ensure_ascii=escape, indent=indent).encode()
        assert [r.index for r in take(body)[1]] == [r.index for r in take(body, careful=True)[1]]


@pytest.mark.parametrize("delta", [0, 1])
def test_the_largest_event(delta):
    body = json.dumps(event(data={"x": ""}), separators=(",", ":")).encode()
    body = body.replace(b'"x":""', b'"x":"' + b"y" * (EVENT_BYTES_MAX - len(body) + delta) + b'"')
    other = json.dumps(event(id="2"), separators=(",", ":")).encode()
    _, refused = take(b"[" + other + b"," + body + b"]")
    assert [r.problem.code for r in refused] == ["too-large"] * delta


def test_a_collector_s_report_is_filed():
    data = {"line": "x", "format": "combined", "code": "bad-line", "message": "no", "origin": "f"}
    rows, refused = take(json.dumps([event(type=UNPARSED_TYPE, data=data)]).encode())
    assert [(r.filed, r.problem.code) for r in refused] == [(True, "bad-line")]
    assert rows.problems == ["bad-line: no"]
    assert json.loads(rows.datas[0]) == data
    assert refusal(event(type=UNPARSED_TYPE, data={"line": 1})).problem.code == "malformed"
    assert refusal(event(type=UNPARSED_TYPE)).problem.code == "malformed"


def test_a_refused_piece_keeps_its_sender_s_identity():
    found = refusal(event(id="7", time="never"))
    assert found.id == "7"
    assert refusal({"id": "7"}).id == ""
    rows, _ = take(json.dumps([event(id="7", time="never"), {"id": "7"}]).encode())
    assert (rows.ids[0], rows.sources[0]) == ("7", "/s")
    assert len(rows.ids[1]) == 64, "named by its bytes"
    assert columns_of(rows)["n_bytes"] == [None, None]


def test_null_is_absent():
    nulls = dict.fromkeys(["subject", "time", "data", "datacontenttype", "traceparent"])
    rows, refused = take(json.dumps([event(**nulls), event()]).encode())
    assert refused == []
    assert rows.subjects == [None, None]
    assert rows.stamped == [True, True]
    assert rows.exts == [None, None]
    assert rows.datas == [b"null", b"null"]
    assert rows.times == [NOW_US, NOW_US]
