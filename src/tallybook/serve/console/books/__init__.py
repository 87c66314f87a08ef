"""Pages of the books: payments, credit notes, the ledger, and the audit."""

from litestar.types import ControllerRouterHandler

from tallybook.serve.console.books.audit import ROUTES as AUDIT
from tallybook.serve.console.books.ledger import ROUTES as LEDGER
from tallybook.serve.console.books.notes import ROUTES as NOTES
from tallybook.serve.console.books.payments import ROUTES as PAYMENTS

ROUTES: list[ControllerRouterHandler] = [*PAYMENTS, *NOTES, *LEDGER, *AUDIT]
