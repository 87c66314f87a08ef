"""A reading of this host as events under OpenTelemetry names, one event a series.

Counters (`system.cpu.time`, `system.network.io`, `system.disk.io`) carry what they grew by since
the reading before, so their usage is the SUM of `$.value`; a growth of 0 is not sent. Levels
(`system.memory.usage`, `system.filesystem.usage`) carry what was held, for TIME_WEIGHTED.

One series may be the sum of several counters: a CPU mode over all CPUs, a process name over all
its processes. Each has a baseline of its own, so a CPU that is unplugged and a process that ends
take nothing back. One that is new since the reading before, and can show when it was born, counts
from 0; one that cannot counts from where it was first seen.

Ids derive from boot, instant and series; the events of one reading and the baselines they are
measured from are committed in one transaction, so a crash repeats or skips both together.

Source: OpenTelemetry semantic conventions 1.44, system metrics; CONTRACTS §2.
"""

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal

import msgspec

from tallybook.collect.counter import Baseline, Step, advance
from tallybook.kernel.decimals import EXACT, plain
from tallybook.kernel.event import EDGE_PREFIX, UsageEvent
from tallybook.kernel.timestamps import DAY_US, SECOND_US, format_us

CONTAINER_CPU = "container.cpu.time"
CONTAINER = "container"
"""The first label of everything that a container has used: its id."""

_OF_CONTAINER = "container."

FORGET_AFTER_US = DAY_US
"""A counter unseen for so long (an interface of a container that is gone) is forgotten."""

MEMBER_FORGET_AFTER_US = 600 * SECOND_US
"""The same for one counter of several, such as a process: its number is never used again."""

SLEPT_US = 2 * SECOND_US
"""A machine that was suspended for longer between two readings is reported."""

CLOCK_STEP_US = 2 * SECOND_US
"""Wall clock and uptime may part by this much between readings before it is reported."""

TICK_US = SECOND_US // 100
"""A tick of the kernel's clock, in which it tells when a process began (`USER_HZ`)."""


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """One number read.

    Attributes:
        metric: OpenTelemetry name, the event's type.
        labels: short attribute names and values, such as mode -> user.
        value: exact; seconds or bytes.
        counter: whether it only grows; else it is a level.
        start: evidence of the counter's birth beside the boot, such as an interface index.
        member: which of several counters of the series, '' where there is one.
        born_us: when the counter began at 0, microseconds of uptime; None where nobody knows.
        subject: who used it; None is the host.
    """

    metric: str
    labels: dict[str, str]
    value: Decimal
    counter: bool
    start: str = ""
    member: str = ""
    born_us: int | None = None
    subject: str | None = None

    def series(self) -> str:
        """Return the name of what is counted: metric and label values."""
        return "/".join((self.metric, *self.labels.values()))

    def counter_name(self) -> str:
        """Return the name of its baseline."""
        return f"{self.series()}#{self.member}" if self.member else self.series()


class HostSample(msgspec.Struct, frozen=True, kw_only=True):
    """Everything read at one instant.

    Attributes:
        host: its name, the events' subject.
        boot_id: changes with every boot.
        time_us: wall clock, microseconds UTC.
        uptime_us: microseconds since boot, suspended time included.
        readings: all series.
        awake_us: microseconds since boot without suspended time; None where nobody tells.
        listed: which groups of counters were looked for, '' for none: one that is not in a reading
            that looked for it was not there.
    """

    host: str
    boot_id: str
    time_us: int
    uptime_us: int
    readings: tuple[Reading, ...]
    awake_us: int | None = None
    listed: str = ""


class HostState(msgspec.Struct, frozen=True, kw_only=True):
    """What the next reading is measured from; kept in the spool's cursor `host`."""

    boot_id: str
    time_us: int
    uptime_us: int
    baselines: dict[str, Baseline]
    awake_us: int | None = None
    listed: str = ""


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
    is_same_boot = known is not None and known.boot_id == sample.boot_id
    groups = {_group(name) for name in before if is_same_boot and name.startswith(_OF_CONTAINER)}
    found: dict[str, str] = {}
    kept = _remembered(sample, known)
    events: list[UsageEvent] = list(_reports(sample, known, gap_after_us))
    totals: dict[str, tuple[Reading, Decimal]] = {}
    for reading in sample.readings:
        name, value = reading.counter_name(), reading.value
        if reading.counter:
            step = advance(before.get(name), _now(sample, reading))
            kept[name] = step.baseline
            is_new = CONTAINER not in reading.labels or _group(name) not in groups
            value = _believed(reading, step, known, sample, is_new=is_new)
            if is_new and step.judgement == "first" and value != reading.value:
                found[_group(name)] = reading.labels.get(CONTAINER, "")
            if step.judgement == "fell":
                events.append(_fell(sample, reading))
        _, so_far = totals.get(reading.series(), (reading, Decimal(0)))
        totals[reading.series()] = (reading, EXACT.add(so_far, value))
    events += _found_late(sample, known, found)
    events += _measured(sample, known, totals.values())
    state = HostState(
        boot_id=sample.boot_id,
        time_us=sample.time_us,
        uptime_us=sample.uptime_us,
        baselines=kept,
        awake_us=sample.awake_us,
        listed=sample.listed,
    )
    return HostRound(tuple(events), state)


