"""What settling needs of a store: wallets and grants with everything that happened to them.

tests/contract/wallet_store.py and tests/contract/entitlement_store.py try to break every sentence,
for every adapter.
"""

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import msgspec

from tallybook.catalog.entitlement import Grant, Wallet
from tallybook.invoice.ports import BookTransaction
from tallybook.meter.usage import Kind, Touched
from tallybook.settle.entitlement import HandReset
from tallybook.settle.purse import GivenUp, Purse, StoredTopUp, Watch
from tallybook.settle.request import Request


class Happened(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be written of wallets.

    Attributes:
        top_ups: new ones, and those whose voiding is new, by wallet and key.
        given_up: new.
        watches: in place of what they were.
        requests: in place of what they were.
    """

    top_ups: tuple[StoredTopUp, ...] = ()
    given_up: tuple[GivenUp, ...] = ()
    watches: tuple[Watch, ...] = ()
    requests: tuple[Request, ...] = ()

    @property
    def moved(self) -> frozenset[str]:
        """Customers whose money moved."""
        topped = {one.customer for one in self.top_ups}
        return frozenset(topped | {one.customer for one in self.given_up})


class WalletTransaction(Protocol):
    """Writes that happen together or not at all."""

    @property
    def books(self) -> BookTransaction:
        """The ledger and the outbox, in this transaction."""
        ...

    def purse(self, wallet: Wallet) -> Purse:
        """Return a wallet with all that happened; nobody else changes it till the end."""
        ...

    def put(self, happened: Happened) -> None:
        """Write; where money moved, the version of the customer's account moves on.

        A watch or a request alone moves no version.
        """
        ...


class WalletStore(Protocol):
    """Keeps what happened to wallets.

    Raises, from every method:
        Unavailable: the store cannot be reached; nothing of the call has happened.
    """

    def transaction(self, tenant: str) -> AbstractContextManager[WalletTransaction]:
        """Open a write transaction; committed when the block ends, rolled back when it raises."""
        ...

    def purses(self, tenant: str, wallets: Sequence[Wallet]) -> dict[str, Purse]:
        """Return wallets with all that happened, by their keys, as of one instant."""
        ...


class ChangeReader(Protocol):
    """Tells whose usage is new."""

    def head(self) -> int:
        """Return the newest snapshot."""
        ...

    def news(self, kinds: Collection[Kind], after: int, cut: int) -> dict[Kind, list[Touched]]:
        """Return the subjects of accepted events of the commits after one, up to another.

        Args:
            kinds: tenants, and types of events; those without such an event are left out.
            after: snapshot.
            cut: snapshot.

        Returns:
            Subjects, in their order.

        Cost: one statement, over the new commits alone.
        """
        ...


class EntitlementFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What was granted and reset by hand for one entitlement.

    Attributes:
        version: grows with every change; 0 where nothing ever happened.
        grants: by key; voided ones too.
        resets: by time.
    """

    version: int = 0
    grants: tuple[Grant, ...] = ()
    resets: tuple[HandReset, ...] = ()


class EntitlementStore(Protocol):
    """Keeps grants and resets by hand; nothing of it is ever deleted.

    Raises, from every method:
        Unavailable: the store cannot be reached; nothing of the call has happened.
    """

    def facts(self, tenant: str, entitlements: Sequence[str]) -> dict[str, EntitlementFacts]:
        """Return what was granted and reset, by the entitlement's key, as of one instant."""
        ...

    def changed(self, tenant: str) -> int:
        """Return a number that grows with every change of any entitlement of the tenant."""
        ...

    def add_grant(self, tenant: str, entitlement: str, grant: Grant, expected: int) -> None:
        """Append a grant.

        Raises:
            Conflict: the key is taken, or the entitlement's version is not the expected one.
        """
        ...

    def void_grant(self, tenant: str, entitlement: str, grant: Grant, expected: int) -> None:
        """Store the voiding of a grant; raises Conflict as `add_grant`, Missing without it."""
        ...

    def add_reset(self, tenant: str, entitlement: str, reset: HandReset, expected: int) -> None:
        """Append a reset by hand; raises Conflict as `add_grant`."""
        ...
