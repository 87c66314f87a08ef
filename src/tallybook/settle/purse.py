"""A wallet as it is kept: its top-ups, its draws, and what of it was given up.

Facts of a wallet are appended in the order of time: draws and voidings each after the one before, a
top-up not before the newest draw. So what a draw took is never changed by what comes later, and a
balance of the past stays what it was.

Source: docs/algorithms/wallets.md
"""

from collections.abc import Iterable
from decimal import Decimal
from typing import Literal

import msgspec

from tallybook.catalog.entitlement import TopUp, Wallet
from tallybook.kernel.book.entry import Account, Entry, Move, Step, account, posted
from tallybook.kernel.decimals import EXACT
from tallybook.kernel.errors import Conflict
from tallybook.kernel.ids import derived_id
from tallybook.kernel.money import to_minor
from tallybook.settle.balance import NOTHING, total
from tallybook.settle.request import Request
from tallybook.settle.wallet import Draw, Movement, WalletState, statement, wallet_at

Reason = Literal["hand", "recharge"]
"""Who made a top-up: somebody, or the wallet's own rule."""

RETURNED = "void"
"""The step by which a document's draws are given back."""


class StoredTopUp(msgspec.Struct, frozen=True, kw_only=True):
    """A top-up as it is kept.

    Attributes:
        cost_minor: what it cost, or would have cost; 0 or more, of the wallet's currency.
        recorded_us: when it was made.
        method: how it was paid, such as 'card'; '' where it was free.
        reference: of the payment.
    """

    wallet: str
    customer: str
    top_up: TopUp
    cost_minor: int
    recorded_us: int
    reason: Reason = "hand"
    method: str = ""
    reference: str = ""

    @property
    def id(self) -> str:
        """Unique within the tenant; the document of its ledger entries."""
        return derived_id("top", self.wallet, self.top_up.key)


class StoredDraw(msgspec.Struct, frozen=True, kw_only=True):
    """A draw as it is kept.

    Attributes:
        document: what it is for, the id of an invoice.
        step: '' for the draw, `RETURNED` for what is given back of it.
        amount: in the wallet's unit; negative to give back.
        amount_minor: what it paid; negative to give back.
    """

    wallet: str
    customer: str
    document: str
    step: str
    at_us: int
    amount: Decimal
    amount_minor: int

    @property
    def draw(self) -> Draw:
        """What the balance sees of it."""
        return Draw(self.at_us, self.document, self.amount)


class GivenUp(msgspec.Struct, frozen=True, kw_only=True):
    """Credit that can no longer be drawn, as it was posted.

    Attributes:
        number: 1 and up within the wallet.
        account: where it went: breakage, or the method by which it was paid back.
    """

    wallet: str
    customer: str
    number: int
    at_us: int
    amount_minor: int
    account: str


class Watch(msgspec.Struct, frozen=True, kw_only=True):
    """How a wallet stood when it was last looked at.

    Attributes:
        ongoing: balance less what was used and not billed yet.
        cut: snapshot of the usage.
        version: of the customer's account.
        low: times that a threshold was crossed so far.
        recharges: times that its rule asked for a payment so far.
    """

    wallet: str
    customer: str
    at_us: int
    ongoing: Decimal
    cut: int
    version: int
    low: int = 0
    recharges: int = 0


class Purse(msgspec.Struct, frozen=True, kw_only=True):
    """A wallet and all that happened to it.

    Attributes:
        version: of the customer's account.
    """

    wallet: Wallet
    version: int = 0
    top_ups: tuple[StoredTopUp, ...] = ()
    draws: tuple[StoredDraw, ...] = ()
    given_up: tuple[GivenUp, ...] = ()
    watch: Watch | None = None
    requests: tuple[Request, ...] = ()

    @property
    def newest_us(self) -> int | None:
        """When it was last drawn from; None for never."""
        return max((draw.at_us for draw in self.draws), default=None)

    @property
    def since_us(self) -> int:
        """When it first was topped up; 0 for never."""
        return min((stored.recorded_us for stored in self.top_ups), default=0)

    def not_before(self, at_us: int) -> int:
        """Return an instant, or that of the newest draw or voiding where it is later."""
        return _newest_us(self.top_ups, self.draws, at_us)

    def next_us(self, at_us: int) -> int:
        """Return when what happens to it at an instant is kept."""
        return next_us(at_us, self.top_ups, self.draws)

    def at(self, at_us: int) -> WalletState:
        """Return the wallet at an instant of the past or the future; draws at it are not in."""
        return wallet_at(self.wallet, self._ups(), self._draws(), at_us)

    def now(self, at_us: int) -> WalletState:
        """Return what can be drawn at an instant: every draw that is stored is in."""
        until = self.not_before(at_us)
        return wallet_at(self.wallet, self._ups(), self._draws(), until, inclusive=True)

    def statement(self, at_us: int) -> list[Movement]:
        """Return everything that changed the balance up to an instant."""
        until = [draw for draw in self._draws() if draw.at_us <= at_us]
        return statement(self.wallet, self._ups(), until, at_us)

    def liability_minor(self) -> int:
        """Return what the ledger owes for it: costs less what paid and what was given up."""
        return (
            sum(stored.cost_minor for stored in self.top_ups)
            - sum(draw.amount_minor for draw in self.draws)
            - sum(gone.amount_minor for gone in self.given_up)
        )

    def worth_minor(self, at_us: int) -> int:
        """Return what the ledger should owe: the value of what is left, and of what begins yet."""
        state = self.now(at_us)
        until = self.not_before(at_us)
        coming = total(
            stored.top_up.amount
            for stored in self.top_ups
            if stored.top_up.at_us > until and _lasts(stored.top_up)
        )
        units = EXACT.subtract(EXACT.add(state.balance, coming), self.debt(state))
        return to_minor(EXACT.multiply(units, self.wallet.rate), self.wallet.currency)

    def debt(self, state: WalletState) -> Decimal:
        """Return what the next top-up pays first, at an instant; only a wallet that repays owes."""
        return state.open if self.wallet.overdraft == "repay" else NOTHING

    def drawn_by(self, document: str) -> tuple[Decimal, int]:
        """Return the units and minor units that a document took, less what it gave back."""
        mine = [draw for draw in self.draws if draw.document == document]
        return total(draw.amount for draw in mine), sum(draw.amount_minor for draw in mine)

    def _ups(self) -> list[TopUp]:
        return [stored.top_up for stored in self.top_ups]

    def _draws(self) -> list[Draw]:
        return [stored.draw for stored in self.draws]


