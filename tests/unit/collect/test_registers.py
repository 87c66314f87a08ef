"""Running totals of devices, and messages that carry many readings."""

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallybook.collect.payload.parts import ELEMENTS_MAX
from tallybook.collect.payload.registers import Counter, Register, Registers, moved
from tallybook.collect.payload.rules import Message, PayloadRule, Reader
from tallybook.kernel.errors import Corrupt, Invalid
from tallybook.kernel.event import UNPARSED_TYPE

S = 1_000_000
BEGIN = 1_700_000_000 * S


def register(value: int, at: int, restart: str = "") -> Register:
    return Register(Decimal(value), at, restart)


@pytest.mark.parametrize(
    ("known", "now", "end", "growth", "judgement"),
    [
        (None, register(50, 1), None, 0, "first"),
        (register(50, 5), register(60, 6), None, 10, "forward"),
        (register(50, 5), register(50, 6), None, 0, "forward"),
        (register(50, 5), register(60, 5), None, 0, "repeated"),
        (register(50, 5), register(10, 4, "b"), None, 0, "repeated"),
        (register(50, 5, "a"), register(70, 6, "b"), None, 70, "restart"),
        (register(50, 5, "a"), register(10, 6, "b"), None, 10, "restart"),
        (register(50, 5), register(10, 6, "b"), None, 0, "fell"),  # nobody said `a` before
        (register(50, 5), register(49, 6), None, 0, "jitter"),
        (register(50, 5), register(24, 6), None, 0, "fell"),
        (register(9990, 5), register(20, 6), 10_000, 30, "wrapped"),
        (register(5100, 5), register(90, 6), 10_000, 4990, "wrapped"),
        (register(4900, 5), register(20, 6), 10_000, 0, "fell"),  # the longer way: a restart
        (register(10_000, 5), register(20, 6), 10_000, 0, "fell"),  # the end was never reached
    ],
)
def test_what_a_reading_adds(
    known: Register | None, now: Register, end: int | None, growth: int, judgement: str
) -> None:
    found = moved(known, now, Decimal(end) if end is not None else None)
    assert (found.growth, found.judgement) == (growth, judgement)
    if judgement == "jitter":
        assert known is not None
        assert (found.register.value, found.register.seen_us) == (known.value, now.seen_us)
    elif judgement == "repeated":
        assert found.register == known
    else:
        assert found.register == now


