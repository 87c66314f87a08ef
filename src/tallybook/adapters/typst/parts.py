"""Parts that documents have in common: parties, lines, taxes, charts. Every leaf is text."""

import re
from collections.abc import Iterator, Sequence
from decimal import Decimal

from tallybook.adapters.typst.phrases import translated
from tallybook.adapters.typst.spelling import Spelling
from tallybook.adapters.typst.wording import Labels, labels
from tallybook.catalog.customer import Bank
from tallybook.invoice.audit.chart import UsageChart
from tallybook.invoice.document import Party, TaxTotal
from tallybook.invoice.line import Line
from tallybook.kernel.decimals import divide, plain
from tallybook.rate.step import Step

Words = dict[str, object]
"""What the template prints; every leaf is text, but for the heights of bars."""

STEPS_MAX = 20
"""Steps printed for one line; the explanation of the line has all of them."""
BAR_FULL = 1000
UNITS = {"By": "bytes", "s": "s", "h": "h", "By-h": "byte-hours", "unit-h": "hours"}
"""UCUM codes that people do not read; others are printed as they are."""
WITHIN_A_DAY = {"MINUTE", "HOUR"}
IBAN_GROUP = 4
UNSAID = {"fixed fee", "one-off"}
"""What a step is, where the line says so by itself."""
HOUR_DECIMALS = 4
HOUR_US = Decimal(3_600_000_000)
_PORTION = re.compile(r"(-?\d+(?:\.\d+)?)? × (\d+ of \d+ (?:days|microseconds))")
_EXACT_TIME = re.compile(r"(\d+) of (\d+) microseconds")


