"""Attempts at once: a bounded number; who does not answer holds only half of them.

An endpoint that answers is tried by several senders at once; one that is new or fails by one. All
that fail share half of the senders, with those that are new three quarters. So an endpoint that
hangs never delays those that answer.

One thread reads and writes the database; the others only send. A delivery is leased while it is
tried: what a killed sender had in hand is tried again when the lease ends, or as soon as the same
server starts again.
"""

import queue
import threading
import time
from collections.abc import Mapping
from random import SystemRandom

import msgspec
import structlog

from tallybook.deliver.delivery import Answer, Parcel, Tried
from tallybook.deliver.flow import attempt, fan_out, put_on_record, take
from tallybook.deliver.ports import Channel, Post, Ready, Seal
from tallybook.kernel.ports import Clock
from tallybook.kernel.timestamps import SECOND_US

LEASE_US = 60 * SECOND_US
"""Longer than an attempt may take, the record of it included."""
FACTS_AT_ONCE = 500
RECORDS_AT_ONCE = 500
_RANKS = (True, None, False)
"""Whether an endpoint answers, in the order in which they are served."""


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """How much is done at once.

    Attributes:
        senders: attempts at once.
        endpoint_senders: of one endpoint that answers; any other is tried by one.
        disable_after_days: see `deliver.health.failed`.
    """

    senders: int = 32
    endpoint_senders: int = 4
    disable_after_days: int = 5


class Sender:
    """Tells facts to the endpoints of all tenants.

    Args:
        post: where endpoints and deliveries are kept.
        channels: by name.
        seal: opens secrets.
        clock: tells the time.
        holder: of the leases; another sender that runs at the same time has another one.
        bounds: how much is done at once.
    """

    def __init__(
        self,
        post: Post,
        channels: Mapping[str, Channel],
        seal: Seal,
        clock: Clock,
        holder: str,
        bounds: Bounds,
    ) -> None:
        """Start no thread yet."""
        self._post = post
        self._channels = channels
        self._seal = seal
        self._clock = clock
        self._holder = holder
        self._bounds = bounds
        self._tried: queue.SimpleQueue[Tried] = queue.SimpleQueue()
        self._unwritten: list[Tried] = []
        self._busy: dict[tuple[str, str], int] = {}
        self._answers: dict[tuple[str, str], bool | None] = {}

    @property
    def under_way(self) -> int:
        """Attempts that were begun and are not on record."""
        return sum(self._busy.values())

    def round(self) -> int:
        """Fan facts out, put on record what was tried, begin what is due.

        Returns:
            How many things were done; 0 where there was nothing to do.
        """
        done = self.record()
        if self._post.waits():
            done += fan_out(self._post, self._clock.now_us(), FACTS_AT_ONCE)
        return done + self._begin()

    def record(self) -> int:
        """Put on record what was tried since the last time; return how much it was."""
        while len(self._unwritten) < RECORDS_AT_ONCE:
            try:
                self._unwritten.append(self._tried.get_nowait())
            except queue.Empty:
                break
        made = self._unwritten
        if not made:
            return 0
        now_us = self._clock.now_us()
        put_on_record(self._post, made, now_us, self._bounds.disable_after_days)
        self._unwritten = []
        for one in made:
            self._settle(one)
        return len(made)

    def wait(self, seconds: float) -> None:
        """Wait until an attempt has ended, at most so long."""
        try:
            self._unwritten.append(self._tried.get(timeout=seconds))
        except queue.Empty:
            return

    def finish(self, seconds: float) -> None:
        """Wait for the attempts that are under way, at most so long, and put them on record."""
        end = time.monotonic() + seconds
        while self.under_way and time.monotonic() < end:
            self.wait(0.1)
            self.record()

    def _begin(self) -> int:
        """Begin what is due, of one endpoint after the other, as far as there is room."""
        now_us = self._clock.now_us()
        begun = 0
        self._answers = {place: self._answers[place] for place in self._busy}
        for place in self._in_turn(self._post.ready(now_us)):
            room = self._room(place)
            if room <= 0:
                continue
            parcels = take(self._post, place, now_us, room, now_us + LEASE_US, self._holder)
            for parcel in parcels:
                self._start(place, parcel)
            begun += len(parcels)
        return begun

    def _in_turn(self, ready: list[Ready]) -> list[tuple[str, str]]:
        """Return endpoints in the order in which they are served: those that answer first."""
        SystemRandom().shuffle(ready)
        self._answers |= {one.place: one.answers for one in ready}
        ready.sort(key=lambda one: (_RANKS.index(one.answers), self._busy.get(one.place, 0)))
        return [one.place for one in ready]

    def _room(self, place: tuple[str, str]) -> int:
        """Return how many attempts of an endpoint may begin."""
        left, mine = self._bounds.senders - self.under_way, self._busy.get(place, 0)
        answers = self._answers[place]
        if answers:
            return min(left, self._bounds.endpoint_senders - mine)
        failing = self._busy_of({False})
        if answers is None:
            share = max(1, self._bounds.senders * 3 // 4) - failing - self._busy_of({None})
        else:
            share = max(1, self._bounds.senders // 2) - failing
        return min(left, share, 1 - mine)

    def _busy_of(self, kinds: set[bool | None]) -> int:
        return sum(count for one, count in self._busy.items() if self._answers[one] in kinds)

    def _start(self, place: tuple[str, str], parcel: Parcel) -> None:
        self._busy[place] = self._busy.get(place, 0) + 1
        threading.Thread(target=self._try, args=(parcel,), name="post", daemon=True).start()

    def _try(self, parcel: Parcel) -> None:
        """Make one attempt; the answer is written by the thread that has the database."""
        at_us, began = self._clock.now_us(), time.monotonic_ns()
        answer = Answer(outcome="failed", error="the sender failed; the server's log says more")
        try:
            answer = attempt(self._channels, self._seal, parcel, at_us)
        except Exception:  # a bug in one attempt must neither be lost nor hold its delivery up
            log = structlog.get_logger("post").bind(delivery=parcel.delivery.id)
            log.exception("post.bug", endpoint=parcel.endpoint.id)
        finally:
            took_us = (time.monotonic_ns() - began) // 1000
            self._tried.put(
                Tried(
                    parcel=parcel,
                    at_us=at_us,
                    took_us=took_us,
                    answer=answer,
                    fraction=SystemRandom().random(),
                )
            )

    def _settle(self, one: Tried) -> None:
        place = (one.parcel.tenant, one.parcel.endpoint.id)
        self._busy[place] -= 1
        if not self._busy[place]:
            del self._busy[place]
        if one.answer.outcome != "delivered":
            _tell(one)


def _tell(one: Tried) -> None:
    """Write a failed attempt to the log: who, not where to and not what."""
    structlog.get_logger("post").info(
        "post.not_delivered",
        tenant=one.parcel.tenant,
        endpoint=one.parcel.endpoint.id,
        delivery=one.parcel.delivery.id,
        attempt=one.parcel.delivery.attempts + 1,
        error=one.answer.error,
    )
