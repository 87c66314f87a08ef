"""Cursor paging: `limit` and an opaque `cursor` that says where the page before ended."""

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from litestar.params import Parameter

from tallybook.kernel.errors import Invalid

T = TypeVar("T")
C = TypeVar("C")

LIMIT_DEFAULT, LIMIT_MAX = 100, 1000

Limit = Annotated[int, Parameter(ge=1, le=LIMIT_MAX, description="Items on a page.")]
Cursor = Annotated[str | None, Parameter(description="`next_cursor` of the page before.")]


class Page(msgspec.Struct, Generic[T], frozen=True):
    """One page of a list; `next_cursor` is null on the last."""

    items: list[T]
    next_cursor: str | None = None


def cursor_of(place: object) -> str:
    """Return an opaque text for the place where a page ends."""
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode().rstrip("=")


def place_of(cursor: str | None, kind: type[C] | Any) -> C | Any:
    """Return the place a cursor means, None for none.

    Args:
        cursor: as the client sent it.
        kind: type of the place, a tuple or a text.

    Raises:
        Invalid: this server did not make it.
    """
    if cursor is None:
        return None
    try:
        raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        return msgspec.json.decode(raw, type=kind)
    except (binascii.Error, msgspec.MsgspecError, UnicodeError, ValueError) as error:
        message = "cursor is not one that this list gave; start without it"
        raise Invalid(message, code="bad-cursor", field="cursor") from error


def page(items: Sequence[T], limit: int, place: Callable[[T], object]) -> Page[T]:
    """Return a page of items that were asked for with one more than `limit`.

    Args:
        items: up to limit + 1.
        limit: items on a page.
        place: where an item stands in the order; goes into the cursor.
    """
    shown = list(items[:limit])
    more = len(items) > limit
    return Page(shown, cursor_of(place(shown[-1])) if more and shown else None)


def keyed_page(
    items: Sequence[T], limit: int, cursor: str | None, key: Callable[[T], str]
) -> Page[T]:
    """Return a page of a whole list, ordered by key."""
    after = place_of(cursor, str)
    rest = sorted((item for item in items if after is None or key(item) > after), key=key)
    return page(rest[: limit + 1], limit, key)
