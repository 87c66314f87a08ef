"""Sends batches of events to a topic: one event, one message, acknowledged by every copy in sync.

CloudEvents Kafka binding, structured mode: the value is the event as JSON, byte for byte as it was
spooled; the key is its subject, so that what one customer uses stays in order. A batch that was
acknowledged in part is sent again as a whole: the events' identities make that harmless. When all
of a batch is there, one more message tells its number, so that a server that reads the topic sees
what is missing, as it does of edges that send to itself.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from tallybook.collect.ports import Packing, Receipt
from tallybook.collect.sending.parcel import BATCH_NOTE, EDGE, Parcel, batch_note, headers_of
from tallybook.kernel.errors import Forbidden, Invalid, TallybookError, Unavailable

FIXED: Mapping[str, Any] = {"acks": "all", "enable.idempotence": True}
"""What no setting may change: acknowledged means that all copies in sync have it."""

REPLICAS_MIN, IN_SYNC_MIN = 3, 2
ANSWER_SECONDS = 30
Headers = list[tuple[str, str | bytes | None]]
_HEADERS: Headers = [("content-type", b"application/cloudevents+json; charset=UTF-8")]


class _Subject(msgspec.Struct):
    subject: str | None = None


class KafkaEventSender:
    """`EventSender` to a topic.

    Args:
        options: of librdkafka, `bootstrap.servers` among them.
        topic: must exist.
        packing: that batches were packed with.
        development: take a topic with fewer copies than are safe.

    Raises:
        Unavailable: Kafka's library is not installed.
        Invalid: it refuses the options.
    """

    def __init__(
        self, options: Mapping[str, str], topic: str, packing: Packing, *, development: bool = False
    ) -> None:
        """Connect in the background; the first batch checks the topic."""
        try:
            from confluent_kafka import KafkaException, Producer
        except ImportError as error:
            message = "sending to Kafka needs: pip install 'tallybook[kafka]'"
            raise Unavailable(message, code="kafka-not-installed") from error
        defaults: dict[str, Any] = {
            "compression.type": "zstd",
            "linger.ms": 5,
            "delivery.timeout.ms": ANSWER_SECONDS * 1000,
            "log_level": 0,
        }
        self._topic = topic
        self._packing = packing
        self._options = {**defaults, **options, **FIXED}
        self._checked = development
        try:
            self._producer = Producer(self._options)
        except (KafkaException, ValueError, TypeError) as error:
            raise Invalid(f"Kafka refuses the settings: {error}", field="kafka") from error

    def send(self, payload: bytes, events: int, parcel: Parcel | None = None) -> Receipt:
        """Send one batch; on return every copy in sync has each event.

        Raises:
            Unavailable: not now, or not all of it; send the same again.
            Forbidden: the brokers do not let this client write, or the topic is not safe.
            Invalid: an event is larger than the topic takes.
        """
        if not self._checked:
            self._check()
        pieces = self._packing.unpack(payload)
        assert len(pieces) == events
        headers = [*_HEADERS]
        if parcel is not None:
            headers.append((EDGE, parcel.edge.encode()))
        self._sent([(piece, _key(piece)) for piece in pieces], headers)
        if parcel is not None and parcel.incarnation is not None:
            self._sent([(batch_note(parcel), parcel.edge.encode())], _noting(parcel))
        return Receipt(stored=events)

    def close(self) -> None:
        """Give up what was not acknowledged; it is still spooled."""
        self._producer.purge()
        self._producer.flush(1)

    def _sent(self, messages: Sequence[tuple[bytes, bytes | None]], headers: Headers) -> None:
        """Send values with their keys, and wait until every copy in sync has them."""
        delivery = _Delivery(len(messages))
        for value, key in messages:
            self._produce(value, key, headers, delivery)
        left = self._producer.flush(ANSWER_SECONDS + 5)
        if delivery.error is not None:
            raise _translated(delivery.error)
        if left or delivery.open:
            raise Unavailable("the brokers have not acknowledged all of a batch in time")

    def _produce(
        self, piece: bytes, key: bytes | None, headers: Headers, delivery: "_Delivery"
    ) -> None:
        from confluent_kafka import KafkaException

        try:
            while True:
                try:
                    self._producer.produce(
                        self._topic,
                        value=piece,
                        key=key,
                        headers=headers,
                        on_delivery=delivery.done,
                    )
                    return
                except BufferError:  # its queue is full: let some be acknowledged first
                    self._producer.poll(0.1)
        except KafkaException as error:
            raise _translated(error.args[0]) from error

    def _check(self) -> None:
        """Refuse a topic whose loss of one broker could lose what was acknowledged."""
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import (  # type: ignore[attr-defined]
            AdminClient,
            ConfigResource,
            ResourceType,
        )

        try:
            found = self._producer.list_topics(self._topic, timeout=ANSWER_SECONDS)
            topic = found.topics[self._topic]
            if topic.error is not None:
                raise _translated(topic.error)
            copies = min(len(part.replicas) for part in topic.partitions.values())
            own = {k: v for k, v in self._options.items() if not _of_producer(k)}
            asked = ConfigResource(ResourceType.TOPIC, self._topic)
            admin = AdminClient(own)  # must outlive its answer
            answer = admin.describe_configs([asked], request_timeout=ANSWER_SECONDS)
            in_sync = int(answer[asked].result()["min.insync.replicas"].value)
        except KafkaException as error:
            raise _translated(error.args[0]) from error
        check_copies(self._topic, copies, in_sync)
        self._checked = True


def check_copies(topic: str, copies: int, in_sync: int) -> None:
    """Refuse a topic that keeps too few copies; raises Forbidden.

    Source: DECISIONS 35.
    """
    if copies >= REPLICAS_MIN and in_sync >= IN_SYNC_MIN:
        return
    message = (
        f"topic {topic} keeps {copies} copies, {in_sync} of them in sync; usage needs"
        f" {REPLICAS_MIN} and min.insync.replicas {IN_SYNC_MIN}"
        " (development = true in [kafka] takes less)"
    )
    raise Forbidden(message, code="kafka-unsafe")


class _Delivery:
    """Counts the acknowledgements of one batch and keeps the first error."""

    def __init__(self, count: int) -> None:
        self._lock = threading.Lock()
        self.open = count
        self.error: Any = None

    def done(self, error: Any, _message: Any) -> None:
        with self._lock:
            self.open -= 1
            self.error = self.error or error


def _noting(parcel: Parcel) -> Headers:
    """Return the headers of the message that tells of a batch."""
    told = headers_of(parcel, time.time_ns() // 1000)
    noted: Headers = [(name, text.encode()) for name, text in told.items()]
    return [*_HEADERS, (BATCH_NOTE, b"1"), *noted]


def _key(piece: bytes) -> bytes | None:
    subject = msgspec.json.decode(piece, type=_Subject).subject
    return subject.encode() if subject else None


def _of_producer(option: str) -> bool:
    return option in {
        "acks", "enable.idempotence", "compression.type", "linger.ms", "delivery.timeout.ms",
    }  # fmt: skip


def _translated(error: Any) -> TallybookError:
    from confluent_kafka import KafkaError

    refused: Sequence[int] = (
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError._AUTHENTICATION,  # noqa: SLF001 - the library's own name for it
    )
    code = error.code()
    if code == KafkaError.MSG_SIZE_TOO_LARGE:
        return Invalid(f"Kafka: {error.str()}", code="too-large")
    if code in refused:
        return Forbidden(f"Kafka: {error.str()}")
    return Unavailable(f"Kafka: {error.str()}")
