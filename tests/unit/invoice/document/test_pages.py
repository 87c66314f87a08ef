"""Every row of the pages about coupons, taxes, commitments, shares and totals is recomputed."""

from decimal import Decimal
from pathlib import Path
from typing import get_args

import pytest
from msgspec.structs import replace

from tallybook.catalog.entitlement import PaidKind, Wallet, covers_minor
from tallybook.catalog.plan import Share
from tallybook.invoice.document import after_use
from tallybook.invoice.document.funding import Due, wallets_used
from tallybook.invoice.document.shares import shared
from tallybook.invoice.funds import CouponInHand, Funds, WalletInHand
from tallybook.invoice.line import LineKind
from tallybook.kernel.money import money_text, rounded_parts, to_minor
from tests.support.composing import (
    Fee,
    amount_off,
    at,
    credits_of,
    drafted,
    in_turn,
    invoiced,
    minimum_item,
    one_off,
    percent_off,
    tax_of,
    wallet_of,
)

PAGES = Path(__file__).resolve().parents[4] / "docs" / "algorithms"


def table(page: str, *heading: str) -> list[list[str]]:
    """Return the rows of every table whose first columns have these headings."""
    rows, inside = [], False
    for line in (PAGES / page).read_text(encoding="utf-8").splitlines():
        cells = [
            cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")
        ]
        if not line.startswith("|"):
            inside = False
        elif tuple(cells[: len(heading)]) == heading:
            inside = True
        elif inside and not cells[0].startswith("---"):
            rows.append(cells)
    assert rows, heading
    return rows


def integers(text: str, by: str = ",") -> list[int]:
    return [int(part) for part in text.split(by) if part.strip()]


def coupon(text: str) -> CouponInHand:
    percent = text.strip().removesuffix(" %")
    return percent_off(percent) if text.strip() != percent else amount_off(int(text))


@pytest.mark.parametrize("row", table("rounding.md", "fractions"), ids=str)
def test_rounded_parts(row: list[str]) -> None:
    fractions, over, parts = row
    assert rounded_parts(integers(fractions), int(over)) == integers(parts)


# ---------------------------------------------------------------- coupons


@pytest.mark.parametrize("row", table("coupons.md", "lines", "coupons in order"), ids=str)
def test_coupons(row: list[str]) -> None:
    lines, coupons, discounts, took, left = row
    given = integers(lines)
    # A line of 0 units is shown where its quantity is not 0, a one-off always.
    found = invoiced(
        extras=[one_off(minor, f"x{n}") for n, minor in enumerate(given)],
        funds=Funds(coupons=in_turn(coupon(text) for text in coupons.split(";"))),
    )
    assert [line.discount_minor for line in found.lines] == integers(discounts)
    assert [used.amount_minor for used in found.discounts] == integers(took)
    assert found.total_minor == int(left)


@pytest.mark.parametrize("row", table("coupons.md", "billed so far"), ids=str)
def test_a_credit_gives_back_what_was_paid(row: list[str]) -> None:
    billed, discount, line, its, gives = (int(cell) for cell in row)
    fee = Fee(key="fee", minor=billed + line, before=(billed, discount))
    found = invoiced([fee], funds=Funds(coupons=(percent_off("50"),)))
    assert (found.lines[0].amount_minor, found.lines[0].discount_minor) == (line, its)
    assert found.total_minor == gives == -found.carried_minor
    assert (found.discount_minor, found.taken_back_minor) == (0, -its)


@pytest.mark.parametrize("row", table("coupons.md", "kind", "duration"), ids=str)
def test_how_long_a_coupon_lasts(row: list[str]) -> None:
    kind, duration, before, used, left = row
    hand = coupon(kind)
    hand = replace(hand, coupon=replace(hand.coupon, duration=duration))
    number, _, unit = before.partition(" ")
    if unit == "left":
        hand = replace(hand, left_minor=int(number))
    elif unit:
        hand = replace(hand, invoices_left=int(number))
    after = after_use(hand, int(used))
    if left == "gone":
        assert after is None
        return
    assert after is not None
    if left == "forever":
        assert after == hand
    elif left.endswith("invoices"):
        assert after.invoices_left == int(left.split()[0])
    else:
        assert after.left_minor == int(left)


# ---------------------------------------------------------------- taxes


def taxed_lines(text: str) -> list[tuple[int, tuple[str, ...]]]:
    parts = [part.partition(":") for part in text.split(";")]
    return [(int(minor), tuple(keys.split())) for minor, _, keys in parts]


@pytest.mark.parametrize("row", table("taxes.md", "lines", "parts"), ids=str)
def test_taxes(row: list[str]) -> None:
    lines, parts, bases, taxes, total = row
    given = taxed_lines(lines)
    found = invoiced(
        extras=[one_off(minor, f"x{n}", keys) for n, (minor, keys) in enumerate(given)],
        taxes=[tax_of(key) for key in {key for _, keys in given for key in keys}],
    )
    wanted = [integers(part, " ") for part in parts.split(";")]
    for (_, keys), line, part in zip(given, found.lines, wanted, strict=True):
        by_tax = {one.tax: one.amount_minor for one in line.taxes}
        assert [by_tax[key] for key in keys] == part
    assert [line.base_minor for line in found.lines] == integers(bases, ";")
    shown = ", ".join(f"{tax.tax} = {tax.amount_minor}" for tax in found.taxes)
    assert shown == taxes
    assert found.total_minor == int(total)
    for tax in found.taxes:
        assert tax.base_minor == sum(
            line.base_minor
            for line, (_, keys) in zip(found.lines, given, strict=True)
            if tax.tax in keys
        )


