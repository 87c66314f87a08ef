"""What one reading of a target adds: its points, judged against what was known, as events.

A growth carries `value` and `since`; a level carries `value`; both carry the series' labels. Ids
derive from series and sample time, and events and baselines are committed in one transaction, so
a crash repeats or skips both together.

Judged like everything that comes over a wire (`collect.doors.standing`): a first sample counts
from 0 only where its start is told and lies after this agent's first reading of the target; a
fall is a restart only with evidence; without, it adds nothing and is reported.

Source: docs/guides/edge.md; ADR 0012.
"""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from tallybook.collect.doors.point import Point, fingerprint, judged
from tallybook.collect.doors.rules import DoorRules, Mapped, mapped
from tallybook.collect.doors.standing import Evidence, Growth, Sample, Standing, judge
from tallybook.kernel.decimals import plain
from tallybook.kernel.event import EDGE_PREFIX, UsageEvent
from tallybook.kernel.timestamps import DAY_US, SECOND_US, format_us

DOOR = "prometheus"
"""The rules of that door: its subject is `instance`."""
FORGET_AFTER_US = DAY_US
"""A series unseen for so long is forgotten, and a baseline again when it comes back."""
SAME_START_US = 5 * SECOND_US
"""Starts reckoned from an uptime in whole seconds may differ by less without being others."""
_OWN = frozenset({"value", "since"})


class TargetState(msgspec.Struct, frozen=True, kw_only=True):
    """What the next reading is measured from.

    Attributes:
        born_us: the first reading; what was counted before is unknown.
        read_us: the last reading.
        standings: of counters, by fingerprint.
    """

    born_us: int
    read_us: int
    standings: dict[str, Standing] = {}


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """How a target is read.

    Attributes:
        source: the events' source.
        rules: subject, types, and which series are left out.
        new_series_from_zero: a series that was not there at the reading before began at 0 since.
    """

    source: str
    rules: DoorRules = DoorRules()
    new_series_from_zero: bool = False


class TargetRound(msgspec.Struct, frozen=True, kw_only=True):
    """The events of one reading, the state after it, and what a person should know."""

    events: tuple[UsageEvent, ...]
    state: TargetState
    notes: tuple[str, ...] = ()


def target_round(
    points: Sequence[Point], known: TargetState | None, told: Told, now_us: int
) -> TargetRound:
    """Return what one reading adds.

    Args:
        points: everything read.
        known: the state after the reading before; None for the first ever.
        told: how the target is read.
        now_us: when it was read.
    """
    state = known or TargetState(born_us=now_us, read_us=now_us)
    process_us = max((int(p.value * SECOND_US) for p in points if p.kind == "evidence"), default=0)
    run = _Run(state, told, process_us, first=known is None)
    events = [event for point in points for event in run.take(point)]
    kept = {
        series: standing
        for series, standing in (state.standings | run.standings).items()
        if now_us - standing.seen_us <= FORGET_AFTER_US
    }
    after = TargetState(born_us=state.born_us, read_us=now_us, standings=kept)
    return TargetRound(events=tuple(events), state=after, notes=tuple(run.notes))


class _Run:
    """One reading while it is judged."""

    def __init__(self, state: TargetState, told: Told, process_us: int, *, first: bool) -> None:
        self._state = state
        self._told = told
        self._process_us = process_us
        self._first = first
        self.standings: dict[str, Standing] = {}
        self.notes: list[str] = []

    def take(self, point: Point) -> Iterator[UsageEvent]:
        """Yield the events of one point."""
        found = mapped(DOOR, self._told.rules, point)
        value = judged(point.value)
        if found is None or found.kind == "evidence" or value is None:
            return
        series = fingerprint(self._told.source, point.name, found.labels).hex()
        point = msgspec.structs.replace(point, value=value)
        if found.kind == "counter" and value >= 0:
            yield from self._count(series, point, found)
        elif found.kind != "counter":
            yield _event(series, point.time_us, found, self._told, {"value": plain(value)})

    def _count(self, series: str, point: Point, found: Mapped) -> Iterator[UsageEvent]:
        known = self._state.standings.get(series)
        sample = Sample(
            value=point.value, time_us=point.time_us, start_us=self._start(known, point)
        )
        evidence = Evidence(target_us=self._process_us)
        verdict = judge(known, sample, evidence, self._state.born_us)
        self.standings[series] = verdict.standing
        for growth in verdict.growths:
            if growth.amount:
                yield _grown(series, found, self._told, growth)
        if verdict.reason == "fell":
            self.notes.append(f"{point.name} fell to {plain(point.value)} and nothing says why")
            yield _fell(series, point, found, self._told)

    def _start(self, known: Standing | None, point: Point) -> int:
        if known is None:
            absent = self._told.new_series_from_zero and not self._first
            return point.start_us or (self._state.read_us if absent else 0)
        if point.value < known.value and self._process_us >= known.seen_us:
            return self._process_us  # a fall is enough to believe a start to the moment
        if abs(point.start_us - known.start_us) < SAME_START_US:
            return known.start_us
        return point.start_us


def _grown(series: str, found: Mapped, told: Told, growth: Growth) -> UsageEvent:
    own = {"value": plain(growth.amount), "since": f'"{format_us(growth.since_us)}"'}
    return _event(series, growth.time_us, found, told, own)


def _event(
    series: str, time_us: int, found: Mapped, told: Told, own: Mapping[str, str]
) -> UsageEvent:
    """Return an event.

    Args:
        series: its fingerprint.
        time_us: of the sample.
        found: type, subject and labels.
        told: names the source.
        own: name -> value, spelled as JSON.
    """
    labels = {(f"label_{n}" if n in _OWN else n): v for n, v in found.labels.items()}
    data = {**labels, **{n: msgspec.Raw(v.encode()) for n, v in own.items()}}
    return UsageEvent(
        id=f"{series}-{time_us}",
        source=told.source,
        type=found.type,
        subject=found.subject,
        time=format_us(time_us),
        data=msgspec.Raw(msgspec.json.encode(data)),
    )


def _fell(series: str, point: Point, found: Mapped, told: Told) -> UsageEvent:
    said = msgspec.structs.replace(found, type=f"{EDGE_PREFIX}counter-fell")
    own = {"series": f'"{point.name}"', "value": plain(point.value)}
    event = _event(series, point.time_us, said, told, own)
    return msgspec.structs.replace(event, id=f"{event.id}-fell")