def _newest_us(top_ups: Iterable[StoredTopUp], draws: Iterable[StoredDraw], at_least: int) -> int:
    """Return when a wallet was last drawn from, given back to or voided, an instant at least."""
    voided = [one.top_up.voided_us for one in top_ups if one.top_up.voided_us is not None]
    return max([at_least, *voided, *(draw.at_us for draw in draws)])


def next_us(at_us: int, top_ups: Iterable[StoredTopUp], draws: Iterable[StoredDraw]) -> int:
    """Return when a draw, what is given back, or a voiding of an instant is kept.

    Each comes after the one before, whatever the clocks of servers say: at one instant they would
    have an order that nobody saw when they were made.
    """
    return _newest_us(top_ups, draws, at_us - 1) + 1


def _lasts(top_up: TopUp) -> bool:
    return top_up.end_us is None or top_up.end_us > top_up.at_us


def check_top_up(purse: Purse, stored: StoredTopUp) -> StoredTopUp:
    """Return a top-up when it may be made.

    Raises:
        Conflict: its key is taken, or it lies before the newest draw.
    """
    top_up = stored.top_up
    if any(other.top_up.key == top_up.key for other in purse.top_ups):
        message = f"wallet {stored.wallet} has a top-up '{top_up.key}' already"
        raise Conflict(message, code="exists", field="key")
    if purse.newest_us is not None and purse.newest_us > top_up.at_us:
        message = f"wallet {stored.wallet} was drawn from after that; top it up from then on"
        raise Conflict(message, field="at")
    return stored


def topped_up(stored: StoredTopUp, currency: str, source: str = "") -> tuple[Entry, ...]:
    """Return the ledger entries of a top-up: paid from cash, or free from promotion.

    Args:
        stored: the top-up.
        currency: of its wallet.
        source: account that it is paid from instead.
    """
    if not source:
        free = stored.top_up.free
        source = account("promotion", stored.customer) if free else account("cash", stored.method)
    step = Step(document=stored.id, at_us=stored.recorded_us, currency=currency)
    prepaid = account("prepaid", stored.wallet)
    return posted(step, [Move(debit=source, credit=prepaid, amount_minor=stored.cost_minor)])


def give_up(purse: Purse, at_us: int, kind: Account = "breakage", name: str = "") -> GivenUp | None:
    """Return what the ledger owes for a wallet beyond what is left in it, or None.

    Args:
        purse: with everything in it that happened.
        at_us: now.
        kind: of the account that gets it.
        name: of that account; '' for the customer's.
    """
    amount_minor = purse.liability_minor() - purse.worth_minor(at_us)
    if not amount_minor:
        return None
    customer = purse.wallet.customer
    return GivenUp(
        wallet=purse.wallet.key,
        customer=customer,
        number=len(purse.given_up) + 1,
        at_us=at_us,
        amount_minor=amount_minor,
        account=account(kind, name or customer),
    )


def given_up(gone: GivenUp, currency: str) -> tuple[Entry, ...]:
    """Return the ledger entries of credit that was given up."""
    document = derived_id("gone", gone.wallet, str(gone.number))
    step = Step(document=document, at_us=gone.at_us, currency=currency)
    prepaid = account("prepaid", gone.wallet)
    return posted(step, [Move(debit=prepaid, credit=gone.account, amount_minor=gone.amount_minor)])


def returns(draws: Iterable[StoredDraw], document: str, at_us: int) -> list[StoredDraw]:
    """Return what gives back everything that a document drew and has not given back yet.

    Args:
        draws: all of the wallets that it drew from.
        document: id.
        at_us: when; in each wallet after its newest draw.
    """
    mine: dict[str, list[StoredDraw]] = {}
    taken: dict[str, StoredDraw] = {}
    for draw in draws:
        mine.setdefault(draw.wallet, []).append(draw)
        if draw.document == document:
            before = taken.get(draw.wallet)
            taken[draw.wallet] = draw if before is None else _summed(before, draw)
    return [
        msgspec.structs.replace(
            draw,
            step=RETURNED,
            at_us=next_us(at_us, (), mine[draw.wallet]),
            amount=EXACT.minus(draw.amount),
            amount_minor=-draw.amount_minor,
        )
        for draw in taken.values()
        if draw.amount != NOTHING or draw.amount_minor
    ]


def _summed(one: StoredDraw, other: StoredDraw) -> StoredDraw:
    return msgspec.structs.replace(
        one,
        amount=EXACT.add(one.amount, other.amount),
        amount_minor=one.amount_minor + other.amount_minor,
    )
