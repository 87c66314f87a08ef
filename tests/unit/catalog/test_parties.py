"""Customers, the seller, taxes and coupons: what is refused, and that all can be written again."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from tallybook.catalog.coupon import CouponSpec, check_coupon, coupon_spec
from tallybook.catalog.customer import (
    ADDRESS_LINES_MAX,
    LOGO_CHARS_MAX,
    SUBJECTS_MAX,
    CustomerSpec,
    SellerSpec,
    SpanSpec,
    SubjectSpan,
    check_customer,
    check_seller,
    customer_spec,
    seller_spec,
)
from tallybook.catalog.tax import TaxSpec, check_tax, tax_spec
from tallybook.kernel.errors import Invalid
from tallybook.kernel.timestamps import format_us

LONG = "x" * 1025
PNG = "data:image/png;base64,iVBORw0KGgo="
PLACE = {
    "street": "Hauptstr. 1",
    "city": "Berlin",
    "postal_code": "10115",
    "country": "DE",
    "endpoint": "0088:5790000435975",
    "registration": "HRB 1",
}

SUBJECTS = [
    "a",
    {"subject": "b", "start": "2026-05-01", "end": "2026-06-01"},
    {"subject": "b", "start": "2026-06-01"},
    {"subject": "c", "end": "2026-01-01"},
]


def customer(**more: Any) -> CustomerSpec:
    return msgspec.convert({"key": "c", "currency": "EUR", **more}, CustomerSpec)


def seller(**more: Any) -> SellerSpec:
    return msgspec.convert({"name": "Example Ltd", **more}, SellerSpec)


def coupon(**more: Any) -> CouponSpec:
    return msgspec.convert({"key": "k", **more}, CouponSpec)


def tax(**more: Any) -> TaxSpec:
    return msgspec.convert({"key": "vat", "rate": "19", **more}, TaxSpec)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"parent": "group", "taxes": [], "grace_days": 0, "place": PLACE, "reference": "PO 7"},
        {"taxes": ["vat", "city"], "grace_days": 90, "locale": "zh_Hans_CN"},
        {"address": ["1 High Street"], "email": "a@example.com", "tax_id": "DE1"},
        {"zone": "Asia/Tokyo", "subjects": SUBJECTS},
    ],
)  # fmt: skip
def test_a_customer_is_written_again_as_it_is(more: dict[str, Any]) -> None:
    made = check_customer(customer(**more))
    assert check_customer(customer_spec(made)) == made


def test_dates_of_subjects_are_of_the_customers_zone() -> None:
    written = customer(zone="Asia/Tokyo", subjects=[{"subject": "a", "start": "2026-05-01"}])
    (span,) = check_customer(written).subjects
    assert format_us(span.start_us or 0) == "2026-04-30T15:00:00Z"
    assert customer_spec(check_customer(written)).subjects == [
        SpanSpec(subject="a", start="2026-04-30T15:00:00Z")
    ]


def test_spans_of_other_subjects_do_not_overlap() -> None:
    assert not SubjectSpan("a").overlaps(SubjectSpan("b"))
    assert SubjectSpan("a", 1, 5).overlaps(SubjectSpan("a", 4, 9))
    assert not SubjectSpan("a", 1, 5).overlaps(SubjectSpan("a", 5, 9))


@pytest.mark.parametrize(
    ("more", "message", "field"),
    [
        ({"key": "a b"}, "use letters", "key"),
        ({"currency": "EUX"}, "ISO 4217", "currency"),
        ({"locale": "german"}, "not such as en_US", "locale"),
        ({"zone": "Berlin"}, "not an IANA", "zone"),
        ({"name": "a\nb"}, "one line", "name"),
        ({"reference": LONG}, "one line", "reference"),
        ({"address": ["a"] * (ADDRESS_LINES_MAX + 1)}, "at most 8 lines", "address"),
        ({"parent": "a b"}, "use letters", "parent"),
        ({"taxes": ["a", "a"]}, "different taxes", "taxes"),
        ({"grace_days": 91}, "0 to 90", "grace_days"),
        ({"grace_days": -1}, "0 to 90", "grace_days"),
        ({"place": {"country": "Germany"}}, "two capitals", "place.country"),
        ({"place": {"endpoint": "mail"}}, "scheme:identifier", "place.endpoint"),
        ({"place": {"city": LONG}}, "one line", "place.city"),
        ({"subjects": [""]}, "1 to 1024", "subjects"),
        ({"subjects": [LONG]}, "1 to 1024", "subjects"),
        ({"subjects": ["a", "a"]}, "listed twice", "subjects"),
        ({"subjects": [{"subject": "a", "start": "2026-05-02", "end": "2026-05-01"}]},
         "end after it starts", "subjects"),
        ({"subjects": [{"subject": "a", "start": "May"}]}, "neither", "subjects.start"),
        ({"subjects": [f"s{n}" for n in range(SUBJECTS_MAX + 1)]}, "at most 10000", "subjects"),
    ],
)  # fmt: skip
def test_a_customer_is_refused_with_its_field(
    more: dict[str, Any], message: str, field: str
) -> None:
    with pytest.raises(Invalid, match=message) as caught:
        check_customer(customer(**more))
    assert caught.value.field == field


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"taxes": ["vat"], "grace_days": 3, "zone": "Europe/Berlin", "place": PLACE, "logo": PNG,
         "bank": {"name": "Bank", "iban": "GB33 BUKB 2020 1555 5555 55", "bic": "bukbgb22xxx"},
         "terms": "Net 30", "payment_days": 30, "series": "2026-A", "notes": ["a", "b"],
         "address": ["1 High Street"], "email": "a@example.com", "tax_id": "GB1"},
    ],
)  # fmt: skip
def test_a_seller_is_written_again_as_it_is(more: dict[str, Any]) -> None:
    made = check_seller(seller(**more))
    assert check_seller(seller_spec(made)) == made


def test_the_numbers_of_a_bank_are_written_without_blanks() -> None:
    bank = check_seller(
        seller(bank={"iban": "de89 3704 0044 0532 0130 00", "bic": "cobadeff"})
    ).bank
    assert (bank.iban, bank.bic) == ("DE89370400440532013000", "COBADEFF")


@pytest.mark.parametrize(
    ("more", "message", "field"),
    [
        ({"series": "inv"}, "capitals", "series"),
        ({"payment_days": 366}, "0 to 365", "payment_days"),
        ({"taxes": ["a", "a"]}, "different taxes", "taxes"),
        ({"grace_days": 91}, "0 to 90", "grace_days"),
        ({"zone": "Berlin"}, "not an IANA", "zone"),
        ({"bank": {"iban": "DE00 3704 0044 0532 0130 00"}}, "no IBAN", "bank.iban"),
        ({"bank": {"iban": "12"}}, "no IBAN", "bank.iban"),
        ({"bank": {"bic": "COBA"}}, "8 or 11", "bank.bic"),
        ({"bank": {"name": LONG}}, "one line", "bank.name"),
        ({"terms": LONG}, "one line", "terms"),
        ({"logo": "https://example.com/logo.png"}, "data:image", "logo"),
        ({"logo": PNG + "A" * LOGO_CHARS_MAX}, "data:image|at most", "logo"),
        ({"logo": "data:image/png;base64," + "A" * LOGO_CHARS_MAX}, "at most 262144", "logo"),
    ],
)
def test_a_seller_is_refused_with_its_field(more: dict[str, Any], message: str, field: str) -> None:
    with pytest.raises(Invalid, match=message) as caught:
        check_seller(seller(**more))
    assert caught.value.field == field


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"name": "VAT 19 %", "inclusive": True},
        {"rate": "0", "category": "AE", "reason": "Reverse charge"},
        {"rate": "9.975"},
        {"rate": "100", "category": "L"},
    ],
)
def test_a_tax_is_written_again_as_it_is(more: dict[str, Any]) -> None:
    made = check_tax(tax(**more))
    assert check_tax(tax_spec(made)) == made


@pytest.mark.parametrize(
    ("more", "message", "field"),
    [
        ({"key": "a b"}, "use letters", "key"),
        ({"rate": "NaN"}, "a percentage", "rate"),
        ({"rate": "1.2345678"}, "at most 6 decimals", "rate"),
        ({"rate": "-1"}, "0 to 100", "rate"),
        ({"rate": "101"}, "0 to 100", "rate"),
        ({"category": "E"}, "category E has rate 0", "category"),
        ({"name": LONG}, "at most 1024", "name"),
        ({"reason": LONG}, "at most 1024", "name"),
    ],
)
def test_a_tax_is_refused_with_its_field(more: dict[str, Any], message: str, field: str) -> None:
    with pytest.raises(Invalid, match=message) as caught:
        check_tax(tax(**more))
    assert caught.value.field == field


@pytest.mark.parametrize(
    "more",
    [
        {"percent": "10"},
        {"percent": "100", "name": "Free", "duration": "forever", "plans": ["b", "a"]},
        {"amount": "5.50", "currency": "EUR", "meters": ["calls"], "charges": ["fee"]},
        {"amount": "5", "currency": "JPY", "duration": "recurring", "invoices": 3,
         "redeem_until": "2026-12-31"},
    ],
)  # fmt: skip
def test_a_coupon_is_written_again_as_it_is(more: dict[str, Any]) -> None:
    made = check_coupon(coupon(**more))
    assert check_coupon(coupon_spec(made)) == made
    assert made.plans == tuple(sorted(made.plans))


def test_a_coupon_is_redeemed_until_a_day_in_utc() -> None:
    made = check_coupon(coupon(percent="10", redeem_until="2026-12-31"))
    assert format_us(made.redeem_until_us or 0) == "2026-12-31T00:00:00Z"
    assert made.percent == Decimal(10)


@pytest.mark.parametrize(
    ("more", "message", "field"),
    [
        ({"key": "a b", "percent": "1"}, "use letters", "key"),
        ({}, "either amount or percent", "amount"),
        ({"amount": "1", "currency": "EUR", "percent": "1"}, "either amount or percent", "amount"),
        ({"amount": "1"}, "ISO 4217", "currency"),
        ({"amount": "0", "currency": "EUR"}, "above 0", "amount"),
        ({"percent": "1", "currency": "EUR"}, "needs no currency", "currency"),
        ({"percent": "0"}, "above 0", "percent"),
        ({"percent": "100.1"}, "at most 100", "percent"),
        ({"percent": "1", "name": LONG}, "at most 1024", "name"),
        ({"percent": "1", "invoices": 3}, "a recurring coupon", "invoices"),
        ({"percent": "1", "duration": "recurring"}, "a recurring coupon", "invoices"),
        ({"percent": "1", "duration": "recurring", "invoices": 0}, "1 to 1200", "invoices"),
        ({"percent": "1", "redeem_until": "soon"}, "neither", "redeem_until"),
    ],
)
def test_a_coupon_is_refused_with_its_field(more: dict[str, Any], message: str, field: str) -> None:
    with pytest.raises(Invalid, match=message) as caught:
        check_coupon(coupon(**more))
    assert caught.value.field == field
