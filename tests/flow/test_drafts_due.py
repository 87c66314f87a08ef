"""Drafts whose time has come, many at once: docs/algorithms/invoice-life.md"""

from contextlib import AbstractContextManager

import msgspec
import pytest

from tallybook.invoice.audit.verify import verify
from tallybook.invoice.ports import Books, Bounds, InvoiceTransaction, Part
from tallybook.invoice.run.batch.finalizing import finalize_all_due
from tallybook.kernel.errors import Conflict
from tests.support.billing_world import TENANT, World
from tests.support.draft_world import EACH, counted, due_drafts, filled


@pytest.fixture
def world(any_world: World) -> World:
    return filled(any_world)


def test_many_drafts_are_finalized_with_few_questions_and_once(world: World) -> None:
    names = due_drafts(world)
    before = len(world.invoices())
    asked: list[Part | None] = []
    store, books = world.billing.invoices, world.billing.invoices.books

    def seen(tenant: str, part: Part | None = None) -> Books:
        asked.append(part)
        return books(tenant, part)

    store.books = seen  # type: ignore[method-assign]
    assert finalize_all_due(world.billing, names) == len(names) >= 5
    assert len(asked) == 1
    assert counted(world) == EACH
    assert len(world.invoices()) == before + len(names)
    assert all(verify(world.billing, one.number).ok for one in world.invoices())
    assert store.drafts.drafts_due(world.clock.now, 99) == []
    assert finalize_all_due(world.billing, names) == len(names)
    assert len(world.invoices()) == before + len(names)


def test_one_draft_that_fails_does_not_hold_up_the_others(world: World) -> None:
    names = due_drafts(world)
    whole = world.billing
    world.billing = msgspec.structs.replace(whole, bounds=Bounds(total_minor_max=499))
    assert finalize_all_due(world.billing, names) == len(names) - 1
    (left,) = whole.invoices.drafts.drafts(TENANT, limit=9)
    assert left.customer == "c4"
    assert left.parked is not None
    assert left.parked.code == "total-out-of-bounds"
    assert finalize_all_due(whole, [left.id]) == 1
    assert counted(world) == EACH


def test_drafts_of_customers_who_are_moved_meanwhile_go_one_by_one(world: World) -> None:
    names = due_drafts(world)
    store, opened = world.billing.invoices, world.billing.invoices.transaction
    tries = 0

    def refusing(tenant: str) -> AbstractContextManager[InvoiceTransaction]:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise Conflict("somebody was faster", code="books-moved")
        return opened(tenant)

    store.transaction = refusing  # type: ignore[method-assign]
    assert finalize_all_due(world.billing, names) == len(names)
    assert tries == 1 + len(names)
    assert counted(world) == EACH
