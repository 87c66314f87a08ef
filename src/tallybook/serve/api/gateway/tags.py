"""ETags: of what is answered, compared with what a client knows.

Source: RFC 9110, sections 8.8.3, 13.1.1, 13.1.2.
"""

import hashlib

BYTES_MAX = 1024 * 1024
"""A larger answer has no tag."""
_SUFFIXES = ("-gzip", "-zstd")


def tag_of(body: bytes) -> str:
    """Return the strong tag of a representation."""
    return f'"{hashlib.blake2b(body, digest_size=16).hexdigest()}"'


def known(header: str) -> set[str]:
    """Return the tags of If-Match or If-None-Match, those of packed answers as if not packed."""
    found = set()
    for part in header.split(","):
        tag = part.strip()
        for suffix in _SUFFIXES:
            tag = tag.removesuffix(f'{suffix}"') + '"' if tag.endswith(f'{suffix}"') else tag
        found.add(tag)
    return found


def is_known(header: str, tag: str) -> bool:
    """Whether If-None-Match names a tag; weakness is no matter there."""
    tags = {one.removeprefix("W/") for one in known(header)}
    return "*" in tags or tag.removeprefix("W/") in tags


def matches(header: str, tag: str | None) -> bool:
    """Whether If-Match holds.

    Args:
        header: its value.
        tag: of the thing as it is; None where there is none.
    """
    tags = known(header)
    return tag is not None and ("*" in tags or tag in tags)
