"""The typed columns that meters use, compiled for fast extraction from an event's data.

DECISIONS 4, 7, 11: values are judged once, at accept; a bad value is NULL in its column and never
a reason to refuse the event.
"""

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any, cast

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from tallybook.kernel.decimals import MEASURE_MAX, measure
from tallybook.kernel.jsonpath import Path, Step, steps
from tallybook.transport.places import finding
from tallybook.transport.shape import Cell, Shape
from tallybook.transport.spelled.spelling import Spellings

NUMBER = pa.decimal128(38, 12)
TEXT = pa.string()
ROUNDED = 1
"""Bit of the row's `flags`: some value had more than 12 decimals and was rounded half-even."""


class Column:
    """One typed column.

    Attributes:
        name: as in the lake, `n_…` or `t_…`.
        path: canonical path it is filled from.
        numeric: DECIMAL(38,12) when true, else text.
    """

    __slots__ = ("name", "numeric", "path", "rest", "top")

    def __init__(self, name: str, path: Path) -> None:
        """Split the path into the name of the top-level property and the rest."""
        self.name = name
        self.path = path
        self.numeric = name.startswith("n_")
        parts = steps(path)
        self.top: Step | None = parts[0] if parts else None
        self.rest = parts[1:]


class ColumnSet:
    """All typed columns, with one compiled decoder for the properties they need.

    A worker builds a new one when the catalog changes.

    Attributes:
        paths: by the name of the column.
        columns: in the order of their names.
        find: finds their values in bodies; None where nothing is compiled.
        spellings: how the events are spelled that came so far, where nothing is.
    """

    def __init__(self, columns: Mapping[str, Path]) -> None:
        """Compile columns, sorted by name."""
        self.paths = dict(sorted(columns.items()))
        self.columns = [Column(name, path) for name, path in self.paths.items()]
        tops = sorted({c.top for c in self.columns if isinstance(c.top, str)})
        self._wanted = tops
        self._shape = Shape(tops)
        self.find = finding(self.paths.values())
        self.spellings = Spellings()

    def __len__(self) -> int:
        """Return how many columns there are."""
        return len(self.columns)

    def cells(self, datas: Sequence[bytes]) -> list[list[Cell]]:
        """Return one list of cells per column, each as long as `datas`.

        Args:
            datas: JSON objects or `null`, valid UTF-8 JSON.
        """
        if not self.columns:
            return []
        rows = _OBJECTS.decode(b"[" + b",".join(datas) + b"]")
        tops: dict[str, list[Cell]] = {
            top: [
                None if row is None or (raw := row.get(top)) is None else bytes(raw) for row in rows
            ]
            for top in self._wanted
        }
        return self._of_tops(tops, len(rows))

    def checked_cells(self, datas: Sequence[bytes]) -> list[list[Cell]] | None:
        """Return what `cells` does, or None where some object may have a key twice.

        Args:
            datas: compact JSON objects or `null`.

        Cost: one compiled pass over flat objects of known shape; None for all others.
        """
        tops = self._shape.read(datas, self._wanted)
        return None if tops is None else self._of_tops(tops, len(datas))

    def _of_tops(self, tops: Mapping[str, list[Cell]], count: int) -> list[list[Cell]]:
        return [self._column_cells(column, tops, count) for column in self.columns]

    @staticmethod
    def _column_cells(column: Column, tops: Mapping[str, list[Cell]], count: int) -> list[Cell]:
        if not isinstance(column.top, str):
            return [None] * count
        cells = tops[column.top]
        return cells if not column.rest else [_walk(cell, column.rest) for cell in cells]


def _walk(cell: Cell, rest: Sequence[Step]) -> Cell:
    for step in rest:
        if cell is None:
            return None
        cell = _child(cell, step)
    return cell


_OBJECT: msgspec.json.Decoder[dict[str, msgspec.Raw]] = msgspec.json.Decoder(dict[str, msgspec.Raw])
_OBJECTS: msgspec.json.Decoder[list[dict[str, msgspec.Raw] | None]] = msgspec.json.Decoder(
    list[dict[str, msgspec.Raw] | None]
)
_ARRAY: msgspec.json.Decoder[list[msgspec.Raw]] = msgspec.json.Decoder(list[msgspec.Raw])


def _child(cell: bytes, step: Step) -> Cell:
    if isinstance(step, str):
        found = _OBJECT.decode(cell).get(step) if cell[:1] == b"{" else None
    else:
        items = _ARRAY.decode(cell) if cell[:1] == b"[" else []
        found = items[step] if step < len(items) else None
    return None if found is None else bytes(found)


