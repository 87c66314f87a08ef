"""Laws of money: whatever is done in whatever order, the books add up."""

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tallybook.adapters.memory.wallets import MemoryWallets
from tallybook.invoice.audit.verify import verify
from tallybook.invoice.manifest import Extra
from tallybook.kernel.errors import Refused
from tallybook.settle.receivable.anew import invoice_now, reissue
from tallybook.settle.receivable.audit import audit
from tallybook.settle.receivable.flow import (
    check_note,
    give_up,
    pay_from_credit,
    pay_out,
    put_extras,
    redeem,
    take_back,
    take_back_note,
    void_invoice,
)
from tests.support.billing_world import TENANT, at
from tests.support.settled_world import SettledWorld

CATALOG = """
[[taxes]]
key = "vat"
rate = "19"

[[taxes]]
key = "in"
rate = "7"
inclusive = true

[[coupons]]
key = "amount"
amount = "70"
currency = "USD"

[[coupons]]
key = "percent"
percent = "33.3"
duration = "recurring"
invoices = 2

[[plans]]
key = "web"
currency = "USD"
[[plans.charges]]
key = "fee"
price = { type = "flat", amount = "33.33" }
taxes = ["vat", "in"]
[[plans.charges]]
key = "ahead"
price = { type = "flat", amount = "12.35" }
timing = "advance"
shares = [{ party = "isp", percent = "33" }]

[[customers]]
key = "acme"
currency = "USD"
taxes = ["vat"]

[[subscriptions]]
key = "acme"
customer = "acme"
plan = "web"
start = 2026-01-11
"""

AMOUNT = st.integers(1, 9000)
WHICH = st.integers(1, 6)
COMMAND = st.one_of(
    st.tuples(st.just("bill"), st.integers(1, 9), st.just(0)),
    *(
        st.tuples(st.just(name), AMOUNT, WHICH)
        for name in ("pay", "pay one", "use credit", "refund", "credit", "credit all", "charge",
                     "gift", "later")
    ),
    *(
        st.tuples(st.just(name), st.just(0), WHICH)
        for name in ("reverse", "void", "void note", "write off", "reissue")
    ),
    st.tuples(st.sampled_from(["amount", "percent"]), st.just(0), st.just(0)),
)  # fmt: skip


class Doing:
    """A world that follows commands; those that are refused change nothing."""

    def __init__(self) -> None:
        self.world = SettledWorld()
        self.world.apply(CATALOG)
        self.extras = 0
        settling, world = self.world.settling, self.world
        self.doing: dict[str, Callable[[int, int], object]] = {
            "bill": lambda month, _: world.bill(f"2026-{month:02d}"),
            "pay": lambda amount, _: world.pay(amount),
            "pay one": lambda amount, n: world.pay(amount, wanted={number(n): None}),
            "use credit": lambda amount, _: pay_from_credit(
                settling, "acme", world.received(amount)
            ),
            "refund": lambda amount, _: pay_out(settling, "acme", world.received(amount)),
            "credit": lambda amount, n: world.credit(number(n), {"1": amount}),
            "credit all": lambda amount, n: world.credit(
                number(n), rest="refund" if amount % 2 else "credit"
            ),
            "charge": lambda amount, _: invoice_now(settling, "acme", [self.extra(amount)]),
            "gift": lambda amount, _: invoice_now(settling, "acme", [self.extra(-amount)]),
            "later": lambda amount, n: put_extras(settling, "acme", [self.extra(amount - 4000)]),
            "reverse": self.reverse,
            "void": lambda _, n: void_invoice(settling, number(n)),
            "void note": lambda _, n: take_back_note(settling, f"CN-{n:06d}"),
            "write off": lambda _, n: give_up(settling, number(n)),
            "reissue": lambda _, n: reissue(settling, number(n)),
            "amount": lambda *_: redeem(settling, "amount", "acme"),
            "percent": lambda *_: redeem(settling, "percent", "acme"),
        }

    def do(self, command: str, amount: int, which: int) -> bool:
        """Do it, and return whether it was done."""
        try:
            self.doing[command](amount, which)
        except Refused:
            return False
        return True

    def extra(self, minor: int) -> Extra:
        from decimal import Decimal

        self.extras += 1
        start = at("2026-01-01") + self.extras
        return Extra(
            id=f"ext_{self.extras}",
            name="extra",
            amount=Decimal(minor) / 100,
            start_us=start,
            end_us=start + 1,
        )

    def reverse(self, _: int, which: int) -> None:
        payments = self.world.ledger.payments(TENANT, limit=which)
        if payments:
            take_back(self.world.settling, payments[-1].id, "mistake")

    def check(self) -> None:
        """Fail where anything does not add up."""
        world = self.world
        found = audit(world.settling, world.ledger, MemoryWallets(world.kept))
        assert found.differences == ()
        assert sum(world.balances().values()) == 0
        for head in world.billing.invoices.invoices(TENANT, limit=1000):
            assert 0 <= head.open_minor <= max(head.payable_minor, 0)
            assert (head.state == "paid") <= (head.open_minor == 0)
        for credit in world.kept.kept(TENANT).credits.values():
            assert 0 <= credit.left_minor <= credit.amount_minor
        for one in world.kept.kept(TENANT).redemptions.values():
            assert one.used_minor >= 0
            assert one.invoices >= 0


