"""Edges: which machines send, and whether what they send arrives."""

from litestar.types import ControllerRouterHandler

from tallybook.serve.console.fleet.edges import edge_page, edges_page

ROUTES: list[ControllerRouterHandler] = [edges_page, edge_page]
