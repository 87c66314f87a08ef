"""The road of events that are spelled alike: the same rows as one by one, or none at all."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallybook.kernel.event import UNPARSED_TYPE
from tallybook.transport import accept as road
from tallybook.transport import places
from tallybook.transport.accept import AcceptLimits
from tallybook.transport.alike import alike, split
from tallybook.transport.codec import decode, encode
from tallybook.transport.columns import ColumnSet
from tallybook.transport.spelled.pieces import LEARNED_MAX, LOOKS_MAX, SPELLINGS_MAX
from tallybook.transport.spelled.spelling import KNOWN_MAX, TOKENS_MAX, Spelling, Spellings
from tests.support.alike_fuzz import TAUGHT, run

NOW_US = 1_795_219_200_000_000
LIMITS = AcceptLimits()
PATHS = {
    "n_bytes": "$.bytes",
    "t_bytes": "$.bytes",
    "n_a__b": "$.a.b",
    "t_a": "$.a",
    "t_tags__1_": "$.tags[1]",
    "t_u": "$['ü']",
    "t__0_": "$[0]",
    "n_rows__0___n": "$.rows[0].n",
}

TEXTS = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters='"\\'), max_size=6
)
NAMES = TEXTS.map(lambda text: "x" + text)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**22), 10**22),
    st.floats(allow_nan=False, allow_infinity=False),
    TEXTS,
    st.sampled_from(["1.5", "-0", "1e3", "1e400", "007", "", "12345678901234567890.1234567890123"]),
)
COMPACT, SPACED = (",", ":"), (", ", ": ")


def event(number: int, value, kind: int = 0, text: str = "x"):
    """Return one event of a few kinds; its values may be anything."""
    made = {"specversion": "1.0", "id": f"{text}{number}", "source": "/s", "type": f"t{kind}"}
    match kind:
        case 0:
            return {**made, "subject": text, "data": {"bytes": value, "ü": text, "k": 5}}
        case 1:
            data = {"a": {"b": value, "c": {}}, "tags": ["p", text], "bytes": number}
            return {**made, "time": f"2026-11-01T00:00:{number % 60:02}Z", "data": data}
        case 2:
            return {"data": {}, **made, "datacontenttype": "application/json"}
        case 3:
            return {**made, "source": f"/{text}", "subject": None, "data": None}
        case 4:
            rows = [{"n": value}, {"n": text}]
            return {"time": "2026-11-01T01:00:00.123+01:00", **made, "data": {"rows": rows}}
        case _:
            return made


ROADS = ["compiled", "spelled"]


@pytest.fixture(autouse=True, scope="module", params=ROADS)
def finding(request):
    """Every law holds on both: with the compiled pass, and where nothing is compiled."""
    if request.param == "compiled" and not places.COMPILED:
        pytest.skip("the package was built without a C compiler")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(places, "COMPILED", request.param == "compiled")
        yield request.param


EVENTS = st.lists(st.tuples(st.integers(0, 5), SCALARS, NAMES), min_size=1, max_size=12)


def spelled(events, separators=COMPACT) -> bytes:
    return json.dumps(events, separators=separators, ensure_ascii=False).encode()


def found(*bodies: bytes, columns=None, tenant="t"):
    """Return what this road makes of bodies together; None where it leaves them to others."""
    columns = columns or ColumnSet(PATHS)
    parts = [split(body, LIMITS, columns) for body in bodies]
    if None in parts:
        return None
    made = alike(tenant, parts, NOW_US, columns, LIMITS)
    return None if made is None else decode(encode(made)).to_pydict()


def one_by_one(body: bytes, tenant="t"):
    rows, refused = road._careful(
        tenant, road.events_of(body, LIMITS), NOW_US, ColumnSet(PATHS), LIMITS
    )
    return None if refused else decode(encode(rows)).to_pydict()


@given(EVENTS, st.sampled_from([COMPACT, SPACED]))
def test_it_makes_the_rows_of_the_careful_road(drawn, separators):
    batch = [event(i, value, kind, text) for i, (kind, value, text) in enumerate(drawn)]
    body = spelled(batch, separators)
    made = found(body)
    assert made is None or made == one_by_one(body)


@given(EVENTS, SCALARS)
def test_requests_together_are_the_requests_behind_each_other(drawn, value):
    first = spelled([event(i, one, kind, text) for i, (kind, one, text) in enumerate(drawn)])
    second = spelled([event(i, value, kind) for i, kind in enumerate([0, 1, 0, 2])])
    apart, together = [found(first), found(second)], found(first, second)
    if None not in apart and together is not None:
        assert together == {name: a + apart[1][name] for name, a in apart[0].items()}


@pytest.mark.parametrize("kind", range(6))
@pytest.mark.parametrize("value", [5, "x", None, 0.25, True, "17"])
@pytest.mark.parametrize("separators", [COMPACT, SPACED])
def test_it_takes_what_people_send(kind, value, separators):
    body = spelled([event(i, value, kind) for i in range(40)], separators)
    made = found(body)
    assert made is not None
    assert made == one_by_one(body)


def test_kinds_may_be_mixed():
    chosen = random.Random(1)
    body = spelled([event(i, i * 1.5, chosen.randrange(6)) for i in range(300)])
    assert found(body) == one_by_one(body)


def test_values_of_one_property_may_be_of_any_kind():
    values = [1, 2.5, "3", None, True, "x", -0.0, 10**25, "9" * 50]
    body = spelled([event(i, value) for i, value in enumerate(values * 3)])
    assert found(body) == one_by_one(body)


LOOKS_ALIKE = b'{"specversion":"1.0","id":"%d","source":"s","type":"t","data":{"a":{"b":1},"c":2}}'
"""Each piece below has as many quotes."""


@pytest.mark.parametrize(
    "other",
    [
        b'{"specversion":"1.0","id":"9","source":"s","type":"t","data":{"a":{"b":1,"c":2}}}',
        b'{"specversion":"1.0","id":"9","source":"s","type":"t","data":{"a":{"b":[1]},"c":2}}',
        b'{"specversion":"1.0","id":"9","source":"s","type":"t","data":{"a":{"b":{}},"c":2}}',
        b'{"specversion":"1.0","id":"9","source":"s","type":"t","data":{"a":{"b":1},"c":[{}]}}',
        b'{"specversion":"1.0","id":"9","source":"s","type":"t","data":{"a":{"b":1}},"c":2}',
        b'{"specversion":"1.0","id":"9","source":"s","type":"t","data":{"a":{"b":1},"a":2}}',
        b'{"specversion":"1.0","id":"9","source":"s","type":"t","data":{"a":{"b":1},"c":2 }}',
        b'{"specversion":"1.0","id":"9","source":"s","type":"t","data":{"a":{"c":1},"b":2}}',
        b'{"specversion":"1.1","id":"9","source":"s","type":"t","data":{"a":{"b":1},"c":2}}',
        b'{"specversion":"1.0","id":"9","source":"s","kind":"t","data":{"a":{"b":1},"c":2}}',
        b'{"specversion":"1.0","id":"","source":"s","type":"t","data":{"a":{"b":1},"c":2}}',
        b'{"specversion":"1.0","id":"9","source":"s","type":"t","data":{"a":{"b":01},"c":2}}',
        b'{"specversion":"1.0","id":"9","source":"s","type":"t","data":{"a":{"b":1}},"c":2,{}}',
        b'{"specversion":"1.0","id":"9","source":"s","type":"t","data":{"a":{"b":1e},"c":nul}}',
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_what_only_looks_alike_is_not(other, first):
    good = [LOOKS_ALIKE % number for number in range(4)]
    body = b"[" + b",".join([other, *good] if first else [*good, other]) + b"]"
    made = found(body)
    if made is not None:
        assert made == one_by_one(body)


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": ""},
        {"id": "x" * 1025},
        {"type": UNPARSED_TYPE},
        {"time": "2026-13-01T00:00:00Z"},
        {"time": "9999-01-01T00:00:00Z"},
        {"traceparent": "x"},
        {"specversion": "0.3"},
        {"data": {"bytes": "a\nb"}},
        {"data": {"bytes": "x" * 70_000}},
        {"data": [1]},
    ],
)
def test_what_needs_a_closer_look_is_left_to_the_others(wrong):
    body = spelled([event(0, 1), {**event(1, 1), **wrong}])
    assert found(body) is None
    assert found(spelled([event(1, 1), event(2, 2)]), body) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b"[{}",
        b" [{}]",
        b"[ {}]",
        b'[{"a":"\xff"}]',
        b'[{"a":"\\u0041"}]',
        b"[{}]\n",
    ],
)
def test_bodies_it_does_not_read(body):
    assert split(body, LIMITS, ColumnSet({})) is None


def test_requests_have_bounds():
    body = spelled([event(i, i) for i in range(3)])
    columns = ColumnSet(PATHS)
    assert split(body, AcceptLimits(request_events_max=2), columns) is None
    assert split(body, AcceptLimits(request_bytes_max=len(body) - 1), columns) is None
    assert split(body, AcceptLimits(event_bytes_max=50), columns) is None
    assert split(body, LIMITS, columns) is not None


def test_columns_may_change_on_the_way():
    before, after = ColumnSet({"n_bytes": "$.bytes"}), ColumnSet(PATHS)
    body = spelled([event(i, i) for i in range(5)])
    part = split(body, LIMITS, before)
    made = alike("t", [part], NOW_US, after, LIMITS)
    assert decode(encode(made)).to_pydict() == one_by_one(body)
    strict = AcceptLimits(request_events_max=4)
    assert alike("t", [part], NOW_US, after, strict) is None


def comparing(paths=PATHS) -> ColumnSet:
    """Return columns whose values are found by comparing spellings."""
    columns = ColumnSet(paths)
    columns.find = None
    return columns


def test_too_much_variety_is_left_to_the_others():
    def batch(kinds):
        return spelled([{**event(i, 1), "data": {f"k{i % kinds}": 1}} for i in range(40)])

    assert found(batch(LEARNED_MAX), columns=comparing()) is not None
    assert found(batch(LEARNED_MAX + 1), columns=comparing()) is None


def test_a_spelling_is_learned_once():
    columns = comparing()
    body = spelled([event(i, i) for i in range(5)])
    assert found(body, columns=columns) == found(body, columns=columns)
    assert len(columns.spellings.of(body.count(b'"') // 5)) == 1


def test_the_newest_spellings_are_remembered():
    known = Spellings()
    for number in range(KNOWN_MAX + 5):
        assert known.learn(b'{"id":"%d"}' % number)
    assert len(known.of(4)) == KNOWN_MAX


@pytest.mark.parametrize(
    "text",
    [
        b'{"id":"1","data":{"a":[1,2]}}',
        b'{"id":"1","data":{"a":[["x"],null]}}',
        b'{"id":"1","data":{%s}}' % b",".join(b'"k%d":"v"' % i for i in range(TOKENS_MAX)),
    ],
)
def test_what_quotes_do_not_tell_apart_is_not_learned(text):
    with pytest.raises(ValueError, match=r"array|worth"):
        Spelling(text)
    assert not Spellings().learn(text)


def test_tenants_and_sources_are_part_of_the_identity():
    body = spelled([event(i, 1, 3, f"s{i}") for i in range(10)])
    one, other = found(body, tenant="ä"), found(body, tenant="o")
    assert one == one_by_one(body, "ä")
    assert set(one["id_hi"]).isdisjoint(other["id_hi"])


def kinds_of(order, columns):
    """Return what becomes of events of many spellings, each with as many quotes."""
    events = [{**event(i, 1), "data": {f"k{kind:02}": 1}} for i, kind in enumerate(order)]
    return found(spelled(events), columns=columns)


def test_what_was_tried_in_vain_is_not_tried_on_all(monkeypatch):
    columns = comparing({})
    for first in range(0, KNOWN_MAX, LEARNED_MAX // 2):
        kinds_of([first + i % (LEARNED_MAX // 2) for i in range(20)], columns)
    looked = []
    edges = Spelling.edges

    def counted(spelling, bounds):
        looked.append(len(bounds.starts))
        return edges(spelling, bounds)

    monkeypatch.setattr(Spelling, "edges", counted)
    count = 64 * 20
    kinds_of([KNOWN_MAX - 1 - i % KNOWN_MAX for i in range(count)], columns)
    assert sum(looked) <= LOOKS_MAX * count + SPELLINGS_MAX * KNOWN_MAX
    looked.clear()
    assert kinds_of([0] * count, columns) is not None
    assert sum(looked) <= count + KNOWN_MAX


@pytest.mark.parametrize("first", range(0, 2_000, TAUGHT))
def test_near_misses_are_no_events_of_another_meaning(first, finding):
    told = run(first, TAUGHT // 2, compiled=finding == "compiled")
    assert told["taken"] > 0
