"""Drafts in their days of grace: docs/algorithms/invoice-life.md"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec
import pytest

from tallybook.adapters.sql.accounts import SqlAccounts
from tallybook.adapters.sql.catalog import SqlCatalog
from tallybook.adapters.sql.database import open_database, sqlite_url
from tallybook.adapters.sql.invoices import SqlInvoices
from tallybook.invoice.audit.verify import explain, verify, verify_all
from tallybook.invoice.document import decode_invoice
from tallybook.invoice.ports import (
    Books,
    Bounds,
    InvoiceTransaction,
    Part,
    Spent,
    StoredDraft,
)
from tallybook.invoice.run.batch import refreshing
from tallybook.invoice.run.batch.finalizing import finalize_all_due
from tallybook.invoice.run.batch.refreshing import Known, keep_fresh
from tallybook.invoice.run.drafts import RETRY_US, discard, finalize, finalize_due, refresh
from tallybook.invoice.run.listing import Wanted, listed, named, place
from tallybook.kernel.errors import Conflict, Invalid, Missing
from tallybook.kernel.timestamps import DAY_US
from tests.support.billing_world import TENANT, World, at

CATALOG = """
[seller]
name = "We"
grace_days = 3

[[meters]]
key = "calls"
event_type = "t"
aggregation = "COUNT"

[[plans]]
key = "web"
currency = "USD"
[[plans.charges]]
key = "calls"
meter = "calls"
price = { type = "unit", unit_amount = 1 }

[[customers]]
key = "acme"
currency = "USD"
subjects = ["s"]

[[customers]]
key = "quick"
currency = "USD"
subjects = ["q"]
grace_days = 0

[[subscriptions]]
key = "acme"
customer = "acme"
plan = "web"
start = 2026-05-01

[[subscriptions]]
key = "quick"
customer = "quick"
plan = "web"
start = 2026-05-01
"""


@pytest.fixture(params=["memory", "sqlite"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    if request.param == "memory":
        yield filled(World())
        return
    engine = open_database(sqlite_url(tmp_path / "control.db"))
    yield filled(World(SqlCatalog(engine), SqlInvoices(engine), SqlAccounts(engine)))
    engine.dispose()


def filled(world: World) -> World:
    world.apply(CATALOG)
    world.clock.now = at("2026-06-01")
    for subject in ("s", "s", "q"):
        world.event("2026-05-17", subject=subject)
    return world


def the_draft(world: World) -> str:
    (draft,) = world.billing.invoices.drafts.drafts(TENANT, limit=9)
    return draft.id


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


def open_drafts(world: World) -> list[StoredDraft]:
    return world.billing.invoices.drafts.drafts(TENANT, limit=99)


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
    engine = open_database(sqlite_url(tmp_path / "control.db"))
    world = filled(World(SqlCatalog(engine), SqlInvoices(engine), SqlAccounts(engine)))
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
    engine.dispose()


class Keeper:
    """A job runner's memory of the drafts, and which it composed in each round."""

    def __init__(self, world: World) -> None:
        self.world, self.known = world, Known()

    def round(self) -> list[str]:
        """Return whose drafts were composed anew."""
        now = self.world.clock.now = self.world.clock.now + 1
        self.known, done = keep_fresh(self.world.billing, self.known)
        fresh = [one.customer for one in open_drafts(self.world) if one.refreshed_us == now]
        assert done == len(fresh)
        return sorted(fresh)


def totals(world: World) -> dict[str, int]:
    return {one.customer: one.head.total_minor for one in open_drafts(world)}


def test_late_events_are_on_the_drafts_of_those_they_concern(world: World) -> None:
    due_drafts(world)
    world.clock.now = at("2026-06-01")
    keeper = Keeper(world)
    everybody = ["acme", "c0", "c1", "c2", "c3", "c4"]
    assert keeper.round() == everybody
    assert keeper.round() == []
    world.event("2026-05-30", subject="s1")
    world.event("2026-06-01", subject="s2")  # not of the month
    assert keeper.round() == ["c1"]
    assert totals(world)["c1"] == 300
    assert keeper.round() == []
    world.apply(CATALOG + MANY + '[[coupons]]\nkey = "c"\npercent = 1\n')
    assert keeper.round() == everybody, "the catalog is another"
    world.clock.now += DAY_US
    assert keeper.round() == everybody, "each day anew"
    discard(world.billing, next(one.id for one in open_drafts(world) if one.customer == "c1"))
    assert keeper.round() == []


BASE = """
[[plans]]
key = "base"
currency = "USD"
[[plans.charges]]
key = "fee"
price = { type = "flat", amount = 5 }
[[plans.charges]]
key = "calls"
meter = "calls"
price = { type = "unit", unit_amount = 1 }

[[customers]]
key = "firm"
currency = "USD"
subjects = []

[[customers]]
key = "west"
currency = "USD"
subjects = ["w"]
zone = "America/Los_Angeles"
parent = "firm"

[[subscriptions]]
key = "firm"
customer = "firm"
plan = "base"
start = 2026-05-01

[[subscriptions]]
key = "west"
customer = "west"
plan = "base"
start = 2026-05-01
"""


