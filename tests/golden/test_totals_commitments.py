"""Lago's worked cases of commitments, credits, wallets and bills within a period."""

from collections.abc import Sequence
from decimal import Decimal
from itertools import accumulate

import pytest
from msgspec.structs import replace

from tallybook.catalog.entitlement import Wallet
from tallybook.catalog.tax import Tax
from tallybook.invoice.document import Invoice
from tallybook.invoice.funds import Funds, WalletInHand
from tallybook.kernel.money import allocate
from tallybook.kernel.period import Period
from tallybook.rate.proration import portion
from tests.golden.totals import (
    UTC,
    assert_totals,
    numbered,
    one,
    span_of,
    usd,
)
from tests.golden.vectors import Case, require
from tests.support.composing import (
    Fee,
    credits_of,
    invoiced,
    minimum_item,
    one_off,
    tax_of,
)


@pytest.fixture(autouse=True)
def _there() -> None:
    require()


# ---------------------------------------------------------------- commitments

WHOLE = {
    "MIN-01": ("2023-02-01", "2023-02-06", "2023-01-30", "2023-02-06"),
    "MIN-03": ("2023-02-04", "2023-03-01", "2023-02-01", "2023-03-01"),
    "MIN-05": ("2023-02-04", "2023-04-01", "2023-01-01", "2023-04-01"),
    "MIN-07": ("2022-02-01", "2023-01-01", "2022-01-01", "2023-01-01"),
}
"""Each case's period and whole period, from its interval and its dates."""


def commitment(
    fees: Sequence[Fee], minor: int, span: tuple[int, int, int, int], before: int | None = None
) -> Invoice:
    """Return the invoice of fees and a commitment over a span."""
    item = minimum_item(str(usd(minor)), before)
    item = replace(
        item,
        position=replace(item.position, start_us=span[0]),
        end_us=span[1],
        full_start_us=span[2],
        full_end_us=span[3],
        until_us=span[1],
    )
    return invoiced([replace(fee, span=span) for fee in fees], items=[item])


def true_up(invoice: Invoice) -> int | None:
    return next((line.amount_minor for line in invoice.lines if line.kind == "minimum"), None)


@pytest.mark.parametrize("name", WHOLE)
def test_lago_commitments(name: str) -> None:
    case = one("lago", name)
    given = case["given"]
    fee = Fee(key="fee", minor=given["plan"]["amount_cents"], proration="day")
    found = commitment([fee], given["minimum_commitment_cents"], span_of(WHOLE[name]))
    assert true_up(found) == case["expect"]["commitment_true_up_cents"]


def test_lago_a_commitment_beside_fees_in_advance() -> None:
    case = one("lago", "MIN-11")
    given, expect = case["given"], case["expect"]
    units, minimum = given["usage_units_at_1_00"], given["minimum_commitment_cents"]
    fee = Fee(key="fee", minor=given["plan"]["amount_cents"], proration="day")
    february = span_of(("2024-02-28", "2024-03-01", "2024-02-01", "2024-03-01"))
    part = portion("day", Period(*february[:2]), Period(*february[2:]), UTC)
    paid = int(part.of_amount(Decimal(fee.minor)).quantize(Decimal(1)))
    usage = [Fee(key=key, minor=count * 100, meter=key) for key, count in units.items()]
    second = commitment([replace(fee, before=(paid, 0)), *usage], minimum, february)
    assert true_up(invoiced([replace(fee, span=february)])) is expect["first_invoice_true_up"]
    assert true_up(second) == expect["second_invoice_true_up_cents"]
    march = span_of(("2024-03-01", "2024-04-01", "2024-03-01", "2024-04-01"))
    third = commitment([fee, usage[0]], minimum, march)
    assert true_up(third) == expect["third_invoice_true_up_cents"]


