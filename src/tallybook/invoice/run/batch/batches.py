"""Payers of a run in batches: what each of them has to bill, asked for and ready to compose.

Source: docs/algorithms/billing-runs.md
"""

from collections.abc import Iterator, Sequence

import msgspec

from tallybook.invoice.document import Facts
from tallybook.invoice.ports import Parked, StoredDraft
from tallybook.invoice.run.answers import answers
from tallybook.invoice.run.basis import Basis, Stand, standing
from tallybook.invoice.run.batch.task import Task, task_of
from tallybook.invoice.run.payers import Payer
from tallybook.invoice.run.work import Work, work_of
from tallybook.kernel.errors import Corrupt, Refused

CUSTOMERS_AT_ONCE = 2_500
"""Payers whose books are read and whose usage is asked for together."""
INVOICES_A_TRANSACTION = 500


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """Payers that are stored in one transaction, and those that fell out on the way.

    Attributes:
        payers: of the tasks, in their order.
        tasks: to be composed.
        waiting: periods of the month asked for that have not ended yet.
        done: payers that had their invoice or draft of the run before.
        parked: payers that have no task, and why.
        drafts: by payer, those that are open.
    """

    payers: tuple[Payer, ...] = ()
    tasks: tuple[Task, ...] = ()
    waiting: int = 0
    done: int = 0
    parked: tuple[Parked, ...] = ()
    drafts: dict[str, tuple[StoredDraft, ...]] = {}


def batches(basis: Basis, payers: Sequence[Payer]) -> Iterator[Batch]:
    """Yield the batches of a run, in the order of its payers."""
    for start in range(0, len(payers), CUSTOMERS_AT_ONCE):
        yield from _of_part(basis, payers[start : start + CUSTOMERS_AT_ONCE])


def _of_part(basis: Basis, part: Sequence[Payer]) -> Iterator[Batch]:
    """Yield one batch of all that fell out, where any did, and those of all others.

    Drafts are read after the books: one that is made in between is refused when it is stored.
    """
    stand = standing(basis, part)
    left = [one for one in part if one.key not in stand.books.done]
    keys = [one.key for one in left]
    drafts = basis.billing.invoices.drafts.open_of(basis.billing.tenant, keys)
    works: list[Work] = []
    parked: list[Parked] = []
    for one in left:
        try:
            works.append(work_of(basis, stand, one))
        except (Refused, Corrupt) as error:
            parked.append(_parked(one.key, error))
    facts, failed = answers(basis, works)
    parked += [_parked(key, error) for key, error in failed.items()]
    if parked or len(left) < len(part):
        yield Batch(done=len(part) - len(left), parked=tuple(parked))
    answered = [work for work in works if work.key in facts]
    for start in range(0, len(answered), INVOICES_A_TRANSACTION):
        some = answered[start : start + INVOICES_A_TRANSACTION]
        batch = _batch(basis, stand, some, [facts[work.key] for work in some])
        yield msgspec.structs.replace(batch, drafts=drafts)


def _batch(basis: Basis, stand: Stand, works: Sequence[Work], facts: Sequence[Facts]) -> Batch:
    cut = basis.run.cut
    return Batch(
        payers=tuple(work.payer for work in works),
        tasks=tuple(
            task_of(stand, work, found, cut) for work, found in zip(works, facts, strict=True)
        ),
        waiting=sum(work.waiting for work in works),
    )


def _parked(customer: str, error: Refused | Corrupt) -> Parked:
    return Parked(customer=customer, code=error.code, message=error.message)
