"""No number keeps a front door busy, breaks it, or counts for what it is not.

Every door is sent every number; what is counted in the end is the good one that came last.
"""

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from typing import Any

import cramjam
import pytest

from tallybook.adapters.protobuf import remote_write
from tallybook.collect.formats.jsonlog import parse_json
from tallybook.collect.intervals import columns, nem12
from tallybook.collect.payload.numbers import Number, of_value
from tallybook.collect.payload.statsd import Tally, Told
from tallybook.collect.scrape.exposition import points
from tallybook.kernel.decimals import is_countable, measure, parse_decimal
from tallybook.kernel.errors import Unavailable
from tests.support.gatehouse.house import FIRST_KEY, House, house

WHOLE = ["9" * 5000, "-" + "9" * 30, "9" * 25, "1" + "0" * 400]
HOSTILE = [
    *WHOLE, "1e999999999", "1e-999999999", "-1e999999999", "-1e-999999999", "0e-999999999",
    "0e999999999", "1e99999999999999999999", "1e-99999999999999999999", "1e400", "1e-400",
    "0." + "0" * 5000 + "1", "0." + "3" * 900, "1e20", "NaN", "Infinity", "-Infinity",
]  # fmt: skip
GOOD = "2"
CPU_SECONDS_MAX = 10
"""Of all numbers at one door: writing one of them out took six, and a gigabyte."""
MS = 1_780_000_000_000
"""A time of 2026, in milliseconds."""
JSON = {"content-type": "application/json"}

Request = tuple[str, dict[str, str], bytes]
Door = Callable[[str, int], Request]


def text_of(members: dict[str, Any], number: str) -> bytes:
    """Return JSON whose "NUMBER" is the number as it is spelled."""
    return json.dumps(members).replace('"NUMBER"', number).encode()


def events(number: str, place: int) -> Request:
    event = {"id": f"e{place}", "source": "s", "type": "events", "specversion": "1.0"}
    body = text_of([event | {"data": {"value": "NUMBER"}}], number)
    return "/api/v1/events", {"content-type": "application/cloudevents-batch+json"}, body


def texts(number: str, place: int) -> Request:
    path, kind, _ = events(number, place)
    event = {"id": f"t{place}", "source": "s", "type": "texts", "specversion": "1.0"}
    return path, kind, json.dumps([event | {"data": {"value": number}}]).encode()


def openmeter(number: str, place: int) -> Request:
    event = {"id": f"o{place}", "source": "s", "type": "openmeter", "specversion": "1.0",
             "subject": "x", "data": {"value": "NUMBER"}}  # fmt: skip
    kind = {"content-type": "application/cloudevents+json", "user-agent": "openmeter-python/1"}
    return "/openmeter/api/v1/events", kind, text_of(event, number)


