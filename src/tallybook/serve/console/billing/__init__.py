"""Pages of billing: invoices with what becomes of them, drafts, billing runs."""

from litestar.types import ControllerRouterHandler

from tallybook.serve.console.billing import actions, credit, invoices, runs

ROUTES: list[ControllerRouterHandler] = [
    *invoices.ROUTES,
    *actions.ROUTES,
    *credit.ROUTES,
    *runs.ROUTES,
]