def test_lago_a_commitment_of_the_last_period() -> None:
    case = one("lago", "MIN-13")
    given, expect = case["given"], case["expect"]
    fee = Fee(key="fee", minor=given["plan"]["amount_cents"])
    told = expect["termination_invoice"]
    may = span_of(("2024-05-01", "2024-06-01", "2024-05-01", "2024-06-01"))
    assert told["from"].startswith("2024-05-01")
    found = commitment([fee], given["minimum_commitment_cents"], may)
    assert found.lines[0].amount_minor == told["subscription_cents"]
    assert true_up(found) == told["commitment_cents"]
    assert found.total_minor == told["total_amount_cents"] == expect["monthly_invoice_total_cents"]


# ---------------------------------------------------------------- credits and wallets


def test_lago_credits_are_used_oldest_first() -> None:
    case = one("lago", "CRN-12")
    given, expect = case["given"], case["expect"]
    balances = given["credit_notes_balance_cents"]
    found = invoiced(numbered(given["fees_cents"]), funds=Funds(credits=credits_of(*balances)))
    assert found.total_minor == given["invoice_total_cents"]
    assert [used.amount_minor for used in found.credits] == expect["credits_cents"]
    paid = sum(used.amount_minor for used in found.credits)
    assert paid == expect["credit_notes_amount_cents"]
    left = allocate(found.total_minor - paid, given["fees_cents"])
    shares = [fee - rest for fee, rest in zip(given["fees_cents"], left, strict=True)]
    assert shares == expect["fee_shares_cents"]


def test_lago_credits_are_left_over() -> None:
    case = one("lago", "CRN-13")
    given, expect = case["given"], case["expect"]
    balances = given["credit_notes_balance_cents"]
    found = invoiced(
        numbered([given["invoice_total_cents"]]), funds=Funds(credits=credits_of(*balances))
    )
    used = [one.amount_minor for one in found.credits]
    assert used == expect["credits_cents"]
    assert balances[0] - used[0] == expect["first_note_balance_cents"]


def wallet(name: str, minor: int, place: int) -> WalletInHand:
    """Return the wallet that a case names, such as 'priority 49 limited to charge fees'."""
    only = tuple(
        kind for word, kind in (("charge", "usage"), ("subscription", "fee")) if word in name
    )
    made = Wallet(
        key=name.replace(" ", "-"),
        customer="acme",
        currency="USD",
        priority=1 if "priority" in name else 50,
        only=only,
    )
    return WalletInHand(wallet=made, balance=usd(minor), since_us=place)


def drawn(invoice: Invoice) -> dict[str, Decimal]:
    return {used.wallet: Decimal(used.amount) for used in invoice.prepaid}


def test_lago_wallets_stop_at_the_total() -> None:
    case = one("lago", "PPC-01")
    given, expect = case["given"], case["expect"]
    amounts = [
        Decimal(fee["precise_amount_cents"]).scaleb(-2)
        for fee in given["fees"]
        for _ in range(fee["times"])
    ]
    key = str(given["tax_rate"])
    extras = [
        replace(one_off(0, f"x{n}", (key,)), amount=amount) for n, amount in enumerate(amounts)
    ]
    hand = wallet("w", given["wallet_cents"], 0)
    found = invoiced(extras=extras, funds=Funds(wallets=(hand,)), taxes=[tax_of(key)])
    assert_totals(found, expect["invoice"])
    left = hand.balance - sum(Decimal(used.units) for used in found.prepaid)
    assert left == usd(expect["wallet_balance_cents"])


def test_lago_wallets_by_priority() -> None:
    case = one("lago", "PPC-04")
    given, expect = case["given"], case["expect"]
    names = [name for name in given["wallet_order"] if name != "..."]
    hands = [wallet(name, given["wallets_each_cents"], n) for n, name in enumerate(names)]
    fee = Fee(key="usage", minor=given["invoice_total_cents"], meter="m")
    found = invoiced([fee], funds=Funds(wallets=tuple(hands)))
    told = {name.replace(" ", "-"): Decimal(text) for name, text in expect["drawn"].items()}
    assert drawn(found) == told
    assert_totals(found, {"prepaid_credit_amount_cents": expect["prepaid_credit_amount_cents"]})


