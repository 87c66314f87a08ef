"""What a request of a front door adds: read the standings it needs, decide, write all or nothing.

`prepare` names the standings; `decide` is a function of them. The caller runs both within one
transaction with the log, so that a repeated request, or two at once, change nothing twice.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from decimal import Decimal
from functools import lru_cache
from hashlib import blake2b

import msgspec

from tallybook.collect.doors.point import Bad, Decoded, Point, fingerprint, judged
from tallybook.collect.doors.rules import DoorRules, Mapped, kind_of, mapped
from tallybook.collect.doors.standing import Evidence, Growth, Sample, Standing, judge
from tallybook.kernel.decimals import parse_decimal, plain
from tallybook.kernel.event import UNPARSED_TYPE, UsageEvent
from tallybook.kernel.timestamps import FIRST_US, format_us

SAID = ("fell", "overlap", "series-limit")
"""Reasons that tell of something wrong at the sender."""
PIECE_CHARS_MAX = 8192
_OWN_NAMES = ("value", "since", "count", "sum")
_ENCODE = msgspec.json.Encoder().encode
_DECODE = msgspec.json.Decoder(Standing).decode
_NOTHING = Evidence()
_ENDLESS = Decimal("inf")


class Work(msgspec.Struct, frozen=True):
    """One point, mapped.

    Attributes:
        point: as decoded. mapped: by the rules.
        series: fingerprint, hexadecimal.
        key: of its standing; b'' where it has none.
        evidence: keys of what may tell when it began: its own, its target's.
    """

    point: Point
    mapped: Mapped
    series: str
    key: bytes
    evidence: tuple[bytes, ...] = ()


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """A request with the standings it needs.

    Attributes:
        works: points by time.
        keys: of all standings that `decide` may read.
        bad: what can never be counted.
        tally: reason -> how often, so far.
    """

    tenant: str
    door: str
    works: tuple[Work, ...]
    keys: frozenset[bytes]
    bad: tuple[Bad, ...]
    envelopes: tuple[bytes, ...]
    tally: Mapping[str, int]


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What a request adds.

    Attributes:
        events: to store, quarantined pieces among them.
        envelopes: events that came complete.
        standings: key -> (time of the newest sample, new standing), to replace.
        tally: reason -> how often; 'events' counts what was made.
        examples: reason -> one series it happened to.
        bad: what can never be counted.
        refused: points left out because there are too many series.
        made: new standings among `standings`.
        stored: events made, quarantined pieces not among them.
        lost: samples that can never be counted.
    """

    events: tuple[UsageEvent, ...]
    envelopes: tuple[bytes, ...]
    standings: Mapping[bytes, tuple[int, bytes]]
    tally: Mapping[str, int]
    examples: Mapping[str, str]
    bad: tuple[Bad, ...]
    refused: int
    made: int
    stored: int
    lost: int


class _Named(msgspec.Struct):
    subject: str | None = None


_SUBJECT = msgspec.json.Decoder(_Named).decode


def prepare(
    tenant: str,
    door: str,
    rules: DoorRules,
    decoded: Decoded,
    latest_us: int,
    subjects: AbstractSet[str] | None = None,
) -> Prepared:
    """Return a request with its points mapped.

    Args:
        tenant: whose.
        door: which.
        rules: of the tenant for the door.
        decoded: the request.
        latest_us: a later sample is beyond the allowed future, and moves no baseline.
        subjects: what is of any other subject, or of none, is bad ('forbidden') and moves no
            baseline; None takes all.
    """
    tally, bad, works = Counter(decoded.ignored), list(decoded.bad), list[Work]()
    for point in _apart(decoded.points, rules):
        wrong = _wrong(point, latest_us)
        if wrong is not None:
            bad.append(wrong)
            continue
        found = mapped(door, rules, point)
        if found is None:
            tally["dropped"] += 1
        elif subjects is not None and found.subject not in subjects:
            bad.append(_bad(point, code="forbidden", message=_not_yours(found.subject)))
        elif subjects is not None and _tells_of_others(point, found):
            tally["dropped"] += 1
        elif found.kind == "counter" and (point.value < 0):
            bad.append(_bad(point, code="counter-negative", message="a counter is never negative"))
        else:
            works.append(_work(tenant, door, point, found))
    works.sort(key=lambda work: work.point.time_us)
    envelopes, others = _kept_to(subjects, decoded.envelopes)
    bad += others
    keys = {key for work in works for key in (work.key, *work.evidence) if key}
    return Prepared(
        tenant=tenant,
        door=door,
        works=tuple(works),
        keys=frozenset(keys),
        bad=tuple(bad),
        envelopes=envelopes,
        tally=tally,
    )


