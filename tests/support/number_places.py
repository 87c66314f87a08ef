"""Where decimals stand in what a type decodes, and a value of it with one in its place."""

from collections.abc import Iterator
from typing import Any

from msgspec import inspect


def places(kind: Any) -> Iterator[tuple[str, Any]]:
    """Yield the dotted place of every decimal below a type, and an example with `HERE` in it."""
    for path in _paths(_info(kind), (), ()):
        yield ".".join(path), _made(_info(kind), path, ())


HERE = "\0here"
ELSEWHERE = ("",)
PLAIN = {inspect.IntType: 1, inspect.FloatType: 1, inspect.BoolType: True, inspect.NoneType: None}


def filled(example: Any, number: Any) -> Any:
    """Return the example with the number where it says `HERE`."""
    if isinstance(example, dict):
        return {name: filled(inner, number) for name, inner in example.items()}
    if isinstance(example, list):
        return [filled(inner, number) for inner in example]
    return number if example == HERE else example


def _info(kind: Any) -> Any:
    return kind if isinstance(kind, inspect.Type) else inspect.type_info(kind)


def _paths(kind: Any, path: tuple[str, ...], above: tuple[Any, ...]) -> Iterator[tuple[str, ...]]:
    match kind:
        case inspect.DecimalType():
            yield path
        case inspect.UnionType():
            for one in kind.types:
                yield from _paths(one, path, above)
        case inspect.StructType() if kind.cls not in above:
            for field in kind.fields:
                yield from _paths(field.type, (*path, field.encode_name), (*above, kind.cls))
        case inspect.DictType():
            yield from _paths(kind.value_type, (*path, "USD"), above)
        case inspect.ListType() | inspect.VarTupleType():
            yield from _paths(kind.item_type, path, above)
        case _:
            pass


def _made(kind: Any, path: tuple[str, ...], above: tuple[Any, ...]) -> Any:
    """Return a value of a type with what it needs, and `HERE` at the end of the path."""
    match kind:
        case inspect.DecimalType():
            return "1" if path == ELSEWHERE else HERE
        case inspect.UnionType():
            fits = (one for one in kind.types if path == ELSEWHERE or _leads(one, path, above))
            return _made(next(fits), path, above)
        case inspect.StructType():
            return _struct(kind, path, above)
        case inspect.DictType():
            inner = path if path == ELSEWHERE else path[1:]
            return {"USD": _made(kind.value_type, inner, above)}
        case inspect.ListType() | inspect.VarTupleType():
            return [_made(kind.item_type, path, above)]
        case inspect.LiteralType():
            return kind.values[0]
        case _:
            return PLAIN.get(type(kind), "x")


def _struct(kind: Any, path: tuple[str, ...], above: tuple[Any, ...]) -> Any:
    made = {kind.tag_field: kind.tag} if kind.tag_field else {}
    for field in kind.fields:
        at = path[1:] if field.encode_name == path[0] else ELSEWHERE
        if at != ELSEWHERE or field.required:
            made[field.encode_name] = _made(field.type, at, (*above, kind.cls))
    return made


def _leads(kind: Any, path: tuple[str, ...], above: tuple[Any, ...]) -> bool:
    return path in _paths(kind, (), above)
