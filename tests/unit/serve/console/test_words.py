"""Prices, charges and coupons in words."""

from decimal import Decimal

import msgspec
import pytest

from tallybook.catalog.catalog import Catalog
from tallybook.catalog.coupon import CouponSpec, check_coupon
from tallybook.catalog.plan import PlanSpec, check_plan
from tallybook.catalog.price import check_price, parse_price
from tallybook.serve.console.catalog.plans import minimum_words, phases
from tallybook.serve.console.catalog.words import charge_words, coupon_words, price_words
from tallybook.serve.console.render import border, days, every, signed

PRICES = [
    ({"type": "flat", "amount": "29"}, ("29 EUR",)),
    ({"type": "unit", "unit_amount": "0.0004"}, ("0.0004 EUR per unit (call)",)),
    (
        {
            "type": "graduated",
            "tiers": [{"up_to": "10", "unit_amount": "0"}, {"unit_amount": "5", "flat_amount": 2}],
        },
        ("each unit at its tier's price:", "up to 10: free", "above 10: 5 EUR each + 2 EUR once"),
    ),
    (
        {
            "type": "volume",
            "tiers": [
                {"up_to": "10", "flat_amount": "50"},
                {"up_to": "20", "unit_amount": "4"},
                {"unit_amount": "3"},
            ],
        },
        (
            "all units at the price of the tier reached:",
            "up to 10: 50 EUR once",
            "10 – 20: 4 EUR each",
            "above 20: 3 EUR each",
        ),
    ),
    (
        {"type": "graduated", "tiers": [{"unit_amount": "1"}]},
        ("each unit at its tier's price:", "any number: 1 EUR each"),
    ),
    (
        {"type": "package", "package_size": "1000", "amount": "2"},
        ("2 EUR for each started 1,000 call",),
    ),
    (
        {
            "type": "percentage",
            "rate": "1.3",
            "fixed_amount": "2",
            "free_events": 3,
            "event_min": "1.75",
            "event_max": "12",
        },
        (
            "1.3 % of the amount",
            "plus 2 EUR for each event",
            "at least 1.75 EUR an event",
            "at most 12 EUR an event",
            "the first 3 events of a period are free",
        ),
    ),
    (
        {
            "type": "graduated_percentage",
            "tiers": [{"up_to": "10", "rate": "1", "flat_amount": "200"}, {"rate": "2"}],
        },
        (
            "a share of the amount, by tier:",
            "up to 10 EUR: 1 % + 200 EUR once",
            "above 10 EUR: 2 %",
        ),
    ),
    (
        {
            "type": "matrix",
            "dimensions": ["region"],
            "cells": [{"match": {"region": "eu"}, "unit_amount": "0.02"}],
            "default_unit_amount": "0.03",
        },
        ("per unit (call), by region:", "region eu: 0.02 EUR", "anything else: 0.03 EUR"),
    ),
    (
        {
            "type": "matrix",
            "dimensions": ["region"],
            "cells": [{"match": {"region": None}, "unit_amount": "1"}],
        },
        (
            "per unit (call), by region:",
            "region (missing): 1 EUR",
            "anything else cannot be billed",
        ),
    ),
    ({"type": "dynamic", "multiplier": "1.1"}, ("the amount that events carry × 1.1",)),
]


@pytest.mark.parametrize(("raw", "words"), PRICES)
def test_every_type_of_price_has_words(raw: dict[str, object], words: tuple[str, ...]) -> None:
    assert price_words(check_price(parse_price(raw)), "EUR", "call") == words


def test_what_stands_around_a_price_is_told_in_the_order_it_is_applied() -> None:
    price = {
        "type": "unit",
        "unit_amount": "2",
        "unit_conversion": {"operation": "divide", "factor": "1000", "rounding": "ceiling"},
        "free_units": "5",
        "discount_percent": "10",
        "maximum_amount": "100",
        "minimum_amount": "1",
        "pricing_unit": {"name": "credit", "conversion_rate": "0.5"},
    }
    assert price_words(check_price(parse_price(price)), "EUR", "GB")[1:] == (
        "quantity ÷ 1,000, rounded ceiling",
        "the first 5 GB are free",
        "10 % off",
        "at most 100 credit a period",
        "at least 1 credit a period",
        "1 credit = 0.5 EUR",
    )