def _not_yours(subject: str | None) -> str:
    told = "no subject" if subject is None else f"'{subject}'"
    return f"the API key may not send events of {told}"


def _tells_of_others(point: Point, found: Mapped) -> bool:
    """Whether a point says when a target began that is not the subject: others count on it."""
    return (
        found.kind == "evidence"
        and point.name == PROCESS_START
        and (found.subject != str(found.labels.get(_TARGET[1], "")))
    )


def _kept_to(
    subjects: AbstractSet[str] | None, envelopes: tuple[bytes, ...]
) -> tuple[tuple[bytes, ...], list[Bad]]:
    """Return the complete events of the subjects, and the others as what can never be counted."""
    if subjects is None:
        return envelopes, []
    kept, others = list[bytes](), list[Bad]()
    for envelope in envelopes:
        try:
            subject = _SUBJECT(envelope).subject
        except (msgspec.MsgspecError, RecursionError):
            subject = None
        if subject in subjects:
            kept.append(envelope)
        else:
            text = envelope.decode("utf-8", "backslashreplace")
            others.append(Bad(code="forbidden", message=_not_yours(subject), piece=text))
    return tuple(kept), others


def _apart(points: Sequence[Point], rules: DoorRules) -> Iterator[Point]:
    """Yield the points; fields of a record that a rule counts are points of their own."""
    counted = [rule.match for rule in rules.series if rule.kind is not None]
    for point in points:
        if point.kind != "record" or not counted:
            yield point
            continue
        taken = {n: v for n, v in point.fields.items() if _is_counted(rules, point, n, bytes(v))}
        for name, raw in taken.items():
            value = parse_decimal(bytes(raw).decode())
            yield msgspec.structs.replace(
                point,
                name=f"{point.name}.{name}",
                kind="level",
                value=_ENDLESS if value is None else value,
                fields={},
                key="",
            )
        left = {name: raw for name, raw in point.fields.items() if name not in taken}
        if left:
            yield msgspec.structs.replace(point, fields=left)


def _is_counted(rules: DoorRules, point: Point, field: str, raw: bytes) -> bool:
    if raw[:1] not in b"-0123456789":
        return False
    return kind_of(rules, msgspec.structs.replace(point, name=f"{point.name}.{field}")) is not None


def _wrong(point: Point, latest_us: int) -> Bad | None:
    if not FIRST_US <= point.time_us <= latest_us:
        text = "the sample's time is beyond the allowed future; check the sender's clock and unit"
        return _bad(point, code="time-in-future", message=text)
    numbers = (point.value,) if point.sum is None else (point.value, point.sum)
    if any(judged(number) is None for number in numbers):
        return _bad(
            point, code="value-out-of-range", message="the value is not a finite number below 1e20"
        )
    if not point.name:
        return _bad(point, code="name-missing", message="the series has no name")
    return None


def _bad(point: Point, *, code: str, message: str) -> Bad:
    said = {"name": point.name, "labels": dict(point.labels), "time_us": point.time_us}
    measured = {"fields": point.fields} if point.kind == "record" else {"value": point.value}
    piece = _ENCODE({**said, **measured}).decode()
    return Bad(code=code, message=message, piece=piece, key=point.key)


def _work(tenant: str, door: str, point: Point, found: Mapped) -> Work:
    if found.kind == "evidence":
        return Work(point, found, "", _evidence_key(tenant, door, point.name, found))
    series = fingerprint(door, point.name, found.labels)
    if found.kind != "counter":
        return Work(point, found, series.hex(), b"")
    evidence = tuple(_evidence_keys(tenant, door, point, found))
    return Work(point, found, series.hex(), _key(tenant, series), evidence)


