"""A ledger entry: one amount from one account to another, so the books balance by construction.

Source: DECISIONS 29; docs/algorithms/ledger.md
"""

from collections import Counter
from collections.abc import Iterable
from typing import Literal

import msgspec

Account = Literal[
    "receivable",
    "revenue",
    "tax",
    "prepaid",
    "credit",
    "cash",
    "bad-debt",
    "promotion",
    "breakage",
    "share",
    "refund",
    "pending",
]
"""What an account is for; docs/algorithms/ledger.md says which side means what."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A positive amount, owed by one account to another. Never changed, never deleted.

    Attributes:
        id: derived from its document, the step in the document's life, and its place in the step.
        at_us: when it holds, microseconds UTC.
        debit: account, such as 'receivable:acme'.
        credit: account, such as 'revenue:acme'.
        amount_minor: above zero.
        currency: ISO 4217.
        document: id of the invoice, payment, credit note or top-up that it belongs to.
        invoice: id of the invoice whose receivable it changes; '' for none.
        line: id of the line; '' for the whole document.
        service_start_us: first instant of what was delivered; None where nothing was.
        service_end_us: first instant after it.
    """

    id: str
    at_us: int
    debit: str
    credit: str
    amount_minor: int
    currency: str
    document: str
    invoice: str = ""
    line: str = ""
    service_start_us: int | None = None
    service_end_us: int | None = None


def totals(entries: Iterable[Entry]) -> Counter[tuple[str, str]]:
    """Return what entries add up to by account and currency: debits less credits."""
    found: Counter[tuple[str, str]] = Counter()
    for entry in entries:
        found[entry.debit, entry.currency] += entry.amount_minor
        found[entry.credit, entry.currency] -= entry.amount_minor
    return found


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """An amount to be posted: a negative one goes the other way, zero is not posted.

    Attributes:
        debit, credit, invoice, line, service_start_us, service_end_us: as of `Entry`.
    """

    debit: str
    credit: str
    amount_minor: int
    invoice: str = ""
    line: str = ""
    service_start_us: int | None = None
    service_end_us: int | None = None


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A step in the life of a document: all its entries are posted together, once.

    Attributes:
        document: id.
        name: unique within the document, such as 'void'; '' for its first.
        at_us: microseconds UTC.
        currency: ISO 4217.
    """

    document: str
    name: str = ""
    at_us: int
    currency: str


def account(kind: Account, name: str) -> str:
    """Return the name of an account: what it is for, and whose."""
    return f"{kind}:{name}"


def posted(step: Step, moves: Iterable[Move]) -> tuple[Entry, ...]:
    """Return the entries of a step.

    Guarantees: the same step has the same ids, so that a ledger refuses it twice.
    """
    moving = [move for move in moves if move.amount_minor]
    return tuple(_entry(step, at, move) for at, move in enumerate(moving, 1))


def _entry(step: Step, at: int, move: Move) -> Entry:
    forward = move.amount_minor > 0
    return Entry(
        id=f"{step.document}.{step.name}.{at:04d}",
        at_us=step.at_us,
        debit=move.debit if forward else move.credit,
        credit=move.credit if forward else move.debit,
        amount_minor=abs(move.amount_minor),
        currency=step.currency,
        document=step.document,
        invoice=move.invoice,
        line=move.line,
        service_start_us=move.service_start_us,
        service_end_us=move.service_end_us,
    )


def reversal(step: Step, entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Return entries that take others back: every account is as if they had not been.

    Args:
        step: of the document that takes them back.
        entries: in the step's currency.
    """
    return posted(
        step,
        (
            Move(
                debit=entry.credit,
                credit=entry.debit,
                amount_minor=entry.amount_minor,
                invoice=entry.invoice,
                line=entry.line,
                service_start_us=entry.service_start_us,
                service_end_us=entry.service_end_us,
            )
            for entry in entries
        ),
    )


def on_account(entries: Iterable[Entry], name: str) -> int:
    """Return what entries add up to on an account: debits less credits, in minor units."""
    return sum(
        entry.amount_minor * ((entry.debit == name) - (entry.credit == name)) for entry in entries
    )
