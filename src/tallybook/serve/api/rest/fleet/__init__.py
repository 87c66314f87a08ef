"""Edges and front doors, as the server sees them."""

from litestar.types import ControllerRouterHandler

from tallybook.serve.api.rest.fleet.doors import Doors
from tallybook.serve.api.rest.fleet.edges import Edges

ROUTES: list[ControllerRouterHandler] = [Edges, Doors]
