"""One payer alone, from fresh books: where many at once conflict, and where only one is billed.

Source: docs/algorithms/billing-runs.md
"""

from collections.abc import Callable
from typing import TypeVar

from tallybook.invoice.run.answers import answers
from tallybook.invoice.run.basis import Basis, Stand, standing
from tallybook.invoice.run.composing import Result, composed
from tallybook.invoice.run.payers import Payer
from tallybook.invoice.run.work import Work, work_of
from tallybook.kernel.errors import Conflict

MOVED = frozenset(("books-moved", "account-moved", "rolled-back", "conflict"))
"""What a store says where somebody else was faster."""

TRIES_MAX = 5
"""Tries against somebody who bills, pays or spends at the same time."""

_T = TypeVar("_T")


def fresh(basis: Basis, payer: Payer) -> tuple[Stand, Work, Result]:
    """Return one payer composed from where billing stands now.

    Raises:
        Refused: it cannot be composed.
        Corrupt: what is stored contradicts itself.
    """
    stand = standing(basis, [payer])
    work = work_of(basis, stand, payer)
    facts, failed = answers(basis, [work])
    if failed:
        raise failed[payer.key]
    return stand, work, composed(basis, stand, work, facts[payer.key])


def insist(attempt: Callable[[], _T]) -> _T:
    """Return what an attempt returns, tried again where others were faster.

    Raises:
        Conflict: they were faster `TRIES_MAX` times.
    """
    for _ in range(TRIES_MAX - 1):
        try:
            return attempt()
        except Conflict as error:
            if error.code not in MOVED:
                raise
    return attempt()
