"""Tallybook: usage becomes money, without one event lost or counted twice.

    from tallybook import Client

Names are imported when they are first used, so that `import tallybook` costs nothing.
"""

from importlib import import_module

__version__ = "0.1.0"

__all__ = [
    "Client",
    "Conflict",
    "Corrupt",
    "Forbidden",
    "Invalid",
    "Missing",
    "Refused",
    "RefusedEvent",
    "Stats",
    "TallybookError",
    "Throttled",
    "Timeout",
    "Unavailable",
    "__version__",
]

_CLIENT = frozenset({"Client", "RefusedEvent", "Stats"})


def __getattr__(name: str) -> object:
    """Import a public name when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module 'tallybook' has no attribute '{name}'")
    place = "tallybook.client" if name in _CLIENT else "tallybook.kernel.errors"
    return getattr(import_module(place), name)
