"""Sending to Kafka, against librdkafka's own brokers in this process."""

import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from tallybook.adapters.http.sender import ZstdPacking
from tallybook.adapters.kafka.producer import KafkaEventSender, check_copies
from tallybook.collect.ports import Receipt
from tallybook.collect.sending.parcel import Parcel
from tallybook.kernel.errors import Forbidden, Invalid, Unavailable

kafka = pytest.importorskip("confluent_kafka")

PACKING = ZstdPacking()
TOPIC = "usage"


def pieces(count: int) -> list[bytes]:
    return [
        msgspec.json.encode(
            {"specversion": "1.0", "id": str(n), "source": "s", "type": "t", "subject": f"c{n % 3}"}
        )
        for n in range(count)
    ]


@pytest.fixture
def sender() -> Iterator[KafkaEventSender]:
    options = {"test.mock.num.brokers": "3", "bootstrap.servers": "unused"}
    made = KafkaEventSender(options, TOPIC, PACKING, development=True)
    yield made
    made.close()


def brokers(sender: KafkaEventSender) -> str:
    found = sender._producer.list_topics(timeout=10).brokers
    return ",".join(f"{b.host}:{b.port}" for b in found.values())


def consumed(sender: KafkaEventSender, count: int) -> list[Any]:
    consumer = kafka.Consumer(
        {
            "bootstrap.servers": brokers(sender),
            "group.id": "test",
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
        }
    )
    consumer.subscribe([TOPIC])
    found: list[Any] = []
    deadline = time.monotonic() + 20
    while len(found) < count and time.monotonic() < deadline:
        found += [m for m in consumer.consume(count, 0.5) if m.error() is None]
    consumer.close()
    return found


def test_every_event_is_a_message_as_it_was_spooled(sender: KafkaEventSender) -> None:
    sent = pieces(50)
    parcel = Parcel(edge="web-1", incarnation="i", number=1)
    assert sender.send(PACKING.pack(sent), 50, parcel) == Receipt(stored=50)
    found = consumed(sender, 51)
    types = [msgspec.json.decode(message.value())["type"] for message in found]
    found.pop(types.index("io.tallybook.edge.sent"))  # how many were sent, for the fleet
    assert sorted(m.value() for m in found) == sorted(sent)
    for message in found:
        subject = msgspec.json.decode(message.value())["subject"]
        headers = dict(message.headers())
        assert message.key() == subject.encode()
        assert headers["content-type"].startswith(b"application/cloudevents+json")
        assert headers["tallybook-edge"] == b"web-1"


def test_a_broker_that_is_away_acknowledges_nothing() -> None:
    options = {"bootstrap.servers": "127.0.0.1:9", "delivery.timeout.ms": "700"}
    sender = KafkaEventSender(options, TOPIC, PACKING, development=True)
    with pytest.raises(Unavailable):
        sender.send(PACKING.pack(pieces(3)), 3)
    sender.close()


def test_a_topic_with_few_copies_is_refused_but_for_development() -> None:
    check_copies(TOPIC, 3, 2)
    for copies, in_sync in ((1, 1), (2, 2), (3, 1)):
        with pytest.raises(Forbidden) as refused:
            check_copies(TOPIC, copies, in_sync)
        assert refused.value.code == "kafka-unsafe"


def test_settings_that_kafka_does_not_know_are_refused() -> None:
    with pytest.raises(Invalid):
        KafkaEventSender({"no.such.setting": "1"}, TOPIC, PACKING)


def test_nobody_weakens_what_acknowledged_means(sender: KafkaEventSender) -> None:
    weak = KafkaEventSender(
        {"bootstrap.servers": brokers(sender), "acks": "0"}, TOPIC, PACKING, development=True
    )
    assert weak._options["acks"] == "all"
    assert weak._options["enable.idempotence"] is True
    weak.close()
