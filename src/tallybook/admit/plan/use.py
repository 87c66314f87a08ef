"""The use of keys as a meter: counted for good, reported as events once.

Each key, group of routes and class of status has a counter that only grows. What a counter gained
since the last report becomes one event, whose id derives from the counter, the two figures
between which it lies and when it begins: a report that is repeated is the same event, and counts
once (guarantee 2).

A counter of a key that was revoked or has expired is given up some days later, once all of it is
reported: its place is free for another one. A key whose expiry is moved later begins at zero.
"""

from collections.abc import Callable, Sequence

import msgspec

from tallybook.admit.plan.bind import place
from tallybook.admit.plan.decide import Held, Place
from tallybook.kernel.ids import derived_id
from tallybook.kernel.period import Period
from tallybook.kernel.timestamps import SECOND_US, format_us

EVENT_TYPE = "tallybook.api.request"
SOURCE = "tallybook/keys"

STATUSES = ("2xx", "3xx", "4xx", "5xx")
"""Classes of status."""

EVENTS, DOORS, QUERIES, DOCUMENTS, SENDING, REST = (
    "events",
    "doors",
    "queries",
    "documents",
    "streams",
    "api",
)
ROUTES = (EVENTS, DOORS, QUERIES, DOCUMENTS, SENDING, REST)
"""Groups of routes: the event door, front doors of other protocols, queries of meters, rendered
documents, streams, and everything else."""


def route_of(method: str, path: str, *, door: bool = False) -> str:
    """Return the group of routes that a request belongs to.

    Args:
        method: of HTTP.
        path: without its query.
        door: whether a front door answers it.
    """
    if door:
        return DOORS
    if path == "/api/v1/events" and method == "POST":
        return EVENTS
    if path.startswith("/api/v1/meters/") and path.endswith("/query"):
        return QUERIES
    if path.endswith((".pdf", ".xml")):
        return DOCUMENTS
    return SENDING if path.startswith("/api/v1/streams") else REST


