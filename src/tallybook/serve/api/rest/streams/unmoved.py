"""`If-Match` on what routing keeps: compared within the transaction that makes the change."""

from collections.abc import Callable
from typing import Annotated, Protocol

from litestar.params import Parameter

from tallybook.adapters.sql.access.unmoved import moved
from tallybook.serve.api.common.access import BILLING
from tallybook.serve.api.gateway.tags import matches

OWN_TAG = BILLING | {"own_tag": True}
"""Of handlers that compare If-Match themselves."""
IfMatch = Annotated[
    str | None,
    Parameter(header="If-Match", description="The ETag that this change was decided from."),
]


class Tagged(Protocol):
    """What has a tag."""

    @property
    def tag(self) -> str:
        """Its ETag."""
        ...


def unmoved(if_match: str | None) -> Callable[[Tagged | None], None] | None:
    """Return what refuses a change to a thing that is not what its caller saw; None for any."""
    if if_match is None:
        return None
    seen = if_match

    def check(found: Tagged | None) -> None:
        if not matches(seen, None if found is None else found.tag):
            raise moved()

    return check
