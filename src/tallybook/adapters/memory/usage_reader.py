"""Usage over events held in a list: the fake for flows, and the oracle for every engine.

Plain Python and `Decimal`, written to be obviously right and never fast. What it answers is what
a meter means; an engine that answers otherwise is wrong.

The value of a window is the aggregate over its events. `TIME_WEIGHTED` needs more words: a series
is one subject and one combination of *all* the meter's dimensions; within a series each usable
value is held until the next event with a usable value of the series, and at most until the window
ends or the subject leaves its owner; what was held before the window is carried in. The answer is
the sum over the series of value x microseconds, divided once by 3.6e9, so that parts add up.
"""

import json
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator
from decimal import Decimal

import msgspec

from tallybook.catalog.meter import Meter
from tallybook.kernel.decimals import EXACT, divide, measure
from tallybook.kernel.jsonpath import steps
from tallybook.kernel.timestamps import HOUR_US, MINUTE_US
from tallybook.meter.each import Bands, EachEvent, count_each
from tallybook.meter.level import Level, LevelTerms
from tallybook.meter.partial import rolls_up
from tallybook.meter.usage import (
    Counters,
    Kind,
    Ownership,
    StoredEvent,
    Touched,
    Usage,
    UsageQuery,
)
from tallybook.meter.window import GRID_US

FAR_US = 1 << 62


class JsonNumber(str):
    """A JSON number as it was spelled."""

    __slots__ = ()


Json = str | bool | dict[str, "Json"] | list["Json"] | None
"""Parsed data; a number is a `JsonNumber`."""


def parse_data(text: str) -> Json:
    """Return the JSON value with every number as it was spelled; None where it is no JSON."""
    try:
        value: Json = json.loads(
            text, parse_float=JsonNumber, parse_int=JsonNumber, parse_constant=lambda _: None
        )
    except json.JSONDecodeError:
        return None
    return value


def at_path(data: Json, path: str) -> Json:
    """Return what stands at a path of names and indexes, or None."""
    for step in steps(path):
        if isinstance(step, str) and isinstance(data, dict):
            data = data.get(step)
        elif isinstance(step, int) and isinstance(data, list) and step < len(data):
            data = data[step]
        else:
            return None
    return data


