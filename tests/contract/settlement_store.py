"""One suite for `Settlements`, `Payments` and `Ledger`: each test tries to break a sentence."""

import threading
from collections.abc import Callable, Iterator

import msgspec
import pytest

from tallybook.invoice.ledger.holdings import WITHDRAWN, Holdings
from tallybook.kernel.book.entry import Entry
from tallybook.kernel.errors import Conflict, Missing
from tallybook.settle.receivable.flow import put_extras, take_back_note, withdraw_extra
from tallybook.settle.receivable.ports import Balance, KindBalance
from tallybook.settle.receivable.standing import Moves, Standing
from tests.support.billing_world import TENANT
from tests.support.databases import KINDS
from tests.support.settled_world import MONTHLY, SettledWorld
from tests.unit.invoice.ledger.test_holdings import CREDIT, EXTRA

ONE, TWO = "INV-000001", "INV-000002"


@pytest.fixture(params=["memory", *KINDS])
def world(
    request: pytest.FixtureRequest, new_database: Callable[[str], str]
) -> Iterator[SettledWorld]:
    made = SettledWorld(url="" if request.param == "memory" else new_database(request.param))
    made.apply(MONTHLY.format(rate="20", amount="100"))
    yield made
    made.close()


def entry(name: str, debit: str = "cash:a", credit: str = "credit:c") -> Entry:
    return Entry(
        id=f"doc.{name}",
        at_us=-5,
        debit=debit,
        credit=credit,
        amount_minor=10**17,
        currency="JPY",
        document="doc",
    )


def test_an_unknown_customer_stands_nowhere(world: SettledWorld) -> None:
    assert world.ledger.standing("t", "nobody", ["INV-000001"]) == Standing(customer="nobody")
    assert world.ledger.extras("t", None, "") == []
    assert world.ledger.credits("t") == []
    assert world.ledger.payments("t", limit=1) == []
    assert world.ledger.credit_notes("t", limit=1) == []
    assert world.ledger.entries("t", limit=1) == []
    assert world.ledger.balances("t") == []
    with pytest.raises(Missing):
        world.ledger.payment("t", "pay_1")
    with pytest.raises(Missing):
        world.ledger.credit_note("t", "CN-000001")


def test_an_account_that_moved_refuses_everything(world: SettledWorld) -> None:
    moves = Moves(customer="c", version=0, entries=(entry("1"),), held=Holdings(credits=(CREDIT,)))
    with world.ledger.transaction("t") as transaction:
        transaction.settle(moves)
    assert world.ledger.standing("t", "c").version == 1
    for version in (0, 2):
        again = Moves(customer="c", version=version, entries=(entry("2"),))
        with pytest.raises(Conflict) as refused, world.ledger.transaction("t") as transaction:
            transaction.settle(again)
        assert refused.value.code == "account-moved"
    assert [one.id for one in world.ledger.entries("t", limit=9)] == ["doc.1"]
    assert world.ledger.credits("t") == [CREDIT]


def test_an_entry_is_posted_once(world: SettledWorld) -> None:
    for version in (0, 1):
        moves = Moves(customer="c", version=version, entries=(entry("1"),))
        if version:
            with pytest.raises(Conflict), world.ledger.transaction("t") as transaction:
                transaction.settle(moves)
        else:
            with world.ledger.transaction("t") as transaction:
                transaction.settle(moves)
    assert world.ledger.standing("t", "c").version == 1


def test_balances_are_debits_less_credits(world: SettledWorld) -> None:
    entries = (entry("1"), entry("2"), entry("3", "credit:c", "cash:%"))
    with world.ledger.transaction("t") as transaction:
        transaction.settle(Moves(customer="c", version=0, entries=entries))
    assert world.ledger.balances("t") == [
        Balance("cash:%", "JPY", -(10**17)),
        Balance("cash:a", "JPY", 2 * 10**17),
        Balance("credit:c", "JPY", -(10**17)),
    ]
    assert [one.account for one in world.ledger.balances("t", "cash:%")] == ["cash:%"]
    assert len(world.ledger.balances("t", "cash:")) == 2
    assert world.ledger.balances("t", "_") == []
    assert [one.account for one in world.ledger.balances("t", limit=2, skip=1)] == [
        "cash:a",
        "credit:c",
    ]
    assert [one.account for one in world.ledger.balances("t", "cash:", limit=1)] == ["cash:%"]
    assert world.ledger.kinds("t") == [
        KindBalance("cash", "JPY", 10**17, 2),
        KindBalance("credit", "JPY", -(10**17), 1),
    ]
    assert world.ledger.kinds("other") == []


