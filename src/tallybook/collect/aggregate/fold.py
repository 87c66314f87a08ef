"""Events into windows, and windows into events.

Guarantee: every event is either passed on as it is or counted in exactly one window, so the sum
over windows and events passed on is the sum over all events, for any cut, order and lateness. An
event is passed on where no rule matches, and where it could not be added up without losing
something: a value that is no number or has more digits than a meter keeps, no time, a key that is
no plain value.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from functools import lru_cache

import msgspec

from tallybook.collect.aggregate.rule import Compiled
from tallybook.collect.aggregate.window import (
    WINDOW_US,
    Identity,
    Measured,
    Window,
    opened,
    start_of,
)
from tallybook.kernel.decimals import MEASURE_MAX, measure
from tallybook.kernel.jsonpath import Step
from tallybook.kernel.timestamps import LAST_US, parse_rfc3339

KEY_CHARS_MAX = 1024
"""A longer combination of keys is passed on as it is."""

CLOSED_MAX = 1000
"""Rules and versions of which it is remembered how far they are closed."""

_ABSENT = "null"


class Closed(msgspec.Struct, frozen=True):
    """How far the windows of one rule are closed.

    Attributes:
        until_us: every minute before it was closed once.
        parts: how many parts were opened since, for what came late.
    """

    until_us: int
    parts: int


class Tally(msgspec.Struct, frozen=True):
    """All open windows, and how far the others are closed, by rule and version."""

    windows: dict[Identity, Window] = {}
    closed: dict[str, Closed] = {}


class Folded(msgspec.Struct, frozen=True):
    """What became of some events.

    Attributes:
        passed: those that are sent as they are.
        windows: those that changed, with what came now.
        closed: how far windows are closed, as it is now.
    """

    passed: list[bytes]
    windows: dict[Identity, Window]
    closed: dict[str, Closed]


class _Seen(msgspec.Struct):
    """What a rule reads of an event."""

    type: str
    id: str
    source: str = ""
    subject: str | None = None
    time: str | None = None
    data: msgspec.Raw = msgspec.Raw(b"{}")


_EVENT = msgspec.json.Decoder(_Seen)
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])


def fold(
    pieces: Iterable[bytes], rules: Mapping[str, list[Compiled]], version: str, tally: Tally
) -> Folded:
    """Return what becomes of events under rules; nothing given is changed.

    Args:
        pieces: events as wire JSON.
        rules: `compiled`.
        version: of the rules.
        tally: open windows before.
    """
    folded = Folded([], {}, dict(tally.closed))
    for piece in pieces:
        if not _counted(piece, rules, version, tally, folded):
            folded.passed.append(piece)
    return folded


def due(tally: Tally, now_us: int) -> list[Window]:
    """Return the windows that may be closed, oldest first."""
    found = [window for window in tally.windows.values() if window.closes_us <= now_us]
    return sorted(found, key=_age)


def crowded(windows: Mapping[Identity, Window], windows_max: int) -> list[Window]:
    """Return the oldest minutes that must be closed early, so that no more stay open."""
    if len(windows) <= windows_max:
        return []
    oldest = sorted(windows.values(), key=_age)
    last = oldest[len(windows) - windows_max - 1].identity.start_us
    return [window for window in oldest if window.identity.start_us <= last]


def closed_after(closed: Mapping[str, Closed], windows: Iterable[Window]) -> dict[str, Closed]:
    """Return how far windows are closed once these are."""
    after = dict(closed)
    for window in windows:
        name = rule_name(window.identity)
        known = after.get(name, Closed(0, 0))
        until_us = max(known.until_us, window.identity.start_us + WINDOW_US)
        after[name] = Closed(until_us, known.parts)
    return after


def kept_in_mind(closed: dict[str, Closed]) -> dict[str, Closed]:
    """Return how far windows are closed, without rules that were replaced long ago.

    Forgetting one would give a late line the identity of a window that was sent already, so only
    the oldest of very many are forgotten.
    """
    if len(closed) <= CLOSED_MAX:
        return closed
    newest = sorted(closed.items(), key=lambda item: (item[1].until_us, item[0]))[-CLOSED_MAX:]
    return dict(newest)


def rule_name(identity: Identity) -> str:
    """Return the name of a rule in its version."""
    return f"{identity.rule}@{identity.version}"


def _age(window: Window) -> tuple[int, str, str, str, str]:
    identity = window.identity
    return (
        identity.start_us,
        identity.rule,
        identity.version,
        identity.subject or "",
        identity.keys,
    )


def _counted(
    piece: bytes,
    rules: Mapping[str, list[Compiled]],
    version: str,
    tally: Tally,
    folded: Folded,
) -> bool:
    """Put an event into its window; return whether it has one."""
    try:
        seen = _EVENT.decode(piece)
        candidates = rules.get(seen.type)
        if not candidates:
            return False
        data = _OBJECT.decode(seen.data)
    except msgspec.MsgspecError:
        return False  # the server says what is wrong with it
    rule = next((r for r in candidates if _matches(r, data)), None)
    time_us = _instant(seen.time) if seen.time is not None else None
    if rule is None or time_us is None or not 0 <= time_us < LAST_US - WINDOW_US:
        return False
    keys, fits = _keys(rule, data), True
    value: Decimal | None = None
    if rule.value is not None:
        value = _value(_at(data, rule.value))
        fits = value is not None
    if keys is None or not fits:
        return False
    subject = seen.subject if rule.rule.keep_subject else None
    identity = Identity(
        rule=rule.rule.name,
        version=version,
        start_us=start_of(time_us),
        subject=subject,
        keys=keys,
    )
    measured = Measured(time_us, f"{seen.source} {seen.id}", value)
    return _put(identity, measured, rule, tally, folded)


@lru_cache(maxsize=64)
def _instant(text: str) -> int | None:
    """Return an instant; lines of one second spell the same one again and again."""
    return parse_rfc3339(text)


def _put(
    identity: Identity, measured: Measured, rule: Compiled, tally: Tally, folded: Folded
) -> bool:
    known = folded.windows.get(identity) or tally.windows.get(identity)
    if known is None:
        part = _part(identity, folded.closed)
        made = opened(
            identity,
            measured,
            made_type=rule.type,
            late_seconds=rule.rule.late_seconds,
            part=part,
        )
    elif (known.total is None) is not (measured.value is None):
        return False  # another rule under the same version
    else:
        made = known.plus(measured)
        if made.total is not None and made.total.copy_abs() >= MEASURE_MAX:
            return False  # no meter could keep the sum
    folded.windows[identity] = made
    return True


def _part(identity: Identity, closed: dict[str, Closed]) -> int:
    """Return 0 for a minute never closed before; else the next number of this rule."""
    name = rule_name(identity)
    known = closed.get(name)
    if known is None or identity.start_us >= known.until_us:
        return 0
    closed[name] = Closed(known.until_us, known.parts + 1)
    return known.parts + 1


def _matches(rule: Compiled, data: dict[str, msgspec.Raw]) -> bool:
    return all(_text(_at(data, path)) in texts for path, texts in rule.where)


def _keys(rule: Compiled, data: dict[str, msgspec.Raw]) -> str | None:
    """Return the keys' values as members of a JSON object; None where one is no plain value."""
    members = []
    for name, path in rule.keys:
        found = _at(data, path)
        text = bytes(found).decode() if found is not None else _ABSENT
        if text[:1] in {"{", "["}:
            return None
        members.append(f'"{name}":{text}')
    keys = ",".join(members)
    return keys if len(keys) <= KEY_CHARS_MAX else None


