"""Drafts in their days of grace: docs/algorithms/invoice-life.md"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from tallybook.invoice.audit.verify import explain, verify, verify_all
from tallybook.invoice.document import decode_invoice
from tallybook.invoice.ports import Bounds
from tallybook.invoice.run.batch.finalizing import finalize_all_due
from tallybook.invoice.run.drafts import RETRY_US, discard, finalize, finalize_due, refresh
from tallybook.invoice.run.listing import Wanted, listed, named, place
from tallybook.kernel.errors import Conflict, Invalid, Missing
from tallybook.kernel.timestamps import DAY_US
from tests.support.billing_world import TENANT, World, at
from tests.support.draft_world import CATALOG, EACH, MANY, counted, filled, open_drafts, the_draft
from tests.support.settled_world import SettledWorld


@pytest.fixture
def world(any_world: World) -> World:
    return filled(any_world)


def test_an_invoice_waits_as_a_draft_and_takes_nothing(world: World) -> None:
    run = world.bill("2026-05")
    assert (run.invoices, run.drafts, run.customers) == (1, 1, 2)
    store = world.billing.invoices
    draft = store.drafts.draft(TENANT, the_draft(world))
    assert (draft.customer, draft.state, draft.finalize_us) == ("acme", "open", at("2026-06-04"))
    assert decode_invoice(draft.body).total == "2.00"
    assert (draft.head.state, draft.head.number) == ("draft", "DRAFT")
    books = store.books(TENANT)
    assert "acme" not in books.periods
    assert {position.subscription for position in books.billed} == {"quick"}
    assert [one.number for one in world.invoices()] == ["INV-000001"]


def test_usage_of_the_days_of_grace_is_on_the_invoice(world: World) -> None:
    world.bill("2026-05")
    name = the_draft(world)
    world.event("2026-05-30", subject="s")
    world.clock.now = at("2026-06-02T12:00:00Z")
    assert refresh(world.billing, name).head.total_minor == 300
    kept = world.billing.invoices.drafts.draft(TENANT, name)
    assert (kept.head.total_minor, kept.refreshed_us) == (300, world.clock.now)
    world.event("2026-05-31", subject="s")
    world.clock.now = at("2026-06-04")
    assert world.billing.invoices.drafts.drafts_due(world.clock.now, 9) == [(TENANT, name)]
    stored = finalize_due(world.billing, name)
    assert stored is not None
    assert (stored.head.number, stored.head.total_minor) == ("INV-000002", 400)
    assert (stored.head.issued_us, stored.head.due_us) == (at("2026-06-04"), at("2026-06-18"))
    assert verify(world.billing, "INV-000002").ok
    assert world.billing.invoices.drafts.drafts_due(world.clock.now, 9) == []
    assert finalize(world.billing, name).head.id == stored.head.id
    assert finalize(world.billing, stored.head.number).head.id == stored.head.id
    assert named(world.billing.invoices, TENANT, name).head.number == "INV-000002"
    with pytest.raises(Conflict, match="finalized already"):
        discard(world.billing, name)
    with pytest.raises(Conflict, match="finalized already"):
        refresh(world.billing, name)
    assert world.bill("2026-05").invoices == 0


def test_a_draft_is_explained_and_verified_but_is_not_final(world: World) -> None:
    world.bill("2026-05")
    name = the_draft(world)
    line = explain(world.billing, name, "1")
    assert (line.ok, line.count, len(line.events)) == (True, 2, 2)
    found = verify(world.billing, name)
    assert (found.ok, found.final, found.number) == (True, False, name)
    world.event("2026-05-30", subject="s")  # later than what the draft was composed of
    assert explain(world.billing, name, "1").count == 2
    assert verify(world.billing, name).ok
    both = verify_all(world.billing, ["INV-000001", name])
    assert [(one.ok, one.final) for one in both] == [(True, False), (True, True)]
    discard(world.billing, name)
    with pytest.raises(Missing, match="discarded"):
        verify(world.billing, name)


def test_invoices_of_one_run_that_were_finalized_on_two_days_are_verified(world: World) -> None:
    world.apply(CATALOG.replace("grace_days = 0", "grace_days = 5"))
    world.bill("2026-05")
    first, second = (one.id for one in world.billing.invoices.drafts.drafts(TENANT, limit=9))
    finalize(world.billing, first)
    world.event("2026-05-30", subject="s")
    world.event("2026-05-30", subject="q")
    finalize(world.billing, second)
    assert all(one.ok for one in verify_all(world.billing, list(world.bodies())))


def test_a_run_that_goes_on_makes_no_second_draft(world: World) -> None:
    run = world.bill("2026-05", name="run_x")
    store = world.billing.invoices
    with store.transaction(TENANT) as transaction:
        transaction.put_run(msgspec.structs.replace(run, state="running"))
    world.event("2026-05-30", subject="s")
    again = world.bill("2026-05", name="run_x")
    assert (again.customers, again.invoices, again.drafts) == (2, 1, 1)
    assert store.drafts.draft(TENANT, the_draft(world)).head.total_minor == 200


def test_a_draft_thrown_away_leaves_its_usage_to_another_run(world: World) -> None:
    world.bill("2026-05")
    name = the_draft(world)
    assert discard(world.billing, name).state == "discarded"
    assert world.billing.invoices.drafts.drafts(TENANT, limit=9) == []
    for again in (finalize, refresh, discard):
        with pytest.raises(Conflict, match="discarded already"):
            again(world.billing, name)
    with pytest.raises(Missing):
        named(world.billing.invoices, TENANT, name)
    assert world.bill("2026-05").drafts == 1
    assert finalize(world.billing, the_draft(world)).head.total_minor == 200


def test_a_second_run_over_a_month_leaves_one_draft(world: World) -> None:
    world.bill("2026-05")
    first = the_draft(world)
    world.clock.now = at("2026-06-02")
    world.event("2026-05-30", subject="s")
    assert world.bill("2026-05").drafts == 1
    (second,) = open_drafts(world)
    assert second.id != first
    assert (second.head.total_minor, second.finalize_us) == (300, at("2026-06-04"))
    old = world.billing.invoices.drafts.draft(TENANT, first)
    assert (old.state, old.replaced_by, old.body) == ("replaced", second.id, "")
    assert named(world.billing.invoices, TENANT, first).head.id == second.id
    for again in (finalize, refresh, discard):
        with pytest.raises(Conflict, match=f"was replaced by {second.id}"):
            again(world.billing, first)
    assert finalize_due(world.billing, first) is None
    world.clock.now = at("2026-06-04")
    assert finalize_all_due(world.billing, [first, second.id]) == 1
    assert named(world.billing.invoices, TENANT, first).head.total_minor == 300


def test_a_draft_until_later_replaces_one_until_earlier_and_one_of_a_month_in_it(
    world: World,
) -> None:
    world.clock.now = at("2026-07-01")
    world.event("2026-06-10", subject="s")
    world.bill("2026-05")
    world.bill("2026-05-20")
    (draft,) = open_drafts(world)
    assert draft.period == "2026-05", "it bills everything until then, and more: it stays"
    world.bill("2026-06-05")
    world.bill("2026-06-20")
    (draft,) = open_drafts(world)
    assert draft.until_us == at("2026-06-20")
    assert (draft.head.total_minor, draft.finalize_us) == (300, at("2026-07-04"))
    world.bill("2026-06-15")
    assert open_drafts(world) == [draft]
    world.bill("2026-05")
    assert open_drafts(world) == [draft]


def test_two_months_leave_two_drafts(world: World) -> None:
    world.clock.now = at("2026-07-01")
    world.event("2026-06-10", subject="s")
    world.bill("2026-05")
    world.bill("2026-06")
    assert [one.head.total_minor for one in open_drafts(world)] in ([200, 100], [100, 200])
    for one in open_drafts(world):
        finalize(world.billing, one.id)
    assert sum(one.total_minor for one in world.invoices() if one.customer_key == "acme") == 300


def test_runs_at_once_leave_one_draft(tmp_path: Path) -> None:
    world = SettledWorld(tmp_path)
    filled(world)
    world.apply(CATALOG + MANY)
    for n in range(5):
        world.event("2026-05-17", subject=f"s{n}")
    with ThreadPoolExecutor(6) as pool:
        runs = list(pool.map(lambda n: world.bill("2026-05", name=f"run_{n}"), range(6)))
    assert [run.parked for run in runs] == [()] * 6
    drafts = open_drafts(world)
    assert sorted(one.customer for one in drafts) == ["acme", "c0", "c1", "c2", "c3", "c4"]
    for one in drafts:
        finalize(world.billing, one.id)
    assert counted(world) == dict.fromkeys(EACH, "1.00")
    world.close()


def test_what_another_invoice_billed_is_not_on_the_draft(world: World) -> None:
    world.bill("2026-05")
    first = the_draft(world)
    world.apply(CATALOG.replace("grace_days = 3", "grace_days = 0"))
    world.bill("2026-05")
    assert [one.total for one in world.invoices()] == ["1.00", "2.00"]
    with pytest.raises(Conflict, match="nothing left") as caught:
        finalize(world.billing, first)
    assert caught.value.code == "nothing-to-bill"
    with pytest.raises(Conflict, match="nothing left"):
        finalize(world.billing, first)
    assert finalize_due(world.billing, first) is None
    assert [one.total for one in world.invoices()] == ["1.00", "2.00"]


def test_a_draft_whose_usage_is_gone_ends_when_it_is_refreshed(world: World) -> None:
    world.bill("2026-05")
    name = the_draft(world)
    world.apply(CATALOG.replace('subjects = ["s"]', "subjects = []"))
    assert refresh(world.billing, name).state == "empty"
    assert [p.closed for p in world.billing.invoices.books(TENANT).periods["acme"]] == [True]


def test_a_draft_that_cannot_be_finalized_says_why_and_is_tried_again(world: World) -> None:
    world.bill("2026-05")
    name = the_draft(world)
    world.clock.now += 3 * DAY_US
    whole = world.billing
    world.billing = msgspec.structs.replace(whole, bounds=Bounds(total_minor_max=199))
    assert finalize_due(world.billing, name) is None
    draft = whole.invoices.drafts.draft(TENANT, name)
    assert draft.parked is not None
    assert draft.parked.code == "total-out-of-bounds"
    assert draft.finalize_us == world.clock.now + RETRY_US
    world.billing = whole
    stored = finalize_due(world.billing, name)
    assert stored is not None
    assert stored.head.number == "INV-000002"


def test_a_draft_thrown_away_meanwhile_is_not_tried_again(world: World) -> None:
    world.bill("2026-05")
    name = the_draft(world)
    discard(world.billing, name)
    assert finalize_due(world.billing, name) is None
    draft = world.billing.invoices.drafts.draft(TENANT, name)
    assert (draft.state, draft.parked) == ("discarded", None)


def test_drafts_stand_behind_the_numbered_ones_in_lists(world: World) -> None:
    world.bill("2026-05")
    store, name, now = world.billing.invoices, the_draft(world), world.clock.now

    def page(wanted: Wanted, limit: int = 9, after: str | None = None) -> list[str]:
        found = listed(store, TENANT, wanted, limit=limit, after=after, now_us=now)
        return [place(head) for head in found]

    assert page(Wanted()) == ["INV-000001", name]
    assert page(Wanted(), 1) == ["INV-000001"]
    assert page(Wanted(), 1, "INV-000001") == [name]
    assert page(Wanted(), 1, name) == []
    assert page(Wanted(state="draft")) == [name]
    assert page(Wanted(state="finalized")) == ["INV-000001"]
    assert page(Wanted(state="overdue")) == []
    assert page(Wanted(customer="acme")) == [name]
    assert page(Wanted(run="nobody")) == []
    now += 15 * DAY_US
    assert page(Wanted(state="overdue")) == ["INV-000001"]
    assert page(Wanted(state="finalized")) == []
    assert page(Wanted(state="paid")) == []
    with pytest.raises(Invalid, match="state is one of"):
        page(Wanted(state="asleep"))
    assert named(store, TENANT, name).head.id == name
    with pytest.raises(Missing):
        finalize(world.billing, "drf_nobody")
