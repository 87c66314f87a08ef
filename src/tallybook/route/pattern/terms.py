"""What a pattern says once it is parsed: conditions on the leaves of an event.

A leaf is a string, a number, true, false or null; the leaves of an array are those of its
elements. Numbers are exact decimals.
"""

from collections.abc import Mapping
from decimal import Decimal
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Literal

import msgspec

Number = int | Decimal
Word = Literal["true", "false", "null"]
Path = tuple[str, ...]


class Equal(msgspec.Struct, frozen=True):
    """The string itself."""

    text: str


class SameNumber(msgspec.Struct, frozen=True):
    """A number of the same value, however it is written."""

    value: Number


class SameWord(msgspec.Struct, frozen=True):
    """true, false or null."""

    word: Word


class SameAddress(msgspec.Struct, frozen=True):
    """The same IPv6 address in any of its spellings."""

    address: IPv6Address


class Affix(msgspec.Struct, frozen=True):
    """A string that begins or ends with a text."""

    kind: Literal["prefix", "suffix"]
    text: str
    ignore_case: bool = False


class IgnoreCase(msgspec.Struct, frozen=True):
    """A string that is the text but for the case of its letters, one letter for one letter."""

    text: str


class Wildcard(msgspec.Struct, frozen=True):
    """A string of these parts with anything between them; one part is the whole string.

    Attributes:
        text: as written. parts: what stands between its stars, escapes resolved.
    """

    text: str
    parts: tuple[str, ...]


class Numeric(msgspec.Struct, frozen=True, kw_only=True):
    """A number within bounds; None is no bound."""

    low: Number | None = None
    low_open: bool = False
    high: Number | None = None
    high_open: bool = False


class Exists(msgspec.Struct, frozen=True):
    """Whether the field has a leaf."""

    wanted: bool


class Cidr(msgspec.Struct, frozen=True):
    """An IP address of the block, of the same family."""

    block: IPv4Network | IPv6Network


class AnythingBut(msgspec.Struct, frozen=True):
    """A leaf that meets none of these."""

    none_of: "tuple[Equal | SameAddress | SameNumber | Affix | IgnoreCase | Wildcard, ...]"


Condition = (
    Equal
    | SameNumber
    | SameWord
    | SameAddress
    | Affix
    | IgnoreCase
    | Wildcard
    | Numeric
    | Exists
    | Cidr
    | AnythingBut
)
Field = tuple[Condition, ...]
"""Conditions on one path, one of which must hold."""

Alternative = Mapping[Path, Field]
"""Paths that must all be met; a pattern holds where one of its alternatives does."""


class Pattern(msgspec.Struct, frozen=True):
    """A parsed pattern.

    Attributes:
        text: JSON, as written.
        alternatives: `$or` spread out; at least one.
    """

    text: str
    alternatives: tuple[Alternative, ...]


class Beyond(msgspec.Struct, frozen=True):
    """A number in an event whose exponent nothing can compute with; equal to nothing."""

    text: str


def address_of(text: str) -> IPv4Address | IPv6Address | None:
    """Return the IP address that a text is, None where it is none.

    A leading zero in a part of an IPv4 address is ambiguous (octal or decimal), and a zone makes
    an IPv6 address local: neither is an address here.
    """
    if len(text) > 45 or "%" in text:
        return None
    try:
        if ":" in text:
            return IPv6Address(text)
        return IPv4Address(text) if text.count(".") == 3 else None
    except ValueError:
        return None  # the question itself; nothing failed
