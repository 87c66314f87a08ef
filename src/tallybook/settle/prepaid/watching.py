"""Looking at a customer's wallets while usage goes on: telling, and topping up by rule.

Source: docs/algorithms/wallets.md, Automatic recharge
"""

from collections.abc import Sequence

import msgspec

from tallybook.catalog.catalog import Catalog
from tallybook.catalog.entitlement import Wallet
from tallybook.invoice.due import BillRequest
from tallybook.invoice.flow import preview
from tallybook.invoice.ports import Billing
from tallybook.settle.balance import NOTHING
from tallybook.settle.ports import Happened, WalletStore, WalletTransaction
from tallybook.settle.prepaid.recharging import ask_for
from tallybook.settle.prepaid.told import low_fact
from tallybook.settle.prepaid.watch import Look, look, unbilled, watched
from tallybook.settle.purse import Purse


class Watching(msgspec.Struct, frozen=True, kw_only=True):
    """The ports that watching works with."""

    billing: Billing
    wallets: WalletStore


def wallets_of(catalog: Catalog, customer: str) -> list[Wallet]:
    """Return the wallets of a customer that are in use, by key."""
    return [
        wallet
        for key, wallet in sorted(catalog.wallets.items())
        if wallet.customer == customer and catalog.live("wallet", key)
    ]


def look_at(ports: Watching, customer: str) -> tuple[Look, ...] | None:
    """Look at a customer's wallets: tell what is low, ask for the payments that rules say.

    Args:
        ports: of the tenant.
        customer: key.

    Returns:
        What was seen, of each wallet that is watched; None where the customer's account moved
        meanwhile, so that somebody must look again.

    Guarantees: in one transaction. Done twice, the second time tells and tops up nothing, unless
    the ongoing balance fell again.
    """
    tenant = ports.billing.tenant
    wallets = wallets_of(ports.billing.catalog.load(tenant), customer)
    if not any(map(watched, wallets)):
        return ()
    purses = ports.wallets.purses(tenant, wallets)
    cut, now_us = ports.billing.usage.head(), ports.billing.clock.now_us()
    draft = preview(ports.billing, BillRequest(until_us=now_us), customer)
    owed = unbilled(purses.values(), None if draft is None else draft.invoice)
    version = purses[wallets[0].key].version
    looks: list[Look] = []
    with ports.wallets.transaction(tenant) as transaction:
        for wallet in filter(watched, wallets):
            purse = transaction.purse(wallet)
            if purse.version != version:
                return None
            looks.append(look(purse, owed.get(wallet.key, NOTHING), cut, now_us))
            version = _write(transaction, purse, looks[-1])
        _as_seen(transaction, looks, version)
    return tuple(looks)


def _write(transaction: WalletTransaction, purse: Purse, seen: Look) -> int:
    """Write what came of looking; return the version of the account after it."""
    wallet, number = purse.wallet, seen.watch.low - len(seen.low)
    moved = seen.recharge is not None and ask_for(transaction, purse, seen.recharge)
    at_us = seen.watch.at_us
    transaction.books.tell(
        [
            low_fact(wallet, threshold, seen.ongoing, at_us, number + place)
            for place, threshold in enumerate(reversed(seen.low), 1)
        ]
    )
    return purse.version + moved


def _as_seen(transaction: WalletTransaction, looks: Sequence[Look], version: int) -> None:
    """Keep how the wallets stand, as of the account's version after all that was written."""
    watches = tuple(msgspec.structs.replace(one.watch, version=version) for one in looks)
    transaction.put(Happened(watches=watches))
