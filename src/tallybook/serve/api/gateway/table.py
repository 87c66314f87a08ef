"""A page of a list as CSV, whatever it lists: one line an item, one column a member."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

_ITEMS = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
_NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?\Z")
_FORMULA = "=+-@\t\r\n"


class _Page(msgspec.Struct):
    items: msgspec.Raw
    next_cursor: str | None = None


class Table(msgspec.Struct, frozen=True):
    """A page as CSV, and where the next one begins."""

    csv: bytes
    next_cursor: str | None


def wanted(accept: str, format_: str) -> bool:
    """Whether a request asks for CSV.

    Args:
        accept: header; CSV is wanted where it is named, and JSON is not.
        format_: parameter, '' for none.
    """
    if format_:
        return format_ == "csv"
    kinds = {part.partition(";")[0].strip().lower() for part in accept.split(",")}
    return "text/csv" in kinds and "application/json" not in kinds


def table_of(body: bytes, columns: Sequence[str] = ()) -> Table | None:
    """Return a JSON answer as CSV; None where it is no list of objects.

    Args:
        body: `{"items": […], "next_cursor": …}`, or an array.
        columns: names that every page has, in their order; others follow as they occur.
    """
    try:
        if body[:1] == b"[":
            return Table(_written(_ITEMS.decode(body), columns), None)
        page = msgspec.json.decode(body, type=_Page)
        return Table(_written(_ITEMS.decode(page.items), columns), page.next_cursor)
    except msgspec.DecodeError:
        return None


def _written(items: list[dict[str, msgspec.Raw]], columns: Sequence[str]) -> bytes:
    names = list(dict.fromkeys([*columns, *(name for item in items for name in item)]))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(_row(names))
    for item in items:
        writer.writerow(_row(_cell(item.get(name)) for name in names))
    return text.getvalue().encode()


def _row(cells: Iterable[str]) -> list[str]:
    return [safe_cell(cell) for cell in cells]


def _cell(raw: msgspec.Raw | None) -> str:
    """Return a member as text: texts bare, null empty, all else as its JSON."""
    spelled = b"" if raw is None else bytes(raw)
    if spelled[:1] == b'"':
        return str(msgspec.json.decode(spelled))
    return "" if spelled == b"null" else spelled.decode()


def safe_cell(cell: str) -> str:
    """Return a cell that no spreadsheet takes for a formula; numbers are left as they are.

    Source: OWASP, CSV injection.
    """
    if cell[:1] in _FORMULA and cell and not _NUMBER.match(cell):
        return f"'{cell}"
    return cell


def columns_of(handler: Any) -> tuple[str, ...]:
    """Return the members of what a route lists, as it declares them; () where it does not."""
    annotation = getattr(getattr(handler, "parsed_fn_signature", None), "return_type", None)
    kinds: tuple[Any, ...] = getattr(getattr(annotation, "annotation", None), "__args__", ())
    if (
        len(kinds) != 1
        or not isinstance(kinds[0], type)
        or not issubclass(kinds[0], msgspec.Struct)
    ):
        return ()
    return tuple(field.encode_name for field in msgspec.structs.fields(kinds[0]))
