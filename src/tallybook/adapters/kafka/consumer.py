"""A consumer of topics whose positions are kept by whoever stores the records."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tallybook.collect.doors.cloudevents import Record
from tallybook.kernel.errors import Corrupt, Unavailable

if TYPE_CHECKING:
    from confluent_kafka import Consumer

Place = tuple[str, int]
"""Topic and partition."""

FIXED: Mapping[str, str | bool] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "isolation.level": "read_committed",
    "auto.offset.reset": "earliest",
    "allow.auto.create.topics": False,
    "partition.assignment.strategy": "range,roundrobin",  # an assignment is told whole
}
"""What no setting may change: a position moves only with its records."""
WATERMARK_SECONDS = 10.0


class KafkaRecords:
    """Records of the partitions that the group assigns to this process.

    Args:
        options: of librdkafka, `bootstrap.servers` and `group.id` among them.
        topics: to follow; a name that begins with `^` is a pattern.
        position: returns the next offset of a partition, None where nothing is known of it: then
            the group's committed offset counts, or else the beginning.
        regressed: called with a partition whose newest offset is below its position: the topic
            was made anew; reading begins at its beginning.

    Raises:
        Unavailable: Kafka's library is not installed, or refuses the options.
    """

    def __init__(
        self,
        options: Mapping[str, str],
        topics: Sequence[str],
        position: Callable[[Place], int | None],
        regressed: Callable[[Place, int], None],
    ) -> None:
        """Join the group."""
        try:
            from confluent_kafka import Consumer, KafkaException
        except ImportError as error:
            message = "reading from Kafka needs: pip install 'tallybook[server,kafka]'"
            raise Unavailable(message, code="kafka-not-installed") from error
        self._waiting: list[Any] = []
        self._next: dict[Place, int] = {}
        self._position = position
        self._regressed = regressed
        try:
            self._consumer = Consumer({**options, **FIXED})
            self._consumer.subscribe(list(topics), on_assign=self._assigned)
        except (KafkaException, ValueError, TypeError) as error:
            raise Unavailable(f"Kafka refuses the settings: {error}", code="bad-setting") from error

    def poll(self, records_max: int, seconds: float) -> list[Record]:
        """Return what has come, in the order of each partition.

        Raises:
            Unavailable: the brokers refuse.
        """
        waiting, self._waiting = self._waiting or self._consumed(records_max, seconds), []
        records: list[Record] = []
        for at, message in enumerate(waiting):
            trouble: Any = message.error()
            if trouble is not None:
                self._told(trouble, alone=not records)
                continue
            record = _record(message)
            place = (record.topic, record.partition)
            if record.offset < self._next.get(place, 0):  # nothing goes back but a topic made anew
                if records:  # what came before is stored first
                    self._waiting = waiting[at:]
                    break
                self._regressed(place, record.offset)
            self._next[place] = record.offset + 1
            records.append(record)
        return records

    def _consumed(self, records_max: int, seconds: float) -> list[Any]:
        from confluent_kafka import KafkaException

        try:
            return list(self._consumer.consume(records_max, seconds))
        except KafkaException as error:
            raise Unavailable(f"Kafka: {error}") from error

    @staticmethod
    def _told(trouble: Any, *, alone: bool) -> None:
        if trouble.fatal():
            raise Corrupt(f"Kafka: {trouble.str()}")
        if alone:
            raise Unavailable(f"Kafka: {trouble.str()}")

    def committed(self, positions: Mapping[Place, int]) -> None:
        """Tell the group how far the records are stored, for its lag; nothing depends on it."""
        from confluent_kafka import KafkaException, TopicPartition

        places = [TopicPartition(t, p, offset) for (t, p), offset in positions.items()]
        try:
            self._consumer.commit(offsets=places, asynchronous=True)
        except KafkaException as error:
            raise Unavailable(f"Kafka: {error}") from error

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()

    def _assigned(self, consumer: "Consumer", partitions: list[Any]) -> None:
        self._waiting = []  # read again by whoever has their partition now
        self._next = {}
        for place in partitions:
            known = self._position((place.topic, place.partition))
            if known is None:
                continue
            place.offset = self._checked(consumer, place, known)
            self._next[place.topic, place.partition] = place.offset
        consumer.assign(partitions)

    def _checked(self, consumer: "Consumer", place: Any, known: int) -> int:
        """Return the position to read from: the beginning, where the topic was made anew."""
        from confluent_kafka import KafkaException

        try:
            low, high = consumer.get_watermark_offsets(place, timeout=WATERMARK_SECONDS)
        except KafkaException:
            return known  # cannot be asked now; if it is past the end, reading begins anew
        if known <= high:
            return known
        self._regressed((place.topic, place.partition), low)
        return int(low)


def _record(message: Any) -> Record:
    return Record(
        topic=message.topic(),
        partition=message.partition(),
        offset=message.offset(),
        headers=tuple(message.headers() or ()),
        value=message.value(),
    )
