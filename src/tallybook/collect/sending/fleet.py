"""What a server knows of one edge: last seen, lag, gaps and repeats, clock, version.

A fold over notes. A batch's number is *received* once the server has answered 2xx. It is *missing*
when the edge says that nothing below a higher number waits and it was not received: the edge's disk
lost it, or this server's was restored from before. The note is kept in the transaction of its batch
and told from there, so a crash of the server loses none. It is *repeated* when a batch arrives
whole a second time: its answer was lost. Repeats change nothing.
"""

import msgspec

from tallybook.collect.sending.parcel import Note, Waiting
from tallybook.collect.sending.ranges import Ranges, added, bounded, count, gaps, holds
from tallybook.kernel.timestamps import SECOND_US

INCARNATIONS_MAX = 4
REPEATS_MAX = 32
LOGS_MAX = 64
"""Logs of this server's workers of which it is remembered how far they were told, newest last."""


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One request of an edge.

    Attributes:
        note: as sent.
        at_us: when it came, microseconds UTC on the server's clock.
        stored: whether the answer was 2xx.
        certified: whether a certificate of this server's authority vouched for the name.
        log: that keeps this beside the batch, '' for none; place is where in it, counted up.
    """

    note: Note
    at_us: int
    stored: bool
    certified: bool = False
    log: str = ""
    place: int = 0


class Incarnation(msgspec.Struct, frozen=True, kw_only=True):
    """One spool of an edge.

    Attributes:
        id: as sent.
        since: first number that can be missed here; what came before went elsewhere.
        received: numbers of batches that were stored.
        repeated: numbers of batches that came whole more than once; the newest ranges of them.
        repeats: how often that was, in all.
        settled: everything below this number has left the edge.
        forgotten: missing numbers of long ago that are only counted.
        last_us: when it was last heard of.
    """

    id: str
    since: int
    received: Ranges = ()
    repeated: Ranges = ()
    repeats: int = 0
    settled: int = 0
    forgotten: int = 0
    last_us: int = 0

    def missing(self) -> Ranges:
        """Return the numbers that left the edge and did not arrive."""
        return gaps(self.received, self.since, self.settled)

    def missing_count(self) -> int:
        """Return how many those are, long forgotten ones included."""
        return count(self.missing()) + self.forgotten


class EdgeRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an edge.

    Attributes:
        name: within its tenant.
        first_seen_us: first request; last_seen_us the newest, stored_us the newest with a 2xx.
        agent: its version, '' for unknown.
        waiting: as last told.
        clock_offset_us: edge's clock minus the server's, the way of the request included; None
            where it was never told.
        certified: whether its last request came under a certificate.
        incarnations: newest first.
        told: log -> up to which place its notes are in this record, so that none counts twice.
    """

    name: str
    first_seen_us: int
    last_seen_us: int
    stored_us: int | None = None
    agent: str = ""
    waiting: Waiting = Waiting()
    clock_offset_us: int | None = None
    certified: bool = False
    incarnations: tuple[Incarnation, ...] = ()
    told: dict[str, int] = {}

    def lag_seconds(self) -> float:
        """Return how long the oldest batch had waited when the edge was last heard of.

        Measured on the edge's own clock, so that a wrong clock is no lag.
        """
        if self.waiting.oldest_us is None:
            return 0.0
        there_us = self.last_seen_us + (self.clock_offset_us or 0)
        return max(0, there_us - self.waiting.oldest_us) / SECOND_US


def noted(known: EdgeRecord | None, seen: Seen) -> EdgeRecord:
    """Return what is known after one more request; older requests may come in later.

    The notes of one log come in its order, perhaps repeatedly; each is counted once.
    """
    parcel = seen.note.parcel
    if known is not None and seen.log and seen.place <= known.told.get(seen.log, 0):
        return known
    record = known or EdgeRecord(
        name=parcel.edge, first_seen_us=seen.at_us, last_seen_us=seen.at_us
    )
    if seen.at_us >= record.last_seen_us:
        record = msgspec.structs.replace(
            record,
            last_seen_us=seen.at_us,
            agent=parcel.agent or record.agent,
            waiting=_left(seen),
            clock_offset_us=_offset(seen, record),
            certified=seen.certified,
        )
    record = msgspec.structs.replace(
        record,
        first_seen_us=min(record.first_seen_us, seen.at_us),
        stored_us=max(record.stored_us or 0, seen.at_us) if seen.stored else record.stored_us,
    )
    if seen.log:
        told = {log: place for log, place in record.told.items() if log != seen.log}
        kept = list(told.items())[1 - LOGS_MAX :]
        record = msgspec.structs.replace(record, told={**dict(kept), seen.log: seen.place})
    if parcel.incarnation is None:
        return record
    return msgspec.structs.replace(
        record, incarnations=_incarnations(record.incarnations, seen, parcel.incarnation)
    )


def _left(seen: Seen) -> Waiting:
    """Return what still waits after the answer: a note counts its own batch among the waiting."""
    parcel = seen.note.parcel
    alone = parcel.waiting.batches == 1 and not parcel.part
    return Waiting(first=parcel.number + 1) if seen.stored and alone else parcel.waiting


def _offset(seen: Seen, record: EdgeRecord) -> int | None:
    if seen.note.sent_us is None:
        return record.clock_offset_us
    return seen.note.sent_us - seen.at_us


def _incarnations(known: tuple[Incarnation, ...], seen: Seen, id: str) -> tuple[Incarnation, ...]:
    parcel = seen.note.parcel
    start = min(parcel.waiting.first, parcel.number)
    mine = next((one for one in known if one.id == id), None) or Incarnation(id=id, since=start)
    mine = _counted(mine, seen)
    others = [one for one in known if one.id != id]
    ordered = sorted([mine, *others], key=lambda one: one.last_us, reverse=True)
    return tuple(ordered[:INCARNATIONS_MAX])


def _counted(mine: Incarnation, seen: Seen) -> Incarnation:
    """Return the incarnation with one more batch.

    A piece of a batch counts as the batch: the edge keeps the batch until every piece is taken.
    """
    parcel = seen.note.parcel
    number = parcel.number
    mine = msgspec.structs.replace(
        mine,
        since=min(mine.since, number),
        settled=max(mine.settled, _left(seen).first),
        last_us=max(mine.last_us, seen.at_us),
    )
    if not seen.stored:
        return mine
    if holds(mine.received, number):
        return mine if parcel.part else _repeated(mine, number)
    received, lost = bounded(added(mine.received, number))
    return msgspec.structs.replace(mine, received=received, forgotten=mine.forgotten + lost)


def _repeated(mine: Incarnation, number: int) -> Incarnation:
    repeated = added(mine.repeated, number)[-REPEATS_MAX:]
    return msgspec.structs.replace(mine, repeated=repeated, repeats=mine.repeats + 1)