def text_of(cell: Cell) -> str | None:
    """Return a value as a dimension spells it: a string's content, a number as it was sent.

    Missing, null, objects and arrays have no text.
    """
    if cell is None or cell == b"null":
        return None
    first = cell[:1]
    if first == b'"':
        if b"\\" in cell:
            return str(msgspec.json.decode(cell))
        return cell[1:-1].decode()
    return None if first in {b"{", b"["} else cell.decode()


def _number_text(cell: Cell) -> str | None:
    if cell is None or cell[:1] in {b"t", b"f", b"n", b"{", b"["}:
        return None
    return text_of(cell)


def number_array(cells: Sequence[Cell]) -> "tuple[pa.Array[Any], list[int]]":
    """Return values as DECIMAL(38,12), NULL where unusable, and the rows that were rounded.

    Cost: one vectorised cast; one value at a time only for a batch with an unusual value.
    """
    if _firsts(cells) <= _DIGITS:
        texts = _as_text(cells)
    else:
        texts = _texts([_number_text(cell) for cell in cells])
    return numbers_of(texts)


def numbers_of(texts: pa.StringArray) -> "tuple[pa.Array[Any], list[int]]":
    """Return what `number_array` does of the texts of numbers; NULL for no number."""
    if texts.null_count == len(texts):
        return pa.nulls(len(texts), NUMBER), []
    if not _castable(texts):
        return _judged(texts.to_pylist())
    try:
        array = texts.cast(NUMBER)
    except pa.ArrowInvalid:
        return _judged(texts.to_pylist())
    if pc.max(pc.abs(array)).as_py() >= MEASURE_MAX:
        return _judged(texts.to_pylist())
    return array, []


def whole_numbers(texts: pa.StringArray) -> "pa.Array[Any] | None":
    """Return JSON's numbers as DECIMAL(38,12) where all are whole and small, as counts are."""
    try:
        return texts.cast(pa.int64()).cast(NUMBER)
    except pa.ArrowInvalid:
        return None


_CAST_CHARS_MAX = 32


def _texts(texts: Sequence[str | None]) -> pa.StringArray:
    return pa.array(texts, TEXT)


def _castable(texts: pa.StringArray) -> bool:
    """Whether Arrow may read these texts: it crashes on some exponents, misreads long ones."""
    if pc.max(pc.binary_length(texts)).as_py() > _CAST_CHARS_MAX:
        return False
    return not pc.any(pc.match_substring(texts, "e", ignore_case=True)).as_py()


_FIRST = itemgetter(0)
_DIGITS = frozenset(b"-0123456789")
_QUOTE = frozenset(b'"')


def _firsts(cells: Sequence[Cell]) -> set[int]:
    """Return the first bytes that occur: they tell numbers from strings."""
    return set(map(_FIRST, filter(None, cells)))


def _as_text(cells: Sequence[Cell]) -> pa.StringArray:
    return cast("pa.StringArray", pa.array(cells, pa.binary()).cast(TEXT))


def text_array(cells: Sequence[Cell]) -> "pa.Array[Any]":
    """Return values as dimensions spell them; see `text_of`.

    Cost: vectorised where all are numbers, or all plain strings.
    """
    firsts = _firsts(cells)
    if firsts <= _DIGITS:
        return _as_text(cells)
    if firsts <= _QUOTE:
        strings = _as_text(cells)
        if not pc.any(pc.match_substring(strings, "\\")).as_py():
            return pc.utf8_slice_codeunits(strings, 1, -1)
    return _texts([text_of(cell) for cell in cells])


def _judged(texts: Sequence[str | None]) -> "tuple[pa.Array[Any], list[int]]":
    judged = [(None, False) if text is None else measure(text) for text in texts]
    rounded = [i for i, (_, was_rounded) in enumerate(judged) if was_rounded]
    return pa.array([value for value, _ in judged], NUMBER), rounded


def typed_arrays(
    columns: ColumnSet, cells: Sequence[Sequence[Cell]]
) -> "tuple[list[pa.Array[Any]], set[int]]":
    """Return one Arrow array per column, and the rows in which a value was rounded."""
    arrays: list[pa.Array[Any]] = []
    rounded: set[int] = set()
    for column, column_cells in zip(columns.columns, cells, strict=True):
        if column.numeric:
            array, rows = number_array(column_cells)
            rounded.update(rows)
        else:
            array = text_array(column_cells)
        arrays.append(array)
    return arrays, rounded
