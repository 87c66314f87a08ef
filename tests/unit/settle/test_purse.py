"""Laws of wallets as they are kept: nothing is lost, and the ledger owes what is left."""

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallybook.adapters.memory.invoices import MemoryInvoices
from tallybook.adapters.memory.wallets import MemoryWallets
from tallybook.catalog.entitlement import TopUp, Wallet, covers_minor, units_for
from tallybook.invoice.funds import WalletUsed
from tallybook.invoice.ports import Spent
from tallybook.kernel.book.entry import Move, Step, account, on_account, posted
from tallybook.kernel.decimals import plain
from tallybook.kernel.errors import Conflict
from tallybook.kernel.timestamps import DAY_US
from tallybook.settle.balance import total
from tallybook.settle.prepaid.flow import lapse, made, top_up, void_top_up
from tallybook.settle.purse import Purse, StoredDraw, returns
from tallybook.settle.wallet import Draw, wallet_at

PAGE = Path(__file__).resolve().parents[3] / "docs" / "algorithms" / "wallets.md"
MONEY = Wallet(key="w", customer="c", currency="USD")
UNITS = Wallet(key="w", customer="c", currency="USD", unit="CRD", rate=Decimal(3))
THIRDS = Wallet(key="w", customer="c", currency="JPY", unit="CRD", rate=Decimal("0.333"))


class Kept:
    """A wallet with its ledger, changed as flows change it."""

    def __init__(self, wallet: Wallet) -> None:
        """Begin empty."""
        self.wallet = wallet
        self.invoices = MemoryInvoices()
        self.store = MemoryWallets(self.invoices)
        self.now = 0
        self.count = 0
        self.in_turn = False
        """Whether what is put in at an instant comes after what was drawn at it."""

    def purse(self) -> Purse:
        """Return the wallet."""
        return self.store.purses("t", [self.wallet])["w"]

    def top_up(self, amount: str, days: int | None, *, free: bool) -> None:
        """Put something in."""
        self.count += 1
        expires = None if days is None else self.now + days * DAY_US
        asked = TopUp(
            key=f"t{self.count}",
            amount=Decimal(amount),
            at_us=self.purse().not_before(self.now) if self.in_turn else self.now,
            expires_us=expires,
            free=free,
        )
        top_up(self.store, "t", self.wallet, made(self.wallet, asked, self.now))

    def draw(self, minor: int) -> None:
        """Pay an invoice as far as there is."""
        self.count += 1
        purse = self.purse()
        balance = purse.now(self.now).balance
        paid = min(minor, covers_minor(self.wallet, balance))
        used = WalletUsed(
            wallet="w",
            units=plain(units_for(self.wallet, balance, paid)),
            unit="",
            amount="",
            amount_minor=paid,
        )
        spent = Spent(
            customer="c",
            version=purse.version,
            invoice=f"i{self.count}",
            number="",
            currency=self.wallet.currency,
            at_us=self.now,
            wallets=(used,),
        )
        move = Move(debit="prepaid:w", credit="receivable:c", amount_minor=paid)
        self.book(f"i{self.count}", "", [move], [spent])

    def give_back(self, number: int) -> None:
        """Void an invoice, maybe again."""
        document = f"i{number}"
        _, minor = self.purse().drawn_by(document)
        with self.invoices.transaction("t") as transaction:
            transaction.books.purses.give_back("c", document, self.now)
        move = Move(debit="receivable:c", credit="prepaid:w", amount_minor=minor)
        self.book(document, f"void{self.now}{self.count}", [move], [])

    def book(self, document: str, name: str, moves: list[Move], spent: list[Spent]) -> None:
        """Post and spend in one transaction."""
        self.count += 1
        step = Step(document=document, name=name, at_us=self.now, currency=self.wallet.currency)
        with self.invoices.transaction("t") as transaction:
            transaction.books.spend(spent)
            transaction.books.post(posted(step, moves))

    def settle(self) -> None:
        """Post what has lapsed."""
        lapse(self.store, "t", [self.wallet], self.now)

    def owed_minor(self) -> int:
        """Return what the ledger owes."""
        entries = self.invoices.kept("t").entries.values()
        return -on_account(entries, account("prepaid", "w"))


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("top_up"),
            st.sampled_from(["1", "10", "7.77", "0.335", "100"]),
            st.sampled_from([None, 1, 3, 9]),
            st.booleans(),
        ),
        st.tuples(st.just("draw"), st.integers(1, 3_000)),
        st.tuples(st.just("give_back"), st.integers(1, 25)),
        st.tuples(st.just("void"), st.integers(1, 25), st.booleans()),
        st.tuples(st.just("wait"), st.integers(0, 4)),
        st.tuples(st.just("settle")),
    ),
    max_size=25,
)


