"""Everything that one payer leaves behind, ready to be written but for its number.

The number is taken in the transaction that writes; all else is made before, by whoever composes.

Source: DECISIONS 28; docs/algorithms/billing-runs.md
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from tallybook.catalog.subscription import StoredPeriod
from tallybook.invoice.document import Draft, number_text, numbered_json, spent
from tallybook.invoice.ledger.facts import finalized_facts
from tallybook.invoice.ledger.posting import postings
from tallybook.invoice.manifest import Billed, Position
from tallybook.invoice.ports import Parked, Seen, Spent, StoredDraft, StoredInvoice
from tallybook.invoice.record import numbered, unnumbered
from tallybook.invoice.run.batch.task import Scope, Task
from tallybook.invoice.run.composing import Result, result_of
from tallybook.invoice.run.grace import grace_us, held
from tallybook.kernel.book.entry import Entry
from tallybook.kernel.book.fact import Fact
from tallybook.kernel.errors import Corrupt, Refused


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """An invoice that has no number yet, with what it means to books and figures.

    Attributes:
        series: that its number is of.
        billed: what is billed of positions then.
        entries: of the ledger.
        facts: to be told outside.
        spent: what it used of its customer's account; None for nothing.
    """

    series: str
    invoice: StoredInvoice
    billed: tuple[tuple[Position, Billed], ...]
    entries: tuple[Entry, ...]
    facts: tuple[Fact, ...]
    spent: Spent | None


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """One payer of a run: `Result`, spelled as it is written.

    Attributes:
        replaced: drafts that end because `kept` takes their place.
    """

    payer: str
    version: int
    document: Document | None = None
    periods: tuple[StoredPeriod, ...] = ()
    kept: StoredDraft | None = None
    seen: Seen | None = None
    replaced: tuple[StoredDraft, ...] = ()


Outcome = Prepared | Parked
"""A payer is billed, or parked with its reason."""

Compose = Callable[[Scope, Iterable[Sequence[Task]]], Iterator[Sequence[Outcome]]]
"""Yields what the tasks of each batch come to, in their order; may take batches ahead."""


def compose_here(scope: Scope, batches: Iterable[Sequence[Task]]) -> Iterator[Sequence[Outcome]]:
    """Yield what each batch comes to, composed by whoever asks."""
    for batch in batches:
        yield outcomes(scope, batch)


def outcomes(scope: Scope, batch: Sequence[Task]) -> list[Outcome]:
    """Return what tasks come to, in their order: a function of scope and tasks alone."""
    return [_outcome(scope, task) for task in batch]


def _outcome(scope: Scope, task: Task) -> Outcome:
    customers = scope.catalog.customers
    customer, members = customers[task.payer], tuple(customers[key] for key in task.members)
    try:
        result = result_of(scope, task, customer, members)
    except (Refused, Corrupt) as error:
        return Parked(customer=task.payer, code=error.code, message=error.message)
    wait_us = 0 if scope.at_once else grace_us(customer, scope.catalog)
    return prepared(held(result, scope.run, wait_us))


def prepared(result: Result) -> Prepared:
    """Return a result as it is written, but for its number."""
    return Prepared(
        payer=result.payer,
        version=result.version,
        document=None if result.draft is None else _document(result.draft),
        periods=result.periods,
        kept=result.kept,
        seen=result.seen,
    )


def _document(draft: Draft) -> Document:
    invoice = draft.invoice
    used = spent(draft, 0)
    return Document(
        series=invoice.series,
        invoice=unnumbered(draft),
        billed=tuple((line.item.position, line.billed) for line in draft.lines),
        entries=postings(invoice),
        facts=finalized_facts(invoice),
        spent=used if _touches(used) else None,
    )


def with_number(document: Document, number: int) -> Document:
    """Return a document with the number that it was given."""
    text, used = number_text(document.series, number), document.spent
    return Document(
        series=document.series,
        invoice=numbered(document.invoice, text),
        billed=document.billed,
        entries=document.entries,
        facts=tuple(
            msgspec.structs.replace(fact, body=numbered_json(fact.body, text))
            for fact in document.facts
        ),
        spent=None if used is None else msgspec.structs.replace(used, number=text),
    )


def _touches(one: Spent) -> bool:
    """Whether an account is touched at all."""
    taken = one.coupons or one.credits or one.wallets or one.extras
    return bool(taken or one.carried_minor)
