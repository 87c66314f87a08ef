"""A recharge that a wallet's rule asked for: a payment that is requested, then paid or failed.

Nobody's card is charged in here. Whoever does it hears of the request as a fact, and says how it
went. Until then nothing is in the wallet, unless its rule trusts that the payment will come.

Source: docs/algorithms/wallets.md, Automatic recharge
"""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Literal

import msgspec

from tallybook.kernel.book.entry import Entry, Move, Step, account, posted
from tallybook.kernel.ids import derived_id
from tallybook.kernel.timestamps import DAY_US
from tallybook.settle.balance import total

RequestState = Literal["requested", "paid", "failed"]

RECHARGES_DAY_MAX = 24
"""So often a wallet's rule asks within a day; then somebody must look at it."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A payment that a wallet's rule asked for.

    Attributes:
        key: unique within the wallet; of the top-up that comes of it, too.
        amount: in the wallet's unit.
        cost_minor: to be paid, of the wallet's currency.
        asked_us: when.
        trusted: the top-up was made at once, before it was paid.
        settled_us: when it was paid or failed; None while it is on its way.
        method, reference: of the payment; reason: why it failed.
    """

    wallet: str
    customer: str
    key: str
    amount: Decimal
    cost_minor: int
    asked_us: int
    trusted: bool = False
    state: RequestState = "requested"
    settled_us: int | None = None
    method: str = ""
    reference: str = ""
    reason: str = ""

    @property
    def id(self) -> str:
        """Unique within the tenant; the document of its ledger entries."""
        return derived_id("rch", self.wallet, self.key)


def on_its_way(requests: Iterable[Request]) -> Decimal:
    """Return what was asked for, is not paid yet, and not in the wallet yet."""
    return total(one.amount for one in requests if one.state == "requested" and not one.trusted)


def may_ask(requests: Sequence[Request], topped_up_us: int, now_us: int) -> bool:
    """Whether a rule may ask for a payment again.

    Not more often than `RECHARGES_DAY_MAX` a day; and for a day not after a payment that failed,
    unless the wallet was topped up since.

    Args:
        requests: of the wallet, all.
        topped_up_us: when it was topped up last; 0 for never.
        now_us: now.
    """
    recent = [one for one in requests if one.asked_us > now_us - DAY_US]
    failed = [one.settled_us or 0 for one in requests if one.state == "failed"]
    rests = bool(failed) and max(failed) > max(topped_up_us, now_us - DAY_US)
    return len(recent) < RECHARGES_DAY_MAX and not rests


def owed(request: Request) -> str:
    """Return the account of what a trusted request still has to bring."""
    return account("pending", request.customer)


def arrived(request: Request, currency: str, at_us: int) -> tuple[Entry, ...]:
    """Return the ledger entries of a trusted request that is paid."""
    cash = account("cash", request.method)
    return _posted(request, currency, at_us, cash, request.cost_minor)


def lost(request: Request, currency: str, at_us: int, minor: int) -> tuple[Entry, ...]:
    """Return the ledger entries of what a trusted request did not bring and was spent already."""
    return _posted(request, currency, at_us, account("bad-debt", request.customer), minor)


def _posted(
    request: Request, currency: str, at_us: int, debit: str, minor: int
) -> tuple[Entry, ...]:
    step = Step(document=request.id, at_us=at_us, currency=currency)
    return posted(step, [Move(debit=debit, credit=owed(request), amount_minor=minor)])
