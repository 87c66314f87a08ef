"""The process that follows Kafka topics: records become events, positions move with them.

A position is a cursor of the shared partition, written in the transaction that appends the
records' events. A record below its cursor is stored already, whoever read it again: after a kill,
a rebalance, or by two readers at once.
"""

import threading
import time
from collections.abc import Mapping, Sequence

import msgspec
import structlog

from tallybook.adapters.kafka.consumer import KafkaRecords, Place
from tallybook.adapters.sql.edge.edges import Sighting
from tallybook.adapters.sqlite.door_log import Addition, SqliteDoorLog, View
from tallybook.collect.doors.cloudevents import Record, envelopes
from tallybook.collect.doors.decide import unparsed
from tallybook.collect.doors.point import Bad
from tallybook.collect.sending.fleet import Seen
from tallybook.collect.sending.parcel import BATCH_NOTE, Note, note_of
from tallybook.collect.spool import encode_event
from tallybook.compose import World
from tallybook.kernel.errors import TallybookError, Unavailable
from tallybook.serve.api.child import accept_limits
from tallybook.serve.api.columns import ColumnWatch
from tallybook.serve.api.doors.commit import batches
from tallybook.serve.api.partition import put_aside
from tallybook.serve.worker.pipeline import doors_log
from tallybook.settings import Settings
from tallybook.transport.accept import AcceptLimits
from tallybook.transport.columns import ColumnSet

DOOR = "kafka"
RECORDS_MAX = 2_000
POLL_SECONDS = 0.2
RETRY_SECONDS = 1.0
SESSION_MS = "6000"
"""After a kill the group gives the partitions away again so soon; a setting may change it."""


def cursor_name(group: str, place: Place) -> str:
    """Return the name of a partition's position in the log."""
    return f"kafka/{group}/{place[0]}/{place[1]}"


class Records(msgspec.Struct, frozen=True, kw_only=True):
    """Records to store, with the positions after them.

    Attributes:
        reset: partitions that begin anew at an offset.
    """

    tenant: str
    group: str
    records: Sequence[Record]
    columns: ColumnSet
    limits: AcceptLimits
    now_us: int
    reset: Mapping[Place, int] = {}
    door: str = DOOR
    keys: frozenset[bytes] = frozenset()

    def decide(self, view: View) -> Addition:
        """Return the events of the records that are not stored yet."""
        pieces: list[bytes] = []
        after: dict[str, int] = {
            cursor_name(self.group, place): offset for place, offset in self.reset.items()
        }
        tally = {"events": 0, "bad": 0, "repeated": 0, "tombstone": 0, "note": 0}
        examples = dict[str, str]()
        for record in self.records:
            name = cursor_name(self.group, (record.topic, record.partition))
            if record.offset < after.get(name, int(view.cursors.get(name, "0"))):
                tally["repeated"] += 1
                continue
            after[name] = record.offset + 1
            if batch_told(record) is not None:
                tally["note"] += 1
                continue
            found = envelopes(record)
            if isinstance(found, Bad):
                tally["bad"] += 1
                examples["bad"] = f"{found.place} {found.message}"[:500]
                pieces.append(encode_event(unparsed(DOOR, found)))
            else:
                tally["events" if found else "tombstone"] += len(found) or 1
                pieces += found
        return Addition(
            batches=batches(self.tenant, pieces, self.now_us, self.columns, self.limits),
            tally=tally,
            examples=examples,
            cursors={name: str(offset) for name, offset in after.items()},
        )


def batch_told(record: Record) -> Note | None:
    """Return the note of a message that tells of an edge's batch; None for every other."""
    headers = {name: value.decode("latin-1") for name, value in record.headers if value is not None}
    return note_of(headers) if BATCH_NOTE in headers else None


