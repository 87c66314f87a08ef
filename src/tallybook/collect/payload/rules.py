"""Payload rules: what a device's message becomes, declared by topic.

Identity, so that a message that is delivered again changes nothing:

| the rule names | the id is |
|---|---|
| `id` | topic and that value: also a device that sends twice is counted once |
| no `id`, but `time` | topic, time and a digest of the payload |
| neither | the number of the delivery, kept with the session: only what the broker delivers again is recognised |

A retained message is replayed at every new subscription; it is taken where it has an identity of
its own, and left out where it has none. Of a message with a list (`each`) every element is an
event; one that brings no `id` or `time` of its own is told apart by its place in the list.

A number that is a running total (`counters`) stands in the event as what it grew by, beside the
total itself and since when; the identity then tells from which reading to which, so that growth
that is sent again is known whatever came between.

Source: MQTT 5.0 (retained messages, QoS 1); docs/guides/edge.md.
"""  # noqa: E501 - a table

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from hashlib import blake2b
from typing import Any, Literal

import msgspec

from tallybook.collect.formats.jsonlog import json_object, json_value, printable
from tallybook.collect.formats.moments import moment
from tallybook.collect.payload.numbers import Number, bytes_of_hex, of_bytes, of_value
from tallybook.collect.payload.parts import WHOLE, Part, at, parts, raw
from tallybook.collect.payload.registers import (
    REGISTERS_MAX,
    Counter,
    Moved,
    Register,
    Registers,
    moved,
)
from tallybook.collect.payload.topics import filled, matcher, names
from tallybook.kernel.decimals import plain
from tallybook.kernel.errors import Invalid
from tallybook.kernel.event import EDGE_PREFIX, UNPARSED_TYPE, UsageEvent
from tallybook.kernel.jsonpath import steps
from tallybook.kernel.limits import ATTRIBUTE_CHARS_MAX, EVENT_BYTES_MAX
from tallybook.kernel.problem import Problem
from tallybook.kernel.timestamps import format_us, parse_rfc3339

RULES_MAX = 200
PAYLOAD_BYTES_MAX = 1024 * 1024
EXCERPT_CHARS = 8192
_WHOLE = Number()


class PayloadRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the messages of a topic become.

    Attributes:
        topic: pattern; `{name}` keeps a level.
        type: the events' type; may hold `{name}`.
        payload: json (an object), number (a text), hex (a text) or binary.
        subject: who used it: `{name}`, text, or a path into the payload; None is nobody.
        time: path of the time; None is the receipt time.
        id: path of what is unique within the topic.
        each: path of a list, `$` for a message that is one; every element is an event.
        numbers: name in the data -> where the number stands; a text is a path.
        counters: name of a number that is a running total -> how it is judged.
        device: whose registers they are, within the topic: `{name}`, text, or a path; None is the
            subject.
        attributes: name in the data -> path, `{name}` or text.
        keep: put the JSON object's other members into the data as they are.
    """

    topic: str
    type: str
    payload: Literal["json", "number", "hex", "binary"] = "json"
    subject: str | None = None
    time: str | None = None
    id: str | None = None
    each: str | None = None
    numbers: dict[str, Number | str] = {}
    counters: dict[str, Counter] = {}
    device: str | None = None
    attributes: dict[str, str] = {}
    keep: bool = False

    def __post_init__(self) -> None:
        """Check everything that can be checked without a message."""
        known = frozenset(matcher(self.topic).groupindex)
        texts = [self.type, self.subject or "", self.device or "", *self.attributes.values()]
        missing = frozenset().union(*(names(text) for text in texts if text[:1] != "$")) - known
        if missing:
            message = f"the topic has no {{{min(missing)}}}"
            raise Invalid(message, field="topic")
        paths = [text for text in (*texts, self.time or "", self.id or "") if text[:1] == "$"]
        paths += [text for text in self.numbers.values() if isinstance(text, str)]
        paths += [told.restart for told in self.counters.values() if told.restart]
        paths += [self.each] if self.each is not None else []
        for path in paths:
            if path != WHOLE or path != self.each:
                steps(path)
        if any(text and text[:1] != "$" for text in (self.time, self.id)):
            raise Invalid("time and id are paths such as $.at", field="time")
        if self.payload != "json" and (paths or self.keep):
            raise Invalid(f"a {self.payload} payload has no paths", field="payload")
        if not self.numbers and not self.keep and self.payload != "number":
            raise Invalid("name the numbers that count", field="numbers")
        named = self.numbers or ({"value": _WHOLE} if self.payload == "number" else {})
        if not self.counters.keys() <= named.keys():
            raise Invalid("counters are names of numbers", field="counters")


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A message as delivered.

    Attributes:
        topic: its topic.
        payload: its bytes.
        retained: a replay of what the broker keeps.
        delivery: names this delivery for good, where nothing in the message does.
        received_us: when it came.
    """

    topic: str
    payload: bytes
    retained: bool
    delivery: str
    received_us: int


