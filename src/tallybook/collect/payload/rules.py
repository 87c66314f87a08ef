"""Payload rules: what a device's message becomes, declared by topic.

Identity, so that a message that is delivered again changes nothing:

| the rule names | the id is |
|---|---|
| `id` | topic and that value: also a device that sends twice is counted once |
| no `id`, but `time` | topic, time and a digest of the payload |
| neither | the number of the delivery, kept with the session: only what the broker delivers again is recognised |

A retained message is replayed at every new subscription; it is taken where it has an identity of
its own, and left out where it has none.

Source: MQTT 5.0 (retained messages, QoS 1); docs/guides/edge.md.
"""  # noqa: E501 - a table

from collections.abc import Iterator, Mapping
from decimal import Decimal
from hashlib import blake2b
from typing import Any, Literal

import msgspec

from tallybook.collect.formats.jsonlog import json_object, printable
from tallybook.collect.formats.moments import moment
from tallybook.collect.payload.numbers import Number, bytes_of_hex, of_bytes, of_value
from tallybook.collect.payload.topics import filled, matcher, names
from tallybook.kernel.decimals import plain
from tallybook.kernel.errors import Invalid
from tallybook.kernel.event import UNPARSED_TYPE, UsageEvent
from tallybook.kernel.jsonpath import steps
from tallybook.kernel.limits import ATTRIBUTE_CHARS_MAX, EVENT_BYTES_MAX
from tallybook.kernel.problem import Problem

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
        numbers: name in the data -> where the number stands; a text is a path.
        attributes: name in the data -> path, `{name}` or text.
        keep: put the JSON object's other members into the data as they are.
    """

    topic: str
    type: str
    payload: Literal["json", "number", "hex", "binary"] = "json"
    subject: str | None = None
    time: str | None = None
    id: str | None = None
    numbers: dict[str, Number | str] = {}
    attributes: dict[str, str] = {}
    keep: bool = False

    def __post_init__(self) -> None:
        """Check everything that can be checked without a message."""
        known = frozenset(matcher(self.topic).groupindex)
        texts = [self.type, self.subject or "", *self.attributes.values()]
        missing = frozenset().union(*(names(text) for text in texts if text[:1] != "$")) - known
        if missing:
            message = f"the topic has no {{{min(missing)}}}"
            raise Invalid(message, field="topic")
        paths = [text for text in (*texts, self.time or "", self.id or "") if text[:1] == "$"]
        paths += [text for text in self.numbers.values() if isinstance(text, str)]
        for path in paths:
            steps(path)
        if any(text and text[:1] != "$" for text in (self.time, self.id)):
            raise Invalid("time and id are paths such as $.at", field="time")
        if self.payload != "json" and (paths or self.keep):
            raise Invalid(f"a {self.payload} payload has no paths", field="payload")
        if not self.numbers and not self.keep and self.payload != "number":
            raise Invalid("name the numbers that count", field="numbers")


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

    def events(self, message: Message) -> Iterator[UsageEvent]:
        """Yield the event of a message; none for one that no rule wants, or a mere replay."""
        for topic, rule in self._rules:
            match = topic.match(message.topic)
            if match is not None:
                if message.retained and rule.id is None and rule.time is None:
                    return
                found = _read(rule, match.groupdict(), message, self._source)
                if isinstance(found, Problem):
                    found = self._unparsed(rule, message, found)
                yield found
                return

    def _unparsed(self, rule: PayloadRule, message: Message, problem: Problem) -> UsageEvent:
        text = message.payload[:EXCERPT_CHARS]
        line = text.hex() if rule.payload == "binary" else text.decode("utf-8", "backslashreplace")
        said = {
            "line": line,
            "format": "mqtt",
            "code": problem.code,
            "message": problem.message,
            "origin": f"{self._source}#{message.topic}",
        }
        return UsageEvent(
            id=f"bad-{message.delivery}" if not message.retained else f"bad-{_digest(message)}",
            source=self._source,
            type=UNPARSED_TYPE,
            data=msgspec.Raw(msgspec.json.encode(said)),
        )


def _read(
    rule: PayloadRule, levels: Mapping[str, str], message: Message, source: str
) -> UsageEvent | Problem:
    if len(message.payload) > PAYLOAD_BYTES_MAX:
        return _problem("the message is larger than 1 MiB")
    body = _body(rule, message.payload)
    if isinstance(body, Problem):
        return body
    data = _data(rule, levels, body)
    if isinstance(data, Problem):
        return data
    subject = _told(rule.subject, levels, body) if rule.subject else None
    if rule.subject and not _fit(subject):
        return _problem("the message has no usable subject", "subject")
    time = moment(_at(body, rule.time)) if rule.time else None
    if rule.time and time is None:
        return _problem("the message has no usable time", "time")
    own = printable(_at(body, rule.id)) if rule.id else None
    if rule.id and not _fit(own):
        return _problem("the message has no usable id", "id")
    encoded = msgspec.json.encode(data)
    if len(encoded) > EVENT_BYTES_MAX - 4096:
        return _problem("what is kept of the message is larger than an event may be")
    return UsageEvent(
        id=_identity(message, own, time),
        source=source,
        type=filled(rule.type, levels),
        subject=subject,
        time=time,
        data=msgspec.Raw(encoded),
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
        return json_object(text)
    if rule.payload == "number":
        return text.strip()
    found = bytes_of_hex(text)
    return _problem("the payload is not hexadecimal") if found is None else found


def _data(rule: PayloadRule, levels: Mapping[str, str], body: Any) -> dict[str, Any] | Problem:
    data: dict[str, Any] = {}
    if rule.keep:
        data |= {name: _plain(value) for name, value in body.items()}
    for name, text in rule.attributes.items():
        data[name] = _told(text, levels, body)
    wanted = rule.numbers or ({"value": _WHOLE} if rule.payload == "number" else {})
    for name, told in wanted.items():
        value = _number(Number(path=told) if isinstance(told, str) else told, body)
        if isinstance(value, str):
            return _problem(f"{name}: {value}", name)
        data[name] = msgspec.Raw(plain(value).encode())
    return data


def _number(number: Number, body: Any) -> Decimal | str:
    if isinstance(body, bytes):
        return of_bytes(number, body)
    value = _at(body, number.path) if number.path else body
    return f"there is nothing at {number.path}" if value is None else of_value(number, value)


def _told(text: str, levels: Mapping[str, str], body: Any) -> str | None:
    return printable(_at(body, text)) if text[:1] == "$" else filled(text, levels) or None


def _at(value: Any, path: str) -> Any:
    for step in steps(path):
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            return None
    return value


def _plain(value: Any) -> Any:
    """Return a JSON value with its numbers as they are."""
    if isinstance(value, Decimal):
        return msgspec.Raw(plain(value).encode())
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


def _fit(text: str | None) -> bool:
    return bool(text) and len(text or "") <= ATTRIBUTE_CHARS_MAX and (text or "").isprintable()


def _identity(message: Message, own: str | None, time: str | None) -> str:
    if own is not None:
        return blake2b(f"{message.topic}\0{own}".encode(), digest_size=16).hexdigest()
    if time is not None:
        head = f"{message.topic}\0{time}\0".encode()
        return blake2b(head + message.payload, digest_size=16).hexdigest()
    return message.delivery


def _digest(message: Message) -> str:
    return blake2b(message.topic.encode() + b"\0" + message.payload, digest_size=16).hexdigest()
