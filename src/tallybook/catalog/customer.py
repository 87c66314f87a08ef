"""A customer: who pays, and whose usage it is, with dates; and the seller, who sends the invoice.

Source: DECISIONS 19.
"""

import re
from collections.abc import Iterable
from itertools import pairwise

import msgspec

from tallybook.catalog.meter import name_ok
from tallybook.catalog.tax import check_tax_keys
from tallybook.kernel.errors import Invalid
from tallybook.kernel.limits import ATTRIBUTE_CHARS_MAX
from tallybook.kernel.money import exponent
from tallybook.kernel.period import parse_moment, zone
from tallybook.kernel.timestamps import format_us

SUBJECTS_MAX = 10_000
ADDRESS_LINES_MAX = 8
FAR_US = 1 << 62
_LOCALE = re.compile(r"[a-z]{2,3}(_[A-Z][a-z]{3})?(_[A-Z]{2})?\Z")
_COUNTRY = re.compile(r"[A-Z]{2}\Z")
_ENDPOINT = re.compile(r"\d{4}:\S{1,64}\Z", re.ASCII)
_LOGO = re.compile(r"data:image/(png|svg\+xml);base64,[A-Za-z0-9+/]+=*\Z")
_IBAN = re.compile(r"[A-Z]{2}\d{2}[A-Z0-9]{11,30}\Z", re.ASCII)
_BIC = re.compile(r"[A-Z]{4}[A-Z]{2}[A-Z0-9]{2}([A-Z0-9]{3})?\Z", re.ASCII)
GRACE_DAYS_MAX = 90
LOGO_CHARS_MAX = 262_144
_SERIES = re.compile(r"[A-Z0-9][A-Z0-9-]{0,15}\Z")


class SubjectSpan(msgspec.Struct, frozen=True):
    """From `start_us` to before `end_us` the events of `subject` belong to a customer.

    Attributes:
        subject: as in the event.
        start_us: microseconds UTC, or None for "since ever".
        end_us: microseconds UTC, or None for "for good".
    """

    subject: str
    start_us: int | None = None
    end_us: int | None = None

    def overlaps(self, other: "SubjectSpan") -> bool:
        """Whether both hold the same subject at the same instant."""
        if self.subject != other.subject:
            return False
        first, last = max(_start(self), _start(other)), min(_end(self), _end(other))
        return first < last


def _start(span: SubjectSpan) -> int:
    return -FAR_US if span.start_us is None else span.start_us


def _end(span: SubjectSpan) -> int:
    return FAR_US if span.end_us is None else span.end_us