class Reader:
    """Reads messages by the first rule whose topic matches.

    Args:
        rules: in order.
        source: the events' source.
    """

    def __init__(self, rules: tuple[PayloadRule, ...], source: str) -> None:
        """Compile the topics."""
        if not 1 <= len(rules) <= RULES_MAX:
            raise Invalid(f"give 1 to {RULES_MAX} rules", field="rules")
        self._rules = [(matcher(rule.topic), rule) for rule in rules]
        self._source = source

    def events(self, message: Message, registers: Registers | None = None) -> Iterator[UsageEvent]:
        """Yield the events of a message; none for one that no rule wants, or a mere replay.

        Args:
            message: as delivered.
            registers: where running totals stand; moved on. None forgets them at once.
        """
        for topic, rule in self._rules:
            match = topic.match(message.topic)
            if match is not None:
                if message.retained and rule.id is None and rule.time is None:
                    return
                levels = match.groupdict()
                yield from self._of(rule, levels, message, registers or Registers("", _nothing))
                return

    def _of(
        self, rule: PayloadRule, levels: Mapping[str, str], message: Message, registers: Registers
    ) -> Iterator[UsageEvent]:
        """Yield the events of a message under its rule."""
        found = _parts(rule, message.payload)
        if isinstance(found, Problem):
            yield self._unparsed(rule, message, Part(None, message.payload), found)
            return
        for part in found:
            made = _read(rule, levels, message, part, self._source, registers)
            if isinstance(made, Problem):
                yield self._unparsed(rule, message, part, made)
            else:
                yield from made

    def _unparsed(
        self, rule: PayloadRule, message: Message, part: Part, problem: Problem
    ) -> UsageEvent:
        text = part.content[:EXCERPT_CHARS]
        place = "" if part.index is None else f"-{part.index}"
        line = text.hex() if rule.payload == "binary" else text.decode("utf-8", "backslashreplace")
        said = {
            "line": line,
            "format": "mqtt",
            "code": problem.code,
            "message": problem.message,
            "origin": f"{self._source}#{message.topic}",
        }
        return UsageEvent(
            id=f"bad-{_digest(message) if message.retained else message.delivery}{place}",
            source=self._source,
            type=UNPARSED_TYPE,
            data=msgspec.Raw(msgspec.json.encode(said)),
        )


def _nothing(_name: str) -> None:
    """Remember no register."""


def _parts(rule: PayloadRule, payload: bytes) -> Iterator[Part] | Problem:
    """Return what the events of a message are read from."""
    if len(payload) > PAYLOAD_BYTES_MAX:
        return _problem("the message is larger than 1 MiB")
    body = _body(rule, payload)
    if isinstance(body, Problem):
        return body
    return iter((Part(body, payload),)) if rule.each is None else parts(body, rule.each)


def _read(
    rule: PayloadRule,
    levels: Mapping[str, str],
    message: Message,
    part: Part,
    source: str,
    registers: Registers,
) -> list[UsageEvent] | Problem:
    """Return the event of one reading, with reports; none where it was counted before."""
    body = part.body
    read = _numbers(rule, body)
    if isinstance(read, Problem):
        return read
    subject = _told(rule.subject, levels, body) if rule.subject else None
    if rule.subject and not _fit(subject):
        return _problem("the message has no usable subject", "subject")
    time = moment(at(body, rule.time)) if rule.time else None
    if rule.time and time is None:
        return _problem("the message has no usable time", "time")
    own = printable(at(body, rule.id)) if rule.id else None
    if rule.id and not _fit(own):
        return _problem("the message has no usable id", "id")
    at_us = parse_rfc3339(time) if time is not None else None
    if at_us is None:
        at_us = message.received_us + (part.index or 0)
    device = _told(rule.device, levels, body) if rule.device else subject
    moves = _moves(rule, (message.topic, device or ""), body, read, at_us, registers)
    if isinstance(moves, Problem):
        return moves
    if moves and all(move.now.judgement == "repeated" for move in moves):
        return []
    data = {**_told_data(rule, levels, body), **_spelled(read, moves)}
    encoded = msgspec.json.encode(data)
    if len(encoded) > EVENT_BYTES_MAX - 4096:
        return _problem("what is kept of the message is larger than an event may be")
    for move in moves:
        registers.put(move.now.register, *move.key)
    event = UsageEvent(
        id=_identity(rule, message, part, own, time, moves),
        source=source,
        type=filled(rule.type, levels),
        subject=subject,
        time=time,
        data=msgspec.Raw(encoded),
    )
    return [event, *(_fell(event, move) for move in moves if move.now.judgement == "fell")]


class _Move(msgspec.Struct, frozen=True):
    """A register before and after a reading.

    Attributes:
        name: of the number. key: of the register.
        reading: the running total, as sent.
    """

    name: str
    key: tuple[str, ...]
    known: Register | None
    reading: Decimal
    now: Moved