def test_a_charge_says_when_it_is_due_and_what_of_it_is_counted() -> None:
    raw = {
        "key": "p",
        "currency": "EUR",
        "charges": [
            {
                "key": "seat",
                "timing": "advance",
                "quantity": 3,
                "interval": "P1Y",
                "proration": "none",
                "taxes": [],
                "shares": [{"party": "partner", "percent": 10}],
                "price": {"type": "flat", "amount": 1},
            },
            {"key": "start", "once": True, "price": {"type": "flat", "amount": 9}},
            {
                "key": "calls",
                "meter": "calls",
                "split_by": "region",
                "where": {"region": ["eu", None]},
                "recurring": True,
                "price": {"type": "unit", "unit_amount": 1},
            },
        ],
    }
    plan = check_plan(_spec(raw))
    seat, start, calls = (charge_words(Catalog(), plan, one, "EUR") for one in plan.charges)
    assert seat.price == ("1 EUR", "× 3")
    assert seat.notes == (
        "each year, in advance",
        "never prorated",
        "10 % belongs to partner",
        "taxes: none",
    )
    assert start.notes[0] == "once, when the subscription starts"
    assert calls.notes == (
        "usage of each month, in arrears",
        "for each region",
        "only region eu, (missing)",
        "carried over into the next period",
    )


def _spec(raw: dict[str, object]) -> PlanSpec:
    return msgspec.convert(raw, PlanSpec)


def test_phases_stand_in_order_and_the_plans_own_terms_follow() -> None:
    fee = {"key": "fee", "price": {"type": "flat", "amount": 10}}
    trial = {"key": "trial", "length": "P14D", "charges": []}
    plan = {"key": "p", "currency": "EUR", "charges": [fee], "minimum": {"amount": 50}}
    phased = check_plan(_spec(plan | {"phases": [trial, {"key": "ramp", "length": "P1M"}]}))
    found = phases(Catalog(), phased, "EUR")
    assert [(one.name, one.lasts, len(one.charges)) for one in found] == [
        ("trial", "for 14 days", 0),
        ("ramp", "for a month", 1),
        ("Afterwards", "then, for good", 1),
    ]
    assert [one.minimum for one in found] == [
        "",
        *2 * [minimum_words(phased, phased.minimum, "EUR")],
    ]
    assert found[2].minimum == "Minimum commitment: at least 50 EUR, each month"
    forever = check_plan(_spec(plan | {"phases": [{"key": "all"}]}))
    assert [one.lasts for one in phases(Catalog(), forever, "EUR")] == ["then, for good"]
    plain = check_plan(_spec(plan))
    assert [(one.name, one.lasts) for one in phases(Catalog(), plain, "EUR")] == [("Charges", "")]


def test_coupons_say_what_they_take_off_for_how_long_and_from_what() -> None:
    def words(**fields: object) -> str:
        return coupon_words(check_coupon(CouponSpec(key="c", **fields)))  # type: ignore[arg-type]

    assert words(percent=Decimal(20)) == "20 % off, one invoice"
    assert words(percent=Decimal(20), duration="forever") == "20 % off, every invoice"
    told = words(
        percent=Decimal(5), duration="recurring", invoices=3, plans=["web"], charges=["a", "b"]
    )
    assert told == "5 % off, each of 3 invoices, only on plans web; charges a, b"
    assert words(amount=Decimal(50), currency="EUR") == "50 EUR off, until it is used up"


def test_intervals_and_signs() -> None:
    assert [every(text) for text in ("P1M", "P14D", "P2W", "P18M", "PT1H", "P1Y2M")] == [
        "month",
        "14 days",
        "2 weeks",
        "18 months",
        "PT1H",
        "P1Y2M",
    ]
    assert [signed(text) for text in ("1.50", "0.00", "-2.00")] == ["+1.50", "0.00", "−2.00"]


@pytest.mark.parametrize(
    ("start", "end", "zone", "told"),
    [
        ("2026-10-01T00:00:00Z", "2026-11-01T00:00:00Z", "UTC", "2026-10-01 – 2026-10-31"),
        ("2026-10-01T00:00:00Z", "2026-10-02T00:00:00Z", "UTC", "2026-10-01"),
        ("2026-10-01T00:00:00Z", "2026-10-01T00:00:00Z", "UTC", "2026-10-01"),
        ("2026-09-30T22:00:00Z", "2026-10-31T23:00:00Z", "Europe/Paris", "2026-10-01 – 2026-10-31"),
        ("2026-10-01T00:00:00Z", "2026-10-15T12:30:00Z", "UTC", "2026-10-01 – 2026-10-15 12:30:00"),
    ],
)
def test_a_range_of_days_tells_its_last_day(start: str, end: str, zone: str, told: str) -> None:
    assert days(start, end, zone) == told


def test_a_border_at_midnight_is_its_date() -> None:
    assert border("2026-10-01T00:00:00Z") == "2026-10-01"
    assert border("2026-10-01T00:00:05Z") == "2026-10-01 00:00:05"