def test_balances_are_kept_with_every_posting_and_not_with_one_that_is_refused(
    world: SettledWorld,
) -> None:
    more = msgspec.structs.replace(entry("2", "cash:a", "refund:c"), currency="USD")
    back = entry("3", "credit:c", "cash:a")
    for version, some in enumerate([(entry("1"),), (more, back)]):
        with world.ledger.transaction("t") as transaction:
            transaction.settle(Moves(customer="c", version=version, entries=some))
    wanted = [
        Balance("cash:a", "JPY", 0),
        Balance("cash:a", "USD", more.amount_minor),
        Balance("credit:c", "JPY", 0),
        Balance("refund:c", "USD", -more.amount_minor),
    ]
    assert world.ledger.balances("t") == wanted
    assert [one.accounts for one in world.ledger.kinds("t")] == [0, 1, 0, 1]
    with pytest.raises(Conflict), world.ledger.transaction("t") as transaction:
        transaction.settle(Moves(customer="c", version=2, entries=(entry("4"), entry("1"))))
    assert world.ledger.balances("t") == wanted


def test_entries_are_found_by_document_and_account(world: SettledWorld) -> None:
    world.bill("2026-05")
    world.bill("2026-06")
    first = world.head(ONE).id
    mine = world.ledger.entries(TENANT, limit=9, document=first)
    assert [one.document for one in mine] == [first, first]
    assert world.ledger.entries(TENANT, limit=9, document=first[:-1]) == []
    owed = world.ledger.entries(TENANT, limit=9, account="receivable:acme")
    assert len(owed) == 4
    assert world.ledger.entries(TENANT, limit=2, account="receivable:acme") == owed[:2]
    after = world.ledger.entries(TENANT, limit=9, after=owed[1].id, account="receivable:acme")
    assert after == owed[2:]


def test_a_standing_has_what_is_open_and_what_is_named(world: SettledWorld) -> None:
    world.bill("2026-05")
    world.bill("2026-06")
    world.pay(12000)
    standing = world.ledger.standing(TENANT, "acme")
    assert [head.number for head in standing.invoices] == [TWO]
    named = world.ledger.standing(TENANT, "acme", [ONE])
    assert [head.number for head in named.invoices] == [ONE, TWO]
    assert named.invoice(named.invoices[0].id).number == ONE
    with pytest.raises(Missing):
        standing.invoice(ONE)
    world.credit(ONE)
    assert world.ledger.standing(TENANT, "acme").notes == ()
    assert len(world.ledger.standing(TENANT, "acme", [ONE]).notes) == 1


def test_payments_and_notes_are_pages(world: SettledWorld) -> None:
    world.bill("2026-05")
    made = [world.pay(amount) for amount in (1, 2, 3)]
    assert world.ledger.payments(TENANT, limit=2) == made[:2]
    assert world.ledger.payments(TENANT, limit=9, after=made[1].id, customer="acme") == made[2:]
    assert world.ledger.payments(TENANT, limit=9, customer="other") == []
    assert world.ledger.payment(TENANT, made[0].id) == made[0]
    (paid,) = {one.invoice for payment in made for one in payment.allocations}
    assert world.ledger.payments(TENANT, limit=9, invoice=paid) == made
    assert world.ledger.payments(TENANT, limit=1, invoice=paid, after=made[0].id) == made[1:2]
    assert world.ledger.payments(TENANT, limit=9, invoice="inv_other") == []
    notes = [world.credit(ONE, {"1": amount}) for amount in (10, 20, 30)]
    numbers = [head.number for head in world.ledger.credit_notes(TENANT, limit=9)]
    assert numbers == ["CN-000001", "CN-000002", "CN-000003"]
    after = world.ledger.credit_notes(TENANT, limit=1, after="CN-000001", invoice=ONE)
    assert [head.id for head in after] == [notes[1].id]
    assert world.ledger.credit_notes(TENANT, limit=9, customer="other") == []
    assert world.ledger.credit_notes(TENANT, limit=9, invoice="INV-000002") == []
    assert world.ledger.credit_note(TENANT, notes[2].id).head.number == "CN-000003"
    take_back_note(world.settling, "CN-000003")
    assert world.ledger.credit_note(TENANT, "CN-000003").head.state == "void"


