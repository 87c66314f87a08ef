"""Mapping rules of a door: which label is the subject, what a series is called, what is left out.

Without any rule a client works by address and key alone.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Literal

import msgspec

from tallybook.collect.doors.point import Label, Point
from tallybook.kernel.errors import Invalid

DoorName = Literal["otlp", "prometheus", "influx", "logs"]
DOORS: tuple[DoorName, ...] = ("otlp", "prometheus", "influx", "logs")

RULES_MAX = 200
NAMES_MAX = 64
_SUBJECTS: dict[str, tuple[str, ...]] = {
    "otlp": ("service.instance.id", "host.name", "service.name"),
    "prometheus": ("instance",),
    "influx": ("host",),
    "logs": ("subject", "customer", "host", "hostname"),
}
_IGNORED: dict[str, tuple[str, ...]] = {
    "otlp": ("telemetry.*", "process.*", "os.*"),
    "prometheus": ("__replica__", "prometheus_replica"),
    "influx": (),
    "logs": (),
}
_EVERYTHING = "*"
TIMES = ("timestamp", "@timestamp", "time")


class SeriesRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What happens to the series that match; the first rule that matches decides.

    Attributes:
        match: pattern of the name as sent; `*` stands for anything.
        labels: patterns of label values that must all match.
        action: 'drop' leaves the series out, counted.
        type: the events' type; None is prefix and name.
        kind: counts the series this way, whatever its sender says; None believes the sender.
        subject: labels for the subject, in order; None takes the door's.
    """

    match: str = _EVERYTHING
    labels: dict[str, str] = {}
    action: Literal["keep", "drop"] = "keep"
    type: str | None = None
    kind: Literal["counter", "level", "delta"] | None = None
    subject: list[str] | None = None


class DoorRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A door's rules.

    Attributes:
        subject: labels for the subject; the first that is present names it. None: the door's own.
        prefix: put before every event's type.
        ignore: patterns of labels that are no part of a series, such as a replica's name.
        series: rules for series, in order.
        unmatched: what happens to series that no rule matches.
        id: for logs: fields that identify a record for good, together; none: its content does.
        time: for logs: fields that hold its time; the first that is present counts. None: `TIMES`.
    """

    subject: list[str] | None = None
    prefix: str = ""
    ignore: list[str] | None = None
    series: list[SeriesRule] = []
    unmatched: Literal["keep", "drop"] = "keep"
    id: list[str] = []
    time: list[str] | None = None


NO_RULES = DoorRules()


def checked(door: str, rules: DoorRules) -> DoorRules:
    """Return the rules; raises Invalid where they are out of range."""
    if door not in DOORS:
        raise Invalid(f"there is no door '{door}'; the doors are {', '.join(DOORS)}", field="door")
    if len(rules.series) > RULES_MAX:
        raise Invalid(f"a door has at most {RULES_MAX} rules for series", field="series")
    texts = [rules.prefix, *(rule.match for rule in rules.series)]
    texts += [rule.type or "x" for rule in rules.series]
    lists = [rules.subject or [], rules.ignore or [], rules.id, rules.time or []]
    if any(len(text) > 256 for text in texts) or any(len(names) > NAMES_MAX for names in lists):
        raise Invalid("a name has at most 256 characters, a list at most 64 names", field="series")
    if any(rule.type == "" or rule.match == "" for rule in rules.series):
        raise Invalid("match and type must not be empty", field="series")
    return rules


class Mapped(msgspec.Struct, frozen=True):
    """How one series becomes events.

    Attributes:
        type: of its events. subject: who used it.
        kind: how it is counted.
        labels: what identifies the series and stands in its events' data.
    """

    type: str
    subject: str | None
    kind: str
    labels: Mapping[str, Label]


def mapped(door: str, rules: DoorRules, point: Point) -> Mapped | None:
    """Return how a point's series becomes events, None where the rules leave it out."""
    rule = next((r for r in rules.series if _matches(r, point)), None)
    if (rule.action if rule else rules.unmatched) == "drop":
        return None
    ignored = _IGNORED[door] if rules.ignore is None else rules.ignore
    patterns = tuple(ignored)
    labels = {n: v for n, v in point.labels.items() if not _is_ignored(n, patterns)}
    wanted = rule.subject if rule and rule.subject is not None else rules.subject
    kind = rule.kind if rule and rule.kind and point.kind != "evidence" else point.kind
    return Mapped(
        (rule.type if rule else None) or rules.prefix + point.name,
        _subject(point.labels, _SUBJECTS[door] if wanted is None else wanted),
        kind,
        labels,
    )


@lru_cache(maxsize=8192)
def _is_ignored(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether a label is no part of a series; the same few names come with every point."""
    return any(like(name, pattern) for pattern in patterns)


def kind_of(rules: DoorRules, point: Point) -> str | None:
    """Return how a rule says that a series is counted, None where none says so."""
    return next((rule.kind for rule in rules.series if _matches(rule, point)), None)


def _subject(labels: Mapping[str, Label], wanted: Sequence[str]) -> str | None:
    for name in wanted:
        value = labels.get(name)
        if value is not None and value != "":
            return str(value)
    return None


def _matches(rule: SeriesRule, point: Point) -> bool:
    if not like(point.name, rule.match):
        return False
    return all(
        (value := point.labels.get(name)) is not None and like(str(value), wanted)
        for name, wanted in rule.labels.items()
    )


def like(text: str, pattern: str) -> bool:
    """Whether a pattern, `*` for anything, fits the whole text.

    Cost: linear in the text, whatever the pattern; a tenant writes it.
    """
    head, *rest = pattern.split("*")
    if not rest:
        return text == pattern
    *middle, tail = rest
    if len(text) < len(head) + len(tail) or not (text.startswith(head) and text.endswith(tail)):
        return False
    at, end = len(head), len(text) - len(tail)
    for part in middle:
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True
