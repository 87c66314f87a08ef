"""Every row of the pages about grants, entitlements and wallets is recomputed."""

import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from tallybook.catalog.entitlement import (
    Entitlement,
    Grant,
    Interval,
    Metered,
    Recharge,
    Recurrence,
    Rollover,
    TopUp,
    Wallet,
    covers_minor,
    parse_interval,
    units_for,
)
from tallybook.invoice.document.funding import Due, wallets_used
from tallybook.invoice.document.spread import Fund, Payable, spread
from tallybook.invoice.funds import WalletInHand
from tallybook.kernel.decimals import plain
from tallybook.kernel.money import money_text, to_minor
from tallybook.kernel.period import parse_moment, zone
from tallybook.kernel.timestamps import DAY_US, format_us
from tallybook.settle.balance import Reset, Usage
from tallybook.settle.entitlement import HandReset, facts, periods, state_at, value
from tallybook.settle.run import Facts, advance, start
from tallybook.settle.threshold import crossed, recharge_due
from tallybook.settle.wallet import Draw, put_in, wallet_at

PAGES = Path(__file__).resolve().parents[3] / "docs" / "algorithms"
UTC = zone("UTC")


def table(page: str, *heading: str) -> Iterator[list[str]]:
    """Yield the cells of each row of every table with exactly this heading."""
    inside = False
    for line in (PAGES / page).read_text(encoding="utf-8").splitlines():
        cells = [cell.strip().strip("`") for cell in line[1:-1].split("|")]
        if not line.startswith("|"):
            inside = False
        elif cells == list(heading):
            inside = True
        elif inside and not cells[0].startswith("---"):
            yield cells


def rows(page: str, *heading: str) -> list[list[str]]:
    found = list(table(page, *heading))
    assert found, f"{page} has no table {heading}"
    return found


def day(text: str) -> int:
    return int(Decimal(text) * DAY_US)


def listed(text: str, by: str = ",") -> list[str]:
    return [part.strip() for part in text.split(by) if part.strip()]


def options(words: list[str], flags: tuple[str, ...] = ()) -> dict[str, str]:
    """Return `p2 from 3 to 5 free` as {p: 2, from: 3, to: 5, free: ''}."""
    found, rest = {}, iter(words)
    for word in rest:
        if re.fullmatch(r"p\d+", word):
            found["p"] = word[1:]
        else:
            found[word] = "" if word in flags else next(rest)
    return found


def grant(text: str) -> Grant:
    key, amount, *words = text.split()
    said = options(words)
    begin = day(said.get("from", "0"))
    least, _, most = said.get("keep", "0..0").partition("..")
    step = said.get("every")
    every = None if step is None else Interval(exact_us=day(step))
    return Grant(
        key=key,
        amount=Decimal(amount),
        effective_us=begin,
        expires_us=day(said["to"]) if "to" in said else None,
        voided_us=day(said["void"]) if "void" in said else None,
        priority=int(said.get("p", "1")),
        recurrence=None if every is None else Recurrence(interval=every, anchor_us=begin),
        rollover=Rollover(Decimal(least), Decimal(most)),
    )


def usage(text: str) -> tuple[Usage, ...]:
    pairs = (part.split(":") for part in listed(text))
    return tuple(Usage(day(at), Decimal(amount)) for at, amount in pairs)


def spoken(left: dict[str, Decimal]) -> str:
    return "; ".join(f"{key} {plain(amount)}" for key, amount in sorted(left.items()))


GRANTS = rows("grants.md", "grants", "usage", "resets", "at", "left", "overage")


@pytest.mark.parametrize("row", GRANTS, ids=str)
def test_grants(row: list[str]) -> None:
    grants, used, resets, at, left, overage = row
    made_of = Facts(
        grants=tuple(grant(text) for text in listed(grants, ";")),
        usage=usage(used),
        resets=tuple(Reset(day(t.rstrip("!")), t.endswith("!")) for t in listed(resets)),
    )
    state = advance(start(0), made_of, day(at)).state
    assert (spoken(state.left), plain(state.overage)) == (left, overage)


HEADING = ("limit", "granted", "used", "wanted", "access", "balance", "overage")