@pytest.mark.parametrize("asked", ["2026-05", "2026-06-01T07:00:00Z"])
def test_the_first_usage_is_on_a_draft_that_had_fees_alone(world: World, asked: str) -> None:
    world.apply(CATALOG + BASE)
    world.clock.now = at("2026-06-02")
    world.bill(asked)
    keeper = Keeper(world)
    assert keeper.round() == ["acme", "firm"]
    assert totals(world)["firm"] == 1000
    world.event("2026-06-01T07:00:00Z", subject="w")  # not of the month, over there
    assert keeper.round() == []
    world.event("2026-06-01T06:59:59Z", subject="w")
    assert keeper.round() == ["firm"]
    assert totals(world)["firm"] == 1100


def test_a_draft_is_composed_anew_where_books_or_accounts_moved(world: World) -> None:
    due_drafts(world)
    keeper = Keeper(world)
    keeper.round()
    with world.billing.invoices.transaction(TENANT) as transaction:
        transaction.claim({"c2": world.billing.invoices.books(TENANT, part("c2")).versions["c2"]})
    assert keeper.round() == ["c2"]
    spent = Spent(customer="c3", version=0, invoice="i", number="1", currency="USD", at_us=1)
    with world.billing.invoices.transaction(TENANT) as transaction:
        transaction.books.spend([spent])
    assert keeper.round() == ["c3"]
    assert keeper.round() == []


def part(customer: str) -> Part:
    return Part(customers=[customer], subscriptions=())


def test_what_was_billed_elsewhere_ends_a_draft(world: World) -> None:
    due_drafts(world)
    keeper = Keeper(world)
    keeper.round()
    world.apply((CATALOG + MANY).replace("grace_days = 3", "grace_days = 0"))
    world.bill("2026-05")
    assert len(open_drafts(world)) == 6
    assert keeper.round() == []
    assert open_drafts(world) == []
    assert counted(world) == EACH
    assert keeper.known == Known(cut=keeper.known.cut)
    keeper.round()
    assert keeper.known == Known()


def test_one_that_cannot_be_composed_says_so_and_holds_up_no_other(world: World) -> None:
    due_drafts(world)
    whole = world.billing
    keeper = Keeper(world)
    world.billing = msgspec.structs.replace(whole, bounds=Bounds(total_minor_max=499))
    keeper.known, done = keep_fresh(world.billing, keeper.known)
    assert done == 6
    (bad,) = [one for one in open_drafts(world) if one.parked is not None]
    assert (bad.customer, bad.head.total_minor) == ("c4", 500)
    assert bad.parked is not None
    assert bad.parked.code == "total-out-of-bounds"
    assert keeper.round() == []
    world.billing = whole
    world.event("2026-05-30", subject="s4")
    assert keeper.round() == ["c4"]
    assert [one.parked for one in open_drafts(world)] == [None] * 6


def test_drafts_that_are_moved_meanwhile_are_seen_in_the_next_round(world: World) -> None:
    due_drafts(world)
    keeper = Keeper(world)
    keeper.round()
    store, opened = world.billing.invoices, world.billing.invoices.transaction
    tries = 0

    def refusing(tenant: str) -> AbstractContextManager[InvoiceTransaction]:
        nonlocal tries
        tries += 1
        if tries in {1, 3}:  # all together, then the second of them alone
            raise Conflict("somebody was faster", code="books-moved")
        return opened(tenant)

    store.transaction = refusing  # type: ignore[method-assign]
    for n in range(3):
        world.event("2026-05-30", subject=f"s{n}")
    assert len(keeper.round()) == 2
    assert len(keeper.round()) == 1
    assert keeper.round() == []
    assert [totals(world)[f"c{n}"] for n in range(3)] == [200, 300, 400]


def test_many_drafts_are_refreshed_a_bounded_number_a_round(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    due_drafts(world)
    monkeypatch.setattr(refreshing, "DRAFTS_AT_ONCE", 4)
    monkeypatch.setattr(refreshing, "_PLACES_AT_ONCE", 3)
    keeper = Keeper(world)
    assert [len(keeper.round()) for _ in range(3)] == [4, 2, 0]
    for n in range(5):
        world.event("2026-05-30", subject=f"s{n}")
    assert [len(keeper.round()) for _ in range(3)] == [4, 1, 0]
    assert [totals(world)[f"c{n}"] for n in range(5)] == [200, 300, 400, 500, 600]


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


MANY = "".join(
    f"""
[[customers]]
key = "c{n}"
currency = "USD"
subjects = ["s{n}"]

[[subscriptions]]
key = "c{n}"
customer = "c{n}"
plan = "web"
start = 2026-05-01
"""
    for n in range(5)
)


def due_drafts(world: World) -> list[str]:
    """Bill five customers of whom each used as often as its number says, and go to the day."""
    world.apply(CATALOG + MANY)
    for n in range(5):
        for _ in range(n + 1):
            world.event("2026-05-17", subject=f"s{n}")
    world.bill("2026-05")
    world.clock.now += 3 * DAY_US
    return [name for _, name in world.billing.invoices.drafts.drafts_due(world.clock.now, 99)]


def counted(world: World) -> dict[str, str]:
    return {one.customer_key: one.total for one in world.invoices() if one.customer_key[0] == "c"}


EACH = {"c0": "1.00", "c1": "2.00", "c2": "3.00", "c3": "4.00", "c4": "5.00"}


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
