"""What customers hold, read from the books of the invoices in memory."""

from collections.abc import Sequence

from tallybook.adapters.memory.invoices import MemoryInvoices
from tallybook.invoice.ports import Account


class MemoryAccounts:
    """`Accounts` of a `MemoryInvoices`."""

    def __init__(self, invoices: MemoryInvoices) -> None:
        """Read the books of this store."""
        self._invoices = invoices

    def accounts(
        self, tenant: str, customers: Sequence[str], currency: str, at_us: int
    ) -> dict[str, Account]:
        """Return every asked customer's account at an instant."""
        books = self._invoices.kept(tenant)
        return {customer: books.account(customer, currency, at_us) for customer in customers}
