"""What schemathesis does not know of itself: bodies that are neither JSON nor a form."""

from typing import Any

import schemathesis


@schemathesis.serializer("application/toml")
def toml(_context: Any, value: Any) -> bytes:
    """Return a body that is a text."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


@schemathesis.serializer("application/x-protobuf")
def protobuf(_context: Any, value: Any) -> bytes:
    """Return a body that is bytes, or noise in their place."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


@schemathesis.serializer("application/x-ndjson")
def lines(_context: Any, value: Any) -> bytes:
    """Return one line."""
    return str(value).encode("utf-8", "replace") + b"\n"