def test_one_off_charges_wait_once(world: SettledWorld) -> None:
    put_extras(world.settling, "acme", [EXTRA.extra])
    found = world.ledger.extras(TENANT, "acme", "")
    assert [one.extra for one in found] == [EXTRA.extra]
    assert world.ledger.extras(TENANT, "other", "") == []
    assert [one.extra for one in world.ledger.standing(TENANT, "acme").held.extras] == [EXTRA.extra]
    with pytest.raises(Conflict):
        put_extras(world.settling, "acme", [EXTRA.extra])
    assert world.billing.accounts.charged(TENANT) == {"acme"}
    assert world.billing.accounts.charged("t") == frozenset()
    world.bill("2026-05")
    assert world.billing.accounts.charged(TENANT) == frozenset()
    assert world.ledger.extras(TENANT, None, world.head(ONE).id)[0].extra == EXTRA.extra
    assert world.ledger.standing(TENANT, "acme").held.extras == ()


def test_a_withdrawn_charge_is_kept_and_told_and_moves_the_account_on(
    world: SettledWorld,
) -> None:
    put_extras(world.settling, "acme", [EXTRA.extra])
    before = world.ledger.standing(TENANT, "acme").version
    taken = withdraw_extra(world.settling, "acme", EXTRA.extra.id)
    assert world.ledger.charge(TENANT, EXTRA.extra.id) == taken
    assert (taken.extra, taken.invoice) == (EXTRA.extra, WITHDRAWN)
    assert world.ledger.standing(TENANT, "acme").version == before + 1
    assert world.ledger.extras(TENANT, "acme", "") == []
    assert world.billing.accounts.charged(TENANT) == frozenset()
    with pytest.raises(Missing):
        withdraw_extra(world.settling, "acme", EXTRA.extra.id)
    with pytest.raises(Missing):
        world.ledger.charge("t", EXTRA.extra.id)


def test_the_place_of_an_invoice_is_taken_once(world: SettledWorld) -> None:
    assert world.ledger.replaced_by(TENANT, "inv_1") is None
    with world.ledger.transaction(TENANT) as transaction:
        transaction.replace("inv_1", TWO)
    with pytest.raises(Conflict), world.ledger.transaction(TENANT) as transaction:
        transaction.replace("inv_1", "INV-000003")
    assert world.ledger.replaced_by(TENANT, "inv_1") == TWO
    assert world.ledger.replaced_by("t", "inv_1") is None


@pytest.mark.parametrize("kind", KINDS)
def test_payments_at_once_pay_nothing_twice(
    kind: str, new_database: Callable[[str], str], request: pytest.FixtureRequest
) -> None:
    world = SettledWorld(url=new_database(kind))
    request.addfinalizer(world.close)
    world.apply(MONTHLY.format(rate="20", amount="100"))
    for month in ("2026-05", "2026-06", "2026-07"):
        world.bill(month)
    failed: list[Conflict] = []

    def pay() -> None:
        for _ in range(3):
            try:
                world.pay(4000)
            except Conflict as error:
                failed.append(error)

    threads = [threading.Thread(target=pay) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done = 12 - len(failed)
    assert world.balances()["cash:bank"] == done * 4000
    open_ = sum(minor for _, minor in world.open().values())
    assert open_ == max(36000 - done * 4000, 0)
    assert sum(world.credits().values()) == max(done * 4000 - 36000, 0)
    assert {error.code for error in failed} <= {"account-moved"}