def do(kept: Kept, kind: str, said: Any) -> None:
    """Do one step."""
    if kind == "top_up":
        kept.top_up(said[0], said[1], free=said[2])
    elif kind == "draw":
        kept.draw(said[0])
    elif kind == "give_back":
        kept.give_back(said[0])
    elif kind == "wait":
        kept.now += said[0] * DAY_US
    elif kind == "settle":
        kept.settle()
    elif any(one.top_up.key == f"t{said[0]}" for one in kept.purse().top_ups):
        void_top_up(kept.store, "t", kept.wallet, f"t{said[0]}", kept.now, refund=said[1])


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([MONEY, UNITS, THIRDS]), STEPS)
def test_nothing_is_lost_and_the_ledger_owes_what_is_left(
    wallet: Wallet, steps: list[tuple[Any, ...]]
) -> None:
    kept = Kept(wallet)
    kept.in_turn = True
    for kind, *said in steps:
        do(kept, kind, said)
        purse = kept.purse()
        state = purse.now(kept.now)
        lasting = [one.top_up for one in purse.top_ups if one.top_up.at_us != one.top_up.end_us]
        put = total(one.amount for one in lasting)
        drawn = total(one.amount for one in purse.draws)
        assert put == drawn + state.lapsed + state.balance
        assert not state.open
        lines = purse.statement(purse.not_before(kept.now))
        assert total(line.amount for line in lines) == state.balance
        assert kept.owed_minor() == purse.liability_minor()
    kept.settle()
    assert kept.owed_minor() == kept.purse().worth_minor(kept.now)


def test_what_was_is_not_changed_by_what_comes_later() -> None:
    kept = Kept(MONEY)
    kept.top_up("10", 5, free=False)
    kept.now = DAY_US
    kept.draw(400)
    before = kept.purse().at(2 * DAY_US)
    kept.now = 3 * DAY_US
    kept.top_up("7", None, free=True)
    kept.draw(900)
    assert kept.purse().at(2 * DAY_US) == before
    assert kept.purse().at(DAY_US).balance == 10
    assert kept.purse().drawn_by("i2") == (4, 400)


@pytest.mark.parametrize("behind_us", [0, 5])
def test_a_top_up_that_is_voided_by_a_clock_behind_has_paid_what_was_drawn(behind_us: int) -> None:
    """The voiding comes after the draw, and what is drawn next takes nothing of it."""
    kept = Kept(MONEY)
    kept.top_up("1", None, free=False)
    kept.now = DAY_US
    kept.draw(40)
    kept.now -= behind_us
    void_top_up(kept.store, "t", MONEY, "t1", kept.now)
    state = kept.purse().now(kept.now)
    assert (state.open, state.lapsed, state.balance) == (0, Decimal("0.6"), 0)
    kept.now = DAY_US
    kept.top_up("2", None, free=False)
    kept.now -= behind_us
    kept.draw(150)
    state = kept.purse().now(kept.now)
    assert (state.open, state.lapsed, state.balance) == (0, Decimal("0.6"), Decimal("0.5"))
    assert kept.owed_minor() == kept.purse().worth_minor(kept.now) == 50


