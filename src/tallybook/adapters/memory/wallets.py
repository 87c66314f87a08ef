"""`WalletStore` on the books of the invoices in memory."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tallybook.adapters.memory.books import MemoryBooks
from tallybook.adapters.memory.invoices import MemoryInvoices
from tallybook.catalog.entitlement import Wallet
from tallybook.settle.ports import Happened
from tallybook.settle.purse import Purse


class MemoryWallets:
    """`WalletStore` of a `MemoryInvoices`, with which it shares customers' accounts."""

    def __init__(self, invoices: MemoryInvoices) -> None:
        """Keep wallets in the books of this store."""
        self._invoices = invoices

    @contextmanager
    def transaction(self, tenant: str) -> Iterator["MemoryWalletTransaction"]:
        """Change a copy; it becomes the state when the block ends."""
        with self._invoices.transaction(tenant) as transaction:
            yield MemoryWalletTransaction(transaction.books)

    def purses(self, tenant: str, wallets: Sequence[Wallet]) -> dict[str, Purse]:
        """Return wallets with all that happened."""
        books = self._invoices.kept(tenant)
        return {wallet.key: _purse(books, wallet) for wallet in wallets}


class MemoryWalletTransaction:
    """`WalletTransaction` on a copy."""

    def __init__(self, books: MemoryBooks) -> None:
        """Write to these books."""
        self._books = books

    @property
    def books(self) -> MemoryBooks:
        """Ledger and outbox."""
        return self._books

    def purse(self, wallet: Wallet) -> Purse:
        """Return a wallet with all that happened."""
        return _purse(self._books, wallet)

    def put(self, happened: Happened) -> None:
        """Write what happened."""
        purses = self._books.purses
        for one in happened.top_ups:
            purses.top_ups[one.wallet, one.top_up.key] = one
        for gone in happened.given_up:
            purses.given_up[gone.wallet, gone.number] = gone
        purses.requests |= {(one.wallet, one.key): one for one in happened.requests}
        purses.watches |= {watch.wallet: watch for watch in happened.watches}
        versions = self._books.versions
        self._books.touch({customer: versions.get(customer, 0) for customer in happened.moved})


def _purse(books: MemoryBooks, wallet: Wallet) -> Purse:
    return books.purses.purse(wallet, books.versions.get(wallet.customer, 0))
