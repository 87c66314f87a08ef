"""One request under its limits: let in or refused, counted, told how it stands, and counted off.

A request's limits are asked before anything of it is read; the limits of its events once these are
known and good (`TICKET`). All of them let it through, or none counts it: where the events are too
many, the request itself is given back. A request that is refused later, as invalid or forbidden,
has been counted: it was answered.
"""

import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from contextvars import ContextVar
from typing import Any

import msgspec
import structlog

from tallybook.admit.plan import flow
from tallybook.admit.plan.decide import Bound, Standing, Tell
from tallybook.admit.plan.headers import policy, state, warning
from tallybook.admit.plan.limit import Concurrency
from tallybook.admit.plan.ports import Counts
from tallybook.admit.plan.refuse import refusal
from tallybook.admit.plan.use import Counter, added, status_of
from tallybook.kernel.errors import TallybookError, Throttled

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

TOO_MANY = 429


class Told(msgspec.Struct, frozen=True):
    """What a process tells of its limits."""

    counts: Counts
    tell: Callable[[Sequence[Tell]], None]


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a request falls under.

    Attributes:
        requests: limits that count it.
        events: limits that count its events.
        use: whose use it is, as the first three parts of a counter; None where nobody's.
    """

    requests: Sequence[Bound] = ()
    events: Sequence[Bound] = ()
    use: tuple[str, str, str] | None = None

    def __bool__(self) -> bool:
        """Whether there is anything to count."""
        return bool(self.requests or self.events or self.use)


class Ticket:
    """A request that was let in.

    Args:
        told: of this process.
        limits: of the request.
    """

    __slots__ = ("_counted", "_limits", "_now_ns", "_standings", "_told", "events_counted", "wait")

    def __init__(self, told: Told, limits: Limits) -> None:
        """Nothing is counted yet."""
        self._told = told
        self._limits = limits
        self._now_ns = time.time_ns()
        self._counted: Sequence[Bound] = ()
        self._standings: tuple[Standing, ...] = ()
        self.events_counted = 0
        self.wait: int | None = None

    def enter(self) -> None:
        """Count the request under all of its limits.

        Raises:
            Throttled: one of them does not let it in; nothing was counted.
            Unavailable: the counts cannot be reached.
        """
        if self._limits.requests:
            self._through(self._limits.requests, 1)
            self._counted = self._limits.requests

    def events(self, amount: int) -> None:
        """Count the request's events, all or none.

        Raises:
            Throttled: they are too many now; the request is not counted either.
            Invalid: they are too many to be let through together, ever ('over-limit').
            Unavailable: the counts cannot be reached.
        """
        if self._limits.events and amount:
            try:
                self._through(self._limits.events, amount)
            except TallybookError:
                self._give_back(of_all=True)
                raise
        self.events_counted += amount

    @property
    def limits_events(self) -> bool:
        """Whether there are limits of events."""
        return bool(self._limits.events)

    def leave(self, status: int) -> None:
        """Count off what runs no more, and the use of the key; never raises."""
        try:
            self._give_back(of_all=False)
            if self._limits.use is not None and status:
                place = Counter(*self._limits.use, status_of(status)).place()
                events = self.events_counted if status < 300 else 0
                self._told.counts.change([place], lambda held: (added(held, events), None))
        except TallybookError as error:
            structlog.get_logger("limits").warning("limits.not_counted", error=error.message)

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return the fields that tell how the limits stand; none of those that are built in."""
        shown = [one for one in self._standings if one.bound.plan]
        if not shown:
            return []
        found = [
            (b"ratelimit-policy", policy([one.bound for one in shown]).encode()),
            (b"ratelimit", state(shown).encode()),
        ]
        said = warning(shown)
        if said:
            found.append((b"tallybook-limit-warning", said.encode()))
        return found

    def _through(self, bounds: Sequence[Bound], amount: int) -> None:
        decision = flow.let_through(self._told.counts, bounds, self._now_ns, amount)
        self._standings += decision.standings
        if decision.tells:
            self._told.tell(decision.tells)
        if decision.stop is not None:
            error = refusal(decision.stop, amount)
            self.wait = error.retry_after_seconds if isinstance(error, Throttled) else None
            raise error

    def _give_back(self, *, of_all: bool) -> None:
        """Undo the count of what runs no more; of a request that was refused, every count."""
        bounds = self._counted
        back = [one for one in bounds if of_all or isinstance(one.limit, Concurrency)]
        self._counted = ()
        if back:
            flow.give_back(self._told.counts, back, self._now_ns)


TICKET: ContextVar[Ticket | None] = ContextVar("ticket", default=None)
"""The ticket of the request that this code runs for; None where it is under no limit."""


def count_events(amount: int) -> None:
    """Count the events of the present request; see `Ticket.events`."""
    ticket = TICKET.get()
    if ticket is not None:
        ticket.events(amount)


def events_limited() -> bool:
    """Whether the events of the present request are under limits."""
    ticket = TICKET.get()
    return ticket is not None and ticket.limits_events


def sending(ticket: Ticket, send: Send, note: Callable[[int], None]) -> Send:
    """Return how an answer is sent: with the fields of its limits.

    Args:
        ticket: of the request.
        send: of the server.
        note: is told the status.
    """

    async def told(message: Message) -> None:
        if message["type"] == "http.response.start":
            note(message["status"])
            headers = [*message.get("headers", ()), *ticket.headers()]
            if message["status"] == TOO_MANY and ticket.wait is not None:
                headers = [one for one in headers if one[0].lower() != b"retry-after"]
                headers.append((b"retry-after", str(ticket.wait).encode()))
            message["headers"] = headers
        await send(message)

    return told
