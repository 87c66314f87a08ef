"""Commands on money: payments, credit notes, coupons, the ledger, what becomes of invoices."""
