"""Every row of the pages on the ledger, payments, credit notes and invoice life is replayed."""

import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from tallybook.invoice.ledger.holdings import Credit, Holdings
from tallybook.invoice.manifest import Extra
from tallybook.invoice.ports import InvoiceHead
from tallybook.invoice.state import TRANSITIONS
from tallybook.kernel.errors import Conflict, Refused
from tallybook.kernel.money import money_text, to_minor
from tallybook.settle.receivable.anew import invoice_now
from tallybook.settle.receivable.crediting import Ask
from tallybook.settle.receivable.flow import (
    check_note,
    estimate,
    give_up,
    pay_out,
    take_back,
    take_back_note,
    void_invoice,
)
from tallybook.settle.receivable.owing import requests
from tallybook.settle.receivable.paying import Received, Wanted, receive, reverse
from tallybook.settle.receivable.payment import Payment
from tallybook.settle.receivable.standing import Standing
from tests.support.billing_world import TENANT, acme, at
from tests.support.settled_world import MONTHLY, SettledWorld

PAGES = Path(__file__).resolve().parents[4] / "docs" / "algorithms"
NOW = at("2027-01-01")


def tables(page: str, first: str) -> list[list[list[str]]]:
    """Return the rows of each table whose first column has this heading."""
    found: list[list[list[str]]] = []
    inside = False
    for line in (PAGES / page).read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            inside = False
        elif cells[0] == first:
            found.append([])
            inside = True
        elif inside and not cells[0].startswith("---"):
            found[-1].append(cells)
    return found


def rows(page: str, first: str, columns: int) -> list[list[str]]:
    found = [row for table in tables(page, first) for row in table if len(row) == columns]
    assert found, (page, first)
    return found


def minor(text: str) -> int:
    return to_minor(Decimal(text), "USD")


def text(amount: int) -> str:
    return money_text(amount, "USD")


def amounts(cell: str) -> list[int]:
    return [minor(part) for part in cell.split(", ") if part]


# ------------------------------------------------------------------------------------ ledger.md


class Story(SettledWorld):
    """A world that does what a table's first column says."""

    def __init__(self) -> None:
        super().__init__()
        self.apply(MONTHLY.format(rate="20", amount="100"))
        self.last = ""

    def do(self, command: str) -> None:
        """Do it."""
        doing: dict[str, Callable[..., object]] = {
            r"bill (\S+)": self.bill,
            r"pay (\S+): (\S+)": lambda n, a: self.pay(minor(a), wanted={number(n): None}),
            r"pay (\S+)": lambda amount: self.pay(minor(amount)),
            r"credit (\d) of \d: (\S+)": lambda n, a: self.credit(number(n), {"1": minor(a)}),
            r"credit (\d)": lambda n: self.credit(number(n)),
            r"refund (\S+)": self.refund,
            r"reverse the refund": lambda: take_back(self.settling, self.last, "bounced"),
            r"write off (\d)": lambda n: give_up(self.settling, number(n)),
            r"void (\d)": lambda n: void_invoice(self.settling, number(n)),
            r"charge (\S+)": self.charge,
        }
        for pattern, action in doing.items():
            found = re.fullmatch(pattern, command)
            if found is not None:
                action(*found.groups())
                return
        raise AssertionError(command)

    def refund(self, amount: str) -> None:
        self.last = pay_out(self.settling, "acme", self.received(minor(amount))).id

    def charge(self, amount: str) -> None:
        invoice_now(self.settling, "acme", [extra(Decimal(amount), at=0, taxes=())])


def number(ordinal: str) -> str:
    return f"INV-{int(ordinal):06d}"


def extra(amount: Decimal, at: int, taxes: tuple[str, ...]) -> Extra:
    start = NOW - 1000 + at
    return Extra(
        id=f"ext_{at}",
        name=f"line {at}",
        amount=amount,
        start_us=start,
        end_us=start + 1,
        taxes=taxes,
    )


@pytest.mark.parametrize("story", tables("ledger.md", "command"), ids=len)
def test_what_each_command_posts(story: list[list[str]]) -> None:
    world = Story()
    for command, entries in story:
        before = len(world.kept.kept(TENANT).entries)
        world.do(command)
        posted = list(world.kept.kept(TENANT).entries.values())[before:]
        shown = [
            f"{one.debit.split(':')[0]} → {one.credit.split(':')[0]} {text(one.amount_minor)}"
            for one in posted
        ]
        assert "; ".join(shown) == entries, command


