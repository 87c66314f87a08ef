"""`WalletStore` on the control database."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import Connection, Engine

from tallybook.adapters.sql import accounts
from tallybook.adapters.sql.books import SqlBooks, touch
from tallybook.adapters.sql.database import read, write
from tallybook.adapters.sql.prepaid import rows
from tallybook.catalog.entitlement import Wallet
from tallybook.settle.ports import Happened
from tallybook.settle.purse import Purse


class SqlWallets:
    """`WalletStore`; safe to share between threads.

    Args:
        engine: from `open_database`.
    """

    def __init__(self, engine: Engine) -> None:
        """Remember the engine."""
        self._engine = engine

    @contextmanager
    def transaction(self, tenant: str) -> Iterator["SqlWalletTransaction"]:
        """Open a write transaction, BEGIN IMMEDIATE on SQLite."""
        with write(self._engine) as connection:
            yield SqlWalletTransaction(connection, tenant)

    def purses(self, tenant: str, wallets: Sequence[Wallet]) -> dict[str, Purse]:
        """Return wallets with all that happened, as of one instant."""
        with read(self._engine) as connection:
            customers = {wallet.customer for wallet in wallets}
            versions = accounts.versions(connection, tenant, customers)
            return rows.purses(connection, tenant, wallets, versions)

    def tenants(self) -> list[str]:
        """Return the tenants that have wallets in use."""
        with read(self._engine) as connection:
            return rows.tenants(connection)

    def ended(self, tenant: str, after_us: int, until_us: int) -> list[str]:
        """Return the wallets of which a top-up expired after one instant, up to another."""
        with read(self._engine) as connection:
            return rows.ended(connection, tenant, after_us, until_us)

    def moved(self, tenant: str, wallets: Sequence[Wallet]) -> list[Wallet]:
        """Return the wallets never looked at, or whose account moved since they were."""
        with read(self._engine) as connection:
            seen = rows.seen(connection, tenant)
            customers = {wallet.customer for wallet in wallets}
            versions = accounts.versions(connection, tenant, customers)
        return [w for w in wallets if seen.get(w.key) != versions.get(w.customer, 0)]


class SqlWalletTransaction:
    """`WalletTransaction` on one connection's open transaction."""

    def __init__(self, connection: Connection, tenant: str) -> None:
        """Write for a tenant."""
        self._connection = connection
        self._tenant = tenant
        self._books = SqlBooks(connection, tenant)
        self._versions: dict[str, int] = {}

    @property
    def books(self) -> SqlBooks:
        """Ledger and outbox, in this transaction."""
        return self._books

    def purse(self, wallet: Wallet) -> Purse:
        """Return a wallet; the customer's account is locked till the end."""
        version = accounts.locked(self._connection, self._tenant, wallet.customer)
        self._versions[wallet.customer] = version
        known = {wallet.customer: version}
        return rows.purses(self._connection, self._tenant, [wallet], known)[wallet.key]

    def put(self, happened: Happened) -> None:
        """Write what happened."""
        fresh = [one for one in happened.top_ups if one.top_up.voided_us is None]
        rows.insert_top_ups(self._connection, self._tenant, fresh)
        for one in happened.top_ups:
            if one.top_up.voided_us is not None:
                rows.void_top_up(self._connection, self._tenant, one)
        rows.insert_given_up(self._connection, self._tenant, happened.given_up)
        rows.put_requests(self._connection, self._tenant, happened.requests)
        for watch in happened.watches:
            rows.put_watch(self._connection, self._tenant, watch)
        expected = {customer: self._versions[customer] for customer in happened.moved}
        if expected:
            touch(self._connection, self._tenant, expected)
            self._versions |= {customer: version + 1 for customer, version in expected.items()}