def test_lago_wallets_by_kind_of_line() -> None:
    case = one("lago", "PPC-05")
    given, expect = case["given"], case["expect"]
    fees, taxes = [], []
    for fee in given["fees"]:
        rate = round(Decimal(fee["taxes_cents"] * 100) / fee["amount_cents"], 6)
        taxes.append(Tax(key=fee["type"], name="", rate=rate))
        meter = "m" if fee["type"] == "charge" else None
        key = fee["type"]
        fees.append(Fee(key=key, minor=fee["amount_cents"], meter=meter, taxes=(key,)))
    each = given["wallets_each_cents"]
    hands = [wallet(name, each, n) for n, name in enumerate(given["wallets_in_creation_order"])]
    found = invoiced(fees, funds=Funds(wallets=tuple(hands)), taxes=taxes)
    assert found.total_minor == given["invoice_total_cents"]
    told = {name.replace(" ", "-"): Decimal(text) for name, text in expect["drawn"].items()}
    assert drawn(found) == told
    assert_totals(found, {"prepaid_credit_amount_cents": expect["prepaid_credit_amount_cents"]})


# ---------------------------------------------------------------- progressive billing


def progressive(fee: Fee | None, minor: int, before: int) -> Invoice:
    """Return the invoice of a fee and of cumulated usage of which a part was billed."""
    usage = Fee(key="usage", minor=minor, meter="m", before=(before, 0) if before else None)
    return invoiced([usage] if fee is None else [fee, usage])


def usage_minor(given: Case, units: int) -> int:
    return int(Decimal(given["charge"]["amount"]) * units * 100)


def test_lago_progressive_billing() -> None:
    case = one("lago", "PRB-01")
    given, expect = case["given"], case["expect"]
    units = list(accumulate(event["units"] for event in given["events"]))
    (threshold,) = given["thresholds_cents"]
    first = progressive(None, usage_minor(given, units[0]), 0)
    assert [first.total_minor] == expect["progressive_invoices_cents"] == [threshold]
    fee = Fee(key="fee", minor=given["plan"]["amount_cents"])
    last = progressive(fee, usage_minor(given, units[-1]), first.total_minor)
    told = expect["period_invoice"]
    assert sum(Decimal(line.now.amount) for line in last.lines) == usd(told["fees_amount_cents"])
    before = sum(Decimal(line.before.amount) for line in last.lines)
    assert before == usd(told["progressive_billing_credit_amount_cents"])
    assert last.total_minor == told["total_amount_cents"]


def test_lago_progressive_billing_of_a_period_that_ends_early() -> None:
    case = one("lago", "PRB-03")
    given, expect = case["given"], case["expect"]
    units = given["events"][0]["units"]
    first = progressive(None, usage_minor(given, units), 0)
    span = span_of(("2022-12-01", "2022-12-18", "2022-12-01", "2023-01-01"))
    fee = Fee(key="fee", minor=given["plan"]["amount_cents"], proration="day", span=span)
    last = progressive(fee, usage_minor(given, units), first.total_minor)
    told = expect["termination_invoice"]
    now = {line.charge: Decimal(line.now.amount) for line in last.lines}
    before = usd(told["progressive_billing_credit_amount_cents"])
    assert now["fee"] + before == usd(told["fees_amount_cents"])
    assert last.total_minor == told["total_amount_cents"]


def test_lago_progressive_billing_of_three_periods() -> None:
    case = one("lago", "PRB-05")
    given, expect = case["given"], case["expect"]
    fee = Fee(key="fee", minor=given["plan"]["amount_cents"])
    amounts = [usage_minor(given, event["units"]) for event in given["events"]]
    first = progressive(None, amounts[0], 0)
    assert [first.total_minor] == expect["progressive_invoices_cents"]
    billed = [first.total_minor, 0, 0]
    totals = [
        progressive(fee, minor, before).total_minor
        for minor, before in zip(amounts, billed, strict=True)
    ]
    assert totals == expect["period_invoices_total_cents"]


REPLAYED = {
    *WHOLE, "MIN-11", "MIN-13", "CRN-12", "CRN-13", "PPC-01", "PPC-04", "PPC-05",
    "PRB-01", "PRB-03", "PRB-05",
}  # fmt: skip
