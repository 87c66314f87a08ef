"""Filters of OpenMeter's meter queries, as its clients spell them.

`filterGroupBy` comes as `filterGroupBy[model]=a`, as JSON, or, from the Python client, as the text
of a Python dictionary. `advancedMeterGroupByFilters` is JSON: dimension -> conditions.
"""

import ast
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from tallybook.kernel.errors import Invalid

TEXT_CHARS_MAX = 8192
CONDITIONS_MAX = 100

Texts = tuple[str | None, ...]


class Condition(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """What the value of a dimension must be; all that are set must hold. A missing value is ''."""

    eq: str | None = msgspec.field(name="$eq", default=None)
    ne: str | None = msgspec.field(name="$ne", default=None)
    in_: list[str] | None = msgspec.field(name="$in", default=None)
    nin: list[str] | None = msgspec.field(name="$nin", default=None)
    like: str | None = msgspec.field(name="$like", default=None)
    nlike: str | None = msgspec.field(name="$nlike", default=None)
    ilike: str | None = msgspec.field(name="$ilike", default=None)
    nilike: str | None = msgspec.field(name="$nilike", default=None)
    gt: str | None = msgspec.field(name="$gt", default=None)
    gte: str | None = msgspec.field(name="$gte", default=None)
    lt: str | None = msgspec.field(name="$lt", default=None)
    lte: str | None = msgspec.field(name="$lte", default=None)
    and_: "list[Condition] | None" = msgspec.field(name="$and", default=None)
    or_: "list[Condition] | None" = msgspec.field(name="$or", default=None)

    def holds(self, value: str | None) -> bool:
        """Whether a value is let through."""
        text = value or ""
        checks = (
            check(text, wanted)
            for name, check in _CHECKS.items()
            if (wanted := getattr(self, name)) is not None
        )
        return (
            all(checks)
            and all(part.holds(value) for part in self.and_ or ())
            and (self.or_ is None or any(part.holds(value) for part in self.or_))
        )


def _like(text: str, pattern: str) -> bool:
    signs = {"%": ".*", "_": "."}
    spelled = "".join(signs.get(sign) or re.escape(sign) for sign in pattern)
    return re.fullmatch(spelled, text, re.DOTALL) is not None


_CHECKS: Mapping[str, Callable[[str, Any], bool]] = {
    "eq": lambda text, wanted: text == wanted,
    "ne": lambda text, wanted: text != wanted,
    "in_": lambda text, wanted: text in wanted,
    "nin": lambda text, wanted: text not in wanted,
    "like": _like,
    "nlike": lambda text, wanted: not _like(text, wanted),
    "ilike": lambda text, wanted: _like(text.lower(), wanted.lower()),
    "nilike": lambda text, wanted: not _like(text.lower(), wanted.lower()),
    "gt": lambda text, wanted: text > wanted,
    "gte": lambda text, wanted: text >= wanted,
    "lt": lambda text, wanted: text < wanted,
    "lte": lambda text, wanted: text <= wanted,
}


def spelled_map(text: str) -> dict[str, Texts]:
    """Return `filterGroupBy` that came as one text: dimension -> allowed texts.

    Raises:
        Invalid: it is neither JSON nor the text of a Python dictionary of texts.
    """
    if len(text) > TEXT_CHARS_MAX:
        raise Invalid("filterGroupBy is too long", field="filterGroupBy")
    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        found = _literal(text)
    try:
        wanted = msgspec.convert(found, dict[str, str | list[str]])
    except msgspec.ValidationError as error:
        raise _unread("filterGroupBy") from error
    return {name: _listed(values) for name, values in wanted.items()}


def conditions(text: str) -> dict[str, Condition]:
    """Return `advancedMeterGroupByFilters`; raises Invalid."""
    if len(text) > TEXT_CHARS_MAX:
        raise Invalid("the filters are too long", field="advancedMeterGroupByFilters")
    try:
        return msgspec.json.decode(text, type=dict[str, Condition])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise _unread("advancedMeterGroupByFilters") from error


def allowed(condition: Condition, values: Iterable[str | None]) -> Texts:
    """Return those of a dimension's values that a condition lets through."""
    return tuple(value for value in values if condition.holds(value))


def _listed(values: str | list[str]) -> Texts:
    return tuple(value or None for value in ([values] if isinstance(values, str) else values))


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise _unread("filterGroupBy") from error


def _unread(field: str) -> Invalid:
    example = '{"model": "gpt-4"}' if field == "filterGroupBy" else '{"model": {"$in": ["a"]}}'
    return Invalid(f"{field} must be an object such as {example}", field=field)
