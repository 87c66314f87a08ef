"""What customers hold, read from the books of the invoices in memory."""

from collections.abc import Sequence

from tallybook.adapters.memory.catalog import MemoryCatalog
from tallybook.adapters.memory.invoices import MemoryInvoices
from tallybook.catalog.entitlement import Wallet
from tallybook.invoice.ports import Account


class MemoryAccounts:
    """`Accounts` of a `MemoryInvoices`.

    Args:
        invoices: whose books are read.
        catalog: knows the wallets; None where there are none.
    """

    def __init__(self, invoices: MemoryInvoices, catalog: MemoryCatalog | None = None) -> None:
        """Read the books of this store."""
        self._invoices = invoices
        self._catalog = catalog

    def accounts(
        self, tenant: str, customers: Sequence[str], currency: str, at_us: int
    ) -> dict[str, Account]:
        """Return every asked customer's account at an instant."""
        books = self._invoices.kept(tenant)
        wallets: list[Wallet] = []
        if self._catalog is not None:
            catalog = self._catalog.load(tenant)
            wallets = [w for w in catalog.wallets.values() if catalog.live("wallet", w.key)]
        return {
            customer: books.account(customer, currency, at_us, wallets) for customer in customers
        }

    def charged(self, tenant: str) -> frozenset[str]:
        """Return the customers of whom a one-off charge waits to be billed."""
        extras = self._invoices.kept(tenant).held().extras
        return frozenset(one.customer for one in extras if not one.invoice and not one.batch)