def _moves(
    rule: PayloadRule,
    place: tuple[str, str],
    body: Any,
    read: Mapping[str, Decimal],
    at_us: int,
    registers: Registers,
) -> list[_Move] | Problem:
    found = []
    for name, told in rule.counters.items():
        value = read[name]
        if value < 0:
            return _problem(f"{name}: a running total is never negative", name)
        restart = printable(at(body, told.restart)) if told.restart else None
        key = (*place, name)
        known = registers.get(*key)
        if known is None and registers.known >= REGISTERS_MAX:
            return _problem(f"there are more than {REGISTERS_MAX} registers", name)
        now = Register(value, at_us, restart or "")
        found.append(_Move(name, key, known, value, moved(known, now, told.end())))
    return found


def _spelled(read: Mapping[str, Decimal], moves: Sequence[_Move]) -> dict[str, Any]:
    """Return the numbers of the data: of a running total its growth, the total, since when."""
    data: dict[str, Any] = {name: msgspec.Raw(plain(v).encode()) for name, v in read.items()}
    for move in moves:
        data[move.name] = msgspec.Raw(plain(move.now.growth).encode())
        data[f"{move.name}_total"] = msgspec.Raw(plain(move.reading).encode())
        if move.known is not None:
            data["since"] = format_us(move.known.seen_us)
    return data


def _fell(event: UsageEvent, move: _Move) -> UsageEvent:
    said = {"series": "/".join(move.key), "value": msgspec.Raw(plain(move.reading).encode())}
    return msgspec.structs.replace(
        event,
        id=f"{event.id}-fell-{move.name}",
        type=f"{EDGE_PREFIX}counter-fell",
        data=msgspec.Raw(msgspec.json.encode(said)),
    )


def _problem(message: str, subject: str = "") -> Problem:
    return Problem(code="payload-malformed", message=message, subject=subject)


def _body(rule: PayloadRule, payload: bytes) -> Any:
    """Return a JSON object, bytes, or the payload's text."""
    if rule.payload == "binary":
        return payload
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return _problem("the payload is not UTF-8")
    if rule.payload == "json":
        return json_value(text) if rule.each == WHOLE else json_object(text)
    if rule.payload == "number":
        return text.strip()
    found = bytes_of_hex(text)
    return _problem("the payload is not hexadecimal") if found is None else found


def _told_data(rule: PayloadRule, levels: Mapping[str, str], body: Any) -> dict[str, Any]:
    """Return what stands in the data beside the numbers."""
    data: dict[str, Any] = {}
    if rule.keep:
        data |= {name: raw(value) for name, value in body.items()}
    for name, text in rule.attributes.items():
        data[name] = _told(text, levels, body)
    return data


def _numbers(rule: PayloadRule, body: Any) -> dict[str, Decimal] | Problem:
    """Return the numbers that the rule names."""
    found: dict[str, Decimal] = {}
    wanted = rule.numbers or ({"value": _WHOLE} if rule.payload == "number" else {})
    for name, told in wanted.items():
        value = _number(Number(path=told) if isinstance(told, str) else told, body)
        if isinstance(value, str):
            return _problem(f"{name}: {value}", name)
        found[name] = value
    return found


def _number(number: Number, body: Any) -> Decimal | str:
    if isinstance(body, bytes):
        return of_bytes(number, body)
    value = at(body, number.path) if number.path else body
    return f"there is nothing at {number.path}" if value is None else of_value(number, value)


def _told(text: str, levels: Mapping[str, str], body: Any) -> str | None:
    return printable(at(body, text)) if text[:1] == "$" else filled(text, levels) or None


def _fit(text: str | None) -> bool:
    return bool(text) and len(text or "") <= ATTRIBUTE_CHARS_MAX and (text or "").isprintable()


def _identity(
    rule: PayloadRule,
    message: Message,
    part: Part,
    own: str | None,
    time: str | None,
    moves: Sequence[_Move],
) -> str:
    """Return the id of one reading; see the table above."""
    place = "" if part.index is None else str(part.index)
    if own is not None:
        names = [message.topic, own]
        names += [] if _is_own(part, rule.id) else [place]
    elif time is not None:
        names = [message.topic, time, part.content.decode("latin-1")]
        names += [] if _is_own(part, rule.time) else [place]
    elif not moves:
        return f"{message.delivery}-{place}" if place else message.delivery
    else:
        names = [message.delivery, place]
    for move in moves:
        before = plain(move.known.value) if move.known is not None else ""
        names += [*move.key, before, move.now.register.restart, plain(move.reading)]
    return blake2b("\0".join(names).encode(), digest_size=16).hexdigest()


def _is_own(part: Part, path: str | None) -> bool:
    """Whether a path leads into the element itself, or the message is one reading."""
    return part.index is None or (path is not None and at(part.own, path) is not None)


def _digest(message: Message) -> str:
    return blake2b(message.topic.encode() + b"\0" + message.payload, digest_size=16).hexdigest()
