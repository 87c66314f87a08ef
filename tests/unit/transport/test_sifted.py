"""Many events with odd ones among them: the answer of `accept`, each event in its place."""

import json
import random

import pytest

from tallybook.kernel.errors import Invalid
from tallybook.kernel.event import UNPARSED_TYPE
from tallybook.transport import places, sifted
from tallybook.transport.accept import AcceptLimits, accept
from tallybook.transport.alike import EVENTS_MIN, Alike
from tallybook.transport.codec import decode, encode
from tallybook.transport.columns import ColumnSet
from tallybook.transport.rows import Rows
from tallybook.transport.sifted import accept_many

NOW_US = 1_795_219_200_000_000
LIMITS = AcceptLimits(event_bytes_max=2_000)
COLUMNS = ColumnSet({"n_bytes": "$.bytes", "t_region": "$.region"})


def event(number: int, **more) -> dict:
    data = {"bytes": number, "region": "eu"}
    time = f"2026-11-01T00:00:{number % 60:02}Z"
    core = {"specversion": "1.0", "id": f"e{number}", "source": "/s", "type": "t", "time": time}
    return {**core, "data": data, **more}


def without(number: int, name: str) -> dict:
    return {key: value for key, value in event(number).items() if key != name}


ODD = {
    "an escape": lambda n: event(n, data={"bytes": n, "region": 'e"u'}),
    "an extension": lambda n: event(n, traceparent="00-1"),
    "another zone": lambda n: event(n, time="2026-11-01T01:00:00+01:00"),
    "no time": lambda n: without(n, "time"),
    "no data": lambda n: without(n, "data"),
    "wrong version": lambda n: event(n, specversion="0.9"),
    "no id": lambda n: without(n, "id"),
    "empty subject": lambda n: event(n, subject=""),
    "data no object": lambda n: event(n, data=[1]),
    "not yet": lambda n: event(n, time="2036-11-01T00:00:00Z"),
    "no such time": lambda n: event(n, time="2026-13-01T00:00:00Z"),
    "no time at all": lambda n: event(n, time="yesterday"),
    "filed": lambda n: event(n, type=UNPARSED_TYPE, data={"code": "c", "message": "m"}),
    "no report": lambda n: event(n, type=UNPARSED_TYPE),
    "too large": lambda n: event(n, data={"x": "y" * 3_000}),
    "no event": lambda n: n,
    "same identity": lambda n: event(0, data={"bytes": n}),
}


def spelled(events) -> bytes:
    return json.dumps(events, separators=(",", ":")).encode()


def same(body: bytes, limits: AcceptLimits = LIMITS) -> Rows | Alike:
    """Return what is made of a body, which is what `accept` makes of it."""
    rows, refused = accept("t", body, NOW_US, COLUMNS, limits)
    many, told = accept_many("t", body, NOW_US, COLUMNS, limits)
    found, wanted = decode(encode(many)), decode(encode(rows))
    assert found.schema == wanted.schema
    assert found.to_pydict() == wanted.to_pydict()
    assert len(many) == len(rows)
    assert rows.data_bytes - len(b"null") * len(rows) <= many.data_bytes <= rows.data_bytes
    assert told == refused
    return many


@pytest.fixture
def compiled():
    if not places.COMPILED:
        pytest.skip("the package was built without a C compiler")


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("odd", [{0}, {299}, {7, 8, 150}, set(range(0, 90, 3))])
@pytest.mark.usefixtures("compiled")
def test_odd_ones_have_their_place(kind, odd):
    events = [ODD[kind](n) if n in odd else event(n) for n in range(300)]
    assert isinstance(same(spelled(events)), Alike)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.usefixtures("compiled")
def test_odd_ones_of_all_kinds(seed):
    chosen = random.Random(seed)
    kinds = list(ODD.values())
    events = [
        chosen.choice(kinds)(n) if chosen.random() < seed / 30 else event(n) for n in range(400)
    ]
    assert isinstance(same(spelled(events)), Alike)