def source_of(host: str) -> str:
    """Return the `source` of a host's events."""
    return f"host:{host}"


def _now(sample: HostSample, reading: Reading) -> Baseline:
    incarnation = f"{sample.boot_id}:{reading.start}" if reading.start else sample.boot_id
    return Baseline(incarnation, reading.value, sample.time_us)


def _remembered(sample: HostSample, known: HostState | None) -> dict[str, Baseline]:
    """Return the baselines that are worth keeping: all of the last reading, and newer ones."""
    if known is None:
        return {}
    return {
        name: baseline
        for name, baseline in known.baselines.items()
        if baseline.seen_us >= known.time_us
        or sample.time_us - baseline.seen_us
        <= (MEMBER_FORGET_AFTER_US if "#" in name else FORGET_AFTER_US)
    }


def _group(name: str) -> str:
    """Return which control group a baseline is of: the kernel's number, which no other one gets."""
    return name.partition("#")[2].partition(".")[0]


def _found_late(
    sample: HostSample, known: HostState | None, found: Mapping[str, str]
) -> Iterator[UsageEvent]:
    """Yield containers of which nobody can tell that they began since the reading before."""
    if known is None or known.listed != sample.listed:
        return
    for container in sorted(set(found.values()) - {""}):
        data = {"container": container, "counted_from": format_us(sample.time_us)}
        yield _report(sample, "container-found", data, container)


def _believed(
    reading: Reading, step: Step, known: HostState | None, sample: HostSample, *, is_new: bool
) -> Decimal:
    """Return the growth; a counter born since the reading before has grown by all it shows.

    A container's group must be new too, in a reading that looked for the same as the one before:
    the age of its processes alone is not the age of what it counted.

    Births are told in ticks of the kernel's clock, rounded down: one in the tick of the reading
    before came after it, or that reading would know it.
    """
    if step.judgement != "first" or known is None or reading.born_us is None:
        return step.growth
    if CONTAINER in reading.labels and not (is_new and known.listed == sample.listed):
        return step.growth
    born_since = known.boot_id != sample.boot_id or reading.born_us + TICK_US > known.uptime_us
    return reading.value if born_since else step.growth


def _measured(
    sample: HostSample,
    known: HostState | None,
    totals: Iterable[tuple[Reading, Decimal]],
) -> Iterator[UsageEvent]:
    since = known.time_us if known and known.time_us <= sample.time_us else None
    for reading, value in totals:
        if not reading.counter:
            yield _event(sample, reading, value, None)
        elif value:
            yield _event(sample, reading, value, since)


def _fell(sample: HostSample, reading: Reading) -> UsageEvent:
    data = {"series": reading.counter_name(), "value": plain(reading.value)}
    return _report(sample, "counter-fell", data, reading.counter_name())


def _event(sample: HostSample, reading: Reading, value: Decimal, since: int | None) -> UsageEvent:
    data: dict[str, object] = {**reading.labels, "value": msgspec.Raw(plain(value).encode())}
    if since is not None:
        data["since"] = format_us(since)
    return UsageEvent(
        id=_id(sample, reading.series()),
        source=source_of(sample.host),
        type=reading.metric,
        subject=reading.subject or sample.host,
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
    slept_us = _slept_us(sample, known)
    if slept_us > SLEPT_US:
        data = {"reason": "slept", "since": since, "until": until, "microseconds": slept_us}
        yield _report(sample, "gap", data)
    elif elapsed_us > gap_after_us:
        yield _report(sample, "gap", {"reason": "not-read", "since": since, "until": until})
    yield from _ended(sample, known)
    stepped_us = (sample.time_us - known.time_us) - elapsed_us
    if abs(stepped_us) > CLOCK_STEP_US:
        yield _report(sample, "clock-step", {"microseconds": stepped_us, "since": since})


def _slept_us(sample: HostSample, known: HostState) -> int:
    """Return how long the machine was suspended since the reading before."""
    if sample.awake_us is None or known.awake_us is None:
        return 0
    return (sample.uptime_us - known.uptime_us) - (sample.awake_us - known.awake_us)


def _ended(sample: HostSample, known: HostState) -> Iterator[UsageEvent]:
    """Yield containers that ended since the reading before: their last seconds nobody has read."""
    here = {r.counter_name() for r in sample.readings if r.metric == CONTAINER_CPU}
    runs = {r.labels[CONTAINER] for r in sample.readings if r.metric == CONTAINER_CPU}
    gone = {
        name.split("/")[1]
        for name, baseline in known.baselines.items()
        if name.startswith(CONTAINER_CPU) and baseline.seen_us == known.time_us and name not in here
    }
    for container in sorted(gone):
        name = "container-restarted" if container in runs else "container-ended"
        data = {"container": container, "last_read": format_us(known.time_us)}
        yield _report(sample, name, data, container)


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