def status_of(status: int) -> str:
    """Return the class of an HTTP status."""
    return STATUSES[min(max(status // 100, 2), 5) - 2]


KEPT_US = 7 * 24 * 3600 * SECOND_US
"""For how long after its end the counters of a key are kept: longer than any request runs."""
GIVEN_UP = ""
"""The generation of what is reported of a counter that was given up."""
_GIVING_UP_HOURS = 1


class Counter(msgspec.Struct, frozen=True, order=True):
    """Which use is counted together."""

    tenant: str
    key_id: str
    route: str
    status: str

    def place(self, hours: int = 0) -> Place:
        """Return where it is counted: requests and events; for good, unless hours are named."""
        parts = (self.tenant, "use", self.key_id, self.route, self.status)
        return place(parts, hours=hours)

    def leaving(self) -> Place:
        """Return its place, to be given to another count soon if nothing is counted there."""
        return self.place(_GIVING_UP_HOURS)


def counters(tenant: str, key_id: str) -> list[Counter]:
    """Return every counter that a key may have."""
    return [Counter(tenant, key_id, route, status) for route in ROUTES for status in STATUSES]


class UsedKey(msgspec.Struct, frozen=True):
    """A key whose use is reported.

    Attributes:
        customer: whose it is; '' for nobody's.
        ended_us: since when it is revoked or expired; None while it is good for ever.
    """

    customer: str = ""
    ended_us: int | None = None

    def gone(self, now_us: int) -> bool:
        """Whether it ended so long ago that nothing of it is counted any more."""
        return self.ended_us is not None and self.ended_us + KEPT_US < now_us


class Reported(msgspec.Struct, frozen=True, kw_only=True):
    """Up to where a counter was reported.

    Attributes:
        generation: of the counts; figures of another one mean nothing.
        requests, events: as far as they are reported.
        upto_us: they are of use up to this instant; where a report is pending, it begins here.
        pending_requests, pending_events, pending_us: as far as they are being reported; the same
            where nothing is.
    """

    tenant: str
    key_id: str
    route: str
    status: str
    generation: str
    requests: int = 0
    events: int = 0
    upto_us: int = 0
    pending_requests: int = 0
    pending_events: int = 0
    pending_us: int = 0

    @property
    def counter(self) -> Counter:
        """Of which counter."""
        return Counter(self.tenant, self.key_id, self.route, self.status)

    @property
    def pending(self) -> bool:
        """Whether a report may have been sent, and was not seen to be stored."""
        return (self.pending_requests, self.pending_events) != (self.requests, self.events)


def opened(
    counter: Counter, before: Reported | None, held: Held, generation: str, span: Period
) -> Reported | None:
    """Return the report to make of a counter, None where there is nothing new.

    A report that is pending is made again as it is, whatever was counted since. Counts of another
    generation, or that went back (a power cut took the last second), are reported from where they
    are: what was reported of them before is done.

    Args:
        counter: which.
        before: up to where it was reported; None never.
        held: its count now.
        generation: of the counts.
        span: from when the counters were read before to now.
    """
    if before is not None and before.pending:
        return before
    requests, events = held[0], held[1]
    if before is None or before.generation != generation:
        before = _fresh(counter, generation)
    elif requests < before.requests or events < before.events:
        return msgspec.structs.replace(
            before,
            requests=requests,
            events=events,
            pending_requests=requests,
            pending_events=events,
        )
    if (requests, events) == (before.requests, before.events):
        return None
    return msgspec.structs.replace(
        before,
        upto_us=max(before.upto_us, span.start_us),
        pending_requests=requests,
        pending_events=events,
        pending_us=span.end_us,
    )


def _fresh(counter: Counter, generation: str) -> Reported:
    return Reported(
        tenant=counter.tenant,
        key_id=counter.key_id,
        route=counter.route,
        status=counter.status,
        generation=generation,
    )


def closed(report: Reported) -> Reported:
    """Return a report whose events are stored."""
    return msgspec.structs.replace(
        report,
        requests=report.pending_requests,
        events=report.pending_events,
        upto_us=report.pending_us,
    )


def may_end(report: Reported) -> bool:
    """Whether a counter was not given up yet, and can be where nothing is there to report."""
    return report.generation != GIVEN_UP and not report.pending


def ended(report: Reported) -> Reported:
    """Return what stays known of a counter that was given up: the figures, for who looks."""
    return msgspec.structs.replace(report, generation=GIVEN_UP)


def emptied(report: Reported) -> Callable[[list[Held]], tuple[list[Held] | None, bool]]:
    """Return what sets a counter to zero, and says that it did, where it is as it was reported."""

    def decide(held: list[Held]) -> tuple[list[Held] | None, bool]:
        is_same = held[0][:2] in {(report.requests, report.events), (0, 0)}
        return ([(0, 0, 0, 0)], True) if is_same else (None, False)

    return decide


def event(report: Reported, subject: str) -> bytes:
    """Return the CloudEvent of a pending report, as JSON.

    Its time is the beginning of its span, so that the use of the last minute of a month is of that
    month.

    Args:
        report: pending.
        subject: the key's customer, or its id.
    """
    span = (str(report.requests), str(report.events))
    upto = (str(report.pending_requests), str(report.pending_events))
    counter = (report.generation, report.key_id, report.route, report.status)
    return msgspec.json.encode(
        {
            "specversion": "1.0",
            "type": EVENT_TYPE,
            "source": SOURCE,
            "id": derived_id("use", report.tenant, *counter, *span, *upto, str(report.upto_us)),
            "subject": subject,
            "time": format_us(report.upto_us),
            "data": {
                "requests": report.pending_requests - report.requests,
                "events": report.pending_events - report.events,
                "key": report.key_id,
                "route": report.route,
                "class": report.status,
                "from": format_us(report.upto_us),
                "to": format_us(report.pending_us),
            },
        }
    )


def added(held: Sequence[Held], events: int) -> list[Held]:
    """Return a counter with one more request."""
    return [(requests + 1, before + events, 0, 0) for requests, before, _, _ in held]