class Place(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an e-invoice needs to know of a party besides its address lines.

    Attributes:
        country: ISO 3166-1 alpha-2, such as DE.
        endpoint: electronic address as scheme:identifier, such as 0088:5790000435975.
        registration: legal registration identifier.
        contact: whom to ask about an invoice; phone: and under which number.
    """

    street: str = ""
    city: str = ""
    postal_code: str = ""
    country: str = ""
    endpoint: str = ""
    registration: str = ""
    contact: str = ""
    phone: str = ""


class Bank(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where to pay."""

    name: str = ""
    iban: str = ""
    bic: str = ""


class Customer(msgspec.Struct, frozen=True, kw_only=True):
    """Who pays.

    Attributes:
        key: stable name, unique within the tenant.
        address: lines below the name, as on an envelope.
        tax_id: such as a VAT number; '' for none.
        currency: of every invoice; the currency of all the customer's plans.
        zone: IANA zone that periods and days are counted in.
        locale: how numbers and dates are written on documents, such as de_DE.
        subjects: whose events are the customer's, and when.
        rule: key of the customer rule that made it; '' for none.
        parent: key of the customer that pays for this one; '' where it pays itself.
        taxes: keys; None for those of the seller; () for none.
        grace_days: how long its invoices stay drafts; None for the seller's.
        place: for e-invoices.
        reference: what the buyer wants to see on invoices, such as an order number.
    """

    key: str
    name: str
    currency: str
    address: tuple[str, ...] = ()
    email: str = ""
    tax_id: str = ""
    zone: str = "UTC"
    locale: str = "en_US"
    subjects: tuple[SubjectSpan, ...] = ()
    rule: str = ""
    parent: str = ""
    taxes: tuple[str, ...] | None = None
    grace_days: int | None = None
    place: Place = Place()
    reference: str = ""


class Seller(msgspec.Struct, frozen=True, kw_only=True):
    """Who sends the invoices of a tenant.

    Attributes:
        name: as on the letterhead.
        address: lines below the name.
        series: the number series; numbers read INV-000001.
        payment_days: days from the invoice's date to the due date.
        notes: lines at the foot.
        taxes: keys; of every line that nobody else says anything about.
        grace_days: how long invoices stay drafts before they are finalized; 0 for not at all.
        zone: of the seller's own dates.
        place: for e-invoices.
        bank: where to pay.
        terms: of payment, a sentence.
        logo: an SVG or PNG as a data URL; '' for none.
    """

    name: str = "Tallybook"
    address: tuple[str, ...] = ()
    email: str = ""
    tax_id: str = ""
    series: str = "INV"
    payment_days: int = 14
    notes: tuple[str, ...] = ()
    taxes: tuple[str, ...] = ()
    grace_days: int = 0
    zone: str = "UTC"
    place: Place = Place()
    bank: Bank = Bank()
    terms: str = ""
    logo: str = ""


class SpanSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A subject as it is written; start and end are dates in the customer's zone or RFC 3339."""

    subject: str
    start: str | None = None
    end: str | None = None


class CustomerSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A customer as it is written in `catalog.toml` and in the API, before it is checked."""

    key: str
    currency: str
    name: str = ""
    address: list[str] = []
    email: str = ""
    tax_id: str = ""
    zone: str = "UTC"
    locale: str = "en_US"
    subjects: list[str | SpanSpec] = []
    parent: str = ""
    taxes: list[str] | None = None
    grace_days: int | None = None
    place: Place = Place()
    reference: str = ""


class SellerSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A seller as it is written, before it is checked."""

    name: str
    address: list[str] = []
    email: str = ""
    tax_id: str = ""
    series: str = "INV"
    payment_days: int = 14
    notes: list[str] = []
    taxes: list[str] = []
    grace_days: int = 0
    zone: str = "UTC"
    place: Place = Place()
    bank: Bank = Bank()
    terms: str = ""
    logo: str = ""


def check_customer(spec: CustomerSpec) -> Customer:
    """Return the customer that a specification means.

    Raises:
        Invalid: names the field, and what to write instead.
    """
    name_ok("key", spec.key)
    exponent(spec.currency)
    if not _LOCALE.match(spec.locale):
        raise Invalid(f"locale '{spec.locale}' is not such as en_US", field="locale")
    return Customer(
        key=spec.key,
        name=_line("name", spec.name) or spec.key,
        currency=spec.currency,
        address=_lines("address", spec.address),
        email=_line("email", spec.email),
        tax_id=_line("tax_id", spec.tax_id),
        zone=zone(spec.zone).key,
        locale=spec.locale,
        subjects=_spans(spec),
        parent=spec.parent and name_ok("parent", spec.parent),
        taxes=None if spec.taxes is None else check_tax_keys(spec.taxes),
        grace_days=_grace(spec.grace_days),
        place=check_place(spec.place),
        reference=_line("reference", spec.reference),
    )


def check_place(place: Place) -> Place:
    """Return the place when it can be used; raises Invalid."""
    if place.country and not _COUNTRY.match(place.country):
        raise Invalid("place.country is two capitals such as DE", field="place.country")
    if place.endpoint and not _ENDPOINT.match(place.endpoint):
        message = "place.endpoint is scheme:identifier, such as 0088:5790000435975"
        raise Invalid(message, field="place.endpoint")
    for name, text in msgspec.structs.asdict(place).items():
        _line(f"place.{name}", text)
    return place


def check_bank(bank: Bank) -> Bank:
    """Return where to pay, without blanks in its numbers; raises Invalid."""
    iban = bank.iban.replace(" ", "").upper()
    bic = bank.bic.replace(" ", "").upper()
    if iban and not (_IBAN.match(iban) and _iban_sum(iban) == 1):
        message = "bank.iban is no IBAN: a letter or digit of it is wrong"
        raise Invalid(message, field="bank.iban")
    if bic and not _BIC.match(bic):
        raise Invalid("bank.bic has 8 or 11 letters and digits", field="bank.bic")
    return Bank(name=_line("bank.name", bank.name), iban=iban, bic=bic)


def _iban_sum(iban: str) -> int:
    """Return the number that an IBAN is, modulo 97 (ISO 7064); 1 of a right one."""
    return int("".join(str(int(sign, 36)) for sign in iban[4:] + iban[:4])) % 97


def _grace(days: int | None) -> int | None:
    if days is not None and not 0 <= days <= GRACE_DAYS_MAX:
        raise Invalid(f"grace_days must be 0 to {GRACE_DAYS_MAX}", field="grace_days")
    return days


def _logo(text: str) -> str:
    if text and not _LOGO.match(text):
        message = "logo is data:image/png;base64,… or data:image/svg+xml;base64,…"
        raise Invalid(message, field="logo")
    if len(text) > LOGO_CHARS_MAX:
        raise Invalid(f"logo has at most {LOGO_CHARS_MAX} characters", field="logo")
    return text


def customer_spec(customer: Customer) -> CustomerSpec:
    """Return a customer as it is written; `check_customer` of it is the customer again."""
    return CustomerSpec(
        key=customer.key,
        currency=customer.currency,
        name=customer.name,
        address=list(customer.address),
        email=customer.email,
        tax_id=customer.tax_id,
        zone=customer.zone,
        locale=customer.locale,
        subjects=[_span_spec(span) for span in customer.subjects],
        parent=customer.parent,
        taxes=None if customer.taxes is None else list(customer.taxes),
        grace_days=customer.grace_days,
        place=customer.place,
        reference=customer.reference,
    )


def check_seller(spec: SellerSpec) -> Seller:
    """Return the seller that a specification means; raises Invalid."""
    if spec.series == "CN":
        raise Invalid("series CN is that of credit notes; take another", field="series")
    if not _SERIES.match(spec.series):
        message = f"series '{spec.series}': 1 to 16 capitals, digits and -, such as INV"
        raise Invalid(message, field="series")
    if not 0 <= spec.payment_days <= 365:
        raise Invalid("payment_days must be 0 to 365", field="payment_days")
    return Seller(
        name=_line("name", spec.name),
        address=_lines("address", spec.address),
        email=_line("email", spec.email),
        tax_id=_line("tax_id", spec.tax_id),
        series=spec.series,
        payment_days=spec.payment_days,
        notes=_lines("notes", spec.notes),
        taxes=check_tax_keys(spec.taxes),
        grace_days=_grace(spec.grace_days) or 0,
        zone=zone(spec.zone).key,
        place=check_place(spec.place),
        bank=check_bank(spec.bank),
        terms=_line("terms", spec.terms),
        logo=_logo(spec.logo),
    )


def seller_spec(seller: Seller) -> SellerSpec:
    """Return a seller as it is written; `check_seller` of it is the seller again."""
    written = msgspec.structs.asdict(seller)
    lists = {name: list(written[name]) for name in ("address", "notes", "taxes")}
    return SellerSpec(**(written | lists))


def _span_spec(span: SubjectSpan) -> str | SpanSpec:
    if span.start_us is None and span.end_us is None:
        return span.subject
    return SpanSpec(
        subject=span.subject,
        start=None if span.start_us is None else format_us(span.start_us),
        end=None if span.end_us is None else format_us(span.end_us),
    )


def _spans(spec: CustomerSpec) -> tuple[SubjectSpan, ...]:
    if len(spec.subjects) > SUBJECTS_MAX:
        raise Invalid(f"a customer has at most {SUBJECTS_MAX} subjects", field="subjects")
    spans = [_span(raw, spec.zone) for raw in spec.subjects]
    spans.sort(key=lambda span: (span.subject, _start(span)))
    for before, span in pairwise(spans):
        if before.overlaps(span):
            raise Invalid(f"subject '{span.subject}' is listed twice at once", field="subjects")
    return tuple(spans)


def _span(raw: str | SpanSpec, zone_name: str) -> SubjectSpan:
    written = SpanSpec(subject=raw) if isinstance(raw, str) else raw
    if not written.subject or len(written.subject) > ATTRIBUTE_CHARS_MAX:
        raise Invalid("a subject needs 1 to 1024 characters", field="subjects")
    tz = zone(zone_name)
    start = None if written.start is None else parse_moment(written.start, tz, "subjects.start")
    end = None if written.end is None else parse_moment(written.end, tz, "subjects.end")
    span = SubjectSpan(written.subject, start, end)
    if _start(span) >= _end(span):
        raise Invalid(f"subject '{span.subject}' must end after it starts", field="subjects")
    return span


def _line(field: str, text: str) -> str:
    if len(text) > ATTRIBUTE_CHARS_MAX or "\n" in text:
        raise Invalid(f"{field} must be one line of at most 1024 characters", field=field)
    return text.strip()


def _lines(field: str, lines: Iterable[str]) -> tuple[str, ...]:
    checked = tuple(_line(field, line) for line in lines)
    if len(checked) > ADDRESS_LINES_MAX:
        raise Invalid(f"{field} has at most {ADDRESS_LINES_MAX} lines", field=field)
    return checked
