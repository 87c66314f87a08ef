"""A reading of this host as events under OpenTelemetry names, one event a series.

Counters (`system.cpu.time`, `system.network.io`, `system.disk.io`) carry what they grew by since
the reading before, so their usage is the SUM of `$.value`; a growth of 0 is not sent. Levels
(`system.memory.usage`, `system.filesystem.usage`) carry what was held, for TIME_WEIGHTED.

Ids derive from boot, instant and series; the events of one reading and the baselines they are
measured from are committed in one transaction, so a crash repeats or skips both together.

Source: OpenTelemetry semantic conventions 1.44, system metrics; CONTRACTS §2.
"""

from collections.abc import Iterator, Mapping
from decimal import Decimal

import msgspec

from tallybook.collect.counter import Baseline, Step, advance
from tallybook.kernel.decimals import plain
from tallybook.kernel.event import EDGE_PREFIX, UsageEvent
from tallybook.kernel.timestamps import DAY_US, SECOND_US, format_us

FORGET_AFTER_US = DAY_US
"""A counter unseen for so long (an interface of a container that is gone) is forgotten."""

CLOCK_STEP_US = 2 * SECOND_US
"""Wall clock and uptime may part by this much between readings before it is reported."""


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """One number read.

    Attributes:
        metric: OpenTelemetry name, the event's type.
        labels: short attribute names and values, such as mode -> user.
        value: exact; seconds or bytes.
        counter: whether it only grows; else it is a level.
        start: evidence of the counter's birth beside the boot, such as an interface index.
    """

    metric: str
    labels: dict[str, str]
    value: Decimal
    counter: bool
    start: str = ""

    def series(self) -> str:
        """Return the name of what is counted: metric and label values."""
        return "/".join((self.metric, *self.labels.values()))


class HostSample(msgspec.Struct, frozen=True, kw_only=True):
    """Everything read at one instant.

    Attributes:
        host: its name, the events' subject.
        boot_id: changes with every boot.
        time_us: wall clock, microseconds UTC.
        uptime_us: microseconds since boot, suspended time included.
        readings: all series.
    """

    host: str
    boot_id: str
    time_us: int
    uptime_us: int
    readings: tuple[Reading, ...]


class HostState(msgspec.Struct, frozen=True, kw_only=True):
    """What the next reading is measured from; kept in the spool's cursor `host`."""

    boot_id: str
    time_us: int
    uptime_us: int
    baselines: dict[str, Baseline]


class HostRound(msgspec.Struct, frozen=True):
    """The events of one reading and the state after it."""

    events: tuple[UsageEvent, ...]
    state: HostState


def host_round(sample: HostSample, known: HostState | None, gap_after_us: int) -> HostRound:
    """Return the events of one reading.

    Args:
        sample: the reading.
        known: the state after the reading before; None for the first ever.
        gap_after_us: a longer time between two readings is reported as a gap.
    """
    before = known.baselines if known else {}
    kept = {s: b for s, b in before.items() if sample.time_us - b.seen_us <= FORGET_AFTER_US}
    events: list[UsageEvent] = list(_reports(sample, known, gap_after_us))
    for reading in sample.readings:
        if not reading.counter:
            events.append(_event(sample, reading, reading.value, None))
            continue
        step = advance(before.get(reading.series()), _now(sample, reading))
        kept[reading.series()] = step.baseline
        events += _counted(sample, reading, step, known)
    state = HostState(
        boot_id=sample.boot_id,
        time_us=sample.time_us,
        uptime_us=sample.uptime_us,
        baselines=kept,
    )
    return HostRound(tuple(events), state)


def source_of(host: str) -> str:
    """Return the `source` of a host's events."""
    return f"host:{host}"


def _now(sample: HostSample, reading: Reading) -> Baseline:
    incarnation = f"{sample.boot_id}:{reading.start}" if reading.start else sample.boot_id
    return Baseline(incarnation, reading.value, sample.time_us)


def _counted(
    sample: HostSample, reading: Reading, step: Step, known: HostState | None
) -> Iterator[UsageEvent]:
    if step.growth:
        since = known.time_us if known and known.time_us <= sample.time_us else None
        yield _event(sample, reading, step.growth, since)
    if step.judgement == "fell":
        data = {"series": reading.series(), "value": plain(reading.value)}
        yield _report(sample, "counter-fell", data, reading.series())


def _event(sample: HostSample, reading: Reading, value: Decimal, since: int | None) -> UsageEvent:
    data: dict[str, object] = {**reading.labels, "value": msgspec.Raw(plain(value).encode())}
    if since is not None:
        data["since"] = format_us(since)
    return UsageEvent(
        id=_id(sample, reading.series()),
        source=source_of(sample.host),
        type=reading.metric,
        subject=sample.host,
        time=format_us(sample.time_us),
        data=msgspec.Raw(msgspec.json.encode(data)),
    )


def _id(sample: HostSample, series: str) -> str:
    return f"{sample.boot_id[:8]}-{sample.time_us}-{series}"


def _reports(
    sample: HostSample, known: HostState | None, gap_after_us: int
) -> Iterator[UsageEvent]:
    """Yield what an operator must know about the time since the reading before."""
    if known is None:
        yield _report(sample, "started", {"series": len(sample.readings)})
        return
    since, until = format_us(known.time_us), format_us(sample.time_us)
    if known.boot_id != sample.boot_id:
        yield _report(sample, "gap", {"reason": "reboot", "since": since, "until": until})
        return
    elapsed_us = sample.uptime_us - known.uptime_us
    if elapsed_us > gap_after_us:
        yield _report(sample, "gap", {"reason": "not-read", "since": since, "until": until})
    stepped_us = (sample.time_us - known.time_us) - elapsed_us
    if abs(stepped_us) > CLOCK_STEP_US:
        yield _report(sample, "clock-step", {"microseconds": stepped_us, "since": since})


def _report(
    sample: HostSample, name: str, data: Mapping[str, object], about: str = ""
) -> UsageEvent:
    """Return an event about the agent itself; no meter of usage counts it."""
    return UsageEvent(
        id=_id(sample, f"{EDGE_PREFIX}{name}/{about}".rstrip("/")),
        source=source_of(sample.host),
        type=EDGE_PREFIX + name,
        subject=sample.host,
        time=format_us(sample.time_us),
        data=msgspec.Raw(msgspec.json.encode(data)),
    )