def otlp(number: str, place: int, field: str = "asDouble", kind: str = "gauge") -> Request:
    labels = [{"key": name, "value": {name: number}} for name in ("intValue", "doubleValue")]
    point = {
        field: "NUMBER", "timeUnixNano": str((MS + place) * 1_000_000), "attributes": labels
    }  # fmt: skip
    metric = {"name": f"otlp.{kind}.{field}", kind: {"dataPoints": [point]}}
    told = {"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]}
    return "/v1/metrics", JSON, text_of(told, number)


def otlp_whole(number: str, place: int) -> Request:
    return otlp(json.dumps(number), place, "asInt")


def influx(number: str, place: int) -> Request:
    line = f"influx,host=a value={number} {(MS + place) * 1_000_000}"
    return "/api/v2/write", {}, line.encode()


def influx_whole(number: str, place: int) -> Request:
    line = f"influx.whole,host=a value={number}i {(MS + place) * 1_000_000}"
    return "/api/v2/write", {}, line.encode()


def vector(number: str, place: int) -> Request:
    return "/api/v1/logs", JSON, text_of({"type": "vector", "n": place, "value": "NUMBER"}, number)


def vector_metric(number: str, place: int) -> Request:
    metric = {"name": "vector.metric", "kind": "absolute", "gauge": {"value": "NUMBER"},
              "tags": {"n": str(place)}}  # fmt: skip
    return "/api/v1/logs", JSON, text_of(metric, number)


def prometheus(number: str, place: int) -> Request:
    request = remote_write._v1()()
    series = request.timeseries.add()
    series.labels.add(name="__name__", value="prometheus")
    series.samples.add(value=float(number), timestamp=MS + place)
    kind = {"content-type": "application/x-protobuf", "content-encoding": "snappy"}
    return "/api/v1/write", kind, bytes(cramjam.snappy.compress_raw(request.SerializeToString()))


def stripe(number: str, place: int) -> Request:
    form = {"content-type": "application/x-www-form-urlencoded"}
    body = f"event_name=stripe&payload[stripe_customer_id]=s&payload[value]={number}"
    return "/v1/billing/meter_events", form, f"{body}&identifier=i{place}".encode()


def lago(number: str, place: int) -> Request:
    event = {"transaction_id": f"l{place}", "external_subscription_id": "s", "code": "lago",
             "properties": {"value": "NUMBER"}}  # fmt: skip
    return "/api/v1/events", JSON, text_of({"event": event}, number)


def lago_amount(number: str, place: int) -> Request:
    event = {"transaction_id": f"a{place}", "external_subscription_id": "s", "code": "lago.amount",
             "precise_total_amount_cents": number, "properties": {"value": number}}  # fmt: skip
    return "/api/v1/events", JSON, json.dumps({"event": event}).encode()


DOORS: dict[str, Door] = {
    "events": events, "texts": texts, "openmeter": openmeter, "otlp.gauge.asDouble": otlp,
    "otlp.gauge.asInt": otlp_whole, "influx": influx, "influx.whole": influx_whole,
    "vector": vector, "vector.metric": vector_metric, "prometheus": prometheus,
    "stripe": stripe, "lago": lago, "lago.amount": lago_amount,
}  # fmt: skip
"""Type of the events -> how a number is sent there."""


def in_times(number: str) -> list[Request]:
    """Return requests in which the number says when."""
    lago_event = {"transaction_id": "lt", "external_subscription_id": "s", "code": "when",
                  "timestamp": "NUMBER"}  # fmt: skip
    point = {"asDouble": 1, "timeUnixNano": "NUMBER"}
    metric = {"name": "when", "gauge": {"dataPoints": [point]}}
    told = {"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]}
    form = {"content-type": "application/x-www-form-urlencoded"}
    event = b"event_name=when&payload[stripe_customer_id]=s&payload[value]=1&timestamp="
    return [
        ("/api/v1/events", JSON, text_of({"event": lago_event}, number)),
        ("/api/v1/events", JSON, text_of({"event": lago_event}, json.dumps(number))),
        ("/v1/metrics", JSON, text_of(told, json.dumps(number))),
        ("/v1/metrics", JSON, text_of(told, number)),
        ("/api/v2/write", {}, f"when value=1 {number}".encode()),
        ("/api/v1/logs", JSON, text_of({"type": "when", "timestamp": "NUMBER"}, number)),
        ("/v1/billing/meter_events", form, event + number.encode()),
    ]


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    before = time.process_time()
    yield
    assert time.process_time() - before < CPU_SECONDS_MAX


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with house(tmp_path_factory.mktemp("numbers") / "data") as made:
        for kind in DOORS:
            meter = {"key": kind.replace(".", "_").lower(), "event_type": kind,
                     "aggregation": "MAX", "value": "$.value"}  # fmt: skip
            assert made.ask("POST", "/api/v1/meters", FIRST_KEY, meter).status == 201
        yield made


def send(server: House, request: Request) -> int:
    path, headers, body = request
    answer = server.ask("POST", path, FIRST_KEY, body, headers)
    assert answer.status < 500, (path, body[:80], answer.body[:300])
    return answer.status


@pytest.mark.parametrize("kind", DOORS)
def test_a_door_takes_or_refuses_it_and_counts_what_is_good(server: House, kind: str) -> None:
    if kind == "prometheus":
        spelled = ["NaN", "Infinity", "-Infinity", "5e-324", "1.7e308", "-1.7e308", "1e20"]
    else:
        spelled = HOSTILE
    for place, number in enumerate(spelled):
        send(server, DOORS[kind](number, place))
    assert send(server, DOORS[kind](GOOD, len(spelled))) in {200, 201, 204}
    while server.pump.step() is not None:
        pass
    key = kind.replace(".", "_").lower()
    path = f"/api/v1/meters/{key}/query"
    (row,) = server.ask("GET", path, FIRST_KEY).json["data"]
    assert Decimal(str(row["value"])) == Decimal(GOOD)
    listed = server.ask("GET", f"/api/v1/events?type={kind}&limit=100", FIRST_KEY)
    assert (listed.status, len(listed.json["items"]) > 0) == (200, True)


def test_nor_where_it_says_when(server: House) -> None:
    for number in HOSTILE:
        for request in in_times(number):
            send(server, request)
    while server.pump.step() is not None:
        pass


def test_no_line_of_statsd_holds_the_agent_up() -> None:
    tally = Tally()
    for number in HOSTILE:
        for line in (f"c:{number}|c", f"g:{number}|g", f"g:+{number}|g", f"t:{number}|ms",
                     f"r:1|c|@{number}", f"r:{number}|c|@0.1"):  # fmt: skip
            tally.add(line.encode(), "udp")
    told = tally.events(Told(source="s"), "e", 1, MS * 1000)
    assert all(len(event.data) < 12_000 for event in told)


def test_no_cell_of_a_file_holds_the_agent_up() -> None:
    told = columns.Columns(
        time="t", values={"v": "kWh"}, meter="m", time_format="%Y-%m-%d %H:%M", minutes=30
    )
    for number in HOSTILE:
        (row,) = columns.rows(["m,t,v\n", f"a,2026-11-01 00:00,{number}\n"], told)
        judged = [measure(str(one.value))[0] for one in row.intervals]
        assert judged in ([], [0], [measure(number)[0]]), number[:30]
        day = ",".join([number, *["1"] * 47])
        file = ["100,NEM12,202001010000,A,B\n", "200,N,E1,1,E1,N1,M,kWh,30,\n",
                f"300,20261101,{day},A,,,\n", "900\n"]  # fmt: skip
        assert sum(row.problem is not None for row in nem12.rows(file)) == 1


def test_no_reading_of_a_device_or_a_page_holds_the_agent_up() -> None:
    for number in HOSTILE:
        for scale in ("1", "0.001", "1000"):
            found = of_value(Number(scale=scale), number)
            assert isinstance(found, str) or is_countable(found)
        with suppress(InvalidOperation):
            found = of_value(Number(), Decimal(number))
            assert isinstance(found, str) or is_countable(found)
        for line in (f"x {number}", f"x 1 {number}", f'x{{a="b"}} {number} 1'):
            for either in (False, True):
                with suppress(Unavailable):
                    found_there = points(f"{line}\n# EOF\n", MS * 1000, {}, open_metrics=either)
                    values = [point.value for point in found_there]
                    assert all(is_countable(one) for one in values if one.is_finite())


def test_no_line_of_a_log_holds_the_agent_up() -> None:
    line = {"client": "c", "request": "GET / HTTP/1.1", "time": "2026-01-01T00:00:00Z",
            "status": 200, "bytes": 1}  # fmt: skip
    for number in HOSTILE:
        for field in ("time", "status", "bytes"):
            for spelled in (number, json.dumps(number)):
                parse_json(text_of(line | {field: "NUMBER"}, spelled).decode())


def test_a_number_that_is_read_can_be_counted_with() -> None:
    for number in HOSTILE:
        found = parse_decimal(number)
        assert found is None or is_countable(found)
        if found is not None and not math.isinf(float(found)):
            assert abs(float(found) - float(number)) < 1e-300 or float(found) == float(number)
