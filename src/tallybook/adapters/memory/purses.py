"""What happened to wallets, in dicts."""

from collections.abc import Iterable
from decimal import Decimal

import msgspec

from tallybook.catalog.entitlement import Wallet
from tallybook.invoice.funds import WalletInHand
from tallybook.invoice.ports import Spent
from tallybook.settle.purse import (
    GivenUp,
    Purse,
    StoredDraw,
    StoredTopUp,
    Watch,
    next_us,
    returns,
)
from tallybook.settle.request import Request


class MemoryPurses(msgspec.Struct):
    """Top-ups, draws, what was given up, and watches, by their keys."""

    top_ups: dict[tuple[str, str], StoredTopUp] = {}
    draws: dict[tuple[str, str, str], StoredDraw] = {}
    given_up: dict[tuple[str, int], GivenUp] = {}
    watches: dict[str, Watch] = {}
    requests: dict[tuple[str, str], Request] = {}

    def copy(self) -> "MemoryPurses":
        """Return what can be changed and thrown away."""
        return MemoryPurses(
            dict(self.top_ups),
            dict(self.draws),
            dict(self.given_up),
            dict(self.watches),
            dict(self.requests),
        )

    def purse(self, wallet: Wallet, version: int = 0) -> Purse:
        """Return a wallet with all that happened."""
        ups, draws, gone = sorted(self.top_ups), sorted(self.draws), sorted(self.given_up)
        return Purse(
            wallet=wallet,
            version=version,
            top_ups=tuple(self.top_ups[key] for key in ups if key[0] == wallet.key),
            draws=tuple(self.draws[key] for key in draws if key[0] == wallet.key),
            given_up=tuple(self.given_up[key] for key in gone if key[0] == wallet.key),
            watch=self.watches.get(wallet.key),
            requests=tuple(
                one for key, one in sorted(self.requests.items()) if key[0] == wallet.key
            ),
        )

    def in_hand(self, wallets: Iterable[Wallet], at_us: int) -> tuple[WalletInHand, ...]:
        """Return what can be drawn from wallets; empty ones that make no debt are left out."""
        found = []
        for wallet in sorted(wallets, key=lambda wallet: wallet.key):
            purse = self.purse(wallet)
            balance = purse.now(at_us).balance
            if balance or wallet.overdraft == "repay":
                since = purse.since_us
                found.append(WalletInHand(wallet=wallet, balance=balance, since_us=since))
        return tuple(found)

    def draw(self, spent: Spent) -> None:
        """Store what an invoice took, in each wallet after its newest draw or voiding."""
        for used in spent.wallets:
            mine = [one for one in self.draws.values() if one.wallet == used.wallet]
            ups = [one for one in self.top_ups.values() if one.wallet == used.wallet]
            drawn = StoredDraw(
                wallet=used.wallet,
                customer=spent.customer,
                document=spent.invoice,
                step="",
                at_us=next_us(spent.at_us, ups, mine),
                amount=Decimal(used.units),
                amount_minor=used.amount_minor,
            )
            self.put_draw(drawn)

    def give_back(self, customer: str, document: str, at_us: int) -> None:
        """Give back what a document drew from its customer's wallets, once."""
        mine = [one for one in self.draws.values() if one.customer == customer]
        for one in returns(mine, document, at_us):
            self.put_draw(one)

    def put_draw(self, drawn: StoredDraw) -> None:
        """Keep a draw."""
        self.draws[drawn.wallet, drawn.document, drawn.step] = drawn
