"""Which file a line stands in, whatever the file is called, and the ids that follow from it.

A file is known by a fingerprint of its first line; a line by that, its byte offset and a hash of
itself. So a renamed, copied, compressed or half-read file is recognised, two equal lines of one
file are two events, and reading twice is harmless. Two files whose first lines are equal share
only the lines that are equal at the same offset; `source` tells such files apart.

Source: DECISIONS 23.
"""

import hashlib

import msgspec

from tallybook.kernel.errors import Invalid
from tallybook.kernel.limits import ATTRIBUTE_CHARS_MAX

FINGERPRINT_CHARS = 32
_DIGEST_CHARS = 16
_PREFIX_CHARS = 16


def log_source(host: str) -> str:
    """Return the default source of an agent's log lines: `log:` and the host.

    Two hosts whose logs start with the same line (a health check in the same second) must not
    share identities, so the host is part of them; a single file is ingested under its fingerprint.
    """
    return f"log:{host}"


class Origin(msgspec.Struct, frozen=True):
    """Where lines come from.

    Attributes:
        source: the events' `source`.
        fingerprint: of the first line, 32 hexadecimal digits.
    """

    source: str
    fingerprint: str


def fingerprint(*first_lines: bytes) -> str:
    """Return the identity of the file that starts with these lines, without their line ends.

    One line for logs; a table is known by its heading and its first row.
    """
    return hashlib.sha256(b"\n".join(first_lines)).hexdigest()[:FINGERPRINT_CHARS]


def line_digest(content: bytes) -> str:
    """Return 16 hexadecimal digits that change when the line changes."""
    return hashlib.sha256(content).hexdigest()[:_DIGEST_CHARS]


def origin_of(print_of_file: str, source: str | None = None) -> Origin:
    """Return the origin of a file's lines; without a `source` it is `file:` and the fingerprint.

    Raises:
        Invalid: `source` is not fit for an event.
    """
    if source is None:
        return Origin(f"file:{print_of_file}", print_of_file)
    if not source.strip() or not source.isprintable() or len(source) > ATTRIBUTE_CHARS_MAX:
        message = f"source must be 1 to {ATTRIBUTE_CHARS_MAX} printable characters"
        raise Invalid(message, field="source")
    return Origin(source, print_of_file)


def line_id(origin: Origin, offset: int, digest: str) -> str:
    """Return the id of the event that a line becomes."""
    return f"{origin.fingerprint[:_PREFIX_CHARS]}-{offset}-{digest}"
