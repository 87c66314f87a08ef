"""Entries of the catalog that several routes look up by key."""

from tallybook.catalog.catalog import Catalog
from tallybook.catalog.entitlement import Wallet
from tallybook.kernel.errors import Missing


def wallet_of(catalog: Catalog, key: str) -> Wallet:
    """Return a wallet; raises Missing."""
    if key not in catalog.wallets:
        raise Missing(f"there is no wallet '{key}'", field="key")
    return catalog.wallets[key]