def seen_of(note: Note, now_us: int) -> Seen:
    """Return a note as a sighting of its edge.

    The broker has kept it for a while: when it was sent, the edge's clock tells, if it is not ahead
    of ours; how that clock stands nobody can tell.
    """
    at_us = min(now_us, note.sent_us if note.sent_us is not None else now_us)
    return Seen(note=Note(note.parcel, None), at_us=at_us, stored=True)


class KafkaDoor:
    """Reads topics into the shared partition.

    Args:
        settings: of the server; names the brokers and topics.
        stop: set from outside.
    """

    def __init__(self, settings: Settings, stop: threading.Event) -> None:
        """Join the group."""
        world = World(settings)
        self._kafka = settings.kafka
        self._edges = world.edges
        self._stop = stop
        self._limits = accept_limits(settings)
        self._columns = ColumnWatch(
            world.catalog.version, world.catalog.all_meters, settings.limits.typed_columns_max
        )
        path = doors_log(settings.log_dir)
        self._log = SqliteDoorLog(path, lambda: time.time_ns() // 1000, put_aside)
        options = {
            "session.timeout.ms": SESSION_MS,
            **self._kafka.options,
            "bootstrap.servers": self._kafka.servers,
            "group.id": self._kafka.group,
        }
        self._topics = [name.strip() for name in self._kafka.topics.split(",") if name.strip()]
        self._source = KafkaRecords(options, self._topics, self._position, self._regressed)
        self._say = structlog.get_logger("kafka")

    def run(self) -> None:
        """Read until asked to stop."""
        self._say.info("kafka.started", topics=self._topics, group=self._kafka.group)
        while not self._stop.is_set():
            try:
                records = self._source.poll(RECORDS_MAX, POLL_SECONDS)
            except Unavailable as error:
                self._say.warning("kafka.waiting", error=error.message)
                self._stop.wait(RETRY_SECONDS)
                continue
            if records:
                self._note(records)
            if records and self._store(records):
                self._tell(records)
        self._source.close()
        self._log.close()

    def _note(self, records: Sequence[Record]) -> None:
        """Tell which edges sent; before the positions move, so that a kill leaves no gap."""
        now_us = time.time_ns() // 1000
        notes = [note for record in records if (note := batch_told(record)) is not None]
        if not notes:
            return
        try:
            self._edges.note([Sighting(self._kafka.tenant, seen_of(n, now_us)) for n in notes])
        except TallybookError as error:
            self._say.warning("kafka.edges_not_noted", error=error.message, notes=len(notes))

    def _store(self, records: Sequence[Record], reset: Mapping[Place, int] | None = None) -> bool:
        """Store records, however long it takes; return False where a stop came first."""
        while not self._stop.is_set():
            try:
                (answer,) = self._log.write([self._asked(records, reset or {})])
            except Unavailable as error:
                answer = error
            if not isinstance(answer, BaseException):
                return True
            self._say.error("kafka.not_stored", error=str(answer), records=len(records))
            self._stop.wait(RETRY_SECONDS)
        return False

    def _asked(self, records: Sequence[Record], reset: Mapping[Place, int]) -> Records:
        return Records(
            tenant=self._kafka.tenant,
            group=self._kafka.group,
            records=records,
            columns=self._columns(),
            limits=self._limits,
            now_us=time.time_ns() // 1000,
            reset=reset,
        )

    def _tell(self, records: Sequence[Record]) -> None:
        after = {(r.topic, r.partition): r.offset + 1 for r in records}
        try:
            self._source.committed(after)
        except Unavailable as error:
            self._say.warning("kafka.lag_not_told", error=error.message)

    def _position(self, place: Place) -> int | None:
        known = self._log.cursors().get(cursor_name(self._kafka.group, place))
        return None if known is None else int(known)

    def _regressed(self, place: Place, offset: int) -> None:
        """The topic was made anew: forget its position, loudly."""
        self._say.error(
            "kafka.topic_made_anew", topic=place[0], partition=place[1], reading_from=offset
        )
        self._store([], {place: offset})