def text_of(value: Json) -> str | None:
    """Return a scalar's text: a string's content, a number as spelled, true or false; else None."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str) else None


def number_of(value: Json) -> Decimal | None:
    """Return the measured number of a JSON number or numeric string; else None."""
    return measure(value)[0] if isinstance(value, str) else None


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """One event as a meter sees it.

    Attributes:
        held_until_us: when its subject leaves the owner, or far away.
        series: subject and all dimensions; what a level belongs to.
        released: it takes its value out of the level.
    """

    event: StoredEvent
    owner: str | None
    held_until_us: int
    group: tuple[str | None, ...]
    series: tuple[str | None, ...]
    number: Decimal | None
    text: str | None
    released: bool = False


Key = tuple[str | None, str | None, tuple[str | None, ...]]
"""Owner, subject (where asked) and group of one answer row."""


class MemoryUsageReader:
    """`UsageReader` and `EventAccounts` on lists, one for each tenant."""

    def __init__(self) -> None:
        """Start without events."""
        self._events: dict[str, list[StoredEvent]] = defaultdict(list)
        self.duplicates = 0
        """Duplicates to report in `counters`."""

    def add(self, tenant: str, events: Iterable[StoredEvent]) -> None:
        """Store events; their commit_seq is the caller's."""
        self._events[tenant].extend(events)

    def head(self) -> int:
        """Return the newest snapshot."""
        return max((e.commit_seq for events in self._events.values() for e in events), default=0)

    def usage(self, query: UsageQuery) -> list[Usage]:
        """Return the aggregates, ordered by window, owner, subject, group (None first)."""
        by_key: dict[Key, list[Counted]] = defaultdict(list)
        for counted in self._counted(query):
            subject = counted.event.subject if query.by_subject else None
            by_key[counted.owner, subject, counted.group].append(counted)
        rows = [
            row
            for key, events in by_key.items()
            for start, end in zip(query.bounds, query.bounds[1:], strict=False)
            if (row := _row(query, key, events, start, end)) is not None
        ]
        return sorted(rows, key=usage_order)

    def events(self, query: UsageQuery, after_cut: int = 0) -> Iterator[StoredEvent]:
        """Yield the very events a query counts, ordered by (time, source, id)."""
        first, last = query.bounds[0], query.bounds[-1]
        for counted in self._counted(query):
            if first <= counted.event.time_us < last and counted.event.commit_seq > after_cut:
                yield counted.event

    def extent(self, tenant: str, meter: Meter, cut: int) -> tuple[int, int] | None:
        """Return whole quarters of an hour, or minutes without roll-ups, with all that counts."""
        asked = UsageQuery(tenant=tenant, meter=meter, bounds=(-FAR_US, FAR_US), cut=cut)
        times = [event.time_us for event in self.events(asked)]
        grid = GRID_US if rolls_up(meter) else MINUTE_US
        return (min(times) // grid * grid, (max(times) // grid + 1) * grid) if times else None

    def subjects(self, tenant: str, event_type: str, cut: int) -> list[tuple[str, int]]:
        """Return every subject of a type with the time of its first event."""
        first: dict[str, int] = {}
        for event in self._accepted(tenant, cut):
            if event.type == event_type and event.subject is not None:
                first[event.subject] = min(event.time_us, first.get(event.subject, FAR_US))
        return sorted(first.items())

    def touched(
        self, tenant: str, event_type: str, after: int, cut: int, *, before_us: int | None = None
    ) -> list[Touched]:
        """Return whose events the commits after one, up to another, brought."""
        first: dict[str, int] = {}
        for event in self._accepted(tenant, cut):
            asked = event.type == event_type and (before_us is None or event.time_us < before_us)
            if asked and event.commit_seq > after and event.subject is not None:
                known = first.get(event.subject, event.time_us)
                first[event.subject] = min(known, event.time_us)
        return [Touched(subject, first[subject]) for subject in sorted(first)]

    def news(self, kinds: Collection[Kind], after: int, cut: int) -> dict[Kind, list[Touched]]:
        """Return whose events the commits after one, up to another, brought, of several kinds."""
        found = {kind: self.touched(*kind, after, cut) for kind in sorted(kinds)}
        return {kind: touched for kind, touched in found.items() if touched}

    def quarantined_between(self, after: int, cut: int) -> list[tuple[str, str, int]]:
        """Return tenant, code and count of what commits after one, up to another, put aside."""
        found = Counter(
            (tenant, event.problem.partition(":")[0])
            for tenant, events in self._events.items()
            for event in events
            if event.problem is not None and after < event.commit_seq <= cut
        )
        return sorted((tenant, code, count) for (tenant, code), count in found.items())

    def counters(self, tenant: str) -> Counters:
        """Return what came in: the stored rows and the duplicates told to this reader."""
        stored = self.stored(tenant, FAR_US)
        received = stored.accepted + stored.quarantined + self.duplicates
        return msgspec.structs.replace(stored, received=received, duplicate=self.duplicates)

    def stored(self, tenant: str, cut: int) -> Counters:
        """Return accepted and quarantined rows."""
        accepted = len(self._accepted(tenant, cut))
        rows = sum(event.commit_seq <= cut for event in self._events[tenant])
        return Counters(accepted=accepted, quarantined=rows - accepted)

    def by_type(self, tenant: str, cut: int) -> dict[str, int]:
        """Return accepted events by type."""
        counts: dict[str, int] = defaultdict(int)
        for event in self._accepted(tenant, cut):
            counts[event.type] += 1
        return dict(counts)

    def _accepted(self, tenant: str, cut: int) -> list[StoredEvent]:
        return [e for e in self._events[tenant] if e.problem is None and e.commit_seq <= cut]

    def _counted(self, query: UsageQuery) -> list[Counted]:
        """Return the events in scope at any time before the last bound, by (time, source, id)."""
        events = sorted(
            self._accepted(query.tenant, query.cut), key=lambda e: (e.time_us, e.source, e.id)
        )
        found = (_counted(query, e) for e in events if e.time_us < query.bounds[-1])
        return [counted for counted in found if counted is not None]


def usage_order(row: Usage) -> tuple[object, ...]:
    """Return the order of an answer: window, owner, subject, group; None before any text."""
    texts = (row.owner, row.subject, *row.group)
    return (row.start_us, *((text is not None, text or "") for text in texts))


def _counted(query: UsageQuery, event: StoredEvent) -> Counted | None:
    meter = query.meter
    if event.type != meter.event_type:
        return None
    if query.subjects is not None and event.subject not in query.subjects:
        return None
    data = parse_data(event.data)
    if any(text_of(at_path(data, f.path)) not in f.any_of for f in meter.filter):
        return None
    dimensions = {name: text_of(at_path(data, path)) for name, path in meter.group_by.items()}
    if any(dimensions[name] not in allowed for name, allowed in query.where.items()):
        return None
    owned = _owner(query.owners, event)
    if query.owners is not None and owned is None:
        return None
    measured = at_path(data, meter.value) if meter.value is not None else None
    return Counted(
        event=event,
        owner=owned.owner if owned else None,
        held_until_us=owned.end_us if owned and owned.end_us is not None else FAR_US,
        group=tuple(dimensions[name] for name in query.group_by),
        series=(event.subject, *dimensions.values()),
        number=number_of(measured),
        text=text_of(measured),
        released=query.level is not None
        and any(dimensions[name] in texts for name, texts in query.level.releases),
    )


def _owner(owners: tuple[Ownership, ...] | None, event: StoredEvent) -> Ownership | None:
    for owned in owners or ():
        start = owned.start_us if owned.start_us is not None else -FAR_US
        end = owned.end_us if owned.end_us is not None else FAR_US
        if owned.subject == event.subject and start <= event.time_us < end:
            return owned
    return None


def _row(query: UsageQuery, key: Key, events: list[Counted], start: int, end: int) -> Usage | None:
    meter = query.meter
    inside = [c for c in events if start <= c.event.time_us < end]
    if meter.aggregation == "TIME_WEIGHTED":
        value = _time_weighted(events, start, end)
        if not inside and value is None:
            return None
    elif not inside:
        return None
    else:
        value = _aggregate(meter, inside)
    owner, subject, group = key
    return Usage(
        start_us=start,
        end_us=end,
        owner=owner,
        subject=subject,
        group=group,
        value=value,
        events=len(inside),
        problems=sum(_unusable(meter, counted) for counted in inside),
        digest=sum(counted.event.row_hash for counted in inside),
        bands=None if query.each is None else _bands(query.each, meter, inside),
        level=None if query.level is None else _level(query, query.level, events, start, end),
    )


def _bands(terms: EachEvent, meter: Meter, inside: list[Counted]) -> Bands:
    if meter.aggregation == "COUNT":
        return count_each(terms, [Decimal(1)] * len(inside))
    return count_each(terms, [c.number for c in inside if c.number is not None])


def _level(
    query: UsageQuery, terms: LevelTerms, events: list[Counted], start: int, end: int
) -> Level:
    """Return what the events of one window do to the level; `events` are in order, from ever."""
    long = terms.moments and start >= terms.since_us
    match query.meter.aggregation:
        case "UNIQUE_COUNT":
            known = [c for c in events if c.event.time_us >= query.bounds[0]]
            return _presence(terms, known, start, end)
        case "LATEST" if long:
            levels = [c for c in events if c.number is not None and start <= c.event.time_us < end]
            alone = [msgspec.structs.replace(c, held_until_us=FAR_US) for c in levels]
            first = alone[0].event.time_us if alone else None
            return Level(moment=exact_sum(_held(alone, start, end)), first_us=first)
        case "COUNT" | "SUM" if long:
            one = Decimal(1) if query.meter.aggregation == "COUNT" else None
            inside = [c for c in events if start <= c.event.time_us < end]
            return Level(
                moment=exact_sum(
                    EXACT.multiply(number, Decimal(end - c.event.time_us))
                    for c in inside
                    if (number := one or c.number) is not None
                )
            )
        case _:
            return Level()


def _presence(terms: LevelTerms, events: list[Counted], start: int, end: int) -> Level:
    """Return which values come and go in a window."""
    there: dict[str, bool] = {}
    opened: set[str] = set()
    at_start: frozenset[str] = frozenset()
    moment = 0
    for counted in events:
        time_us = counted.event.time_us
        if counted.text is None or time_us >= end:
            continue
        was, now = there.get(counted.text, False), not counted.released
        there[counted.text] = now
        if time_us < start:
            at_start = frozenset(text for text, here in there.items() if here)
        elif was != now:
            opened |= {counted.text} if now else set()
            moment += (end - time_us) * (1 if now else -1)
    at_end = sum(there.values())
    return Level(
        opened=len(opened - at_start),
        net=at_end - len(at_start),
        moment=Decimal(moment if start >= terms.since_us else 0),
    )


def _unusable(meter: Meter, counted: Counted) -> bool:
    match meter.aggregation:
        case "COUNT":
            return False
        case "UNIQUE_COUNT":
            return counted.text is None
        case _:
            return counted.number is None


def _aggregate(meter: Meter, inside: list[Counted]) -> Decimal | None:
    if meter.aggregation == "COUNT":
        return Decimal(len(inside))
    if meter.aggregation == "UNIQUE_COUNT":
        texts = {counted.text for counted in inside if counted.text is not None}
        return Decimal(len(texts)) if texts else None
    numbers = [counted.number for counted in inside if counted.number is not None]
    return _of_numbers(meter, numbers) if numbers else None


def _of_numbers(meter: Meter, numbers: list[Decimal]) -> Decimal:
    """Combine at least one number; `numbers` is ordered by (time, source, id)."""
    match meter.aggregation:
        case "MIN":
            return min(numbers)
        case "MAX":
            return max(numbers)
        case "LATEST":
            return numbers[-1]
        case "AVG":
            return divide(exact_sum(numbers), Decimal(len(numbers)))
        case other:
            assert other == "SUM", other
            return exact_sum(numbers)


def exact_sum(numbers: Iterable[Decimal]) -> Decimal:
    """Return the sum, never rounded."""
    total = Decimal(0)
    for number in numbers:
        total = EXACT.add(total, number)
    return total


def _time_weighted(events: list[Counted], start: int, end: int) -> Decimal | None:
    series: dict[tuple[str | None, ...], list[Counted]] = defaultdict(list)
    for counted in events:
        if counted.number is not None and counted.event.time_us < end:
            series[counted.series].append(counted)
    parts = [part for levels in series.values() for part in _held(levels, start, end)]
    return divide(exact_sum(parts), Decimal(HOUR_US)) if parts else None


def _held(levels: list[Counted], start: int, end: int) -> Iterator[Decimal]:
    """Yield value x microseconds inside the window for each level of one series, in time order."""
    times = [counted.event.time_us for counted in levels]
    first = max(bisect_right(times, start) - 1, 0)
    for i in range(first, len(levels)):
        until = times[i + 1] if i + 1 < len(levels) else end
        begin, until = max(times[i], start), min(until, end, levels[i].held_until_us)
        number = levels[i].number
        if number is not None and (begin < until or times[i] >= start):
            yield EXACT.multiply(number, Decimal(max(until - begin, 0)))
