"""Which events an edge adds up before it sends them, by what, and under which type.

Rules are declared on the server, for all edges of a tenant or for one, and fetched by the agent.
The first rule that matches takes an event; an event that no rule matches is sent as it is.
"""

import re
from collections.abc import Mapping

import msgspec

from tallybook.kernel.errors import Invalid
from tallybook.kernel.event import EDGE_PREFIX, UNPARSED_TYPE
from tallybook.kernel.jsonpath import Step, steps
from tallybook.kernel.limits import ATTRIBUTE_CHARS_MAX

RULES_MAX = 100
LATE_SECONDS_MAX = 3600
WINDOW_SUFFIX = ".minute"
RESERVED = frozenset(
    ("count", "sum", "min", "max", "last", "first_time", "last_time", "rule", "version", "part")
)
"""Names of a window's own figures; no key may have one of them."""

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}\Z")
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}\Z")


class EdgeRule(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """One rule.

    Attributes:
        name: what the events it makes call it: small letters, digits, `_` and `-`.
        match: the type of the events it takes.
        where: path into the data -> the texts that are accepted there; all must fit.
        group_by: key name -> path into the data; one window for every combination of values.
        value: path of the number that is added up; None only counts.
        type: of the events it makes; None is that of `match` with `.minute`.
        keep_subject: one window for every subject; else the edge is the subject.
        late_seconds: how long after its minute a window stays open for what comes late.
    """

    name: str
    match: str
    where: dict[str, list[str]] = {}
    group_by: dict[str, str] = {}
    value: str | None = None
    type: str | None = None
    keep_subject: bool = True
    late_seconds: int = 10

    @property
    def made_type(self) -> str:
        """The type of the events it makes."""
        return self.type or self.match + WINDOW_SUFFIX


class RuleSet(msgspec.Struct, frozen=True, kw_only=True):
    """The rules of one edge, as the server has declared them.

    Attributes:
        version: stands on every event they make; '' before anything was declared.
        rules: in order; the first that matches counts.
    """

    version: str = ""
    rules: tuple[EdgeRule, ...] = ()


class Compiled(msgspec.Struct, frozen=True):
    """A rule whose paths are taken apart; type is that of the events it makes."""

    rule: EdgeRule
    type: str
    where: tuple[tuple[tuple[Step, ...], frozenset[str]], ...]
    keys: tuple[tuple[str, tuple[Step, ...]], ...]
    value: tuple[Step, ...] | None


def checked(rules: tuple[EdgeRule, ...]) -> tuple[EdgeRule, ...]:
    """Return the rules; raises Invalid, naming the one at fault."""
    if len(rules) > RULES_MAX:
        raise Invalid(f"there may be {RULES_MAX} rules, not {len(rules)}", field="rules")
    names = [rule.name for rule in rules]
    for rule in rules:
        if names.count(rule.name) > 1:
            raise Invalid(f"two rules are called '{rule.name}'", field="name")
        _check(rule)
    return rules


def compiled(rules: RuleSet) -> Mapping[str, list[Compiled]]:
    """Return the rules by the type they take, in order; raises Invalid."""
    found: dict[str, list[Compiled]] = {}
    for rule in rules.rules:
        found.setdefault(rule.match, []).append(_compiled(rule))
    return found


def _check(rule: EdgeRule) -> None:
    where = f"rule '{rule.name[:80]}': "
    if not _NAME.match(rule.name):
        raise Invalid(f"{where}a name is small letters, digits, _ and -", field="name")
    for field, text in (("match", rule.match), ("type", rule.made_type)):
        if not text.strip() or not text.isprintable() or len(text) > ATTRIBUTE_CHARS_MAX:
            raise Invalid(f"{where}{field} must be an event type", field=field)
    if rule.match == UNPARSED_TYPE or rule.match.startswith(EDGE_PREFIX):
        raise Invalid(f"{where}what an agent reports is sent as it is", field="match")
    if rule.made_type == rule.match:
        message = f"{where}what it makes must have a type of its own, or meters count it twice"
        raise Invalid(message, field="type")
    for key in rule.group_by:
        if key in RESERVED or not _KEY.match(key):
            raise Invalid(f"{where}'{key}' cannot be the name of a key", field="group_by")
    if not 0 <= rule.late_seconds <= LATE_SECONDS_MAX:
        message = f"{where}late_seconds must be 0 to {LATE_SECONDS_MAX}"
        raise Invalid(message, field="late_seconds")
    _compiled(rule)


def _compiled(rule: EdgeRule) -> Compiled:
    return Compiled(
        rule,
        rule.made_type,
        tuple((steps(path), frozenset(texts)) for path, texts in rule.where.items()),
        tuple((name, steps(path)) for name, path in sorted(rule.group_by.items())),
        steps(rule.value) if rule.value is not None else None,
    )