def test_a_top_up_lies_not_before_a_draw() -> None:
    kept = Kept(MONEY)
    kept.now = DAY_US
    kept.top_up("10", None, free=False)
    kept.draw(400)
    kept.now = 0
    with pytest.raises(Conflict, match="drawn from after that"):
        kept.top_up("10", None, free=False)


def test_a_debt_lessens_what_is_owed() -> None:
    repays = Wallet(key="w", customer="c", currency="USD", overdraft="repay")
    draw = StoredDraw(
        wallet="w",
        customer="c",
        document="i",
        step="",
        at_us=1,
        amount=Decimal(5),
        amount_minor=500,
    )
    purse = Purse(wallet=repays, draws=(draw,))
    assert purse.debt(purse.now(2)) == 5
    assert purse.worth_minor(2) == purse.liability_minor() == -500
    assert Purse(wallet=MONEY, draws=(draw,)).worth_minor(2) == 0


def test_draws_at_the_instant_are_in_where_that_is_asked() -> None:
    up = TopUp(key="a", amount=Decimal(10), at_us=0)
    draws = [Draw(5, "i", Decimal(4))]
    assert wallet_at(MONEY, [up], draws, 5).balance == 10
    assert wallet_at(MONEY, [up], draws, 5, inclusive=True).balance == 6


def test_what_is_given_back_is_given_back_once() -> None:
    draws = [
        StoredDraw(
            wallet="w",
            customer="c",
            document=document,
            step="",
            at_us=at_us,
            amount=Decimal(5),
            amount_minor=500,
        )
        for document, at_us in (("i", 1), ("j", 9))
    ]
    (back,) = returns(draws, "i", 4)
    assert (back.at_us, back.amount, back.amount_minor, back.step) == (10, -5, -500, "void")
    assert returns([*draws, back], "i", 10) == []
    assert returns(draws, "other", 10) == []


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the page's table that begins with these headings."""
    text = PAGE.read_text(encoding="utf-8").split(heading)[1]
    lines = text.split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in lines]


ASKED = rows("| draws in the order they come |")
POSTED = rows("| unit | put in | expired |")


@pytest.mark.parametrize("row", ASKED, ids=str)
def test_the_page_on_the_order_of_draws(row: list[str]) -> None:
    amounts, asked, found = row
    kept = Kept(MONEY)
    kept.top_up("30", None, free=False)
    for amount, when in zip(re.findall(r"(\d+)`", amounts), re.findall(r"\d+", asked), strict=True):
        kept.now = int(when)
        kept.draw(int(amount) * 100)
    at = [draw.at_us for draw in kept.purse().draws]
    assert sorted(at) == sorted(int(number) for number in re.findall(r"\d+", found))


@pytest.mark.parametrize("row", POSTED, ids=str)
def test_the_page_on_what_is_given_up(row: list[str]) -> None:
    unit, put, expired, before, worth, posted_ = row
    wallet = MONEY
    if unit:
        rate = Decimal(unit.rpartition(" ")[2])
        wallet = Wallet(key="w", customer="c", currency="USD", unit="CRD", rate=rate)
    kept = Kept(wallet)
    first, *others = re.findall(r"[\d.]+", put)
    assert first == expired
    kept.top_up(first, 1, free=False)
    if "drawn" in put:
        kept.draw(int(others[0]) * 100)
    else:
        kept.top_up(others[0], None, free=False)
    assert kept.owed_minor() == Decimal(before) * 100
    kept.now = DAY_US
    (gone,) = lapse(kept.store, "t", [wallet], kept.now)
    assert gone.amount_minor == Decimal(posted_) * 100
    assert kept.owed_minor() == kept.purse().worth_minor(kept.now) == Decimal(worth) * 100
