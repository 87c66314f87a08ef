"""Quarantine: what could not be processed, with its reason; corrected and sent again, or dropped.

The pieces stay in the lake as they came; what people decided about them is kept beside it.
"""

from litestar.types import ControllerRouterHandler

from tallybook.serve.api.rest.quarantine.many import Many
from tallybook.serve.api.rest.quarantine.one import Quarantine
from tallybook.serve.api.rest.quarantine.pieces import (
    Accepts,
    Quarantined,
    Redrive,
    State,
    drop,
    find,
    is_given,
    parse_redrive,
    pieces,
    redrive,
)

ROUTES: tuple[ControllerRouterHandler, ...] = (Many, Quarantine)

__all__ = [
    "ROUTES",
    "Accepts",
    "Quarantine",
    "Quarantined",
    "Redrive",
    "State",
    "drop",
    "find",
    "is_given",
    "parse_redrive",
    "pieces",
    "redrive",
]
