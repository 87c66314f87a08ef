"""Rules: which records of the inbound stream go to which outbound streams."""

import re
from typing import Literal

import msgspec

from tallybook.kernel.errors import Invalid
from tallybook.route.pattern.parse import parse_pattern

RuleState = Literal["enabled", "paused", "deleted"]

UNMATCHED = "unmatched"
"""The stream of records that no rule of their tenant matched."""

TARGETS_MAX = 16
RULES_MAX = 2_000
"""Of one tenant, deleted ones not counted."""
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}\Z")


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a rule.

    Attributes:
        key: names the rule within its tenant.
        version: 1 and up, one more with every change of pattern, targets or state.
        pattern: JSON text of the pattern language.
        targets: outbound streams, in order; each gets what matches once.
        state: a paused rule delivers nothing and holds nothing back.
        description: for people.
        since_seq: the first lake commit this version routes; what came earlier it never sees,
            except in a replay.
        made_us: when it was made, microseconds UTC.
        made_by: the key that made it.
    """

    tenant: str
    key: str
    version: int
    pattern: str
    targets: tuple[str, ...]
    state: RuleState = "enabled"
    description: str = ""
    since_seq: int = 1
    made_us: int = 0
    made_by: str = ""


class Declared(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody declares a rule to be; checked by `declared`."""

    key: str
    pattern: str
    targets: tuple[str, ...]
    state: RuleState = "enabled"
    description: str = ""


def declared(wanted: Declared) -> Declared:
    """Return a declaration that may become a rule.

    Raises:
        Invalid: names the field and says what to do.
    """
    check_name(wanted.key, "key")
    if not wanted.targets or len(wanted.targets) > TARGETS_MAX:
        message = f"a rule has 1 to {TARGETS_MAX} targets, names of outbound streams"
        raise Invalid(message, field="targets")
    for at, name in enumerate(wanted.targets):
        check_name(name, f"targets[{at}]")
        if name == UNMATCHED:
            message = f"'{UNMATCHED}' is the stream of what no rule matches; name another"
            raise Invalid(message, field=f"targets[{at}]")
    if len(set(wanted.targets)) < len(wanted.targets):
        raise Invalid("a target is named twice; once is enough", field="targets")
    if len(wanted.description) > 500:
        raise Invalid("a description has at most 500 characters", field="description")
    parse_pattern(wanted.pattern)
    return wanted


def check_name(name: str, field: str) -> None:
    """Refuse what cannot be a rule's key, a stream's or a group's name."""
    if not _NAME.match(name):
        message = "a name has 1 to 64 of a-z, 0-9, '.', '_' and '-', and begins with a-z or 0-9"
        raise Invalid(message, field=field)


def next_version(
    stored: Rule | None, wanted: Declared, *, tenant: str, since_seq: int, now_us: int, by: str
) -> Rule | None:
    """Return the version that makes a rule what is wanted; None where it is so already."""
    found = Rule(
        tenant=tenant,
        key=wanted.key,
        version=1 if stored is None else stored.version + 1,
        pattern=wanted.pattern,
        targets=wanted.targets,
        state=wanted.state,
        description=wanted.description,
        since_seq=since_seq,
        made_us=now_us,
        made_by=by,
    )
    if stored is None or _meaning(stored) != _meaning(found):
        return found
    return None if same_pattern(stored.pattern, found.pattern) else found


def _meaning(rule: Rule) -> tuple[object, ...]:
    return rule.targets, rule.state, rule.description


def same_pattern(one: str, other: str) -> bool:
    """Whether two patterns say the same, however they are spaced and their numbers written."""
    if one == other:
        return True
    try:
        return parse_pattern(one).alternatives == parse_pattern(other).alternatives
    except Invalid:
        return False  # one that another version of the language took: they differ