class Writer:
    """Puts the parts of one document into words.

    Args:
        locale: of the customer.
        currency: ISO 4217.
        zone_name: whose dates are written.
    """

    def __init__(self, locale: str, currency: str, zone_name: str) -> None:
        """Choose words and spelling."""
        self.say = Spelling(locale, currency, zone_name)
        self.language = self.say.locale.language
        self.labels: Labels = labels(self.language)

    def party(self, party: Party) -> Words:
        """Return name, address and tax number."""
        tax = self.labels.tax_id.format(party.tax_id) if party.tax_id else ""
        more = [text for text in (party.email, tax) if text]
        return {"name": party.name, "lines": [*self._address(party), *more]}

    def _address(self, party: Party) -> list[str]:
        """Return the lines as written, or those that the place gives."""
        if party.address:
            return list(party.address)
        place = party.place
        city = " ".join(text for text in (place.postal_code, place.city) if text)
        country = self.say.country(place.country)
        return [text for text in (place.street, city, country) if text]

    def taxes(self, taxes: Sequence[TaxTotal]) -> Words:
        """Return the table of taxes: a row each."""
        words = self.labels
        columns = [words.tax, words.rate, words.base, words.amount]
        return {"columns": columns, "rows": [self._tax(tax) for tax in taxes]}

    def _tax(self, tax: TaxTotal) -> Words:
        say = self.say
        notes = [
            tax.reason or self.labels.reasons.get(tax.category, ""),
            self.labels.included if tax.inclusive else "",
        ]
        return {
            "name": tax.name,
            "notes": [note for note in notes if note],
            "cells": [say.percent(tax.rate), say.money(tax.base), say.money(tax.amount)],
        }

    def bank(self, bank: Bank, holder: str, reference: str) -> list[list[str]]:
        """Return where to pay, row by row; nothing where no account is named."""
        if not bank.iban:
            return []
        words = self.labels
        rows = [
            [words.account, holder],
            [words.bank, bank.name],
            ["IBAN", grouped_iban(bank.iban)],
            ["BIC", bank.bic],
            [words.payment_reference, reference],
        ]
        return [row for row in rows if row[1]]

    def line(self, line: Line, *, many: bool) -> Words:
        """Return a line with the steps that lead to it.

        Args:
            line: of an invoice.
            many: whether the document bills more than one subscription.
        """
        first = Decimal(line.before.amount) == 0 and line.before.events == 0
        only = line.steps[0] if first and len(line.steps) == 1 and _plain_sum(line) else None
        counted = line.meter is not None or line.quantity not in {"0", "1", "-1"}
        return {
            "name": line.name,
            "notes": list(self._notes(line, only, many=many)),
            "quantity": self.say.number(line.quantity) if counted else "",
            "unit": UNITS.get(line.unit, line.unit) if counted else "",
            "price": self.say.price(only.unit_amount) if only and only.unit_amount else "",
            "amount": self.say.money(line.amount),
            "steps": [] if only else list(self._steps(line)),
        }

    def _notes(self, line: Line, only: Step | None, *, many: bool) -> Iterator[str]:
        """Yield what stands in small print below a line's name."""
        for name, value in line.dimensions.items():
            yield f"{name}: {self.labels.none if value is None else value}"
        if many and not line.subscription.startswith("@"):
            yield self.labels.subscription.format(line.subscription)
        span = self.say.span(line.period_start, max(line.until, line.period_start))
        yield self.labels.adjustment_for.format(span) if line.adjustment else span
        if only is not None and (label := self._label(only)):
            yield label

    def _label(self, step: Step) -> str:
        """Return what a step says besides its sum: 'Tier 2, over 10'; all of a mere note."""
        if _is_note(step):
            return self._sentence(step.text)
        label, colon, rest = step.text.partition(": ")
        parts = [self._sentence(label)] if colon and label not in UNSAID else []
        if portion := _PORTION.search(rest):
            said = self._sentence(_in_hours(portion[2]))
            bare = step.quantity is None and portion[1] is not None
            parts.append(f"{self.say.price(portion[1])} × {said}" if bare else said)
        return ": ".join(parts)

    def _sentence(self, text: str) -> str:
        said = translated(text, self.language, self.say.word)
        return said[:1].upper() + said[1:]

    def _price(self, text: str, step: Step) -> str:
        """Return an amount of a step in what it is in: the currency, or credits."""
        if step.unit is None:
            return self.say.price(text)
        return f"{self.say.number(text)} {step.unit}"

    def _steps(self, line: Line) -> Iterator[Words]:
        """Yield the sums that lead to a line: its tiers, and what was billed before."""
        for step in line.steps[:STEPS_MAX]:
            yield _step(
                self._label(step) or self.labels.used_so_far,
                self.say.number(step.quantity) if step.quantity else "",
                self._price(step.unit_amount, step) if step.unit_amount else "",
                "" if _is_note(step) else self._price(step.amount, step),
            )
        if len(line.steps) > STEPS_MAX:
            more = self.say.number(str(len(line.steps) - STEPS_MAX))
            yield _step(self.labels.more_steps.format(more), "", "", "")
        if Decimal(line.before.amount) or line.before.events:
            negative = str(-Decimal(line.before.amount))
            quantity = self.say.number(str(-Decimal(line.before.quantity))) if line.meter else ""
            yield _step(self.labels.billed_before, quantity, "", self.say.money(negative))

    def chart(self, chart: UsageChart) -> Words:
        """Return a bar chart."""
        values = [max(Decimal(bar.value), Decimal(0)) for bar in chart.bars]
        top = max(values)
        heights = [int(value * BAR_FULL / top) if top else 0 for value in values]
        per = self.labels.chart_sizes.get(chart.size, chart.size.lower())
        names = [
            self.say.window(chart.bars[i].start, chart.size) for i in (0, len(values) // 2, -1)
        ]
        what = _what(chart.name, UNITS.get(chart.unit, chart.unit))
        day = f" · {self.say.day(chart.bars[0].start)}" if chart.size in WITHIN_A_DAY else ""
        return {
            "title": self.labels.chart_title.format(what, per) + day,
            "top": self.say.number(format(top, "f")),
            "heights": heights,
            "names": names if len(values) > 2 else names[:1],
        }


def grouped_iban(iban: str) -> str:
    """Return an IBAN in groups of four, as banks print it."""
    bare = iban.replace(" ", "")
    return " ".join(bare[at : at + IBAN_GROUP] for at in range(0, len(bare), IBAN_GROUP))


def _plain_sum(line: Line) -> bool:
    return line.steps[0].quantity in {None, line.quantity}


def _in_hours(portion: str) -> str:
    """Return a part of a period with its exact time in hours, which people can read."""
    found = _EXACT_TIME.fullmatch(portion)
    if found is None:
        return portion
    taken, full = (plain(divide(Decimal(us), HOUR_US, HOUR_DECIMALS)) for us in found.groups())
    return f"{taken} of {full} hours"


def _is_note(step: Step) -> bool:
    """Whether a step only says what is done to the quantity."""
    return step.amount == "0" and step.quantity is None and step.tier is None


def _step(text: str, quantity: str, price: str, amount: str) -> Words:
    return {"text": text, "quantity": quantity, "price": price, "amount": amount}


def _what(name: str, unit: str) -> str:
    """Return what a chart counts: its name, and the unit where that says more."""
    return f"{name}, {unit}" if unit and unit != name.lower() else name
