"""Wallets: what is left of each top-up at an instant, as a pure function of top-ups and draws.

Source: docs/algorithms/wallets.md
"""

from collections.abc import Iterable
from decimal import Decimal
from typing import Literal

import msgspec

from tallybook.catalog.entitlement import TopUp, Wallet
from tallybook.kernel.decimals import EXACT, divide
from tallybook.kernel.errors import Invalid
from tallybook.kernel.money import from_minor, to_minor
from tallybook.kernel.timestamps import LAST_US
from tallybook.settle.balance import NOTHING, Pot, total

COST_MINOR_MAX = 10**17
"""A top-up must cost less, so that every database holds sums of them."""


class Draw(msgspec.Struct, frozen=True, order=True):
    """An amount taken out of a wallet, or given back to it.

    Attributes:
        at_us: microseconds UTC.
        key: what it is for, such as an invoice; what is given back names the draw it corrects.
        amount: in the wallet's unit; negative to give back.
    """

    at_us: int
    key: str
    amount: Decimal


class Taken(msgspec.Struct, frozen=True):
    """A part of a draw: from which top-up."""

    top_up: str
    amount: Decimal


class WalletState(msgspec.Struct, frozen=True, kw_only=True):
    """A wallet at an instant.

    Attributes:
        at_us: draws before this are in it.
        pots: by key of the top-up; of those that began.
        taken: by key of the draw, in the order it was taken, what was given back taken off.
        unpaid: by key of the draw: what could not be taken; a debt where the wallet repays.
    """

    at_us: int
    pots: dict[str, Pot]
    taken: dict[str, tuple[Taken, ...]]
    unpaid: dict[str, Decimal]

    @property
    def balance(self) -> Decimal:
        """What can be drawn."""
        return total(pot.left for pot in self.pots.values())

    @property
    def left(self) -> dict[str, Decimal]:
        """What is left of each top-up that may be drawn from, by its key."""
        return {key: pot.left for key, pot in self.pots.items() if pot.in_force}

    @property
    def lapsed(self) -> Decimal:
        """What expired or was voided."""
        return total(pot.lapsed for pot in self.pots.values())

    @property
    def open(self) -> Decimal:
        """What all draws together could not take."""
        return total(self.unpaid.values())


def draw_order(top_up: TopUp) -> tuple[int, int, bool, int, str]:
    """Return the sort key: priority, expiry (never is last), free first, beginning, name."""
    expires = LAST_US + 1 if top_up.expires_us is None else top_up.expires_us
    return top_up.priority, expires, not top_up.free, top_up.at_us, top_up.key


def wallet_at(
    wallet: Wallet,
    top_ups: Iterable[TopUp],
    draws: Iterable[Draw],
    at_us: int,
    *,
    inclusive: bool = False,
) -> WalletState:
    """Return a wallet at an instant.

    Args:
        wallet: whose overdraft rule counts.
        top_ups: in any order, with distinct keys.
        draws: in any order; what is given back comes after its draw.
        at_us: what begins or ends at this instant is in, draws at it are not.
        inclusive: draws at the instant are in too.
    """
    course = _Course(wallet, sorted(top_ups, key=draw_order))
    for step in _in_order(course.order, draws, at_us, inclusive=inclusive):
        course.take(step)
    return WalletState(
        at_us=at_us,
        pots=course.pots,
        taken={key: tuple(parts) for key, parts in course.taken.items()},
        unpaid={key: amount for key, amount in course.unpaid.items() if amount},
    )


Change = Literal["top-up", "lapse", "draw", "return"]
"""What happens to a wallet; a return is what is given back of a draw."""


