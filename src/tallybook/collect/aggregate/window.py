"""One minute of one key: what came together in it, and the event it becomes.

Count, sum, least, greatest and last are functions of the *set* of events, so neither their order
nor the cuts between readings matter. A window is closed once; what comes later opens another one
of the same minute, with a part number, and never changes what was sent.
"""

import hashlib
from decimal import Decimal

import msgspec

from tallybook.kernel.decimals import EXACT, plain
from tallybook.kernel.event import UsageEvent
from tallybook.kernel.limits import ATTRIBUTE_CHARS_MAX
from tallybook.kernel.timestamps import SECOND_US, format_us

WINDOW_US = 60 * SECOND_US
_DIGEST_BYTES = 16


class Identity(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Which window an event falls into.

    Attributes:
        rule: the rule's name; version that of the rules.
        start_us: beginning of the minute, microseconds UTC.
        subject: of the event, None where it has none or the rule does not keep it.
        keys: values of the rule's keys, a JSON object without its braces, in order of names.
    """

    rule: str
    version: str
    start_us: int
    subject: str | None
    keys: str


class Measured(msgspec.Struct, frozen=True, gc=False):
    """What one event brings: its time, its id, and its value where the rule adds one up."""

    time_us: int
    id: str
    value: Decimal | None


class Window(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A window that is still open.

    Attributes:
        type: of the event it becomes.
        closes_us: from when on it may be closed.
        part: 0 for the window closed in its time; what came after that has others.
        count: events so far; total, least, greatest, last their values where there are any.
        first: the earliest event, (time, id); latest the one that `last` belongs to.
    """

    identity: Identity
    type: str
    closes_us: int
    part: int
    count: int
    first: tuple[int, str]
    latest: tuple[int, str]
    total: Decimal | None = None
    least: Decimal | None = None
    greatest: Decimal | None = None
    last: Decimal | None = None

    def plus(self, measured: Measured) -> "Window":
        """Return the window with one more event."""
        at = (measured.time_us, measured.id)
        newest = at > self.latest
        grown = (self.total, self.least, self.greatest, self.last)
        if (value := measured.value) is not None:
            assert self.total is not None
            assert self.least is not None
            assert self.greatest is not None
            total = EXACT.add(self.total, value)
            last = value if newest else self.last
            grown = (total, min(self.least, value), max(self.greatest, value), last)
        return Window(
            identity=self.identity,
            type=self.type,
            closes_us=self.closes_us,
            part=self.part,
            count=self.count + 1,
            first=min(self.first, at),
            latest=max(self.latest, at),
            total=grown[0],
            least=grown[1],
            greatest=grown[2],
            last=grown[3],
        )


def opened(
    identity: Identity, measured: Measured, *, made_type: str, late_seconds: int, part: int
) -> Window:
    """Return a window with its first event."""
    at, value = (measured.time_us, measured.id), measured.value
    return Window(
        identity=identity,
        type=made_type,
        closes_us=identity.start_us + WINDOW_US + late_seconds * SECOND_US,
        part=part,
        count=1,
        first=at,
        latest=at,
        total=value,
        least=value,
        greatest=value,
        last=value,
    )


def start_of(time_us: int) -> int:
    """Return the beginning of the minute of an instant."""
    return time_us // WINDOW_US * WINDOW_US


def window_event(window: Window, edge: str) -> UsageEvent:
    """Return the event of a closed window.

    Its time is the beginning of the minute. Its id is made of the rules' version, minute, key and
    part, and its source is the edge, so reading everything again gives the same event. The id is
    spelled in the words of the event, which compress away, and not as a digest, which would not.
    """
    identity = window.identity
    return UsageEvent(
        id=_id(window),
        source=f"edge:{edge}",
        type=window.type,
        subject=identity.subject or edge,
        time=format_us(identity.start_us),
        data=_data(window),
    )


def cursor_of(identity: Identity) -> str:
    """Return the name under which an open window is kept."""
    return f"window:{identity.start_us}:{_digest(*_names(identity))}"


def _data(window: Window) -> msgspec.Raw:
    identity = window.identity
    members = [f'"count":{window.count}']
    if window.total is not None:
        figures = (window.total, window.least, window.greatest, window.last)
        for name, value in zip(("sum", "min", "max", "last"), figures, strict=True):
            assert value is not None
            members.append(f'"{name}":{plain(value)}')
    members.append(f'"first_time":"{format_us(window.first[0])}"')
    members.append(f'"last_time":"{format_us(window.latest[0])}"')
    members.append(f'"rule":"{identity.rule}"')
    members.append(f'"version":{msgspec.json.encode(identity.version).decode()}')
    members.append(f'"part":{window.part}')
    if identity.keys:
        members.append(identity.keys)
    return msgspec.Raw(("{" + ",".join(members) + "}").encode())


def _id(window: Window) -> str:
    identity = window.identity
    subject = identity.subject
    parts = [
        f"{identity.rule}@{identity.version}",
        format_us(identity.start_us),
        "-" if subject is None else f"{len(subject)}:{subject}",
        identity.keys,
    ]
    if window.part:
        parts.append(f"{window.part}:{_digest(*map(str, window.first))}")
    spelled = "/".join(parts)
    if len(spelled) <= ATTRIBUTE_CHARS_MAX:
        return spelled
    return _digest(*_names(identity), *parts[4:])


def _names(identity: Identity) -> tuple[str, ...]:
    subject = "" if identity.subject is None else f"={identity.subject}"
    return (identity.rule, identity.version, str(identity.start_us), subject, identity.keys)


def _digest(*parts: str) -> str:
    """Return a digest of length-prefixed parts: `a+bc` is not `ab+c`."""
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for part in parts:
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(4, "big") + encoded)
    return digest.hexdigest()
