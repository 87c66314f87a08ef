"""Messages of devices: numbers, topics, payload rules, numbered deliveries, StatsD."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallybook.collect.payload.numbers import Number, bytes_of_hex, of_bytes, of_value
from tallybook.collect.payload.rules import Message, PayloadRule, Reader
from tallybook.collect.payload.session import KEPT_MAX, Session, delivered, session_gap
from tallybook.collect.payload.statsd import BAD_MAX, Tally, Told
from tallybook.collect.payload.topics import filled, matcher, names, subscription
from tallybook.kernel.errors import Invalid

VALUE = {"value": "$.v"}


@pytest.mark.parametrize(
    ("told", "payload", "expected"),
    [
        ({}, "00ff", 255),
        ({"order": "little"}, "00ff", 65280),
        ({"signed": True}, "ff", -1),
        ({"offset": 1, "width": 2, "scale": "0.001"}, "aa 03:E8-bb", Decimal(1)),
        ({"offset": -1}, "0102", 2),
        ({"bcd": True}, "1234", 1234),
        ({"bcd": True, "order": "little", "scale": "0.1"}, "3412", Decimal("123.4")),
        ({"add": "-40", "scale": "0.5"}, "64", 10),
        ({"width": 16}, "ff" * 16, "below 1e20"),
        ({"width": 3}, "0102", "asked for"),
        ({"offset": 9}, "0102", "asked for"),
        ({}, "00" * 17, "say the width"),
        ({"bcd": True}, "0f", "not BCD"),
    ],
)
def test_numbers_out_of_bytes(told, payload, expected):
    found = of_bytes(Number(**told), bytes_of_hex(payload) or b"")
    assert found == expected if not isinstance(expected, str) else expected in str(found)


def test_texts_that_spell_no_bytes_and_values_that_are_no_numbers():
    assert [bytes_of_hex(t) for t in ("", "0", "xy", "0x")] == [None] * 4
    assert bytes_of_hex("0x0A") == b"\n"
    assert of_value(Number(), Decimal("1.50")) == Decimal("1.5")
    assert of_value(Number(scale="10"), "2.5") == 25
    assert of_value(Number(hex=True), "10") == 16
    for value in (True, None, [1], "x"):
        assert "not a number" in str(of_value(Number(), value))
    assert "not hexadecimal" in str(of_value(Number(hex=True), 5))
    for wrong in ({"width": 0}, {"scale": "x"}, {"bcd": True, "signed": True}, {"path": "x"}):
        with pytest.raises(Invalid):
            Number(**wrong)


@given(
    st.integers(1, 8), st.sampled_from(["big", "little"]), st.booleans(), st.data(),
    st.binary(max_size=4), st.binary(max_size=4),
)  # fmt: skip
def test_what_a_device_packs_is_read_back(width, order, signed, data, before, after):
    low, high = (
        (-(2 ** (8 * width - 1)), 2 ** (8 * width - 1) - 1) if signed else (0, 2 ** (8 * width) - 1)
    )
    value = data.draw(st.integers(low, high))
    packed = before + value.to_bytes(width, order, signed=signed) + after
    told = Number(
        hex=True, offset=len(before), width=width, signed=signed, order=order, scale="0.01"
    )
    assert of_value(told, packed.hex()) == Decimal(value).scaleb(-2)


def test_topics():
    assert subscription("plant/{line}/+/#") == "plant/+/+/#"
    found = matcher("plant/{line}/+/#").match("plant/a/b/c/d")
    assert found is not None
    assert found["line"] == "a"
    assert matcher("plant/#").match("plant")
    assert matcher("#").match("x/y")
    assert not matcher("#").match("$SYS/x")
    assert not matcher("a/+").match("a/b/c")
    assert not matcher("a.b").match("axb")
    assert filled("m-{line}", {"line": "x"}) == "m-x"
    assert names("{a}/{b_2}") == {"a", "b_2"}
    for wrong in ("", "a/#/b", "a+/b", "{a}/{a}", "a/{B}", "x" * 2000):
        with pytest.raises(Invalid):
            subscription(wrong)


def message(
    payload: bytes | str, topic: str = "m/7", *, retained: bool = False, delivery: str = "e-1"
):
    body = payload.encode() if isinstance(payload, str) else payload
    return Message(topic=topic, payload=body, retained=retained, delivery=delivery, received_us=1)


def only(rule: PayloadRule, payload, **more):
    (found,) = Reader((rule,), "mqtt:m").events(message(payload, **more))
    return found, json.loads(bytes(found.data), parse_float=Decimal)


def test_a_json_message():
    rule = PayloadRule(
        topic="m/{dev}", type="energy.{dev}", subject="$.who", time="$.at", id="$.n", keep=True,
        numbers={"value": Number(path="$.raw[1]", hex=True, scale="0.1"), "plain": "$.v"},
        attributes={"site": "s-{dev}", "unit": "$.unit", "none": "$.gone"},
    )  # fmt: skip
    body = (
        '{"who":"w","at":1700000000,"n":"1","raw":["00","0a"],"v":1.50,"unit":"kWh",'
        '"x":{"y":[2.0]}}'
    )
    found, data = only(rule, body)
    assert (found.type, found.subject, found.time) == ("energy.7", "w", "2023-11-14T22:13:20Z")
    assert data["value"] == 1
    assert data["plain"] == Decimal("1.5")
    assert data["site"] == "s-7"
    assert data["unit"] == "kWh"
    assert data["none"] is None
    assert data["x"] == {"y": [2]}


def test_identity_by_id_by_time_and_by_delivery():
    by_id = PayloadRule(topic="m/+", type="t", id="$.n", numbers=VALUE)
    one, _ = only(by_id, '{"n":1,"v":2}')
    again, _ = only(by_id, '{"n":1,"v":3}', delivery="e-2")
    other, _ = only(by_id, '{"n":1,"v":2}', topic="m/8")
    assert one.id == again.id != other.id
    by_time = PayloadRule(topic="m/+", type="t", time="$.at", numbers=VALUE)
    first, _ = only(by_time, '{"at":1,"v":2}')
    assert first.id == only(by_time, '{"at":1,"v":2}', delivery="e-2")[0].id
    assert first.id != only(by_time, '{"at":2,"v":2}')[0].id
    neither = PayloadRule(topic="m/+", type="t", numbers=VALUE)
    assert only(neither, '{"v":2}')[0].id == "e-1"


def test_retained_messages_count_only_under_an_identity_of_their_own():
    neither = PayloadRule(topic="m/+", type="t", numbers=VALUE)
    assert not list(Reader((neither,), "s").events(message('{"v":1}', retained=True)))
    by_id = PayloadRule(topic="m/+", type="t", id="$.n", numbers=VALUE)
    assert only(by_id, '{"n":1,"v":1}', retained=True)[0].type == "t"
    bad, _ = only(by_id, "x", retained=True)
    assert bad.id.startswith("bad-")
    assert not list(Reader((by_id,), "s").events(message("{}", topic="other")))


def test_other_payloads():
    number = PayloadRule(topic="m/+", type="t", payload="number")
    assert only(number, " 1.50 ")[1] == {"value": Decimal("1.5")}
    hexes = PayloadRule(topic="m/+", type="t", payload="hex", numbers={"v": Number(width=1)})
    assert only(hexes, "0aff")[1] == {"v": 10}
    binary = PayloadRule(topic="m/+", type="t", payload="binary", numbers={"v": Number(offset=1)})
    assert only(binary, b"\x00\xff")[1] == {"v": 255}
    assert only(binary, b"\xff")[1]["line"] == "ff"


@pytest.mark.parametrize(
    ("more", "payload"),
    [
        ({}, "x"), ({}, "[1]"), ({}, b"\xff"), ({}, "{}"), ({}, '{"v":true}'),
        ({}, '{"v":1,"v":2}'),
        ({"subject": "$.s"}, '{"v":1}'), ({"time": "$.t"}, '{"v":1,"t":"x"}'),
        ({"id": "$.n"}, '{"v":1}'), ({"keep": True}, '{"v":1,"x":"' + "y" * 70_000 + '"}'),
        ({}, b"x" * 2_000_000), ({"payload": "hex", "numbers": {"v": Number()}}, "zz"),
    ],
)  # fmt: skip
def test_what_a_rule_cannot_read_goes_to_quarantine(more, payload):
    rule = PayloadRule(**{"topic": "m/+", "type": "t", "numbers": VALUE, **more})
    found, data = only(rule, payload)
    assert found.type == "io.tallybook.unparsed"
    assert data["code"] in {"payload-malformed", "line-malformed"}
    assert data["origin"] == "mqtt:m#m/7"


@pytest.mark.parametrize(
    "told",
    [
        {"subject": "{dev}"}, {"time": "at"}, {"numbers": {}}, {"numbers": {"v": "$["}},
        {"payload": "hex", "keep": True}, {"payload": "number", "subject": "$.x"},
    ],
)  # fmt: skip
def test_rules_that_cannot_be(told):
    with pytest.raises(Invalid):
        PayloadRule(**{"topic": "m/+", "type": "t", "numbers": VALUE, **told})
    with pytest.raises(Invalid, match="1 to"):
        Reader((), "s")


def test_a_delivery_that_is_repeated_has_the_number_it_had():
    session = Session(epoch="e")
    first = delivered(session, 5, "t", b"x", duplicate=False)
    again = delivered(first.session, 5, "t", b"x", duplicate=True)
    assert (again.name, again.repeated) == (first.name, True)
    assert not delivered(first.session, 5, "t", b"y", duplicate=True).repeated
    assert not delivered(first.session, 6, "t", b"x", duplicate=True).repeated
    assert not delivered(first.session, 5, "t", b"x", duplicate=False).repeated
    loose = delivered(session, 0, "t", b"x", duplicate=True)
    assert (loose.repeated, loose.session.recent) == (False, ())
    for packet in range(1, KEPT_MAX + 50):
        session = delivered(session, packet, "t", b"x", duplicate=False).session
    assert len(session.recent) == KEPT_MAX
    assert session_gap(session, "s", 1).type == "io.tallybook.edge.gap"


@given(st.lists(st.tuples(st.integers(1, 6), st.booleans()), max_size=40))
def test_however_often_a_broker_repeats_every_message_has_one_name(plan):
    """Packets are sent in turn; before each acknowledgement a message may come again."""
    session, seen = Session(epoch="e"), {}
    for number, (_, repeats) in enumerate(plan, 1):
        packet = number % 65535 + 1
        found = delivered(session, packet, "t", b"same", duplicate=False)
        session = found.session
        seen.setdefault(found.name, number)
        if repeats:
            again = delivered(session, packet, "t", b"same", duplicate=True)
            assert again.name == found.name
            session = again.session
    assert len(seen) == len(plan)


def tallied(*lines: str, told: Told | None = None):
    tally = Tally()
    for line in lines:
        tally.add(line.encode(), "udp")
    events = tally.events(told or Told(source="s"), "e", 1, 0)
    return [
        (e.type, e.subject, json.loads(bytes(e.data), parse_float=Decimal)) for e in events
    ], tally


def test_statsd_adds_up():
    found, tally = tallied(
        "a:1|c\na:2|c\n\n", "a:1:2|c|#x:1", "s:1|c|@0.3", "g:5|g\ng:-2|g", "t:1.5|ms|@0.5\nt:2.5|h",
        "u:x|s", "_e{1,1}:a|b", "d:1|d|#",
        told=Told(source="s", prefix="p.", subject="x", default="nobody"),
    )  # fmt: skip
    assert [(kind, who, data.get("value")) for kind, who, data in found[:4]] == [
        ("p.a", "nobody", 3), ("p.a", "1", 3), ("p.s", "nobody", Decimal("3.333333333333")),
        ("p.g", "nobody", 3),
    ]  # fmt: skip
    assert found[2][2]["estimated"] is True
    spread = [data for kind, _, data in found if kind == "p.t"]
    assert spread == [{"count": 3, "sum": Decimal("5.5"), "transport": "udp", "estimated": True}]
    assert tally.dropped == {"sets": 1, "DogStatsD events and service checks": 1}
    assert tally.events(Told(source="s"), "e", 2, 0) == []


@pytest.mark.parametrize(
    "line",
    ["x", "a:1", "a:1|q", "a:x|c", "a:1|c|@2", "a:1|c|@0", "a:-1|c", "a:1e25|c", ":1|c", "a:NaN|g",
     "a:" + "1" * 9000 + "|c"],
)  # fmt: skip
def test_statsd_lines_that_are_none_go_to_quarantine(line):
    found, _ = tallied(line)
    assert [kind for kind, _, _ in found] == ["io.tallybook.unparsed"]


def test_statsd_keeps_so_many_bad_lines_and_counts_the_rest():
    found, tally = tallied("\n".join(["bad"] * (BAD_MAX + 5)))
    assert len(found) == BAD_MAX
    assert sum(tally.dropped.values()) == 5


def test_a_tag_under_our_name_is_kept_beside_it():
    found, _ = tallied("a:1|c|#value:x")
    assert found[0][2] == {"value": 1, "tag_value": "x", "transport": "udp"}


@given(st.lists(st.tuples(st.sampled_from("ab"), st.decimals(0, 10**6, places=3)), max_size=40))
def test_statsd_sums_are_exact(lines):
    found, _ = tallied("\n".join(f"{name}:{value}|c" for name, value in lines))
    sums = {kind[-1]: Decimal(data["value"]) for kind, _, data in found}
    for name in "ab":
        assert sums.get(name, 0) == sum((v for n, v in lines if n == name), Decimal(0))


@given(st.binary(max_size=200))
def test_no_bytes_raise(data):
    tally = Tally()
    tally.add(data, "udp")
    tally.events(Told(source="s"), "e", 1, 0)
    rule = PayloadRule(topic="#", type="t", numbers=VALUE, keep=True)
    list(Reader((rule,), "s").events(message(data)))