@given(st.lists(st.integers(0, 999), min_size=1), st.randoms(use_true_random=False))
def test_growths_add_up_to_the_register_whatever_is_late_or_repeated(
    steps: list[int], random: Any
) -> None:
    """Readings of a register that only grows, some twice, some late: what is believed is exact."""
    totals = [sum(steps[: n + 1]) for n in range(len(steps))]
    sent = [register(total, at) for at, total in enumerate(totals)]
    mixed = list(sent)
    for reading in random.sample(sent, len(sent) // 2):
        mixed.insert(random.randrange(len(mixed) + 1), reading)
    known: Register | None = None
    counted, first = Decimal(0), None
    for reading in mixed:
        found = moved(known, reading)
        first = reading.value if known is None else first
        known, counted = found.register, counted + found.growth
    assert known is not None
    assert first is not None
    assert counted == known.value - first
    assert known == sent[-1]


@given(st.lists(st.integers(0, 499), min_size=1, max_size=60))
def test_a_register_that_wraps_counts_every_pulse(steps: list[int]) -> None:
    known, total, counted = moved(None, register(0, 0)).register, 0, Decimal(0)
    for at, step in enumerate(steps, 1):
        total += step
        found = moved(known, register(total % 1000, at), Decimal(1000))
        known, counted = found.register, counted + found.growth
    assert counted == total


def test_where_registers_are_kept() -> None:
    kept: dict[str, str] = {}
    registers = Registers("register:m:", kept.get)
    assert registers.get("topic", "device", "value") is None
    registers.put(register(5, 1, "a"), "topic", "device", "value")
    assert registers.get("topic", "device", "value") == register(5, 1, "a")
    assert registers.get("topic", "devicevalue", "") is None
    assert registers.known == 1
    kept |= registers.changed
    again = Registers("register:m:", kept.get, 1)
    again.put(register(6, 2), "topic", "device", "value")
    assert (again.known, list(again.changed)) == (1, list(kept))
    kept[next(iter(kept))] = "["
    with pytest.raises(Corrupt):
        Registers("register:m:", kept.get).get("topic", "device", "value")


def test_declarations_that_cannot_be() -> None:
    for wrong in ({"restart": "boots"}, {"wraps_at": "x"}, {"wraps_at": "-1"}, {"wraps_at": "0"}):
        with pytest.raises(Invalid):
            Counter(**wrong)  # type: ignore[arg-type]
    with pytest.raises(Invalid, match="counters"):
        PayloadRule(topic="t", type="t", numbers={"a": "$.a"}, counters={"b": Counter()})
    with pytest.raises(Invalid):
        PayloadRule(topic="t", type="t", payload="hex", each="$.list", numbers={"a": "$.a"})
    with pytest.raises(Invalid, match="name"):
        PayloadRule(topic="t", type="t", device="{name}", numbers={"a": "$.a"})


class Meter:
    """A rule, and what a spool would keep of it."""

    def __init__(self, **rule: Any) -> None:
        told = {"topic": "m/{line}", "type": "energy", "numbers": {"kwh": "$.kwh"}, **rule}
        self.reader = Reader((PayloadRule(**told),), "mqtt:m")
        self.kept: dict[str, str] = {}
        self.count = 0

    def send(self, body: Any, **more: Any) -> list[dict[str, Any]]:
        """Return the events of a message, read and kept."""
        self.count += 1
        told = {
            "topic": "m/a", "payload": json.dumps(body).encode(), "retained": False,
            "delivery": f"d-{self.count}", "received_us": BEGIN + self.count * S, **more,
        }  # fmt: skip
        registers = Registers("r:", self.kept.get)
        found = list(self.reader.events(Message(**told), registers))
        self.kept |= registers.changed
        return [
            {
                "id": e.id, "type": e.type, "subject": e.subject, "time": e.time,
                "data": msgspec.json.decode(e.data),
            }
            for e in found
        ]  # fmt: skip


def values(found: Sequence[dict[str, Any]], name: str = "kwh") -> list[Any]:
    return [event["data"].get(name) for event in found]


def test_a_running_total_stands_in_the_event_as_its_growth() -> None:
    meter = Meter(counters={"kwh": Counter(restart="$.boots")}, subject="$.id", time="$.at")
    at = "2026-11-21T10:0{}:00Z"
    (first,) = meter.send({"id": "x", "kwh": 100.5, "boots": 1, "at": at.format(0)})
    assert (first["data"], first["type"]) == ({"kwh": 0, "kwh_total": 100.5}, "energy")
    (second,) = meter.send({"id": "x", "kwh": 103, "boots": 1, "at": at.format(1)})
    assert second["data"] == {"kwh": 2.5, "kwh_total": 103, "since": "2026-11-21T10:00:00Z"}
    assert meter.send({"id": "x", "kwh": 103, "boots": 1, "at": at.format(1)}) == []
    assert meter.send({"id": "x", "kwh": 101, "boots": 1, "at": at.format(0)}) == []
    assert values(meter.send({"id": "y", "kwh": 7, "boots": 9, "at": at.format(1)})) == [0]
    assert values(meter.send({"id": "x", "kwh": 4, "boots": 2, "at": at.format(2)})) == [4]
    fell, report = meter.send({"id": "x", "kwh": 1, "boots": 2, "at": at.format(3)})
    assert fell["data"]["kwh"] == 0
    assert report["type"] == "io.tallybook.edge.counter-fell"
    assert report["data"] == {"series": "m/a/x/kwh", "value": 1}
    assert values(meter.send({"id": "x", "kwh": 3, "boots": 2, "at": at.format(4)})) == [2]


def test_a_reading_that_cannot_be_used_moves_no_register() -> None:
    meter = Meter(
        counters={"kwh": Counter()}, numbers={"kwh": "$.kwh", "u": "$.u"}, time="$.at"
    )  # fmt: skip
    meter.send({"kwh": 10, "u": 230, "at": 1_700_000_000})
    for wrong in (
        {"kwh": 20, "u": "x", "at": 1_700_000_010},
        {"kwh": 20, "u": 230, "at": "when?"},
        {"kwh": -1, "u": 230, "at": 1_700_000_010},
    ):
        assert [event["type"] for event in meter.send(wrong)] == [UNPARSED_TYPE]
    assert values(meter.send({"kwh": 25, "u": 229, "at": 1_700_000_020})) == [15]


def test_growth_that_comes_again_under_another_delivery_has_the_same_identity() -> None:
    """The agent was killed before it kept what it had read, and the message comes anew."""
    meter = Meter(counters={"kwh": Counter()}, id="$.seq")
    meter.send({"seq": 1, "kwh": 5})
    before = dict(meter.kept)
    (first,) = meter.send({"seq": 2, "kwh": 8})
    meter.kept = before
    (again,) = meter.send({"seq": 2, "kwh": 8})
    assert (first["id"], first["data"]["kwh"]) == (again["id"], again["data"]["kwh"])
    (third,) = meter.send(
        {"seq": 2, "kwh": 8}
    )  # a device that sends twice: nothing, and told apart
    assert third["data"]["kwh"] == 0
    assert third["id"] != first["id"]


def test_levels_beside_a_register_that_stands_still_are_events_of_their_own() -> None:
    meter = Meter(counters={"kwh": Counter()}, numbers={"kwh": "$.kwh", "u": "$.u"})
    found = [meter.send({"kwh": 5, "u": u})[0] for u in (230, 231, 232)]
    assert values(found, "u") == [230, 231, 232]
    assert len({event["id"] for event in found}) == 3


def test_every_element_of_a_list_is_an_event() -> None:
    meter = Meter(each="$.readings", subject="$.device", time="$.t", keep=True)
    body = {
        "device": "gw", "unit": "kWh",
        "readings": [
            {"t": 1_700_000_000, "kwh": 1.50},
            {"t": 1_700_000_060, "kwh": 2, "device": "x"},
        ],
    }  # fmt: skip
    first, second = meter.send(body)
    assert first["data"] == {"device": "gw", "unit": "kWh", "t": 1_700_000_000, "kwh": 1.5}
    assert (first["subject"], second["subject"]) == ("gw", "x")
    assert second["time"] == "2023-11-14T22:14:20Z"
    body["readings"] = [body["readings"][1], {"t": 1_700_000_120, "kwh": 3}]  # type: ignore[index]
    again, third = meter.send(body)
    assert again["id"] == second["id"]  # in another place, in another message
    assert len({first["id"], second["id"], third["id"]}) == 3


def test_a_message_that_is_a_list_and_elements_that_are_plain() -> None:
    meter = Meter(each="$")
    assert values(meter.send([{"kwh": 1}, {"kwh": 2}])) == [1, 2]
    plain = Meter(each="$.v", numbers={"kwh": "$.value"}, attributes={"channel": "$.index"})
    found = plain.send({"v": [5, 5]})
    assert [event["data"] for event in found] == [
        {"channel": "0", "kwh": 5}, {"channel": "1", "kwh": 5},
    ]  # fmt: skip
    assert len({event["id"] for event in found}) == 2
    assert plain.send({"v": []}) == []


@pytest.mark.parametrize("identity", [{"id": "$.seq"}, {"time": "$.at"}, {}])
def test_elements_without_an_identity_of_their_own_are_told_apart_by_their_place(
    identity: dict[str, str],
) -> None:
    meter = Meter(each="$.r", **identity)
    body = {"seq": 7, "at": 1_700_000_000, "r": [{"kwh": 1}, {"kwh": 1}, {"kwh": 1}]}
    found = meter.send(body)
    assert len({event["id"] for event in found}) == 3
    again = meter.send(body)
    assert ([e["id"] for e in again] == [e["id"] for e in found]) == bool(identity)


def test_one_bad_element_goes_to_quarantine_alone() -> None:
    meter = Meter(each="$.r", id="$.seq")
    found = meter.send({"seq": 1, "r": [{"kwh": 1}, {"kwh": "x"}, {"kwh": 3}, {"nothing": 1.10}]})
    kinds = ["energy", UNPARSED_TYPE, "energy", UNPARSED_TYPE]
    assert [event["type"] for event in found] == kinds
    assert found[1]["data"]["line"] == '{"kwh":"x"}'
    assert found[3]["data"]["line"] == '{"nothing":1.1}'
    assert len({event["id"] for event in found}) == 4
    for wrong in ({"seq": 1}, {"seq": 1, "r": {}}, {"seq": 1, "r": [0] * (ELEMENTS_MAX + 1)}):
        assert [event["type"] for event in meter.send(wrong)] == [UNPARSED_TYPE]
    assert [event["type"] for event in Meter(each="$").send({"kwh": 1})] == [UNPARSED_TYPE]


def test_registers_of_a_list_without_times_count_each_reading_once() -> None:
    meter = Meter(each="$.r", counters={"kwh": Counter()}, device="$.channel")
    meter.send({"r": [{"channel": 1, "kwh": 10}, {"channel": 2, "kwh": 50}]})
    found = meter.send(
        {"r": [{"channel": 1, "kwh": 12}, {"channel": 2, "kwh": 51}, {"channel": 1, "kwh": 15}]}
    )
    assert values(found) == [2, 1, 3]


def test_a_register_in_bytes_with_an_end() -> None:
    rule = msgspec.convert(
        {
            "topic": "m/{line}", "type": "pulses", "payload": "hex", "device": "{line}",
            "numbers": {"n": {"offset": 0, "width": 2, "bcd": True}},
            "counters": {"n": {"wraps_at": "10000"}},
        },
        PayloadRule,
    )  # fmt: skip
    kept: dict[str, str] = {}
    found = []
    for number, text in enumerate((b"9990", b"0015", b"0016")):
        registers = Registers("r:", kept.get)
        message = Message(
            topic="m/7", payload=text, retained=False, delivery=f"d{number}",
            received_us=BEGIN + number,
        )  # fmt: skip
        found += list(Reader((rule,), "s").events(message, registers))
        kept |= registers.changed
    assert [msgspec.json.decode(event.data)["n"] for event in found] == [0, 25, 1]
