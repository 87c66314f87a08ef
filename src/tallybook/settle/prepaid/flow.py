"""Use cases of wallets: top up, take a top-up back, post what has lapsed.

Source: docs/algorithms/wallets.md
"""

from collections.abc import Iterable

import msgspec

from tallybook.catalog.entitlement import TopUp, Wallet
from tallybook.invoice.run.alone import insist
from tallybook.kernel.errors import Conflict, Missing
from tallybook.settle.ports import Happened, WalletStore, WalletTransaction
from tallybook.settle.prepaid.told import topped_up_fact
from tallybook.settle.purse import (
    GivenUp,
    Purse,
    Reason,
    StoredTopUp,
    check_top_up,
    give_up,
    given_up,
    topped_up,
)
from tallybook.settle.wallet import put_in


def made(
    wallet: Wallet,
    top_up: TopUp,
    now_us: int,
    *,
    reason: Reason = "hand",
    method: str = "cash",
    reference: str = "",
) -> StoredTopUp:
    """Return a top-up as it is kept: rounded, with its cost."""
    amount, cost_minor = put_in(wallet, top_up.amount)
    return StoredTopUp(
        wallet=wallet.key,
        customer=wallet.customer,
        top_up=msgspec.structs.replace(top_up, amount=amount),
        cost_minor=cost_minor,
        recorded_us=now_us,
        reason=reason,
        method="" if top_up.free else method,
        reference=reference,
    )


def top_up(store: WalletStore, tenant: str, wallet: Wallet, stored: StoredTopUp) -> StoredTopUp:
    """Put something into a wallet, and post and tell it, in one transaction.

    Raises:
        Conflict: its key is taken, or the wallet was drawn from after it begins.
    """

    def attempt() -> StoredTopUp:
        with store.transaction(tenant) as transaction:
            check_top_up(transaction.purse(wallet), stored)
            add(transaction, wallet, stored)
        return stored

    return insist(attempt)


def add(
    transaction: WalletTransaction, wallet: Wallet, stored: StoredTopUp, source: str = ""
) -> None:
    """Write a checked top-up with its ledger entries and its fact; `source`: see `topped_up`."""
    transaction.put(Happened(top_ups=(stored,)))
    transaction.books.post(topped_up(stored, wallet.currency, source))
    transaction.books.tell([topped_up_fact(wallet, stored)])


def void_top_up(
    store: WalletStore, tenant: str, wallet: Wallet, key: str, now_us: int, *, refund: bool = False
) -> StoredTopUp:
    """Take back what is left of a top-up, from now on; done twice, the first time counts.

    Args:
        store: where the wallet is kept.
        tenant: whose.
        wallet: which.
        key: of the top-up.
        now_us: now; where the wallet was drawn from then or later, right after that.
        refund: what was paid for what is left goes back to how it was paid; else it is kept.

    Raises:
        Missing: there is no such top-up.
        Conflict: a refund of a recharge that is not paid yet; code 'recharge-open'.
    """

    def attempt() -> StoredTopUp:
        with store.transaction(tenant) as transaction:
            return _void(transaction, wallet, key, now_us, refund=refund)

    return insist(attempt)


def _void(
    transaction: WalletTransaction, wallet: Wallet, key: str, now_us: int, *, refund: bool
) -> StoredTopUp:
    purse = transaction.purse(wallet)
    stored = _found(purse, key)
    if stored.top_up.voided_us is not None:
        return stored
    method = _paid_by(purse, stored) if refund else ""
    _post(transaction, wallet, give_up(purse, now_us))
    ended = msgspec.structs.replace(stored.top_up, voided_us=purse.next_us(now_us))
    voided = msgspec.structs.replace(stored, top_up=ended)
    transaction.put(Happened(top_ups=(voided,)))
    purse = transaction.purse(wallet)
    if stored.top_up.free:
        gone = give_up(purse, now_us, "promotion")
    elif refund:
        gone = give_up(purse, now_us, "cash", method)
    else:
        gone = give_up(purse, now_us)
    _post(transaction, wallet, gone)
    return voided


def _paid_by(purse: Purse, stored: StoredTopUp) -> str:
    """Return how a top-up was paid; of a trusted recharge, how it was in the end."""
    key = stored.top_up.key
    for request in purse.requests:
        if request.key == key and request.trusted:
            if request.state == "requested":
                message = f"recharge {key} is not paid yet, so nothing can be paid back"
                raise Conflict(message, code="recharge-open", field="top_up")
            return request.method
    return stored.method


def take_back(
    transaction: WalletTransaction, wallet: Wallet, key: str, now_us: int, to: str
) -> int:
    """Take back what is left of a top-up, to an account; return what that was, minor units.

    A top-up that is not there, or was taken back before, gives nothing back.
    """
    purse = transaction.purse(wallet)
    found = [one for one in purse.top_ups if one.top_up.key == key]
    if not found or found[0].top_up.voided_us is not None:
        return 0
    _post(transaction, wallet, give_up(purse, now_us))
    gone = _voided(transaction, wallet, found[0], purse.next_us(now_us))
    if gone is None:
        return 0
    gone = msgspec.structs.replace(gone, account=to)
    _post(transaction, wallet, gone)
    return gone.amount_minor


def _voided(
    transaction: WalletTransaction, wallet: Wallet, stored: StoredTopUp, at_us: int
) -> GivenUp | None:
    """Write that a top-up is taken back; return what the ledger owes for it no longer."""
    ended = msgspec.structs.replace(stored.top_up, voided_us=at_us)
    transaction.put(Happened(top_ups=(msgspec.structs.replace(stored, top_up=ended),)))
    return give_up(transaction.purse(wallet), at_us)


def lapse(store: WalletStore, tenant: str, wallets: Iterable[Wallet], now_us: int) -> list[GivenUp]:
    """Post what of wallets has expired since it was posted last; return what that was.

    Done twice, the second time finds nothing.
    """
    found = []
    asked = list(wallets)
    purses = store.purses(tenant, asked)
    for wallet in asked:
        if give_up(purses[wallet.key], now_us) is not None:
            with store.transaction(tenant) as transaction:
                gone = give_up(transaction.purse(wallet), now_us)
                _post(transaction, wallet, gone)
            found += [] if gone is None else [gone]
    return found


def _found(purse: Purse, key: str) -> StoredTopUp:
    for stored in purse.top_ups:
        if stored.top_up.key == key:
            return stored
    raise Missing(f"wallet {purse.wallet.key} has no top-up '{key}'", field="top_up")


def _post(transaction: WalletTransaction, wallet: Wallet, gone: GivenUp | None) -> None:
    if gone is not None:
        transaction.put(Happened(given_up=(gone,)))
        transaction.books.post(given_up(gone, wallet.currency))
