"""Facts that come with time: what is told of each, and when nothing is."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from tallybook.deliver import watch
from tallybook.invoice.ports import InvoiceHead
from tallybook.kernel.book.fact import Fact
from tallybook.kernel.period import Period
from tallybook.kernel.timestamps import DAY_US, parse_rfc3339
from tallybook.settle.entitlement import Value

NOW = parse_rfc3339("2026-11-21T12:00:00Z") or 0
MONTH = Period(parse_rfc3339("2026-11-01T00:00:00Z") or 0, parse_rfc3339("2026-12-01T00:00:00Z"))


def body(fact: Fact | None) -> dict[str, Any]:
    assert fact is not None
    found: dict[str, Any] = msgspec.json.decode(fact.body)
    return found


def used(usage: str, available: str = "1000", period: Period = MONTH) -> Value:
    left = Decimal(available) - Decimal(usage)
    return Value(
        access=left > 0,
        balance=max(left, Decimal(0)),
        usage=Decimal(usage),
        overage=max(-left, Decimal(0)),
        available=Decimal(available),
        period=period,
    )


@pytest.mark.parametrize(
    ("usage", "level"),
    [("0", 0), ("-5", 0), ("1", 0), ("799.999", 0), ("800", 80), ("949", 80), ("950", 95),
     ("999.999999", 95), ("1000", 100), ("1200", 100)],
)  # fmt: skip
def test_levels_of_an_entitlement(usage: str, level: int) -> None:
    assert watch.entitlement_level(used(usage)) == level


def test_an_entitlement_is_told_once_a_level_and_again_in_the_next_period() -> None:
    def told(usage: str, mark: int | None, period: Period = MONTH) -> Fact | None:
        value = used(usage, period=period)
        return watch.entitlement_fact("e", "acme", "api", value, mark, NOW)

    assert told("10", None) is None
    at_80 = watch.entitlement_mark(used("810"))
    fact = told("810", None)
    assert body(fact) == {
        "entitlement": "e", "customer": "acme", "feature": "api", "percent": 80,
        "usage": "810", "granted": "1000", "balance": "190", "overage": "0",
        "period_start": "2026-11-01T00:00:00Z", "period_end": "2026-12-01T00:00:00Z",
    }  # fmt: skip
    assert fact is not None
    assert (fact.kind, fact.subject, fact.customer) == ("entitlement.threshold", "e", "acme")
    assert told("820", at_80) is None
    exhausted = told("1000", at_80)
    assert exhausted is not None
    assert (exhausted.kind, body(exhausted)["percent"]) == ("entitlement.exhausted", 100)
    assert told("1500", watch.entitlement_mark(used("1000"))) is None
    after = Period(MONTH.end_us, (MONTH.end_us or 0) + 30 * DAY_US)
    again = told("850", watch.entitlement_mark(used("1000")), after)
    assert again is not None
    assert again.kind == "entitlement.threshold"


def test_an_invoice_past_its_due_date() -> None:
    head = InvoiceHead(
        id="inv_1", number="2026-1", state="finalized", customer="acme", customer_name="Acme",
        sequence=1, run="r", currency="KWD", total_minor=1_234_567, lines=1, issued_us=NOW - DAY_US,
        due_us=NOW - 1, period_start_us=0, period_end_us=1, cut=1, sha256="", open_minor=5,
    )  # fmt: skip
    fact = watch.overdue_fact(head, NOW)
    assert (fact.kind, fact.subject, fact.customer) == ("invoice.overdue", "inv_1", "acme")
    assert body(fact)["total"] == "1234.567"
    assert body(fact)["open"] == "0.005"
    assert watch.overdue_fact(head, NOW + 5).id == fact.id  # looked at again, it is the same fact


def test_what_came_into_quarantine_is_one_fact() -> None:
    fact = watch.quarantine_fact({"z": 2, "a": 3}, 17, NOW)
    assert body(fact) == {"count": 5, "reasons": {"a": 3, "z": 2}, "until_commit": 17}
    assert watch.quarantine_fact({"z": 2, "a": 3}, 17, NOW + 9).id == fact.id


def test_an_edge_falls_silent_and_returns_once_a_silence() -> None:
    seen = NOW - 400 * 1_000_000
    silent, returned = (watch.edge_silent_fact("e1", seen, NOW),
                        watch.edge_returned_fact("e1", seen, NOW))  # fmt: skip
    assert (silent.kind, returned.kind) == ("edge.silent", "edge.returned")
    assert body(silent)["silent_seconds"] == body(returned)["silent_seconds"] == 400
    assert watch.edge_silent_fact("e1", seen, NOW + 5).id == silent.id
    assert watch.edge_silent_fact("e1", seen + 5, NOW).id != silent.id
    assert body(watch.edge_silent_fact("e1", NOW + 5, NOW))["silent_seconds"] == 0