def _value(found: msgspec.Raw | None) -> Decimal | None:
    """Return a number exactly as a meter would keep it, or None."""
    text = _text(found)
    if found is None or text is None or bytes(found) in {b"null", b"true", b"false"}:
        return None
    value, rounded = measure(text)
    return None if rounded else value


def _text(found: msgspec.Raw | None) -> str | None:
    """Return a plain value as a text: a text without its quotes, a number as it is spelled."""
    if found is None:
        return None
    raw = bytes(found)
    return msgspec.json.decode(raw, type=str) if raw[:1] == b'"' else raw.decode()


def _at(data: dict[str, msgspec.Raw], path: tuple[Step, ...]) -> msgspec.Raw | None:
    """Return what stands at a path, None where nothing does."""
    found: msgspec.Raw | None = None
    inside: dict[str, msgspec.Raw] | list[msgspec.Raw] = data
    for at, step in enumerate(path):
        if at:
            inside = _inside(found)
        if isinstance(step, int):
            fits = isinstance(inside, list) and step < len(inside)
            found = inside[step] if isinstance(inside, list) and fits else None
        else:
            found = inside.get(step) if isinstance(inside, dict) else None
        if found is None:
            return None
    return found


def _inside(found: msgspec.Raw | None) -> dict[str, msgspec.Raw] | list[msgspec.Raw]:
    raw = bytes(found or b"").lstrip()
    if raw[:1] == b"{":
        return _OBJECT.decode(raw)
    return _ARRAY.decode(raw) if raw[:1] == b"[" else []