def _key(tenant: str, series: bytes) -> bytes:
    return blake2b(f"{len(tenant)}:{tenant}".encode() + series, digest_size=16).digest()


PROCESS_START = "process_start_time_seconds"
CREATED = "_created"
_TARGET = ("job", "instance")
_COUNTED = ("_total", "_count", "_sum")


def _evidence_key(tenant: str, door: str, name: str, found: Mapped) -> bytes:
    if name == PROCESS_START:
        return _target_key(tenant, door, found)
    base = name.removesuffix(CREATED)
    return _key(tenant, fingerprint(door, base + CREATED, found.labels))


def _target_key(tenant: str, door: str, found: Mapped) -> bytes:
    job, instance = (str(found.labels.get(name, "")) for name in _TARGET)
    return _key_of_target(tenant, door, job, instance)


@lru_cache(maxsize=4096)
def _key_of_target(tenant: str, door: str, job: str, instance: str) -> bytes:
    target = {"job": job, "instance": instance}
    return _key(tenant, fingerprint(door, PROCESS_START, target))


def _evidence_keys(tenant: str, door: str, point: Point, found: Mapped) -> Iterator[bytes]:
    if door != "prometheus" or point.start_us:
        return
    base = next((point.name.removesuffix(s) for s in _COUNTED if point.name.endswith(s)), "")
    created = (base or point.name) + CREATED
    yield _key(tenant, fingerprint(door, created, found.labels))
    yield _target_key(tenant, door, found)


def decide(prepared: Prepared, known: Mapping[bytes, bytes], born_us: int, room: int) -> Decision:
    """Return what a request adds.

    Args:
        prepared: the request.
        known: the standings of `prepared.keys`, as far as they exist.
        born_us: when the log that keeps them began.
        room: how many more series may have a standing.
    """
    run = _Run(prepared, {key: _DECODE(body) for key, body in known.items()}, born_us, room)
    for work in prepared.works:
        if work.mapped.kind == "evidence":
            run.learn(work)
    for work in prepared.works:
        if work.mapped.kind != "evidence":
            run.take(work)
    run.quarantine()
    return run.decision()


class _Run:
    """One decision while it is made; nothing of it is seen before `decision`."""

    def __init__(
        self, prepared: Prepared, known: dict[bytes, Standing], born_us: int, room: int
    ) -> None:
        self._prepared = prepared
        self._known = known
        self._new = set[bytes]()
        self._changed = set[bytes]()
        self._born_us = born_us
        self._room = room
        self._events: list[UsageEvent] = []
        self._tally = Counter(prepared.tally)
        self._examples: dict[str, str] = {}

    def learn(self, work: Work) -> None:
        """Keep what an evidence series tells: a start in seconds since 1970."""
        self._tally["evidence"] += 1
        known = self._known.get(work.key)
        start = int(work.point.value * 1_000_000)
        if start <= 0 or (known is not None and known.start_us >= start):
            return
        standing = Standing(work.point.value, work.point.time_us, start, work.point.time_us)
        self._put(work.key, standing)

    def take(self, work: Work) -> None:
        """Add one point."""
        if work.key:
            self._count(work)
        else:
            self._events.append(_event(self._prepared.door, work, _plain_data(work)))

    def _count(self, work: Work) -> None:
        point, known = work.point, self._known.get(work.key)
        if known is None and self._room <= 0:
            self._note("series-limit", work)
            return
        value = judged(point.value)
        assert value is not None, "values are judged when a request is prepared"
        sample = Sample(
            value=value,
            time_us=point.time_us,
            start_us=point.start_us,
            sum=None if point.sum is None else judged(point.sum),
        )
        verdict = judge(known, sample, self._evidence(work), self._born_us)
        self._put(work.key, verdict.standing)
        for growth in verdict.growths:
            self._events.append(_grown(self._prepared.door, work, growth))
        if verdict.reason:
            self._note(verdict.reason, work)

    def _evidence(self, work: Work) -> Evidence:
        found = [self._known.get(key) for key in work.evidence]
        if not any(found):
            return _NOTHING
        return Evidence(*(standing.start_us if standing else 0 for standing in found))

    def _put(self, key: bytes, standing: Standing) -> None:
        known = self._known.get(key)
        if known is None:
            self._room -= 1
            self._new.add(key)
        if standing is not known:
            self._known[key] = standing
            self._changed.add(key)

    def _note(self, reason: str, work: Work) -> None:
        self._tally[reason] += 1
        if reason in SAID:
            self._examples[reason] = (
                f"{work.point.name} {_ENCODE(dict(work.mapped.labels)).decode()}"
            )

    def quarantine(self) -> None:
        """Add what can never be counted, for a person to look at."""
        for bad in self._prepared.bad:
            self._tally["bad"] += 1
            self._examples["bad"] = f"{bad.place} {bad.message}".strip()
            self._events.append(unparsed(self._prepared.door, bad))

    def decision(self) -> Decision:
        """Return what was decided."""
        made = len(self._events) - len(self._prepared.bad) + len(self._prepared.envelopes)
        self._tally["events"] += made
        return Decision(
            events=tuple(self._events),
            envelopes=self._prepared.envelopes,
            standings={
                key: (self._known[key].seen_us, _ENCODE(self._known[key])) for key in self._changed
            },
            tally=self._tally,
            examples={reason: text[:500] for reason, text in self._examples.items()},
            bad=self._prepared.bad,
            refused=self._tally["series-limit"],
            made=len(self._new),
            stored=made,
            lost=len(self._prepared.bad) + self._tally["series-limit"],
        )


