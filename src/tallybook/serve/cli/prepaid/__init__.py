"""What customers may use, and paid in advance: two groups of commands."""

from typing import Any
from urllib.parse import quote


def place(kind: str, key: str, *rest: str) -> str:
    """Return the path of a thing, or of a part of it."""
    return "/".join(("/api/v1", kind, quote(key, safe=""), *rest))


def given(**said: Any) -> dict[str, Any]:
    """Return what was said; options that were not given are left to the server."""
    return {name: value for name, value in said.items() if value not in {None, False, ""}}
