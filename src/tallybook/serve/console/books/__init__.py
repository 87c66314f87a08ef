"""Pages of the books: payments, credit notes, the ledger, and the audit."""

from litestar.types import ControllerRouterHandler

from tallybook.serve.console.books import audit, ledger, notes, payments

ROUTES: list[ControllerRouterHandler] = [
    *payments.ROUTES,
    *notes.ROUTES,
    *ledger.ROUTES,
    *audit.ROUTES,
]