# ---------------------------------------------------------------------------------- payments.md


def head(name: str, open_minor: int, state: str = "finalized", due_us: int = 0) -> InvoiceHead:
    return msgspec.convert(
        {
            "id": name,
            "number": name,
            "state": state,
            "customer": "acme",
            "customer_name": "Acme",
            "sequence": 1,
            "run": "r",
            "currency": "USD",
            "total_minor": open_minor,
            "lines": 1,
            "issued_us": 1,
            "due_us": due_us,
            "period_start_us": 0,
            "period_end_us": 1,
            "cut": 0,
            "sha256": "",
            "payable_minor": open_minor,
            "open_minor": open_minor,
        },
        InvoiceHead,
    )


def heads(cell: str) -> tuple[InvoiceHead, ...]:
    found = []
    for part in filter(None, cell.split(", ")):
        name, amount, *written_off = part.split(" ")
        state = "uncollectible" if written_off else "finalized"
        found.append(head(name, minor(amount), state))
    return tuple(found)


def received(paid: str, named: str) -> Received:
    reference = named.removeprefix("reference ") if named.startswith("reference") else ""
    wanted = [part.split(" ") for part in named.split(", ") if part and not reference]
    return Received(
        id="pay",
        currency="USD",
        amount_minor=minor(paid),
        method="bank",
        reference=reference,
        received_us=1,
        recorded_us=1,
        wanted=tuple(
            Wanted(invoice=name, amount_minor=minor(amount[0]) if amount else None)
            for name, *amount in wanted
        ),
    )


@pytest.mark.parametrize("row", rows("payments.md", "open", 5), ids=str)
def test_what_a_payment_pays(row: list[str]) -> None:
    open_, paid, named, pays, credit = row
    standing = Standing(customer="acme", invoices=heads(open_))
    if pays == "refused":
        with pytest.raises(Refused):
            receive(received(paid, named), standing)
        return
    payment = receive(received(paid, named), standing).payments[0]
    assert ", ".join(f"{one.number} {one.amount}" for one in payment.allocations) == pays
    assert text(payment.credited_minor) == credit


def credit_of(source: str, left: str, amount: str) -> Credit:
    return Credit(
        source=source,
        number=source,
        customer="acme",
        currency="USD",
        at_us=1,
        amount_minor=minor(amount),
        left_minor=minor(left),
    )


@pytest.mark.parametrize("row", rows("payments.md", "credit it gave", 5), ids=str)
def test_what_is_taken_back_of_a_credit(row: list[str]) -> None:
    gave, left, others, taken, lost = row
    credits_ = [credit_of("pay", left, gave)]
    credits_ += [credit_of("other", others, others)] if others else []
    standing = Standing(customer="acme", held=Holdings(credits=tuple(credits_)))
    payment = Payment(
        id="pay",
        kind="payment",
        customer="acme",
        currency="USD",
        amount=gave,
        amount_minor=minor(gave),
        method="bank",
        reference="",
        received_us=1,
        recorded_us=1,
        credited_minor=minor(gave),
    )
    moves = reverse(payment, standing, 2, "charge-back")
    before = sum(one.left_minor for one in credits_ if one.source in _sources(moves.held))
    after = sum(one.left_minor for one in moves.held.credits)
    assert (text(before - after), text(moves.payments[0].lost_minor)) == (taken, lost)


def _sources(held: Holdings) -> set[str]:
    return {one.source for one in held.credits}


@pytest.mark.parametrize("row", rows("payments.md", "overdue", 4), ids=str)
def test_what_is_asked_for(row: list[str]) -> None:
    overdue, later, threshold, wanted = row
    late = [head(f"L{i}", amount, due_us=4) for i, amount in enumerate(amounts(overdue))]
    soon = [head(f"S{i}", amount, due_us=6) for i, amount in enumerate(amounts(later))]
    found = requests([*late, *soon], "USD", minor(threshold), 5)
    assert [text(one.amount_minor) for one in found] == ([] if wanted == "nothing" else [wanted])


# ------------------------------------------------------------------------------ credit-notes.md


