"""Settlement over HTTP: payments, credit notes, the ledger, and what becomes of invoices."""

from litestar.types import ControllerRouterHandler

from tallybook.serve.api.rest.settlement import credit_notes, held, ledger, life, payments

ROUTES: tuple[ControllerRouterHandler, ...] = (
    payments.Payments,
    payments.Refunds,
    payments.list_payment_requests,
    credit_notes.CreditNotes,
    ledger.LedgerRoutes,
    life.InvoiceLife,
    held.Redemptions,
    held.CustomerAccounts,
)