def number(n: int) -> str:
    return f"INV-{n:06d}"


@settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
@given(st.lists(COMMAND, min_size=4, max_size=16))
def test_any_commands_in_any_order_keep_the_books(commands: list[tuple[str, int, int]]) -> None:
    doing = Doing()
    doing.do("bill", 1, 0)
    for command in commands:
        state = doing.world.kept.kept(TENANT)
        before = (dict(state.entries), dict(state.credits), doing.world.open())
        if not doing.do(*command):
            state = doing.world.kept.kept(TENANT)
            assert (state.entries, state.credits, doing.world.open()) == before
        doing.check()
    for head in doing.world.billing.invoices.invoices(TENANT, limit=1000):
        assert verify(doing.world.billing, head.number).ok
    for note in doing.world.ledger.credit_notes(TENANT, limit=1000):
        assert check_note(doing.world.settling, note.number).ok


FEES = st.lists(st.integers(1, 700), min_size=1, max_size=6)
NOTES = st.lists(st.dictionaries(st.integers(1, 6), st.integers(1, 300), min_size=1), max_size=7)
"""Of each note: line -> at most how much of it; the rest of every line is taken at last."""


@settings(deadline=None, max_examples=40)
@given(FEES, NOTES)
@example([9], [{1: 1}] * 9)
@example([7, 5], [{1: 1, 2: 1}] * 7)
@example([700, 1, 333], [{1: 1}, {3: 1}] * 15)
def test_credit_notes_in_any_parts_take_exactly_the_invoice(
    fees: list[int], notes: list[dict[int, int]]
) -> None:
    doing = Doing()
    head = invoice_now(doing.world.settling, "acme", [doing.extra(fee) for fee in fees])
    left = dict(enumerate(fees, 1))
    total = 0
    one_by_one = [{line: fee} for line, fee in left.items()]
    for note in (*notes, *one_by_one):
        asked = {line: min(most, left.get(line, 0)) for line, most in note.items()}
        parts = {str(line): minor for line, minor in asked.items() if minor}
        left = {line: minor - asked.get(line, 0) for line, minor in left.items()}
        if parts:
            total += doing.world.credit(head.number, parts).total_minor
            doing.check()
    assert not any(left.values())
    assert total == head.total_minor
    assert doing.world.head(head.number).open_minor == 0


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_what_is_void_is_as_if_it_had_never_been(steps: int) -> None:
    doing = Doing()
    doing.do("amount", 0, 0)
    doing.do("pay", 1000, 0)
    before = (doing.world.balances(), doing.world.credits())
    for month in range(1, steps + 1):
        assert doing.do("bill", month, 0)
    for month in range(steps, 0, -1):
        assert doing.do("void", 0, month)
    assert (doing.world.balances(), doing.world.credits()) == before
    doing.check()
