"""Rules as `catalog.toml` declares them, and what an apply changes of those there are."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Literal

import msgspec

from tallybook.kernel.errors import Conflict, Invalid
from tallybook.route.rule import RULES_MAX, Declared, Rule, declared, same_pattern

DETAIL_CHARS_MAX = 160
_ENCODER = msgspec.json.Encoder(decimal_format="number")
_INTEGER_MAX = 1 << 63


class RouteSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[routes]]` as it is written.

    Attributes:
        pattern: a table, or JSON as text.
    """

    key: str
    pattern: dict[str, object] | str
    targets: tuple[str, ...]
    state: Literal["enabled", "paused"] = "enabled"
    description: str = ""


class RuleChange(msgspec.Struct, frozen=True, kw_only=True):
    """One rule that an apply makes, changes or takes away.

    Attributes:
        rule: as it shall be.
        seen: the version that this was decided from; 0 where there was none.
        details: one line for each field that differs.
    """

    action: Literal["create", "update", "archive"]
    rule: Declared
    seen: int = 0
    details: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The rule's name."""
        return self.rule.key


def declared_rules(written: Sequence[object]) -> tuple[Declared, ...]:
    """Return the rules of a file's `[[routes]]`; raises Invalid, naming rule and field."""
    try:
        specs = msgspec.convert(list(written), list[RouteSpec])
    except msgspec.ValidationError as error:
        raise Invalid(f"routes: {error}", field="routes") from error
    twice = [key for key, times in Counter(spec.key for spec in specs).items() if times > 1]
    if twice:
        raise Invalid(f"routes: '{min(twice)}' is there twice", field="routes.key")
    return tuple(_declared(spec) for spec in specs)


def _declared(spec: RouteSpec) -> Declared:
    try:
        return declared(
            Declared(
                key=spec.key,
                pattern=pattern_text(spec.pattern),
                targets=spec.targets,
                state=spec.state,
                description=spec.description,
            )
        )
    except Invalid as error:
        message = f"route '{spec.key}': {error.message}"
        raise Invalid(message, code=error.code, field=f"routes.{error.field}") from error


def pattern_text(pattern: Mapping[str, object] | str) -> str:
    """Return a pattern as JSON, numbers to the last digit.

    Args:
        pattern: of TOML, its floats read as decimals; or JSON as text.
    """
    return pattern if isinstance(pattern, str) else _ENCODER.encode(_exact(pattern)).decode()


def _exact(value: object) -> object:
    """Return a value with integers that msgspec does not write as decimals."""
    if isinstance(value, Mapping):
        return {name: _exact(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_exact(element) for element in value]
    is_great = isinstance(value, int) and not -_INTEGER_MAX <= value < _INTEGER_MAX
    return Decimal(value) if is_great else value  # type: ignore[arg-type]


def rule_changes(
    stored: Sequence[Rule], wanted: Sequence[Declared], *, prune: bool
) -> list[RuleChange]:
    """Return what an apply does to the rules of a tenant; nothing where all are as declared.

    Args:
        stored: the rules in use.
        wanted: as the file has them.
        prune: take away what is not declared.

    Raises:
        Conflict: there would be too many.
    """
    known = {rule.key: rule for rule in stored}
    named = {rule.key for rule in wanted}
    gone = sorted(known.keys() - named) if prune else []
    if len(known.keys() | named) - len(gone) > RULES_MAX:
        raise Conflict(f"a tenant has at most {RULES_MAX} rules", code="too-many-rules")
    changes = [one for rule in wanted if (one := _changed(known.get(rule.key), rule))]
    return changes + [
        RuleChange(action="archive", rule=taken_away(known[key]), seen=known[key].version)
        for key in gone
    ]


def taken_away(rule: Rule) -> Declared:
    """Return the declaration of a rule that is no more."""
    return Declared(
        key=rule.key,
        pattern=rule.pattern,
        targets=rule.targets,
        state="deleted",
        description=rule.description,
    )


def _changed(before: Rule | None, wanted: Declared) -> RuleChange | None:
    if before is None:
        return RuleChange(action="create", rule=wanted)
    details = tuple(_differences(before, wanted))
    if not details:
        return None
    return RuleChange(action="update", rule=wanted, seen=before.version, details=details)


def _differences(before: Rule, wanted: Declared) -> Iterator[str]:
    if not same_pattern(before.pattern, wanted.pattern):
        yield _line("pattern", before.pattern, wanted.pattern)
    if before.targets != wanted.targets:
        yield _line("targets", ", ".join(before.targets), ", ".join(wanted.targets))
    if before.state != wanted.state:
        yield _line("state", before.state, wanted.state)
    if before.description != wanted.description:
        yield _line("description", before.description, wanted.description)


def _line(name: str, before: str, after: str) -> str:
    half = DETAIL_CHARS_MAX // 2
    sides = (f"{text[:half]}…" if len(text) > half else text or "''" for text in (before, after))
    return f"{name}: {' -> '.join(sides)}"
