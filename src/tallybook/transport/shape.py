"""The shape of flat data objects, learned from what arrives, so that one pass checks and reads.

Events of a type have the same few properties. A compiled decoder that knows them all and allows
no other reads a batch in one pass; encoding what it read gives back as many bytes as came in
exactly when no key occurs twice. What does not fit is read another way, and its keys are learned.
"""

from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any

import msgspec

Cell = bytes | None
"""The JSON text of one value as received; None where the path leads nowhere."""

KEYS_MAX = 64
"""Most properties a shape learns; data with more goes the other way."""

_UNREAD = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_ENCODE = msgspec.json.Encoder().encode
_KEYS = msgspec.json.Decoder(list[dict[str, msgspec.Raw] | None])


class Shape:
    """A decoder for lists of flat objects with known keys.

    Safe for threads: learning replaces the decoder, it never changes one.

    Args:
        keys: properties that are always known.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        """Compile the first decoder."""
        self._readable = all(map(_nameable, keys))
        self._compiled = _compile(tuple(sorted(filter(_nameable, keys))))

    def read(self, datas: Sequence[bytes], wanted: Sequence[str]) -> dict[str, list[Cell]] | None:
        """Return the values of the wanted properties, one list each, as long as `datas`.

        Args:
            datas: compact JSON objects or nulls.
            wanted: among the keys that are always known.

        Returns:
            None where it is not certain that no object has a key twice: nested, repeated or
            unknown keys. Unknown ones are known the next time.
        """
        joined = b"[" + b",".join(datas) + b"]"
        if not self._readable or joined.count(b"{") != len(datas) - datas.count(b"null"):
            return None
        fields, decoder = self._compiled
        try:
            rows = decoder.decode(joined)
        except _UNREAD:
            self._learn(joined, fields)
            return None
        if len(_ENCODE(rows)) != len(joined):
            return None
        return {key: members(rows, fields[key]) for key in wanted}

    def _learn(self, joined: bytes, known: dict[str, str]) -> None:
        try:
            keys = {key for data in _KEYS.decode(joined) if data is not None for key in data}
        except _UNREAD:
            return  # not objects at all: there is no shape to learn, and the caller looks closer
        if len(keys | known.keys()) <= KEYS_MAX and all(map(_nameable, keys)):
            self._compiled = _compile(tuple(sorted(keys | known.keys())))


def _nameable(key: str) -> bool:
    """Whether msgspec can name a field after the key."""
    return not any(c < " " or c in '"\\' for c in key)


def _spellable(keys: Iterable[str]) -> bool:
    """Whether a compiled decoder can be told these names: it takes none that JSON must escape."""
    return not any(c in '"\\' or c < " " for key in keys for c in key)


def _compile(keys: tuple[str, ...]) -> tuple[dict[str, str], "msgspec.json.Decoder[Any]"]:
    fields = {key: f"f{i}" for i, key in enumerate(keys)}
    types: list[Any] = [
        (field, msgspec.Raw | msgspec.UnsetType, msgspec.UNSET) for field in fields.values()
    ]
    rename = {field: key for key, field in fields.items()}
    shape = msgspec.defstruct("Data", types, rename=rename, gc=False, forbid_unknown_fields=True)
    return fields, msgspec.json.Decoder(list[shape | None])  # type: ignore[valid-type]


def members(rows: Sequence[Any], field: str) -> list[Cell]:
    """Return one field of every row as its JSON text; None where row or field is absent."""
    unset = msgspec.UNSET
    get = attrgetter(field)
    if None not in rows:
        return [None if (raw := get(row)) is unset else bytes(raw) for row in rows]
    return [None if row is None or (raw := get(row)) is unset else bytes(raw) for row in rows]
