"""What becomes of a recharge that was asked for: it is paid, or it fails.

Source: docs/algorithms/wallets.md, Automatic recharge
"""

import msgspec

from tallybook.catalog.entitlement import TopUp, Wallet
from tallybook.invoice.run.alone import insist
from tallybook.kernel.errors import Conflict, Missing
from tallybook.settle.ports import Happened, WalletStore, WalletTransaction
from tallybook.settle.prepaid.flow import add, take_back
from tallybook.settle.prepaid.told import request_fact
from tallybook.settle.purse import Purse, StoredTopUp
from tallybook.settle.request import Request, RequestState, arrived, lost, owed


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How the payment of a request went, as it is told.

    Attributes:
        key: of the request.
        method, reference: of the payment.
        reason: why there was none.
    """

    key: str
    method: str = ""
    reference: str = ""
    reason: str = ""


def ask_for(transaction: WalletTransaction, purse: Purse, request: Request) -> bool:
    """Write a request of a wallet's rule, and the top-up of one that is trusted; tell it.

    Returns:
        Whether the account moved.
    """
    wallet = purse.wallet
    transaction.put(Happened(requests=(request,)))
    transaction.books.tell([request_fact(wallet, request, request.asked_us)])
    if request.trusted:
        add(transaction, wallet, _topped_up(purse, request, request.asked_us), owed(request))
    return request.trusted


def paid(store: WalletStore, tenant: str, wallet: Wallet, told: Outcome, now_us: int) -> Request:
    """Return a request that was paid: what it asked for is in the wallet; once, however often told.

    Args:
        store: where the wallet is kept.
        tenant: whose.
        wallet: which.
        told: method and reference of the payment.
        now_us: now.

    Raises:
        Missing: there is no such request.
        Conflict: it has failed.
    """

    def attempt() -> Request:
        with store.transaction(tenant) as transaction:
            return _paid(transaction, wallet, told, now_us)

    return insist(attempt)


def _paid(transaction: WalletTransaction, wallet: Wallet, told: Outcome, now_us: int) -> Request:
    purse = transaction.purse(wallet)
    request = _found(purse, told.key)
    if not _is_open(request, "paid"):
        return request
    request = msgspec.structs.replace(
        request,
        state="paid",
        settled_us=now_us,
        method=told.method,
        reference=told.reference,
    )
    if request.trusted:
        transaction.books.post(arrived(request, wallet.currency, now_us))
    else:
        add(transaction, wallet, _topped_up(purse, request, now_us))
    _settled(transaction, wallet, request, now_us)
    return request


def failed(store: WalletStore, tenant: str, wallet: Wallet, told: Outcome, now_us: int) -> Request:
    """Return a request that was not paid; once, however often told.

    What a trusted one put into the wallet is taken back; what of it was spent is lost.

    Args:
        store: where the wallet is kept.
        tenant: whose.
        wallet: which.
        told: why it failed.
        now_us: now.

    Raises:
        Missing: there is no such request.
        Conflict: it was paid.
    """

    def attempt() -> Request:
        with store.transaction(tenant) as transaction:
            return _failed(transaction, wallet, told, now_us)

    return insist(attempt)


def _failed(transaction: WalletTransaction, wallet: Wallet, told: Outcome, now_us: int) -> Request:
    request = _found(transaction.purse(wallet), told.key)
    if not _is_open(request, "failed"):
        return request
    request = msgspec.structs.replace(
        request, state="failed", settled_us=now_us, reason=told.reason
    )
    if request.trusted:
        back = take_back(transaction, wallet, request.key, now_us, owed(request))
        rest = request.cost_minor - back
        transaction.books.post(lost(request, wallet.currency, now_us, rest))
    _settled(transaction, wallet, request, now_us)
    return request


def _settled(transaction: WalletTransaction, wallet: Wallet, request: Request, now_us: int) -> None:
    transaction.put(Happened(requests=(request,)))
    transaction.books.tell([request_fact(wallet, request, now_us)])


def _found(purse: Purse, key: str) -> Request:
    for request in purse.requests:
        if request.key == key:
            return request
    raise Missing(f"wallet {purse.wallet.key} asked for no recharge '{key}'", field="recharge")


def _is_open(request: Request, wanted: RequestState) -> bool:
    """Whether a request is still on its way; raises Conflict where it went the other way."""
    if request.state not in {"requested", wanted}:
        message = f"recharge {request.key} is {request.state} already"
        raise Conflict(message, code="recharge-settled", field="state")
    return request.state == "requested"


def _topped_up(purse: Purse, request: Request, now_us: int) -> StoredTopUp:
    top_up = TopUp(key=request.key, amount=request.amount, at_us=purse.not_before(now_us))
    return StoredTopUp(
        wallet=request.wallet,
        customer=request.customer,
        top_up=top_up,
        cost_minor=request.cost_minor,
        recorded_us=now_us,
        reason="recharge",
        method=request.method,
        reference=request.reference,
    )
