"""Ids: time-ordered for things made in flows, derived from content for parts of an invoice."""

import hashlib

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]


def base32(number: int, chars: int) -> str:
    """Return `number` in Crockford's base 32, lower case, `chars` long."""
    shifts = range(chars // 2 * 10, -10, -10)
    return "".join([_PAIRS[number >> shift & 1023] for shift in shifts])[-chars:]


def uuid7_id(prefix: str, unix_ms: int, random_bytes: bytes) -> str:
    """Return a UUIDv7 as `prefix_` and 26 characters, sortable by time.

    Args:
        prefix: the type, such as 'inv'.
        unix_ms: milliseconds since 1970.
        random_bytes: at least 10 bytes from the `Ids` port.
    """
    random_bits = int.from_bytes(random_bytes[:10], "big")
    value = (unix_ms & ((1 << 48) - 1)) << 80
    value |= 0x7 << 76 | (random_bits >> 68 & 0xFFF) << 64
    value |= 0b10 << 62 | random_bits & ((1 << 62) - 1)
    return f"{prefix}_{base32(value, 26)}"


def derived_id(prefix: str, *parts: str | bytes) -> str:
    """Return the id that these parts always give (length-prefixed, so a+bc is not ab+c).

    Args:
        prefix: the type, such as 'inv'.
        parts: texts, or their UTF-8 bytes.
    """
    raws = [part.encode() if isinstance(part, str) else part for part in parts]
    told = b"".join([len(raw).to_bytes(8, "big") + raw for raw in raws])
    digest = hashlib.sha256(told).digest()
    return f"{prefix}_{base32(int.from_bytes(digest[:16], 'big') >> 3, 25)}"