# ---------------------------------------------------------------- commitments


@pytest.mark.parametrize("row", table("commitments.md", "minimum", "start"), ids=str)
def test_commitments(row: list[str]) -> None:
    minimum, start, end, full_start, full_end, charged, committed, true_up = row
    span = (at(start), at(end), at(full_start), at(full_end))
    fee = Fee(key="fee", minor=to_minor(Decimal(charged), "USD"), span=span)
    item = minimum_item(
        minimum,
        position=replace(minimum_item("1").position, start_us=span[0]),
        end_us=span[1],
        full_start_us=span[2],
        full_end_us=span[3],
        until_us=span[1],
    )
    if charged == "0.00":
        assert drafted([fee], items=[item]) is None
        return
    found = invoiced([fee], items=[item])
    lines = {line.kind: line for line in found.lines}
    assert lines["fee"].amount == charged
    if true_up == "0.00":
        assert set(lines) == {"fee"}
        return
    line = lines["minimum"]
    assert line.amount == true_up
    assert (line.steps[0].amount, line.steps[1].amount) == (
        f"{Decimal(committed).normalize():f}",
        f"{-Decimal(charged).normalize():f}",
    )


def test_late_usage_of_a_commitment() -> None:
    true_up_before, charged_before = None, None
    for _, charged, so_far, line in table("commitments.md", "invoice", "charged so far"):
        fee = Fee(
            key="fee",
            minor=int(charged),
            before=None if charged_before is None else (charged_before, 0),
        )
        found = invoiced([fee], items=[minimum_item("10.00", true_up_before)])
        (own,) = [one for one in found.lines if one.kind == "minimum"]
        assert (own.amount_minor, own.now.amount) == (int(line), money_text(int(so_far), "USD"))
        charged_before, true_up_before = int(charged), int(so_far)


# ---------------------------------------------------------------- shares


@pytest.mark.parametrize("row", table("shares.md", "base in minor units"), ids=str)
def test_shares(row: list[str]) -> None:
    base, shares, parts, rest = row
    pairs = [text.split() for text in shares.split(",")]
    given = tuple(Share(party, Decimal(percent)) for party, percent in pairs)
    found = [one.amount_minor for one in shared(int(base), given, "USD")]
    assert found == integers(parts)
    assert int(base) - sum(found) == int(rest)


# ---------------------------------------------------------------- totals


def wallets(text: str) -> tuple[WalletInHand, ...]:
    found = []
    for n, one in enumerate(part.strip() for part in text.split(",") if part.strip()):
        balance, _, kinds = one.partition(" ")
        only = tuple(kinds.strip("()").split()) if kinds else ()
        found.append(wallet_of(int(balance), f"w{n}", only, priority=n))
    return tuple(found)


@pytest.mark.parametrize("row", table("invoice-totals.md", "lines", "coupon"), ids=str)
def test_totals(row: list[str]) -> None:
    lines, off, credited, balances, total, used, prepaid, payable, carried = row
    given = taxed_lines(lines)
    found = invoiced(
        extras=[one_off(minor, f"x{n}", keys) for n, (minor, keys) in enumerate(given)],
        taxes=[tax_of(key) for key in {key for _, keys in given for key in keys}],
        funds=Funds(
            coupons=in_turn(coupon(text) for text in [off] if text),
            credits=credits_of(*integers(credited)),
            wallets=wallets(balances),
        ),
    )
    assert found.total_minor == int(total)
    assert [one.amount_minor for one in found.credits] == [n for n in integers(used) if n]
    assert [one.amount_minor for one in found.prepaid] == [n for n in integers(prepaid) if n]
    assert (found.payable_minor, found.carried_minor) == (int(payable), int(carried))


@pytest.mark.parametrize("row", table("invoice-totals.md", "wallet", "rate"), ids=str)
def test_what_a_wallet_pays(row: list[str]) -> None:
    name, rate, balance, due, pays, units = row
    currency = "USD" if name == "credits" else name
    unit = "credits" if name == "credits" else ""
    wallet = Wallet(key="w", customer="c", currency=currency, unit=unit, rate=Decimal(rate))
    hand = WalletInHand(wallet=wallet, balance=Decimal(balance))
    minor = to_minor(Decimal(due), currency)
    (used,) = wallets_used(minor, [Due("fee", minor)], [hand], currency)
    assert (used.amount, used.units, used.unit) == (pays, units, unit)
    assert used.amount_minor <= covers_minor(wallet, hand.balance)


def test_wallets_know_the_kinds_of_lines() -> None:
    assert get_args(PaidKind) == get_args(LineKind)
