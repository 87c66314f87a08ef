"""Take the batch whose turn it is, send it, and forget it only when it was acknowledged."""

from collections.abc import Callable

import msgspec

from tallybook.collect.ports import EventSender, Packing, Parking, Receipt
from tallybook.collect.sending.breaker import Breaker, Circuit
from tallybook.collect.sending.lanes import Pace, live_from_us
from tallybook.collect.sending.parcel import Parcel
from tallybook.collect.sending.ports import Outbox
from tallybook.kernel.errors import Invalid, TallybookError, Unavailable
from tallybook.transport.ports import LogRow


class Times(msgspec.Struct, frozen=True):
    """One instant on two clocks.

    Attributes:
        wall_us: microseconds UTC; may be set.
        steady: monotonic seconds.
    """

    wall_us: int
    steady: float


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one batch.

    Attributes:
        receipt: what the server said.
        damaged: the row, where the disk has damaged it and nothing could be sent.
        live: the lane.
    """

    receipt: Receipt = Receipt()
    damaged: LogRow | None = None
    live: bool = True


class Rest(msgspec.Struct, frozen=True):
    """Nothing is to be done for so long; None: until something new is spooled."""

    seconds: float | None


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """What sending works with.

    Attributes:
        outbox: where batches wait.
        sender: takes them to the server.
        packing: to halve a batch that is refused as a whole.
        parking: keeps what the server will not take.
        set_aside: keeps a batch that the disk has damaged, for a person to look at.
        edge: name on every parcel; agent is the version.
    """

    outbox: Outbox
    sender: EventSender
    packing: Packing
    parking: Parking
    set_aside: Callable[[LogRow], None]
    edge: str
    agent: str = ""


class Sending:
    """Decides, batch after batch, what is sent next; waits for nothing itself.

    Args:
        setup: ports.
        times: the clocks.
        fraction: draws 0 <= f < 1 evenly, for jitter.
        pace: of the backlog.
    """

    def __init__(
        self,
        setup: Setup,
        times: Callable[[], Times],
        fraction: Callable[[], float],
        pace: Pace,
    ) -> None:
        """Begin with a closed circuit."""
        self._setup = setup
        self._times = times
        self._fraction = fraction
        self._pace = pace
        self._backlog_at = 0.0
        self.breaker = Breaker()

    def circuit(self) -> Circuit:
        """Return whether batches flow."""
        return self.breaker.circuit(self._times().steady)

    def step(self, *, hurry: bool = False) -> Sent | Rest:
        """Send one batch, or say how long to rest.

        Args:
            hurry: the end is near: the backlog is not held back.

        Raises:
            TallybookError: it was not sent; the breaker knows, the batch waits on.
        """
        now = self._times()
        wait = self.breaker.wait_seconds(now.steady)
        if wait > 0:
            return Rest(wait)
        row, live = self._next(now, hurry=hurry)
        if row is None:
            return Rest(None if live else self._backlog_at - now.steady)
        try:
            sent = self._send(row, live=live)
            self._setup.outbox.drop(row.offset)
        except TallybookError as error:
            asked = error.retry_after_seconds if isinstance(error, Unavailable) else None
            self.breaker = self.breaker.failed(self._times().steady, self._fraction(), asked)
            raise
        self.breaker = Breaker()
        if not live:
            end = self._times().steady
            self._backlog_at = end + self._pace.rest_seconds(end - now.steady, row.events)
        return sent

    def _next(self, now: Times, *, hurry: bool) -> tuple[LogRow | None, bool]:
        """Return the batch whose turn it is and whether it is live; (None, False) is not yet."""
        outbox = self._setup.outbox
        live_us = live_from_us(now.wall_us)
        live = outbox.oldest(live_us)
        if live is not None:
            return live, True
        if self._backlog_at > now.steady and not hurry:
            return (None, False) if outbox.waiting().batches else (None, True)
        row = outbox.oldest()
        return row, row is None or row.appended_us >= live_us

    def _send(self, row: LogRow, *, live: bool) -> Sent:
        setup = self._setup
        if row.payload is None:
            setup.set_aside(row)
            return Sent(damaged=row, live=live)
        parcel = Parcel(
            edge=setup.edge,
            incarnation=setup.outbox.epoch,
            number=row.offset,
            agent=setup.agent,
            waiting=setup.outbox.waiting(),
        )
        receipt = deliver(
            row.payload, row.events, setup.sender, setup.packing, setup.parking, parcel
        )
        return Sent(receipt=receipt, live=live)


def deliver(
    payload: bytes,
    events: int,
    sender: EventSender,
    packing: Packing,
    parking: Parking,
    parcel: Parcel | None = None,
) -> Receipt:
    """Send one batch; one that is refused as a whole is halved until the guilty event is found.

    The guilty event is parked with its reason, so one bad event never blocks the rest.

    Raises:
        Refused: the key or the address will not do; nothing is parked for that.
        Unavailable: not now; send the same again.
    """
    try:
        return sender.send(payload, events, parcel)
    except Invalid as error:
        pieces = packing.unpack(payload)
        if len(pieces) == 1:
            parking.park(pieces[0], error)
            return Receipt(parked=1)
    middle = len(pieces) // 2
    total = Receipt()
    for at, half in enumerate((pieces[:middle], pieces[middle:])):
        part = _part(parcel, at)
        total += deliver(packing.pack(half), len(half), sender, packing, parking, part)
    return total


def _part(parcel: Parcel | None, at: int) -> Parcel | None:
    """Return the note of a half: parts are numbered as the nodes of a binary tree."""
    if parcel is None:
        return None
    return msgspec.structs.replace(parcel, part=(parcel.part or 1) * 2 + at)
