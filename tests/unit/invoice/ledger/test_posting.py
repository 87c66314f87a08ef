"""An invoice's entries: they add up to its total, and to what is payable."""

import msgspec
import pytest

from tallybook.invoice.document import Invoice, TaxTotal
from tallybook.invoice.funds import CreditUsed, WalletUsed
from tallybook.invoice.ledger.facts import finalized_facts
from tallybook.invoice.ledger.posting import postings, voided
from tallybook.invoice.line import LineShare, LineTax
from tallybook.kernel.book.entry import Entry, on_account
from tallybook.kernel.money import money_text
from tests.unit.invoice.sample import sample


def shown(entries: tuple[Entry, ...]) -> list[tuple[str, str, int]]:
    return [(entry.debit, entry.credit, entry.amount_minor) for entry in entries]


def plain() -> Invoice:
    """An invoice of a usage line of 0.38 and a fee of 7.10."""
    return sample().invoices()[0]


def changed(**changes: object) -> Invoice:
    return msgspec.structs.replace(plain(), **changes)


def test_each_line_is_revenue_of_its_service_period() -> None:
    invoice = plain()
    entries = postings(invoice)
    owed, earned = "receivable:acme", "revenue:acme"
    assert shown(entries) == [(owed, earned, line.net_minor) for line in invoice.lines]
    assert {entry.document for entry in entries} == {invoice.id}
    assert {entry.invoice for entry in entries} == {invoice.id}
    assert [entry.line for entry in entries] == [line.id for line in invoice.lines]
    assert len({entry.id for entry in entries}) == len(entries)
    for entry in entries:
        assert entry.service_start_us is not None
        assert entry.service_end_us is not None
        assert entry.service_start_us < entry.service_end_us


def test_taxes_funds_and_shares() -> None:
    invoice = plain()
    first, second = invoice.lines
    lines = (
        msgspec.structs.replace(
            first, shares=(LineShare(party="isp", percent="10", amount="0.10", amount_minor=10),)
        ),
        msgspec.structs.replace(
            second,
            customer="child",
            net_minor=-100,
            base_minor=-84,
            taxes=(LineTax(tax="in", amount="-0.16", amount_minor=-16),),
        ),
    )
    taxes = (tax("in", -16, inclusive=True), tax("out", 50), tax("none", 0))
    total = first.net_minor - 100 + 50
    used = CreditUsed(source="cn_1", number="CN-1", amount="0.20", amount_minor=20)
    drawn = WalletUsed(wallet="w", units="0.10", unit="", amount="0.10", amount_minor=10)
    invoice = msgspec.structs.replace(
        invoice,
        lines=lines,
        taxes=taxes,
        credits=(used,),
        prepaid=(drawn,),
        total_minor=total,
        payable_minor=total - 30,
    )
    entries = postings(invoice)
    assert shown(entries) == [
        ("receivable:acme", "revenue:acme", first.net_minor),
        ("revenue:acme", "share:isp", 10),
        ("revenue:child", "receivable:acme", 84),
        ("tax:in", "receivable:acme", 16),
        ("receivable:acme", "tax:out", 50),
        ("credit:acme", "receivable:acme", 20),
        ("prepaid:w", "receivable:acme", 10),
    ]
    assert [entry.invoice == invoice.id for entry in entries] == [True, False, *[True] * 5]


def tax(key: str, amount_minor: int, *, inclusive: bool = False) -> TaxTotal:
    return TaxTotal(
        tax=key,
        name=key,
        rate="19",
        inclusive=inclusive,
        category="S",
        reason="",
        base="0",
        base_minor=0,
        amount=money_text(amount_minor, "USD"),
        amount_minor=amount_minor,
    )


def test_a_total_below_zero_becomes_credit() -> None:
    lines = tuple(
        msgspec.structs.replace(line, net_minor=-50, base_minor=-50) for line in plain().lines
    )
    invoice = changed(lines=lines, total_minor=-100, payable_minor=0, carried_minor=100)
    entries = postings(invoice)
    assert shown(entries)[-1] == ("receivable:acme", "credit:acme", 100)
    assert on_account(entries, "receivable:acme") == 0
    assert on_account(entries, "credit:acme") == -100


def test_amounts_that_do_not_add_up_are_a_bug() -> None:
    with pytest.raises(AssertionError, match="payable"):
        postings(changed(payable_minor=1))


def test_a_void_takes_everything_back_in_other_entries() -> None:
    invoice = plain()
    entries = (*postings(invoice), *voided(invoice, 5))
    names = {name for entry in entries for name in (entry.debit, entry.credit)}
    assert {on_account(entries, name) for name in names} == {0}
    assert len({entry.id for entry in entries}) == len(entries)
    assert voided(invoice, 5)[0].at_us == 5


def test_what_is_told() -> None:
    facts = finalized_facts(plain())
    assert [fact.kind for fact in facts] == ["invoice.finalized"]
    assert msgspec.json.decode(facts[0].body)["payable"] == plain().payable
    free = changed(payable_minor=0)
    assert [fact.kind for fact in finalized_facts(free)] == ["invoice.finalized", "invoice.paid"]