def taxed_world(nets: str, tax: str) -> SettledWorld:
    """Return a world with one invoice of one-off charges with these nets, and this tax."""
    rate, _, amount = tax.partition(": ")
    inclusive = rate.endswith("contained")
    world = SettledWorld()
    world.apply(
        f'[[taxes]]\nkey = "t"\nrate = "{rate.split()[0]}"\ninclusive = {str(inclusive).lower()}\n'
        '[[customers]]\nkey = "acme"\ncurrency = "USD"\n'
    )
    extras = [extra(Decimal(net), at, ("t",)) for at, net in enumerate(nets.split(", "))]
    invoice_now(world.settling, "acme", extras)
    assert world.invoices()[0].taxes[0].amount == amount
    return world


@pytest.mark.parametrize("row", rows("credit-notes.md", "nets", 5), ids=str)
def test_the_tax_of_credit_notes(row: list[str]) -> None:
    nets, tax, turns, taxes, totals = row
    world = taxed_world(nets, tax)
    notes = []
    for turn in turns.split("; "):
        parts = [part.partition(": ") for part in turn.split(" & ")]
        lines = {line: minor(amount) if amount else None for line, _, amount in parts}
        notes.append(world.credit(number("1"), lines))
    assert ", ".join(note.taxes[0].amount for note in notes) == taxes
    assert ", ".join(note.total for note in notes) == totals
    assert all(check_note(world.settling, note.number).ok for note in notes)


@pytest.mark.parametrize("row", rows("credit-notes.md", "payable", 7), ids=str)
def test_where_the_total_of_a_credit_note_goes(row: list[str]) -> None:
    payable, open_, credited, rest, reduces, credit, refund = row
    world = SettledWorld()
    world.apply(MONTHLY.format(rate="20", amount="100"))
    if minor(payable) < 12000:
        world.pay(12000 - minor(payable))
    world.bill("2026-05")
    if payable != open_:
        world.pay(minor(payable) - minor(open_))
    lines = {"1": minor(credited) * 100 // 120}
    ask_total = estimate(world.settling, number("1"), Ask(reason="x")).creditable_minor
    assert ask_total == 12000
    note = world.credit(number("1"), lines, rest)
    assert [note.reduces, note.credited, note.refund] == [reduces, credit, refund]


# ------------------------------------------------------------------------------ invoice-life.md


def test_the_states() -> None:
    page = {
        (state, command): after for state, command, after in rows("invoice-life.md", "state", 3)
    }
    assert page == TRANSITIONS


METERED = """
[[meters]]
key = "calls"
event_type = "t"
aggregation = "COUNT"

[[plans]]
key = "calls"
currency = "USD"
[[plans.charges]]
key = "calls"
meter = "calls"
price = { type = "unit", unit_amount = "10" }
""" + acme("calls")


class Since:
    """What may have happened since an invoice was finalized."""

    def __init__(self) -> None:
        self.world = SettledWorld()
        self.world.apply(METERED)
        self.one = number("1")

    def begin(self, happened: str) -> None:
        if happened == "credit paid all of it":
            self.world.pay(99999)
        for day in ("2026-05-02", "2026-05-12"):
            self.world.event(day)
        if happened.startswith("it gave credit"):
            invoice_now(self.world.settling, "acme", [extra(Decimal(-5), 0, ())])
            self.world.bill("2026-06-01")
            return
        self.world.bill("2026-05-10")
        self.then(happened)

    def then(self, happened: str) -> None:
        settling = self.world.settling
        if happened.startswith("a payment"):
            payment = self.world.pay(100)
            if happened.endswith("reversed"):
                take_back(settling, payment.id, "x")
        elif happened.startswith("a credit note"):
            note = self.world.credit(self.one, {"1": 100})
            if happened.endswith("voided"):
                take_back_note(settling, note.number)
        elif happened.startswith("a later invoice"):
            self.world.bill("2026-05-20")
            if happened.endswith("voided"):
                void_invoice(settling, number("2"))
        elif happened == "written off":
            give_up(settling, self.one)
        else:
            assert happened in {"nothing", "credit paid all of it"}, happened


@pytest.mark.parametrize("row", rows("invoice-life.md", "what happened since", 2), ids=str)
def test_what_can_be_voided(row: list[str]) -> None:
    happened, may = row
    since = Since()
    since.begin(happened)
    if may == "no":
        with pytest.raises(Conflict):
            void_invoice(since.world.settling, since.one)
        return
    assert void_invoice(since.world.settling, since.one).state == "void"
    since.world.bill("2026-05-20")
    assert since.world.invoices()[-1].total == "20.00"
