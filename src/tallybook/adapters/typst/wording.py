"""An invoice in words and numbers of a locale: everything the template prints, as text.

Numbers never pass through a float: Babel formats `Decimal`.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal

from babel import Locale, UnknownLocaleError
from babel.dates import format_date, format_datetime, format_time
from babel.numbers import format_currency, format_decimal

from tallybook.invoice.audit.chart import UsageChart
from tallybook.invoice.document import DRAFT_NUMBER, Invoice, Party
from tallybook.invoice.line import Line
from tallybook.kernel.decimals import divide, plain
from tallybook.kernel.money import exponent
from tallybook.kernel.period import zone
from tallybook.kernel.timestamps import from_us, parse_rfc3339
from tallybook.rate.step import Step

Words = dict[str, object]
"""What the template prints; every leaf is text, but for the heights of bars."""

STEPS_MAX = 20
"""Steps printed for one line; the explanation of the line has all of them."""
BAR_FULL = 1000
UNITS = {"By": "bytes", "s": "s", "h": "h", "By-h": "byte-hours", "unit-h": "hours"}
"""UCUM codes that people do not read; others are printed as they are."""
QUANTITY_DECIMALS = 6
_WIDE_YEN = "\uffe5"
_CODE = re.compile(r"([A-Z]{3})(?=\d)")
_BEYOND = 0x0590
"""Latin, Greek and Cyrillic lie below; the typesetter's own fonts have them."""
_SPACES = "\u2009\u200f\u202f\u2013"
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


class Wording:
    """Spells numbers, money and dates for one invoice.

    Args:
        invoice: names locale, currency and zone.
    """

    def __init__(self, invoice: Invoice) -> None:
        """Choose the locale; American English where it is unknown."""
        try:
            self.locale = Locale.parse(invoice.locale)
        except (UnknownLocaleError, ValueError):
            self.locale = Locale("en", "US")
        self.currency = invoice.currency
        self.zone = zone(invoice.zone)

    def money(self, amount: str) -> str:
        """Return an amount with the currency's sign and digits."""
        text = format_currency(Decimal(amount), self.currency, locale=self.locale)
        return _spelled(text)

    def price(self, amount: str) -> str:
        """Return an exact amount: all of its digits, and no fewer than the currency's."""
        value = Decimal(amount)
        digits = value.as_tuple().exponent
        if isinstance(digits, int) and -digits <= exponent(self.currency):
            return self.money(amount)
        exact = format_currency(
            value, self.currency, locale=self.locale, decimal_quantization=False
        )
        return _spelled(exact)

    def number(self, value: str) -> str:
        """Return a quantity with up to six decimals; the explanation of the line has all."""
        text = plain(divide(Decimal(value), Decimal(1), QUANTITY_DECIMALS))
        return str(format_decimal(Decimal(text), locale=self.locale, decimal_quantization=False))

    def numbers_in(self, text: str) -> str:
        """Return a sentence with its numbers spelled in the locale."""
        return _NUMBER.sub(lambda found: self.number(found.group()), text)

    def day(self, text: str, *, before: bool = False) -> str:
        """Return a date; `before` is the date of the instant just before."""
        local = self.local(text, before=before)
        return _readable(format_date(local, "medium", locale=self.locale), local, "%Y-%m-%d")

    def span(self, start: str, end: str) -> str:
        """Return a half-open range of time: its days, the last one included, or to the minute."""
        local = self.local(end)
        if (local.hour, local.minute, local.second, local.microsecond) != (0, 0, 0, 0):
            last = format_datetime(local, "medium", locale=self.locale)
            last = _readable(last, local, "%Y-%m-%d %H:%M")
        else:
            last = self.day(end, before=True)
        return f"{self.day(start)} – {last}"

    def window(self, text: str, size: str) -> str:
        """Return the short name of a bar."""
        local = self.local(text)
        if size == "DAY":
            return _readable(format_date(local, "d MMM", locale=self.locale), local, "%m-%d")
        return _readable(format_time(local, "short", locale=self.locale), local, "%H:%M")

    def local(self, text: str, *, before: bool = False) -> datetime:
        """Return an instant in the customer's zone; `before` is the instant just before it."""
        us = parse_rfc3339(text)
        assert us is not None, "an invoice's times are RFC 3339"
        return from_us(us - 1 if before else us).astimezone(self.zone)


def _spelled(text: str) -> str:
    """Return money with a sign that the fonts have, and a space between a code and the digits."""
    return _CODE.sub("\\1\u00a0", str(text).replace(_WIDE_YEN, "¥"))


def _readable(text: str, local: datetime, plain_format: str) -> str:
    """Return a date as its locale writes it, or in digits where the fonts may lack its letters."""
    return (
        text
        if all(ord(char) < _BEYOND or char in _SPACES for char in text)
        else local.strftime(plain_format)
    )


