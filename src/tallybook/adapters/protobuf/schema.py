"""Message classes from field tables written here: only what is read of a protocol.

A pool of their own keeps them apart from generated classes of the same names that another
library may have loaded. Unknown fields are skipped, as the protocols want.
"""

from collections.abc import Mapping
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

Fields = Mapping[str, tuple[int, str]]
"""Field name -> (number, type). A type is a scalar's name or a message's; `*` before it repeats
it, `?` makes its presence known, `a|` before it puts it into the oneof `a`."""

_SCALARS = {
    "double": 1, "int64": 3, "uint64": 4, "fixed64": 6, "bool": 8, "string": 9, "bytes": 12,
    "uint32": 13, "sfixed64": 16, "sint32": 17, "sint64": 18, "int32": 5,
}  # fmt: skip
_MESSAGE = 11
_OPTIONAL, _REPEATED = 1, 3


def classes(package: str, messages: Mapping[str, Fields]) -> dict[str, Any]:
    """Return the classes of messages by name; enums are read as int32."""
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{package}.proto", package=package, syntax="proto3"
    )
    for name, fields in messages.items():
        _add(file.message_type.add(name=name), package, fields)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))
        for name in messages
    }


def _add(message: Any, package: str, fields: Fields) -> None:
    alone: list[Any] = []
    for name, (number, spelled) in fields.items():
        mark = spelled[0] if spelled[0] in "*?" else ""
        group, _, kind = spelled.removeprefix(mark).rpartition("|")
        field = message.field.add(
            name=name, number=number, label=_REPEATED if mark == "*" else _OPTIONAL
        )
        if group:
            field.oneof_index = _oneof(message, group)
        if mark == "?":
            alone.append(field)
        if kind in _SCALARS:
            field.type = _SCALARS[kind]
        else:
            field.type, field.type_name = _MESSAGE, f".{package}.{kind}"
    for field in alone:  # a presence of its own is a oneof of one, after all others
        field.proto3_optional = True
        field.oneof_index = _oneof(message, f"_{field.name}")


def _oneof(message: Any, name: str) -> int:
    known = [group.name for group in message.oneof_decl]
    if name not in known:
        message.oneof_decl.add(name=name)
        known.append(name)
    return known.index(name)