def test_a_key_that_occurs_twice_is_told():
    events = [spelled(event(n)) for n in range(EVENTS_MIN + 1)]
    events[5] = events[5].replace(b'"bytes":5', b'"bytes":5,"bytes":6')
    body = b"[" + b",".join(events) + b"]"
    same(body)
    _, (refused) = accept_many("t", body, NOW_US, COLUMNS, LIMITS)
    assert [(one.index, one.problem.code) for one in refused] == [(5, "malformed")]


@pytest.mark.parametrize("usual", [0, 1, EVENTS_MIN - 1])
def test_few_usual_ones_are_left_to_the_other_roads(usual):
    events = [ODD["an escape"](n) if n >= usual else event(n) for n in range(300)]
    assert isinstance(same(spelled(events)), Rows)


@pytest.mark.parametrize("between", [b",\n", b", ", b"\t,\r\n"])
@pytest.mark.usefixtures("compiled")
def test_events_with_space_between_them(between):
    events = [spelled(ODD["an escape"](n) if n == 9 else event(n)) for n in range(300)]
    assert isinstance(same(b"[\n" + between.join(events) + b" ]\n"), Alike)


@pytest.mark.parametrize("wrong", [b'"\xff"', b'"\xed\xa0\x80"', b"[" * 400 + b"]" * 400])
@pytest.mark.usefixtures("compiled")
def test_a_value_that_is_none(wrong):
    events = [spelled(event(n)) for n in range(300)]
    events[33] = events[33].replace(b'"eu"', wrong)
    same(b"[" + b",".join(events) + b"]")


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.usefixtures("compiled")
def test_an_event_is_the_same_in_any_company(kind):
    odd = ODD[kind](5)
    found = []
    for others in (0, 50, 300):
        body = spelled([event(1000 + n) for n in range(others)] + [odd])
        rows, refused = accept_many("t", body, NOW_US, COLUMNS, LIMITS)
        kept = decode(encode(rows)).slice(others).to_pydict()
        found.append((kept, [(one.index - others, one.problem) for one in refused]))
    assert found[0] == found[1] == found[2]


def test_a_key_that_is_bound_is_asked_of_every_event():
    body = spelled([event(n, subject=f"s{n % 2}") for n in range(300)])
    rows, refused = accept_many("t", body, NOW_US, COLUMNS, LIMITS, {"s0"})
    assert len(rows) == 300
    assert [one.index for one in refused] == list(range(1, 300, 2))


@pytest.mark.parametrize(
    ("body", "limits", "code"),
    [
        (spelled([event(n) for n in range(300)])[:-1], LIMITS, "malformed"),
        (
            spelled([event(n) for n in range(300)]),
            AcceptLimits(request_events_max=299),
            "too-large",
        ),
        (spelled([event(n) for n in range(300)]), AcceptLimits(request_bytes_max=99), "too-large"),
    ],
)
def test_what_is_wrong_with_a_whole_request_is_told_alike(body, limits, code):
    said = []
    for road in (accept, accept_many):
        with pytest.raises(Invalid) as told:
            road("t", body, NOW_US, COLUMNS, limits)
        said.append((told.value.code, told.value.message, told.value.field))
    assert said[0] == said[1]
    assert said[0][0] == code


@pytest.mark.parametrize("kind", ["wrong version", "not yet", "no such time", "filed"])
@pytest.mark.usefixtures("compiled")
def test_usual_ones_are_not_looked_at_one_by_one(monkeypatch, kind):
    seen: list[bytes] = []

    def noted(tenant, body, *rest):
        seen.append(body)
        return accept(tenant, body, *rest)

    monkeypatch.setattr(sifted, "accept", noted)
    odd = ODD[kind](100)
    body = spelled([odd if n == 100 else event(n) for n in range(300)])
    accept_many("t", body, NOW_US, COLUMNS, LIMITS)
    assert seen == [spelled([odd])]
