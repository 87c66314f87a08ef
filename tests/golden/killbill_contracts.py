"""Kill Bill's worked cases of subscriptions by name, and what tests read off them."""

from decimal import Decimal

import pytest

from tests.golden.vectors import Case, cases

AREAS = (
    "proration.factor.in_advance", "proration.factor.scale", "proration.factor.fixed_30_days",
    "proration.fixed_30_days", "proration.validation", "periods.in_advance", "periods.in_arrear",
    "calendar", "invoice.recurring", "invoice.change", "invoice.idempotence", "invoice.scenario",
    "invoice.fixed_plus_recurring", "invoice.phases", "invoice.repair", "invoice.controls",
    "repair", "repair.tree.view", "repair.tree.merge", "bcd.change", "change.period",
    "pause_resume", "in_arrear", "fixed_term", "in_arrear+usage", "usage.plus_recurring",
)  # fmt: skip
KNOWN = {case["id"]: case for case in cases("killbill", *AREAS)}
REPLAYED: set[str] = set()


def one(name: str) -> Case:
    """Return a case that is replayed here."""
    return KNOWN[name]


def replays(*names: str) -> pytest.MarkDecorator:
    """Mark a test that replays these cases; where they are absent it is skipped."""
    REPLAYED.update(names)
    there = not KNOWN or all(name in KNOWN for name in names)
    assert there, names
    return pytest.mark.parametrize("name", names)


def recurring(case: Case) -> list[list[tuple[str, str, Decimal]]]:
    """Return the recurring items of every invoice."""
    return [
        [
            (item["start"], item["end"], Decimal(item["amount"]))
            for item in items
            if item["type"] == "RECURRING"
        ]
        for items in case["expect"]["invoices"]
    ]


def fees(case: Case) -> list[Decimal]:
    """Return what the recurring items and repairs of every invoice come to."""
    counted = {"RECURRING", "REPAIR_ADJ"}
    return [
        sum((Decimal(i["amount"]) for i in items if i["type"] in counted), Decimal(0))
        for items in case["expect"]["invoices"]
    ]


def anchored(start: str, bcd: int) -> str:
    """Return the billing day in the month of a start."""
    return f"{start[:8]}{bcd:02d}"


def flat(amount: str, key: str = "p") -> dict[str, object]:
    return {key: {"type": "flat", "amount": amount}}
