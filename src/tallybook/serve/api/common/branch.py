"""Routers that are made for one application."""

from typing import Any, Self

from litestar import Router


class Branch(Router):
    """A router that its application takes as it is.

    Litestar copies each router that it is given, and all in it, because the same one could be given
    to two applications; of these every application makes its own. That copy would be a third of
    setting up an API process.
    """

    def __deepcopy__(self, _memo: dict[int, Any]) -> Self:
        """Return the router itself."""
        return self
