"""JSON objects from Vector's HTTP sink and its like: NDJSON or an array become events.

An object that is a CloudEvent is taken as it stands; one that is a metric of Vector becomes a
point of a series; every other object is a record. A record's identity is the fields that the
door's rules name, or else its content: equal records of one request are told apart by their place
among their equals, so that a repeated request is a duplicate and two equal lines are two.

Source: Vector 0.57, `http` sink with codec json, and its metric event in JSON.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from decimal import Decimal
from hashlib import blake2b
from typing import Any

import msgspec

from tallybook.collect.doors.point import Bad, Decoded, Kind, Label, Point
from tallybook.collect.doors.rules import TIMES, DoorRules
from tallybook.kernel.decimals import parse_decimal
from tallybook.kernel.errors import Invalid
from tallybook.kernel.timestamps import parse_rfc3339

OBJECTS_MAX = 100_000
TYPE = "log"
_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])
_ENCODE = msgspec.json.Encoder().encode
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TEXTS = ("name", "namespace", "kind", "timestamp", "type")


class _Amount(msgspec.Struct):
    value: msgspec.Raw = msgspec.Raw(b"")


class _Spread(msgspec.Struct):
    count: msgspec.Raw = msgspec.Raw(b"")
    sum: msgspec.Raw = msgspec.Raw(b"")


class _Metric(msgspec.Struct):
    """A metric as Vector spells it."""

    name: str
    kind: str
    namespace: str = ""
    tags: dict[str, Any] | None = None
    timestamp: str | None = None
    interval_ms: int | None = None
    counter: _Amount | None = None
    gauge: _Amount | None = None
    aggregated_histogram: _Spread | None = None
    aggregated_summary: _Spread | None = None


_METRIC = msgspec.json.Decoder(_Metric)


def _check_once(piece: bytes, members: Mapping[str, msgspec.Raw]) -> None:
    """Refuse an object that has a key twice: which of them is meant, nobody knows.

    Cost: one encode, where the object is compact.
    """
    if len(_ENCODE(members)) == len(piece):
        return
    sizes: list[int] = []
    json.loads(piece, object_pairs_hook=lambda pairs: sizes.append(len(pairs)), parse_int=len)
    if sizes[-1] != len(members):
        raise ValueError("a key stands twice in the object")


def points(body: bytes, rules: DoorRules, now_us: int) -> Decoded:
    """Return what a request holds.

    Args:
        body: NDJSON, a JSON array or one object, decompressed.
        rules: of the door: which fields identify a record and hold its time.
        now_us: receipt time, for records without one.

    Raises:
        Invalid: an array that is no JSON, or too many objects.
    """
    found: list[Point] = []
    bad: list[Bad] = []
    envelopes: list[bytes] = []
    seen: Counter[bytes] = Counter()
    for number, piece in enumerate(_pieces(body), 1):
        if number > OBJECTS_MAX:
            message = f"the request has more than {OBJECTS_MAX} objects; send smaller batches"
            raise Invalid(message, code="too-large", field="body")
        try:
            members = _OBJECT.decode(piece)
            _check_once(piece, members)
        except (ValueError, RecursionError) as error:
            text = piece.decode("utf-8", "backslashreplace")
            bad.append(
                Bad(code="malformed", message=str(error), piece=text, place=f"object {number}")
            )
            continue
        if "specversion" in members:
            envelopes.append(piece)
        elif (metric := _metric(piece, members, now_us)) is not None:
            found.append(metric)
        else:
            compact = msgspec.json.format(piece, indent=-1)
            digest = blake2b(compact, digest_size=16).digest()
            found.append(_record(members, rules, now_us, digest, seen[digest]))
            seen[digest] += 1
    return Decoded(points=tuple(found), bad=tuple(bad), envelopes=tuple(envelopes))


def _pieces(body: bytes) -> Iterator[bytes]:
    if body.lstrip()[:1] != b"[":
        yield from (line.strip() for line in body.split(b"\n") if line.strip())
        return
    try:
        yield from (bytes(piece).strip() for piece in _ARRAY.decode(body))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(
            f"the body is no JSON array: {error}", code="malformed", field="body"
        ) from error


def _record(
    members: Mapping[str, msgspec.Raw], rules: DoorRules, now_us: int, digest: bytes, equals: int
) -> Point:
    named = _text(members.get("type"))
    time = next(
        (us for name in rules.time or TIMES if (us := _time(members.get(name))) is not None), None
    )
    own = [bytes(members[name]) for name in rules.id if name in members]
    if own and len(own) == len(rules.id):
        key = blake2b(b"\0".join(own), digest_size=16).hexdigest()
    else:
        key = f"{digest.hex()}-{equals}"
    return Point(
        name=str(named or TYPE),
        labels={name: text for name, raw in members.items() if (text := _text(raw)) is not None},
        kind="record",
        time_us=now_us if time is None else time,
        fields=dict(members),
        stamped=time is None,
        key=key,
    )


def _text(raw: msgspec.Raw | None) -> Label | None:
    content = bytes(raw) if raw is not None else b"null"
    if content[:1] == b'"':
        return msgspec.json.decode(content, type=str)
    return None if content[:1] in {b"{", b"[", b"n", b""} else content.decode()


def _time(raw: msgspec.Raw | None) -> int | None:
    content = bytes(raw) if raw is not None else b""
    if content[:1] == b'"':
        return parse_rfc3339(msgspec.json.decode(content, type=str))
    number = parse_decimal(content.decode()) if content[:1].isdigit() else None
    return None if number is None or number >= 1 << 40 else int(number * 1_000_000)


def _metric(piece: bytes, members: Mapping[str, msgspec.Raw], now_us: int) -> Point | None:
    if "kind" not in members or "name" not in members:
        return None
    try:
        metric = _METRIC.decode(piece)
    except msgspec.MsgspecError:
        return None  # an object that only looks alike: it is a record
    spread = metric.aggregated_histogram or metric.aggregated_summary
    amount = metric.counter or metric.gauge
    kind = _kind(metric)
    if kind is None or (spread is None and amount is None):
        return None
    value = _number(spread.count if spread else amount.value if amount else msgspec.Raw(b""))
    total = _number(spread.sum) if spread else None
    if value is None or (spread and total is None):
        return None
    time = parse_rfc3339(metric.timestamp) if metric.timestamp else None
    at = now_us if time is None else time
    return Point(
        name=f"{metric.namespace}_{metric.name}" if metric.namespace else metric.name,
        labels={name: str(tag) for name, tag in (metric.tags or {}).items() if tag is not None},
        kind=kind,
        time_us=at,
        start_us=at - metric.interval_ms * 1000 if kind == "delta" and metric.interval_ms else 0,
        value=value,
        sum=total,
    )


def _kind(metric: _Metric) -> Kind | None:
    if metric.kind == "incremental":
        return "delta"
    if metric.kind == "absolute":
        return "level" if metric.gauge else "counter"
    return None


def _number(raw: msgspec.Raw) -> Decimal | None:
    return parse_decimal(bytes(raw).decode())
