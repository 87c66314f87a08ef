"""Sixteen processes finalize at once: no gap in the numbers, nobody twice, books balanced."""

import multiprocessing
import random
from collections.abc import Callable

import pytest

from tallybook.invoice.due import BillRequest
from tallybook.invoice.flow import bill
from tallybook.invoice.run.drafts import finalize
from tallybook.kernel.errors import Refused, Unavailable
from tests.support.billing_world import TENANT
from tests.support.databases import KINDS
from tests.support.shared_world import catalog_text, check_books, world_on

PROCESSES = 16
CUSTOMERS = 20
SECONDS_MAX = 240


def _finalize_all(url: str, worker: int) -> None:
    """Finalize every draft, in an order of its own, until all are invoices."""
    world, engine = world_on(url, CUSTOMERS)
    names = [draft.id for draft in world.billing.invoices.drafts.drafts(TENANT, limit=1000)]
    random.Random(worker).shuffle(names)
    for name in names:
        for _ in range(100):
            try:
                finalize(world.billing, name)
                break
            except (Refused, Unavailable) as error:
                if error.code == "nothing-to-bill":  # another run has it
                    break
        else:
            raise AssertionError(name)
    engine.dispose()


def _bill_or_finalize(url: str, worker: int) -> None:
    """Half of them bill the month in runs of their own, the others finalize drafts."""
    if worker % 2:
        _finalize_all(url, worker)
        return
    world, engine = world_on(url, CUSTOMERS)
    request = BillRequest(period="2026-05")
    bill(world.billing, request, name=f"run_{worker}", at_once=True)
    engine.dispose()


@pytest.mark.parametrize("work", [_finalize_all, _bill_or_finalize])
@pytest.mark.parametrize("kind", KINDS)
def test_sixteen_finalizers(
    kind: str, work: Callable[[str, int], None], new_database: Callable[[str], str]
) -> None:
    url = new_database(kind)
    world, engine = world_on(url, CUSTOMERS)
    world.apply(catalog_text(CUSTOMERS, grace=5))
    assert world.bill("2026-05", name="run_drafts").drafts == CUSTOMERS
    engine.dispose()
    forked = multiprocessing.get_context("fork")
    workers = [forked.Process(target=work, args=(url, n)) for n in range(PROCESSES)]
    for process in workers:
        process.start()
    for process in workers:
        process.join(SECONDS_MAX)
    assert [process.exitcode for process in workers] == [0] * PROCESSES
    heads = check_books(url, CUSTOMERS)
    assert {head.sequence for head in heads} == {1}
