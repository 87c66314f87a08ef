"""Edges, as the server sees them, and the renewal of their certificates."""

from litestar.types import ControllerRouterHandler

from tallybook.serve.api.rest.fleet.doors import Doors
from tallybook.serve.api.rest.fleet.edges import Edges
from tallybook.serve.api.rest.fleet.renewal import renew_certificate
from tallybook.serve.api.rest.fleet.rules import EdgeRulesOf

ROUTES: list[ControllerRouterHandler] = [EdgeRulesOf, Edges, Doors, renew_certificate]
