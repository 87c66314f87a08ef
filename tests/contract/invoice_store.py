"""One suite for every `InvoiceStore`: each test tries to break a sentence of the port."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from tallybook.adapters.memory.invoices import MemoryInvoices
from tallybook.adapters.sql.database import open_database
from tallybook.adapters.sql.invoices import SqlInvoices
from tallybook.catalog.subscription import StoredPeriod
from tallybook.invoice.manifest import Billed, Position
from tallybook.invoice.ports import (
    BillingRun,
    Books,
    InvoiceHead,
    InvoiceStore,
    Last,
    Parked,
    Part,
    Seen,
    Spent,
    StoredDraft,
    StoredInvoice,
    StoredLine,
)
from tallybook.invoice.state import Shown, shown_as
from tallybook.kernel.errors import Conflict, Invalid, Missing
from tests.support.databases import KINDS

POSITION = Position("sub", "charge", -5)


@pytest.fixture(params=["memory", *KINDS])
def store(
    request: pytest.FixtureRequest, new_database: Callable[[str], str]
) -> Iterator[InvoiceStore]:
    if request.param == "memory":
        yield MemoryInvoices()
        return
    engine = open_database(new_database(request.param))
    yield SqlInvoices(engine)
    engine.dispose()


def invoice(ordinal: int, customer: str = "c", sequence: int = 1, run: str = "r") -> StoredInvoice:
    head = InvoiceHead(
        id=f"inv_{customer}{sequence}",
        number=f"INV-{ordinal:06d}",
        state="finalized",
        customer=customer,
        customer_name="Käthe",
        sequence=sequence,
        run=run,
        currency="JPY",
        total_minor=10**17,
        lines=1,
        issued_us=1,
        due_us=2,
        period_start_us=-5,
        period_end_us=7,
        cut=9,
        sha256="0" * 64,
    )
    line = StoredLine(
        id=f"line_{customer}{sequence}",
        number=1,
        position=POSITION,
        group='[null,"eu"]',
        meter="m",
        meter_version=2,
        quantity="12345678901234567.123456789012",
        amount_minor=-3,
        events=4,
        adjustment=True,
    )
    return StoredInvoice(head=head, body='{"ü":1}', lines=(line,))


def billed(group: tuple[str | None, ...], amount: int) -> Billed:
    return Billed(
        group=group,
        amount_minor=amount,
        quantity="1.5",
        events=2,
        digest=str(2**70),
        until_us=3,
        cut=4,
        invoice="inv_1",
        discount_minor=5,
    )


def period(start: int, *, closed: bool = False, interval: str = "P1M") -> StoredPeriod:
    return StoredPeriod(
        subscription="sub",
        start_us=start,
        end_us=start + 10,
        full_start_us=start,
        full_end_us=start + 10,
        plan="p",
        plan_version=1,
        until_us=start,
        meters={"m": 2},
        closed=closed,
        interval=interval,
    )


def test_an_unknown_tenant_has_empty_books(store: InvoiceStore) -> None:
    assert store.books("nobody") == Books()
    assert store.invoices("nobody", limit=10) == []
    assert store.runs("nobody", limit=10) == []
    with pytest.raises(Missing):
        store.invoice("nobody", "INV-000001")


def test_what_is_written_is_read_again(store: InvoiceStore) -> None:
    one = invoice(1)
    with store.transaction("a") as transaction:
        transaction.add_invoices([one])
        transaction.put_periods([period(20), period(-5)])
        transaction.put_billed([(POSITION, billed((None, "eu"), 5)), (POSITION, billed((), 6))])
    assert store.invoice("a", one.head.id) == one
    assert store.invoice("a", "INV-000001") == one
    books = store.books("a")
    assert books.periods == {"sub": (period(-5), period(20))}
    groups = {(None, "eu"): billed((None, "eu"), 5), (): billed((), 6)}
    assert books.billed == {POSITION: groups}
    assert books.last == {"c": Last(1, one.head.id, "r")}
    assert store.books("b") == Books()


def test_positions_are_put_in_place_of_what_they_were(store: InvoiceStore) -> None:
    for amount in (5, 9):
        with store.transaction("a") as transaction:
            transaction.put_billed([(POSITION, billed(("x",), amount))])
            transaction.put_periods([period(0, closed=amount == 9)])
    books = store.books("a")
    assert books.billed[POSITION][("x",)].amount_minor == 9
    assert [one.closed for one in books.periods["sub"]] == [True]


def test_periods_of_two_intervals_may_start_at_once(store: InvoiceStore) -> None:
    both = (period(0), period(0, interval="P1Y"))
    with store.transaction("a") as transaction:
        transaction.put_periods([*reversed(both), period(20)])
        transaction.put_periods([period(0, closed=True, interval="P1Y")])
    found = store.books("a").periods["sub"]
    assert found == (both[0], period(0, closed=True, interval="P1Y"), period(20))


def test_many_positions_at_once(store: InvoiceStore) -> None:
    periods = [period(10 * i) for i in range(1000)]
    for _ in range(2):
        with store.transaction("a") as transaction:
            transaction.put_periods(periods)
    assert store.books("a").periods["sub"] == tuple(periods)


def test_numbers_follow_each_other_in_each_series_and_tenant(store: InvoiceStore) -> None:
    with store.transaction("a") as transaction:
        assert transaction.take_numbers("INV", 3) == 1
        assert transaction.take_numbers("INV", 2) == 4
        assert transaction.take_numbers("CN", 1) == 1
    with store.transaction("a") as transaction:
        assert transaction.take_numbers("INV", 1) == 6
    with store.transaction("b") as transaction:
        assert transaction.take_numbers("INV", 1) == 1


def test_a_transaction_that_fails_gives_its_numbers_back(store: InvoiceStore) -> None:
    class Stop(Exception):
        pass

    with pytest.raises(Stop), store.transaction("a") as transaction:  # noqa: PT012
        transaction.take_numbers("INV", 5)
        transaction.add_invoices([invoice(1)])
        transaction.put_billed([(POSITION, billed((), 1))])
        raise Stop
    assert store.books("a") == Books()
    with store.transaction("a") as transaction:
        assert transaction.take_numbers("INV", 1) == 1


@pytest.mark.parametrize(
    "second",
    [invoice(2), invoice(1, "d"), invoice(2, "c", sequence=1, run="other")],
    ids=["id", "number", "sequence"],
)
def test_nothing_is_stored_twice(store: InvoiceStore, second: StoredInvoice) -> None:
    with store.transaction("a") as transaction:
        transaction.add_invoices([invoice(1)])
    with pytest.raises(Conflict), store.transaction("a") as transaction:
        transaction.add_invoices([invoice(9, "new"), second])
    assert [head.number for head in store.invoices("a", limit=10)] == ["INV-000001"]


def test_pages_follow_the_numbers_also_past_six_digits(store: InvoiceStore) -> None:
    ordinals = [999_999, 1_000_000, 2, 1]
    with store.transaction("a") as transaction:
        transaction.add_invoices([invoice(n, f"c{n}", run=f"r{n % 2}") for n in ordinals])
    everything = store.invoices("a", limit=10)
    assert [head.number for head in everything] == [
        "INV-000001",
        "INV-000002",
        "INV-999999",
        "INV-1000000",
    ]
    page = store.invoices("a", limit=2, after="INV-000002")
    assert page == everything[2:]
    assert store.invoices("a", limit=9, newest=True) == everything[::-1]
    assert store.invoices("a", limit=1, after="INV-999999", newest=True) == [everything[1]]
    assert [h.customer for h in store.invoices("a", limit=9, run="r1")] == ["c1", "c999999"]
    assert [h.customer for h in store.invoices("a", limit=9, customer="c2")] == ["c2"]
    with pytest.raises(Invalid):
        store.invoices("a", limit=1, after="nonsense")


def test_runs_are_newest_first_and_replaced(store: InvoiceStore) -> None:
    old = BillingRun(
        id="1", request="2026-05", period="2026-05", until_us=None, cut=3, started_us=1
    )
    parked = (Parked(customer="c", code="missing", message="no plan"),)
    new = msgspec.structs.replace(old, id="2", started_us=2)
    done = msgspec.structs.replace(new, state="done", parked=parked)
    for run in (old, new, done):
        with store.transaction("a") as transaction:
            transaction.put_run(run)
    assert store.runs("a", limit=10) == [done, old]
    assert store.runs("a", limit=1, name="1") == [old]
    assert store.runs("a", limit=1, name="3") == []


SPENT: dict[str, Any] = {"invoice": "i", "number": "1", "currency": "USD", "at_us": 1}


def draft(name: str, customer: str, finalize_us: int, run: str = "r") -> StoredDraft:
    head = msgspec.structs.replace(invoice(1).head, id=name, state="draft", customer=customer)
    return StoredDraft(
        id=name,
        run=run,
        customer=customer,
        request="2026-05",
        period="2026-05",
        until_us=None,
        finalize_us=finalize_us,
        made_us=1,
        refreshed_us=1,
        head=head,
        body="{}",
    )


def test_books_of_a_part_hold_that_part_alone(store: InvoiceStore) -> None:
    other = msgspec.structs.replace(period(0), subscription="else")
    elsewhere = Position("else", "charge", 0)
    with store.transaction("a") as transaction:
        transaction.add_invoices([invoice(1), invoice(2, "d")])
        transaction.add_invoices([invoice(3, "c", 2, run="s")])
        transaction.put_periods([period(0), other])
        transaction.put_billed([(POSITION, billed((), 6)), (elsewhere, billed((), 7))])
        transaction.put_drafts([draft("drf_1", "e", 5, run="s")])
        transaction.claim({"c": 0, "d": 0})
    whole = store.books("a")
    assert (set(whole.periods), set(whole.billed)) == ({"sub", "else"}, {POSITION, elsewhere})
    part = Part(customers=("c", "e", "nobody"), subscriptions=("sub",), run="s", since_us=1)
    books = store.books("a", part)
    assert books.periods == {"sub": (period(0),)}
    assert books.billed == {POSITION: {(): billed((), 6)}}
    assert books.last == {"c": Last(2, "inv_c2", "s")}
    assert books.versions == {"c": 1}
    assert books.done == {"c", "e"}
    assert books.recent == {"c": 2}
    assert store.books("a", Part(customers=("c",), subscriptions=(), since_us=2)).recent == {}
    assert store.books("a", Part(customers=(), subscriptions=())) == Books()


def test_who_decided_from_old_books_is_refused(store: InvoiceStore) -> None:
    with store.transaction("a") as transaction:
        transaction.claim({"c": 0, "d": 0})
    with store.transaction("a") as transaction:
        transaction.claim({"c": 1})
        transaction.claim({})
    with pytest.raises(Conflict) as caught, store.transaction("a") as transaction:
        transaction.claim({"d": 1, "c": 1})
    assert caught.value.code == "books-moved"
    with pytest.raises(Conflict), store.transaction("a") as transaction:
        transaction.claim({"new": 1})
    part = Part(customers=("c", "d", "new"), subscriptions=())
    assert store.books("a", part).versions == {"c": 2, "d": 1}


def test_who_only_looks_moves_nothing_on_and_is_refused_from_old_books(
    store: InvoiceStore,
) -> None:
    with store.transaction("a") as transaction:
        transaction.claim({"c": 0}, {"c": Seen(terms="x", cut=7)})
    with store.transaction("a") as transaction:
        transaction.expect({"c": 1, "new": 0})
        transaction.expect({})
    for wrong in ({"c": 0}, {"c": 1, "new": 1}):
        with pytest.raises(Conflict) as caught, store.transaction("a") as transaction:
            transaction.expect(wrong)
        assert caught.value.code == "books-moved"
    books = store.books("a", Part(customers=("c", "new"), subscriptions=()))
    assert (books.versions, set(books.seen)) == ({"c": 1}, {"c"})


def test_open_drafts_are_found_by_customer_and_with_the_versions_of_what_they_are_made_from(
    store: InvoiceStore,
) -> None:
    first, second, third = (draft(f"drf_{n}", f"c{n % 2}", 9) for n in range(3))
    ended = msgspec.structs.replace(draft("drf_3", "c1", 9), state="replaced", body="")
    elsewhere = draft("drf_4", "c0", 9)
    with store.transaction("a") as transaction:
        for run, one in enumerate((first, second, third, ended)):
            transaction.put_drafts([msgspec.structs.replace(one, run=f"r{run}")])
        transaction.claim({"c0": 0})
        transaction.books.spend([Spent(customer="c0", version=0, **SPENT)])
        transaction.books.spend([Spent(customer="c0", version=1, **SPENT)])
    with store.transaction("b") as transaction:
        transaction.put_drafts([elsewhere])
    found = store.drafts.open_of("a", ["c0", "c1", "nobody"])
    assert {who: [one.id for one in some] for who, some in found.items()} == {
        "c0": ["drf_0", "drf_2"],
        "c1": ["drf_1"],
    }
    assert store.drafts.open_of("a", []) == {}
    places = store.drafts.waiting("a", limit=9)
    assert [(one.id, one.customer, one.books, one.account) for one in places] == [
        ("drf_0", "c0", 1, 2),
        ("drf_1", "c1", 0, 0),
        ("drf_2", "c0", 1, 2),
    ]
    assert store.drafts.waiting("a", limit=1, after="drf_0") == places[1:2]


def test_what_a_run_has_looked_at_is_known_until_something_else_moves(store: InvoiceStore) -> None:
    one, two = Seen(terms="x", cut=7), Seen(terms="y", cut=9)
    part = Part(customers=("c", "d", "e"), subscriptions=())
    with store.transaction("a") as transaction:
        transaction.claim({"c": 0, "d": 0, "e": 0}, {"c": one, "d": one})
    assert store.books("a", part).seen == {"c": one, "d": one}
    assert store.books("a", Part(customers=("d",), subscriptions=())).seen == {"d": one}
    assert store.books("b", part).seen == {}
    with store.transaction("a") as transaction:
        transaction.claim({"c": 1, "d": 1}, {"d": two})
    assert store.books("a", part).seen == {"d": two}, "nobody knows of c any more"
    with pytest.raises(Conflict), store.transaction("a") as transaction:
        transaction.claim({"d": 1}, {"d": one})
    assert store.books("a", part).seen == {"d": two}


def test_drafts_are_kept_whatever_became_of_them_and_listed_while_open(
    store: InvoiceStore,
) -> None:
    first, second, third = (draft(f"drf_{n}", f"c{n}", 10 - n) for n in range(3))
    other = draft("drf_9", "c", 1)
    with store.transaction("a") as transaction:
        transaction.put_drafts([third, first, second])
    with store.transaction("b") as transaction:
        transaction.put_drafts([other])
    drafts = store.drafts
    assert drafts.drafts("a", limit=9) == [first, second, third]
    assert drafts.drafts("a", limit=1, after="drf_0") == [second]
    assert drafts.drafts("a", limit=9, customer="c2") == [third]
    assert drafts.drafts("a", limit=9, run="r") == [first, second, third]
    assert drafts.drafts("a", limit=9, run="s") == []
    assert drafts.drafts_due(9, 9) == [("b", "drf_9"), ("a", "drf_2"), ("a", "drf_1")]
    assert drafts.drafts_due(9, 1) == [("b", "drf_9")]
    ended = msgspec.structs.replace(second, state="finalized", invoice="inv_1", body="")
    with store.transaction("a") as transaction:
        transaction.put_drafts([ended])
    assert drafts.draft("a", "drf_1") == ended
    assert drafts.drafts("a", limit=9) == [first, third]
    assert drafts.drafts_due(9, 9) == [("b", "drf_9"), ("a", "drf_2")]
    for tenant, name in (("a", "drf_9"), ("nobody", "drf_1")):
        with pytest.raises(Missing):
            drafts.draft(tenant, name)


def test_invoices_are_found_by_the_state_people_see(store: InvoiceStore) -> None:
    with store.transaction("a") as transaction:
        transaction.add_invoices([invoice(1)])  # due at 2
    for name, now, found in [
        ("finalized", 2, 1),
        ("finalized", 3, 0),
        ("overdue", 2, 0),
        ("overdue", 3, 1),
        ("paid", 2, 0),
    ]:
        assert len(store.invoices("a", limit=9, shown=shown_as(name, now))) == found
    for issued, found in [((1, 2), 1), ((0, 1), 0), ((2, 9), 0), ((0, 9), 1)]:  # issued at 1
        assert len(store.invoices("a", limit=9, shown=Shown(issued=issued))) == found
        finalized = msgspec.structs.replace(shown_as("finalized", 2), issued=issued)
        assert len(store.invoices("a", limit=9, shown=finalized)) == found


def test_keys_differ_by_case_and_long_dimensions_are_kept(store: InvoiceStore) -> None:
    long = ("ü" * 4000, None, "x")
    with store.transaction("a") as transaction:
        transaction.put_billed([(POSITION, billed(long, 5)), (POSITION, billed((*long, "y"), 6))])
        transaction.claim({"c": 0, "C": 0})
        body = f'{{"a":"{"ü" * 200_000}"}}'
        transaction.add_invoices([msgspec.structs.replace(invoice(1), body=body)])
    assert set(store.books("a").billed[POSITION]) == {long, (*long, "y")}
    assert store.books("a", Part(customers=("C",), subscriptions=())).versions == {"C": 1}
    assert store.invoice("a", "INV-000001").body == body


@pytest.mark.parametrize("kind", KINDS)
def test_writers_in_threads_leave_no_gap(kind: str, new_database: Callable[[str], str]) -> None:
    engine = open_database(new_database(kind))
    store = SqlInvoices(engine)

    def write(worker: int) -> None:
        for i in range(10):
            with store.transaction("a") as transaction:
                first = transaction.take_numbers("INV", 2)
                names = [f"w{worker}i{i}n{n}" for n in range(2)]
                transaction.add_invoices(
                    [invoice(first + n, name, run=name) for n, name in enumerate(names)]
                )

    threads = [threading.Thread(target=write, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    numbers = [int(head.number[4:]) for head in store.invoices("a", limit=1000)]
    assert numbers == list(range(1, 81))
    engine.dispose()
