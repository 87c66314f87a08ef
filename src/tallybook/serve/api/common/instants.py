"""Instants as requests name them."""

from typing import Annotated

from litestar.params import Parameter

from tallybook.kernel.errors import Invalid
from tallybook.kernel.timestamps import FIRST_US, LAST_US, parse_rfc3339

From = Annotated[
    str | None, Parameter(query="from", required=False, description="RFC 3339, inclusive.")
]
To = Annotated[
    str | None, Parameter(query="to", required=False, description="RFC 3339, exclusive.")
]


def moment(text: str | None, field: str) -> int | None:
    """Return an instant, microseconds UTC; None where none is named. Raises Invalid."""
    if not text:
        return None
    found = parse_rfc3339(text.replace(" ", "+"))  # a '+' that a client did not escape
    if found is None:
        raise Invalid(f"{field} must be RFC 3339, such as 2026-11-01T00:00:00Z", field=field)
    return found


def between(from_: str | None, to: str | None) -> tuple[int, int] | None:
    """Return the instants between which something lies; None where neither is named."""
    since, until = moment(from_, "from"), moment(to, "to")
    if since is None and until is None:
        return None
    return FIRST_US if since is None else since, LAST_US if until is None else until