def _grown(door: str, work: Work, growth: Growth) -> UsageEvent:
    since = f'"since":"{_spelled(growth.since_us)}"'
    if growth.sum is None:
        head = f'"value":{plain(growth.amount)},{since}'
    else:
        head = f'"count":{plain(growth.amount)},"sum":{plain(growth.sum)},{since}'
    return _event(door, work, _with_labels(head, work), growth.time_us)


def _plain_data(work: Work) -> bytes:
    point = work.point
    if point.kind == "record":
        labels = {} if point.fields.keys() >= point.labels.keys() else work.mapped.labels
        named = {n if n not in point.fields else f"label_{n}": v for n, v in labels.items()}
        return _ENCODE({**named, **point.fields})
    if point.sum is not None:
        head = f'"count":{plain(point.value)},"sum":{plain(point.sum)}'
    else:
        head = f'"value":{plain(point.value)}'
    if point.start_us:
        head += f',"since":"{_spelled(point.start_us)}"'
    return _with_labels(head, work)


def _with_labels(head: str, work: Work) -> bytes:
    labels = {
        name if name not in _OWN_NAMES else f"label_{name}": value
        for name, value in work.mapped.labels.items()
    }
    tail = _ENCODE(labels)
    return b"{" + head.encode() + (b"," + tail[1:] if labels else b"}")


def _event(door: str, work: Work, data: bytes, time_us: int | None = None) -> UsageEvent:
    point = work.point
    at = point.time_us if time_us is None else time_us
    name = f"{work.series}-{at}"
    if work.mapped.kind == "delta" and point.start_us:
        name = f"{work.series}-{point.start_us}-{at}"
    if point.key:
        name = f"{work.series}-{point.key}" if point.stamped else f"{name}-{point.key}"
    return UsageEvent(
        id=name,
        source=f"door:{door}",
        type=work.mapped.type,
        subject=work.mapped.subject,
        time=None if point.stamped else _spelled(at),
        data=msgspec.Raw(data),
    )


@lru_cache(maxsize=4096)
def _spelled(us: int) -> str:
    """Return `format_us`; the samples of a scrape share their instants."""
    return format_us(us)


def unparsed(door: str, bad: Bad) -> UsageEvent:
    """Return the event by which a piece goes to quarantine; the same piece gives the same."""
    said = {
        "line": bad.piece[:PIECE_CHARS_MAX],
        "format": door,
        "code": bad.code,
        "message": bad.message,
        "origin": bad.place,
    }
    digest = blake2b(_ENCODE([door, bad.code, bad.key, bad.piece]), digest_size=16).hexdigest()
    return UsageEvent(
        id=f"bad-{digest}",
        source=f"door:{door}",
        type=UNPARSED_TYPE,
        data=msgspec.Raw(_ENCODE(said)),
    )
