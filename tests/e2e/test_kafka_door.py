"""CloudEvents over a real Kafka broker: both modes, poison, kills, rebalances, counted once."""

import json
import os
import signal
import time
from collections import Counter

import pytest

from tests.e2e.server import Server
from tests.e2e.test_prometheus_door import kill
from tests.support.door_clients import lake_events
from tests.support.kafka_broker import drop_topic, make_topic

PARTITIONS = 3


def binary(n):
    headers = {"ce_specversion": "1.0", "ce_id": f"b{n}", "ce_source": "till", "ce_type": "sale",
               "ce_subject": "acme", "ce_time": "2026-11-20T10:00:00Z",
               "content-type": "application/json"}  # fmt: skip
    return list(headers.items()), json.dumps({"n": n}).encode()


def structured(n):
    event = {"specversion": "1.0", "id": f"s{n}", "source": "till", "type": "sale",
             "subject": "acme", "data": {"n": n}}  # fmt: skip
    return [("content-type", "application/cloudevents+json; charset=UTF-8")], json.dumps(event)


def settings(address, topics, group="tallybook"):
    return {
        "TALLYBOOK__KAFKA__SERVERS": address,
        "TALLYBOOK__KAFKA__TOPICS": topics,
        "TALLYBOOK__KAFKA__GROUP": group,
    }


def producer(address):
    from confluent_kafka import Producer

    return Producer({"bootstrap.servers": address, "enable.idempotence": True, "linger.ms": 5})


def send(found, topic, headers, value, n):
    found.produce(topic, value=value, headers=headers, partition=n % PARTITIONS)


def await_events(folder, count, seconds=90):
    deadline = time.monotonic() + seconds
    events = []
    while time.monotonic() < deadline:
        events = lake_events(folder)
        if len(events) >= count:
            break
        time.sleep(0.25)
    return events


POISON = [
    ([], b"not JSON at all"),
    ([("content-type", b"application/cloudevents+json")], b"[1"),
    ([("ce_id", b"\xff")], b"{}"),
    ([("ce_specversion", "1.0"), ("ce_id", "x"), ("ce_id", "y")], b"{}"),
    ([("content-type", "text/plain"), *binary(1)[0][:4]], b"plain"),
    ([("ce_specversion", "1.0"), ("ce_id", "late")], b"{}"),
]


def test_both_modes_are_counted_and_poison_stops_nothing(kafka, tmp_path):
    make_topic(kafka, "modes", PARTITIONS)
    sender = producer(kafka)
    for n in range(30):
        for n_poison, (headers, value) in enumerate(POISON if n == 10 else []):
            send(sender, "modes", headers, value, n_poison)
        send(sender, "modes", *(binary(n) if n % 2 else structured(n)), n)
    sender.produce("modes", value=None, key=b"tombstone", partition=0)
    sender.flush(10)
    with Server(tmp_path / "data", settings(kafka, "modes", "modes")) as server:
        await_events(server.folder, 30 + len(POISON))
        server.caught_up()
        events = lake_events(server.folder)
        good = [e for e in events if e["problem"] is None]
        assert sorted(e["data"]["n"] for e in good) == list(range(30))
        assert len(events) - len(good) == len(POISON)
        door = next(d for d in server.get("/api/v1/doors")["items"] if d["door"] == "kafka")
        assert (door["counts"]["tombstone"], door["counts"]["bad"]) == (1, 5)


@pytest.mark.slow(40)
def test_events_are_counted_once_while_processes_are_killed(kafka, tmp_path):
    make_topic(kafka, "sales", PARTITIONS)
    sender = producer(kafka)
    truth = 0
    with Server(tmp_path / "data", settings(kafka, "sales")) as server:
        for n in range(600):
            headers, value = binary(n) if n % 2 else structured(n)
            for _ in range(2 if n % 50 == 0 else 1):  # a sender that sent twice
                send(sender, "sales", headers, value, n)
            truth += n
            if n == 200:
                sender.flush(10)
                await_events(server.folder, 50)
                (reader,) = [c["pid"] for c in server.children() if c["kind"] == "kafka"]
                os.kill(reader, signal.SIGKILL)
            if n == 400:
                sender.flush(10)
                kill(server)
        sender.flush(10)
        await_events(server.folder, 600)
        server.caught_up()
        events = lake_events(server.folder)
        assert sum(e["data"]["n"] for e in events) == truth
        assert len({e["id"] for e in events}) == len(events) == 600


@pytest.mark.slow(40)
def test_readers_that_share_a_group_rebalance_and_store_each_record_once(kafka, tmp_path):
    """Readers of one folder come and go while records arrive; one log tells what is stored."""
    import threading

    from tallybook.serve.worker.kafka import KafkaDoor
    from tallybook.settings import load

    make_topic(kafka, "shared", PARTITIONS)
    with Server(tmp_path / "data") as server:
        given = load(
            environ=settings(kafka, "shared", "two"), overrides={"data_dir": server.folder}
        )
        stops, threads = [], []

        def join():
            stop = threading.Event()
            door = KafkaDoor(given, stop)
            threads.append(threading.Thread(target=door.run))
            threads[-1].start()
            stops.append(stop)

        sender = producer(kafka)
        join()
        for n in range(300):
            send(sender, "shared", *binary(n), n)
            sender.poll(0)
            time.sleep(0.005)
            if n in {60, 120}:
                join()
            if n == 200:
                stops[0].set()
        sender.flush(10)
        events = await_events(server.folder, 300)
        for stop in stops:
            stop.set()
        for thread in threads:
            thread.join(30)
        server.caught_up()
        events = lake_events(server.folder)
        assert Counter(e["id"] for e in events) == Counter(f"b{n}" for n in range(300))
        counters = server.get("/api/v1/status")["counters"]
        assert (counters["received"], counters["duplicate"]) == (300, 0)


@pytest.mark.slow(40)
@pytest.mark.parametrize("killed", [True, False])
def test_a_topic_that_was_made_anew_is_read_from_its_beginning(kafka, tmp_path, killed):
    topic = f"again-{killed}"
    make_topic(kafka, topic, 1)
    sender = producer(kafka)
    with Server(tmp_path / "data", settings(kafka, topic, f"anew-{killed}")) as server:
        for n in range(5):
            sender.produce(topic, value=binary(n)[1], headers=binary(n)[0])
        sender.flush(10)
        assert len(await_events(server.folder, 5)) == 5
        drop_topic(kafka, topic)
        make_topic(kafka, topic, 1)
        for n in range(5, 8):
            sender.produce(topic, value=binary(n)[1], headers=binary(n)[0])
        sender.flush(10)
        if killed:
            (reader,) = [c["pid"] for c in server.children() if c["kind"] == "kafka"]
            os.kill(reader, signal.SIGKILL)
        events = await_events(server.folder, 8)
        assert {e["id"] for e in events} == {f"b{n}" for n in range(8)}
