"""A matcher written a second time, from the language's page alone: slow, plain, no code shared.

It works on the pattern's JSON as it stands: `$or` is tried alternative by alternative, arrays of
objects are tried element by element by choosing an element for each path to an array beforehand.
"""

import ipaddress
import itertools
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

Value = Any


def matches(pattern: dict[str, Any], event: dict[str, Any]) -> bool:
    """Whether an event matches a pattern."""
    return any(
        all(_field_holds(world, path, field) for path, field in conjunction)
        for conjunction in _conjunctions(pattern, ())
        for world in _worlds(event, {path[:n] for path, _ in conjunction for n in range(len(path))})
    )


def _conjunctions(
    pattern: dict[str, Any], at: tuple[str, ...]
) -> Iterator[list[tuple[tuple[str, ...], list[Any]]]]:
    """Yield every way to take one alternative of each `$or`: lists of path and field."""
    choices: list[list[list[Any]]] = []
    for name, value in pattern.items():
        if name == "$or":
            choices.append([c for each in value for c in _conjunctions(each, at)])
        elif isinstance(value, dict):
            choices.append(list(_conjunctions(value, (*at, name))))
        else:
            choices.append([[((*at, name), value)]])
    for chosen in itertools.product(*choices):
        yield [pair for part in chosen for pair in part]


def _worlds(value: Value, inner: set[tuple[str, ...]], at: tuple[str, ...] = ()) -> Iterator[Value]:
    """Yield the event with every array above a field replaced by one of its elements."""
    if isinstance(value, list):
        elements = list(_flat(value))
        for element in elements or [None]:
            yield from _worlds(element, inner, at)
        return
    if not isinstance(value, dict):
        yield {}
        return
    names = [name for name in value if (*at, name) in inner]
    options = [list(_worlds(value[name], inner, (*at, name))) for name in names]
    for chosen in itertools.product(*options):
        above = dict(zip(names, chosen, strict=True))
        yield {"leaves": value, "above": above}


def _flat(values: list[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, list):
            yield from _flat(value)
        else:
            yield value


def _field_holds(world: Value, path: tuple[str, ...], field: list[Any]) -> bool:
    for name in path[:-1]:
        world = world.get("above", {}).get(name, {})
    there = world.get("leaves", {})
    found: list[Any] = []
    if path[-1] in there:
        value = there[path[-1]]
        found = [v for v in _flat([value]) if not isinstance(v, dict)]
    return any(_holds(condition, found) for condition in field)


def _holds(condition: Any, found: list[Any]) -> bool:
    if isinstance(condition, dict) and condition.get("exists") is False:
        return not found
    if isinstance(condition, dict) and condition.get("exists") is True:
        return bool(found)
    return any(_leaf_holds(condition, leaf) for leaf in found)


def _leaf_holds(condition: Any, leaf: Any) -> bool:
    if not isinstance(condition, dict):
        return _same(condition, leaf)
    ((name, wanted),) = condition.items()
    if name == "anything-but":
        return not _excluded(wanted, leaf)
    if name == "numeric":
        return _is_number(leaf) and all(
            _compares(leaf, sign, bound)
            for sign, bound in zip(wanted[::2], wanted[1::2], strict=True)
        )
    return isinstance(leaf, str) and _text_holds(name, wanted, leaf)


def _excluded(wanted: Any, leaf: Any) -> bool:
    if isinstance(wanted, dict):
        ((name, texts),) = wanted.items()
        texts = texts if isinstance(texts, list) else [texts]
        return isinstance(leaf, str) and any(_text_holds(name, text, leaf) for text in texts)
    return any(_same(w, leaf) for w in (wanted if isinstance(wanted, list) else [wanted]))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


def _same(wanted: Any, leaf: Any) -> bool:
    if _is_number(wanted):
        return _is_number(leaf) and Decimal(wanted).compare(Decimal(leaf)) == 0
    if isinstance(wanted, str) and isinstance(leaf, str):
        return wanted == leaf or (
            ":" in wanted and _ip(wanted) is not None and _ip(wanted) == _ip(leaf)
        )
    return type(wanted) is type(leaf) and wanted == leaf


def _compares(leaf: Any, sign: str, bound: Any) -> bool:
    return {
        "=": leaf == bound, "<": leaf < bound, "<=": leaf <= bound,
        ">": leaf > bound, ">=": leaf >= bound,
    }[sign]  # fmt: skip


def _ip(text: str) -> Any:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _text_holds(name: str, wanted: Any, leaf: str) -> bool:
    match name:
        case "exactly":
            return wanted == leaf
        case "prefix" | "suffix" if isinstance(wanted, dict):
            size = len(wanted["equals-ignore-case"])
            part = leaf[:size] if name == "prefix" else leaf[len(leaf) - size :] if size else ""
            return len(leaf) >= size and _folds(wanted["equals-ignore-case"], part)
        case "prefix":
            return leaf[: len(wanted)] == wanted
        case "suffix":
            return leaf[len(leaf) - len(wanted) :] == wanted if len(leaf) >= len(wanted) else False
        case "equals-ignore-case":
            return _folds(wanted, leaf)
        case "wildcard":
            return re.fullmatch(_regex(wanted), leaf, re.DOTALL) is not None
        case _:
            address = _ip(leaf)
            block = ipaddress.ip_network(wanted, strict=False)
            return address is not None and address.version == block.version and address in block


def _folds(wanted: str, leaf: str) -> bool:
    return len(wanted) == len(leaf) and all(
        b in (a, a.lower(), a.upper()) for a, b in zip(wanted, leaf, strict=True)
    )


def _regex(wildcard: str) -> str:
    pieces = re.findall(r"\\.|\*|[^\\*]", wildcard, re.DOTALL)
    return "".join(".*" if p == "*" else re.escape(p[-1]) for p in pieces)