def invoice_words(invoice: Invoice, charts: Sequence[UsageChart]) -> Words:
    """Return everything that is printed of an invoice."""
    say = Wording(invoice)
    many = len({line.subscription for line in invoice.lines}) > 1
    return {
        "lang": say.locale.language,
        "title": "Draft invoice" if invoice.number == DRAFT_NUMBER else "Invoice",
        "number": invoice.number,
        "seller": _party(invoice.seller),
        "customer": _party(invoice.customer),
        "facts": list(_facts(invoice, say)),
        "lines": [_line(line, say, many=many) for line in invoice.lines],
        "total": [_total_label(invoice), say.money(invoice.total)],
        "charts": [_chart(chart, say) for chart in charts],
        "notes": list(invoice.notes),
        "proof": f"Each line lists its events: tallybook invoice explain {invoice.number}",
    }


def _party(party: Party) -> Words:
    more = [party.email, f"Tax ID {party.tax_id}" if party.tax_id else ""]
    return {"name": party.name, "lines": [*party.address, *(text for text in more if text)]}


def _facts(invoice: Invoice, say: Wording) -> Iterator[list[str]]:
    yield ["Invoice number", invoice.number]
    yield ["Date", say.day(invoice.issued)]
    if invoice.total_minor > 0:
        yield ["Payable by", say.day(invoice.due)]
    yield ["Service period", say.span(invoice.period_start, invoice.period_end)]
    yield ["Customer", invoice.customer_key]


def _total_label(invoice: Invoice) -> str:
    return "In your favour" if invoice.total_minor < 0 else "Total due"


def _line(line: Line, say: Wording, *, many: bool) -> Words:
    first = Decimal(line.before.amount) == 0 and line.before.events == 0
    plain_sum = line.steps[0].quantity in {None, line.quantity}
    only = line.steps[0] if first and plain_sum and len(line.steps) == 1 else None
    return {
        "name": line.name,
        "notes": list(_notes(line, only, say, many=many)),
        "quantity": say.number(line.quantity) if line.meter is not None else "",
        "unit": UNITS.get(line.unit, line.unit),
        "price": say.price(only.unit_amount) if only and only.unit_amount else "",
        "amount": say.money(line.amount),
        "steps": [] if only else list(_steps(line, say)),
    }


def _notes(line: Line, only: Step | None, say: Wording, *, many: bool) -> Iterator[str]:
    """Yield what stands in small print below a line's name."""
    for name, value in line.dimensions.items():
        yield f"{name}: {'(none)' if value is None else value}"
    if many:
        yield f"Subscription {line.subscription}"
    span = say.span(line.period_start, line.until)
    yield f"Adjustment for {span}" if line.adjustment else span
    if only is not None and (label := _label(only, say)):
        yield label


def _label(step: Step, say: Wording) -> str:
    """Return what a step says besides its sum, such as 'Tier 2, over 10'; all of a mere note."""
    if _is_note(step):
        return _capital(say.numbers_in(step.text))
    label, colon, rest = step.text.partition(": ")
    text = say.numbers_in(label if colon else "")
    if text == "fixed fee":
        text = ""
    if "days" in rest or "microseconds" in rest:
        text = say.numbers_in(step.text.partition(" = ")[0])
    return _capital(text)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _is_note(step: Step) -> bool:
    """Whether a step only says what is done to the quantity."""
    return step.amount == "0" and step.quantity is None and step.tier is None


def _price(text: str, step: Step, say: Wording) -> str:
    """Return an amount of a step in what it is in: the currency, or credits."""
    return say.price(text) if step.unit is None else f"{say.number(text)} {step.unit}"


def _steps(line: Line, say: Wording) -> Iterator[Words]:
    """Yield the sums that lead to a line: its tiers, and what was billed before."""
    for step in line.steps[:STEPS_MAX]:
        yield _step(
            _label(step, say) or "Used so far",
            say.number(step.quantity) if step.quantity else "",
            _price(step.unit_amount, step, say) if step.unit_amount else "",
            "" if _is_note(step) else _price(step.amount, step, say),
        )
    if len(line.steps) > STEPS_MAX:
        yield _step(f"and {len(line.steps) - STEPS_MAX} more steps", "", "", "")
    if Decimal(line.before.amount) or line.before.events:
        negative = str(-Decimal(line.before.amount))
        quantity = say.number(str(-Decimal(line.before.quantity))) if line.meter else ""
        yield _step("Billed on earlier invoices", quantity, "", say.money(negative))


def _step(text: str, quantity: str, price: str, amount: str) -> Words:
    return {"text": text, "quantity": quantity, "price": price, "amount": amount}


def _chart(chart: UsageChart, say: Wording) -> Words:
    values = [max(Decimal(bar.value), Decimal(0)) for bar in chart.bars]
    top = max(values)
    heights = [int(value * BAR_FULL / top) if top else 0 for value in values]
    unit = UNITS.get(chart.unit, chart.unit)
    per = chart.size.lower()
    names = [say.window(chart.bars[i].start, chart.size) for i in (0, len(values) // 2, -1)]
    return {
        "title": f"{_what(chart.name, unit)} per {per}",
        "top": say.number(format(top, "f")),
        "heights": heights,
        "names": names if len(values) > 2 else names[:1],
    }


def _what(name: str, unit: str) -> str:
    """Return what a chart counts: its name, and the unit where that says more."""
    return f"{name}, {unit}" if unit and unit != name.lower() else name