def metered(**changed: object) -> Metered:
    month = Recurrence(interval=Interval(months=1), anchor_us=0)
    given = {"meter": "m", "period": month, "measure_from_us": 0, **changed}
    return Metered(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize("row", rows("entitlements.md", *HEADING), ids=str)
def test_access(row: list[str]) -> None:
    limit, granted, used, wanted, access, balance, overage = row
    of = metered(soft=limit == "soft", included=Decimal(granted) or None)
    made_of = facts(of, [], [Usage(1, Decimal(used))], [], 2)
    entitlement = Entitlement(customer="c", feature="f", access=of, start_us=0)
    answer = value(entitlement, state_at(of, made_of, 2), 2, wanted=Decimal(wanted or 0))
    assert answer.access is (access == "yes")
    assert (plain(answer.balance), plain(answer.overage)) == (balance, overage)


PERIODS = rows("entitlements.md", "anchor", "interval", "measure from", "resets", "at", "period")


def date(text: str) -> int:
    return parse_moment(text, UTC, "date")


@pytest.mark.parametrize("row", PERIODS, ids=str)
def test_usage_periods(row: list[str]) -> None:
    anchor, interval, since, resets, at, period = row
    of = metered(
        period=Recurrence(interval=parse_interval("i", interval), anchor_us=date(anchor)),
        measure_from_us=date(since),
    )
    by_hand = [HandReset(date(t.split()[0]), t.endswith("keep")) for t in listed(resets)]
    last = periods(of, by_hand, date(at))[-1]
    assert f"{format_us(last.start_us)[:10]} to {format_us(last.end_us)[:10]}" == period


@pytest.mark.parametrize(
    "row", rows("entitlements.md", "factor", "usage", "granted", "used", "balance"), ids=str
)
def test_units(row: list[str]) -> None:
    factor, amounts, granted, used, balance = row
    of = metered(factor=Decimal(factor), included=Decimal(granted))
    points = [Usage(n, Decimal(text)) for n, text in enumerate(listed(amounts))]
    state = state_at(of, facts(of, [], points, [], 100), 100)
    assert (plain(state.usage), plain(state.balance)) == (used, balance)


def top_up(text: str) -> TopUp:
    key, amount, *words = text.split()
    said = options(words, ("free",))
    return TopUp(
        key=key,
        amount=Decimal(amount),
        at_us=day(said.get("at", "0")),
        expires_us=day(said["to"]) if "to" in said else None,
        voided_us=day(said["void"]) if "void" in said else None,
        priority=int(said.get("p", "1")),
        free="free" in said,
    )


def draws(text: str) -> list[Draw]:
    found: list[Draw] = []
    for number, used in enumerate(usage(text)):
        key = found[-1].key if used.amount < 0 else f"d{number}"
        found.append(Draw(used.at_us, key, used.amount))
    return found


WALLETS = [
    (open_means, row)
    for open_means in ("unpaid", "debt")
    for row in rows("wallets.md", "top-ups", "draws", "at", "left", "lapsed", open_means)
]


@pytest.mark.parametrize(("open_means", "row"), WALLETS, ids=str)
def test_wallets(open_means: str, row: list[str]) -> None:
    top_ups, drawn, at, left, lapsed, open_amount = row
    wallet = Wallet(
        key="w",
        customer="c",
        currency="USD",
        overdraft="repay" if open_means == "debt" else "none",
    )
    state = wallet_at(wallet, map(top_up, listed(top_ups, ";")), draws(drawn), day(at))
    assert spoken(state.left) == left
    assert (plain(state.lapsed), plain(state.open)) == (lapsed, open_amount)


def wallet_of(unit: str, rate: str, currency: str) -> Wallet:
    return Wallet(key="w", customer="c", currency=currency, unit=unit, rate=Decimal(rate))


@pytest.mark.parametrize(
    "row", rows("wallets.md", "unit", "rate", "currency", "wanted", "put in", "costs"), ids=str
)
def test_top_ups(row: list[str]) -> None:
    unit, rate, currency, wanted, put, costs = row
    amount, cost_minor = put_in(wallet_of(unit, rate, currency), Decimal(wanted))
    assert (plain(amount), money_text(cost_minor, currency)) == (put, costs)


@pytest.mark.parametrize(
    "row", rows("wallets.md", "rate", "currency", "balance", "total", "pays", "takes"), ids=str
)
def test_paying(row: list[str]) -> None:
    rate, currency, balance, due, pays, takes = row
    wallet = wallet_of("CRD", rate, currency)
    covered = covers_minor(wallet, Decimal(balance))
    paid = min(covered, to_minor(Decimal(due), currency))
    assert money_text(paid, currency) == pays
    assert plain(units_for(wallet, Decimal(balance), paid)) == takes


def fund(text: str, number: int) -> Fund:
    key, amount, *words = text.split()
    said = options(words)
    return Fund(
        key=key,
        available_minor=int(amount),
        priority=int(said.get("p", "1")),
        since_us=number,
        only=(said["only"],) if "only" in said else (),
    )


def line(text: str) -> Payable:
    key, *kind, due = text.split()
    return Payable(key, kind[0] if kind else "", int(due))


@pytest.mark.parametrize("row", rows("wallets.md", "wallets", "lines", "taken"), ids=str)
def test_lines(row: list[str]) -> None:
    wallets, lines, taken = row
    funds = [fund(text, number) for number, text in enumerate(listed(wallets, ";"))]
    for order in (funds, funds[::-1]):
        parts = spread(order, [line(text) for text in listed(lines, ";")])
        assert "; ".join(f"{p.fund} {p.line} {p.amount_minor}" for p in parts) == taken


def hand(text: str, number: int) -> WalletInHand:
    key, amount, *words = text.split()
    said = options(words, ("repay",))
    made = Wallet(
        key=key,
        customer="c",
        currency="JPY",
        priority=int(said.get("p", "1")),
        only=(said["only"],) if "only" in said else (),
        overdraft="repay" if "repay" in words else "none",
    )
    return WalletInHand(wallet=made, balance=Decimal(amount), since_us=number)


@pytest.mark.parametrize("row", rows("wallets.md", "wallets", "lines", "taken", "owes"), ids=str)
def test_debt_of_an_invoice(row: list[str]) -> None:
    wallets, lines, taken, owes = row
    hands = [hand(text, number) for number, text in enumerate(listed(wallets, ";"))]
    dues = [Due(kind, int(minor)) for kind, minor in map(str.split, listed(lines, ";"))]
    used = wallets_used(sum(due.gross_minor for due in dues), dues, hands, "JPY")
    assert "; ".join(f"{one.wallet} {one.amount_minor}" for one in used) == taken
    debts = []
    for one in used:
        held = next(h for h in hands if h.wallet.key == one.wallet)
        ups = [TopUp(key="t", amount=held.balance, at_us=0)] if held.balance else []
        state = wallet_at(held.wallet, ups, [Draw(1, "i", Decimal(one.units))], 2)
        debts += [f"{one.wallet} {plain(state.open)}"] if state.open else []
    assert "; ".join(debts) == owes


CROSSINGS = rows("wallets.md", "direction", "thresholds", "step", "before", "now", "crossed")


@pytest.mark.parametrize("row", CROSSINGS, ids=str)
def test_thresholds(row: list[str]) -> None:
    direction, thresholds, step, before, now, found = row
    numbers = [Decimal(text) for text in listed(thresholds)]
    repeated = Decimal(step) if step else None
    told = crossed(direction, numbers, Decimal(before), Decimal(now), repeated)  # type: ignore[arg-type]
    assert ", ".join(map(plain, told)) == found


@pytest.mark.parametrize(
    "row", rows("wallets.md", "rule", "balance", "unbilled", "on its way", "tops up"), ids=str
)
def test_recharge(row: list[str]) -> None:
    said = {name: Decimal(amount) for name, amount in options(row[0].split()).items()}
    names = {"min": "least", "max": "most"}
    rule = Recharge(**{names.get(name, name): amount for name, amount in said.items()})
    found = recharge_due(rule, *map(Decimal, row[1:4]))
    assert ("" if found is None else plain(found)) == row[4]
