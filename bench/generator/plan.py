"""What a load generator is told, and what it tells when it has ended."""

import msgspec


class Kind(msgspec.Struct, frozen=True):
    """A type of event, and the meter that adds up one of its properties.

    Attributes:
        type: of the event.
        meter: key of a SUM meter over it.
        data: its payload; `%04d` is the property that is added up, a number of four digits.
    """

    type: str
    meter: str
    data: str


KINDS = (
    Kind(
        "http.server.request",
        "bytes",
        '{"method":"GET","path":"/api/items/%(item)02d","status":200,"bytes":%(value)04d,'
        '"region":"eu"}',
    ),
    Kind(
        "llm.completion",
        "tokens",
        '{"model":"large-%(item)02d","tokens":%(value)04d,"stream":true,"region":"eu"}',
    ),
    Kind("volume.held", "gigabytes", '{"volume":"v-%(item)02d","gigabytes":"%(value)04d"}'),
    Kind(
        "job.finished",
        "seconds",
        '{"queue":"q-%(item)02d","seconds":%(value)04d,"ok":true,"steps":[1,2,3],"host":"h-1"}',
    ),
)
"""Shapes of payload, so that mixed batches fill different columns."""


class Plan(msgspec.Struct, kw_only=True):
    """What to send.

    Attributes:
        host, port, key: the server.
        seconds: for how long requests are begun.
        events_max: how many events, at most; 0 is no bound.
        batch: events a request.
        connections: requests in flight.
        run: distinguishes the ids of two runs.
        subjects: how many different ones.
        kinds: how many of `KINDS` take turns.
        duplicate_percent: events that were sent before, exactly as before.
        bad_percent: events of a version that nobody speaks; they are quarantined (`?partial=true`).
        random_ids: ids in no order, as of UUIDv4; otherwise they grow, as of UUIDv7.
        resend: a request whose connection broke is sent again, the same bytes, until it has its
            answer; otherwise a broken connection ends the run.
        rate: events a second to offer, whether or not the server follows; 0 is as fast as it goes.
        start_us: event time of the first block of events, microseconds UTC.
        block_seconds: event time from one block of about 1,000 events to the next.
        spread_seconds: event times begin again after this span.
    """

    host: str = ""
    port: int = 0
    key: str = ""
    seconds: float = 10.0
    events_max: int = 0
    batch: int = 1000
    connections: int = 8
    run: str = "r"
    subjects: int = 1000
    kinds: int = 1
    duplicate_percent: int = 0
    bad_percent: int = 0
    random_ids: bool = False
    resend: bool = False
    rate: float = 0.0
    start_us: int = 1_790_812_800_000_000
    block_seconds: float = 1.0
    spread_seconds: int = 3600


class Sent(msgspec.Struct, kw_only=True):
    """What was acknowledged, exactly.

    Attributes:
        events: of acknowledged requests.
        duplicates: of them, sent before.
        bad: of them, to be quarantined.
        counts, sums: by meter: events that count, and what their property adds up to.
    """

    events: int = 0
    duplicates: int = 0
    bad: int = 0
    counts: dict[str, int] = {}
    sums: dict[str, int] = {}

    @property
    def new(self) -> int:
        """Events that the lake must have more than before."""
        return self.events - self.duplicates - self.bad

    def __add__(self, other: "Sent") -> "Sent":
        """Return both."""
        return Sent(
            events=self.events + other.events,
            duplicates=self.duplicates + other.duplicates,
            bad=self.bad + other.bad,
            counts=_added(self.counts, other.counts),
            sums=_added(self.sums, other.sums),
        )


def _added(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    return {key: one.get(key, 0) + other.get(key, 0) for key in [*one, *(set(other) - set(one))]}


class Result(msgspec.Struct, kw_only=True):
    """What came of a plan.

    Attributes:
        sent: what was acknowledged.
        requests: acknowledged ones.
        seconds: from the first request to the last answer.
        retried: answers 429 and 503, after which the same was sent again.
        resent: requests whose connection broke; the server may have stored them all the same.
        refused: events of requests that got any other answer.
        refusals: up to three of these answers, to be shown.
        unsent: events that `rate` asked for and the server did not come to.
        cpu_seconds: of the generator.
        latency_ms: percentile -> milliseconds, from when a request was due until its answer.
        bytes_sent: of acknowledged bodies.
    """

    sent: Sent
    requests: int
    seconds: float
    retried: int
    resent: int
    refused: int
    refusals: list[str]
    unsent: int
    cpu_seconds: float
    latency_ms: dict[str, float]
    bytes_sent: int

    @property
    def rate(self) -> float:
        """Acknowledged events a second."""
        return self.sent.events / self.seconds
