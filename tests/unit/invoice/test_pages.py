"""Every row of docs/algorithms/rounding.md and periods.md is recomputed."""

from decimal import Decimal
from pathlib import Path

import pytest

from tallybook.catalog.subscription import StoredPeriod, SubscriptionSpec, check_subscription
from tallybook.catalog.subscription import open_periods as opened
from tallybook.invoice.due import BillRequest, horizon
from tallybook.invoice.rounding import round_line
from tallybook.kernel.errors import Invalid
from tallybook.kernel.money import allocate, money_text
from tallybook.kernel.period import month_period, parse_moment, zone
from tallybook.kernel.timestamps import format_us

PAGES = Path(__file__).resolve().parents[3] / "docs" / "algorithms"
UTC = zone("UTC")


def table(page: str, first: str) -> list[list[str]]:
    """Return the rows of every table whose first column has this heading."""
    rows, inside = [], False
    for line in (PAGES / page).read_text(encoding="utf-8").splitlines():
        cells = [cell.strip().strip("`") for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            inside = False
        elif cells[0] == first:
            inside = True
        elif inside and not cells[0].startswith("---"):
            rows.append(cells)
    return rows


@pytest.mark.parametrize("row", table("rounding.md", "exact"), ids=str)
def test_rounding(row: list[str]) -> None:
    exact, currency, up, even = row
    assert money_text(round_line(Decimal(exact), currency, "half_up"), currency) == up
    assert money_text(round_line(Decimal(exact), currency, "half_even"), currency) == even


def test_an_amount_beyond_every_database_is_refused() -> None:
    with pytest.raises(Invalid, match="too large"):
        round_line(Decimal("1e15"), "USD", "half_up")


@pytest.mark.parametrize("row", table("rounding.md", "amount in minor units"), ids=str)
def test_splitting(row: list[str]) -> None:
    amount, weights, parts = row
    numbers = [int(text) for text in weights.split(",")]
    assert allocate(int(amount), numbers) == [int(text) for text in parts.split(",")]


def day(us: int) -> str:
    return format_us(us)[5:10]


@pytest.mark.parametrize("row", table("periods.md", "anchor"), ids=str)
def test_periods(row: list[str]) -> None:
    anchor, start, periods = row
    spec = SubscriptionSpec(key="s", customer="c", plan="p", start=start, anchor_day=int(anchor))
    found = list(
        opened(check_subscription(spec, "UTC"), (), parse_moment("2027-01-01", UTC, "at"), "UTC", 1)
    )
    wanted = periods.split(", ")
    assert [f"{day(p.start_us)}..{day(p.end_us)}" for p in found][: len(wanted)] == wanted


@pytest.mark.parametrize("row", table("periods.md", "period"), ids=str)
def test_which_month_bills_a_period(row: list[str]) -> None:
    span, month = row
    start, end = (parse_moment(f"2026-{text}", UTC, "at") for text in span.split(".."))
    period = StoredPeriod(
        subscription="s",
        start_us=start,
        end_us=end,
        full_start_us=start,
        full_end_us=end,
        plan="p",
        plan_version=1,
        until_us=start,
    )
    assert month_period(start, int(span[3:5]), UTC).end_us == end
    for asked in ("2026-04", "2026-05", "2026-06"):
        seen = horizon(BillRequest(period=asked), "UTC", parse_moment("2027-01-01", UTC, "now"))
        assert seen.asks_for(period) == (asked == month)