class Movement(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a wallet's statement.

    Attributes:
        at_us: microseconds UTC.
        change: what happened.
        key: of the top-up, or what the draw is for.
        amount: by which the balance rose, below zero where it fell.
        balance: after it.
    """

    at_us: int
    change: Change
    key: str
    amount: Decimal
    balance: Decimal


def statement(
    wallet: Wallet, top_ups: Iterable[TopUp], draws: Iterable[Draw], at_us: int
) -> list[Movement]:
    """Return everything that changed the balance up to an instant, included, by time.

    Guarantees: the amounts add up to the balance; what changed nothing is left out.
    """
    course = _Course(wallet, sorted(top_ups, key=draw_order))
    found, balance = [], NOTHING
    for step in _in_order(course.order, draws, at_us, inclusive=True):
        change, key = course.take(step)
        now = total(pot.left for pot in course.pots.values())
        if now != balance:
            found.append(
                Movement(
                    at_us=step[0],
                    change=change,
                    key=key,
                    amount=EXACT.subtract(now, balance),
                    balance=now,
                )
            )
        balance = now
    return found


_Step = tuple[int, tuple[int, str], TopUp | None, Draw | None]


def _in_order(
    top_ups: Iterable[TopUp], draws: Iterable[Draw], at_us: int, *, inclusive: bool
) -> list[_Step]:
    """Return ends, beginnings and draws by time; at one instant in this order, givers last."""
    steps: list[_Step] = []
    for top_up in top_ups:
        end = LAST_US + 1 if top_up.end_us is None else top_up.end_us
        if end > top_up.at_us:
            steps.append((end, (0, ""), top_up, None))
            steps.append((top_up.at_us, (1, ""), top_up, None))
    for draw in draws:
        if draw.at_us < at_us or inclusive:
            rank = 2 if draw.amount >= 0 else 3
            steps.append((draw.at_us, (rank, draw.key), None, draw))
    return sorted((step for step in steps if step[0] <= at_us), key=lambda step: step[:2])


class _Course:
    """One run through the life of a wallet: what is being worked out."""

    def __init__(self, wallet: Wallet, order: list[TopUp]) -> None:
        self.repays = wallet.overdraft == "repay"
        self.order = order
        self.pots: dict[str, Pot] = {}
        self.taken: dict[str, list[Taken]] = {}
        self.unpaid: dict[str, Decimal] = {}

    def take(self, step: _Step) -> tuple[Change, str]:
        """Let a step happen; return what it was."""
        _, _, top_up, draw = step
        if top_up is not None:
            change: Change = "lapse" if top_up.key in self.pots else "top-up"
            self.turn(top_up)
            return change, top_up.key
        assert draw is not None, "a step is of a top-up or a draw"
        self.draw(draw)
        return "draw" if draw.amount >= 0 else "return", draw.key

    def turn(self, top_up: TopUp) -> None:
        """Begin a top-up, which pays open debt first; or end it."""
        pot = self.pots.get(top_up.key)
        if pot is not None:
            self.pots[top_up.key] = pot.lapse()
            return
        self.pots[top_up.key] = Pot(granted=top_up.amount)
        self._repay()

    def draw(self, draw: Draw) -> None:
        """Take an amount, or give it back."""
        if draw.amount >= 0:
            missing = self._take(draw.key, draw.amount)
            self.unpaid[draw.key] = EXACT.add(self.unpaid.get(draw.key, NOTHING), missing)
            return
        amount = EXACT.minus(draw.amount)
        if self.repays:
            owed = min(amount, self.unpaid.get(draw.key, NOTHING))
            self.unpaid[draw.key] = EXACT.subtract(self.unpaid.get(draw.key, NOTHING), owed)
            amount = EXACT.subtract(amount, owed)
        self._give_back(draw.key, amount)
        self._repay()

    def _repay(self) -> None:
        """Pay open debt with what is there, the oldest first."""
        if self.repays:
            for key, owed in self.unpaid.items():
                self.unpaid[key] = self._take(key, owed)

    def _take(self, key: str, amount: Decimal) -> Decimal:
        """Take as much as there is, in the order of the top-ups; return what is missing."""
        for top_up in self.order:
            pot = self.pots.get(top_up.key)
            part = min(amount, pot.left) if pot is not None else NOTHING
            if pot is not None and part:
                self.pots[top_up.key] = pot.burn(part)
                self.taken.setdefault(key, []).append(Taken(top_up.key, part))
                amount = EXACT.subtract(amount, part)
        return amount

    def _give_back(self, key: str, amount: Decimal) -> None:
        """Return an amount to where it came from, last taken first; more was never taken."""
        parts = self.taken.get(key, [])
        while amount and parts:
            last = parts.pop()
            part = min(amount, last.amount)
            pot = self.pots[last.top_up].burn(EXACT.minus(part))
            self.pots[last.top_up] = pot if pot.in_force else pot.lapse()
            amount = EXACT.subtract(amount, part)
            if part < last.amount:
                parts.append(Taken(last.top_up, EXACT.subtract(last.amount, part)))


def put_in(wallet: Wallet, amount: Decimal) -> tuple[Decimal, int]:
    """Return what a top-up puts in, and what it costs in minor units.

    Money is rounded to the minor unit; units keep 12 decimals and their price is rounded once.

    Raises:
        Invalid: it costs `COST_MINOR_MAX` or more.
    """
    units = divide(amount, Decimal(1))
    price = EXACT.multiply(units, wallet.rate) if wallet.unit else amount
    cost_minor = to_minor(price, wallet.currency)
    if cost_minor >= COST_MINOR_MAX:
        raise Invalid(f"an amount of {amount:f} is too large for a top-up", field="amount")
    return units if wallet.unit else from_minor(cost_minor, wallet.currency), cost_minor
