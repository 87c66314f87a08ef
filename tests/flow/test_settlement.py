"""Stories of money: invoices are paid, credited, voided and written off, and the books balance."""

from decimal import Decimal

import msgspec
import pytest

from tallybook.adapters.sql.prepaid.wallets import SqlWallets
from tallybook.catalog.entitlement import TopUp, Wallet
from tallybook.invoice.audit.verify import verify
from tallybook.invoice.manifest import Extra
from tallybook.kernel.errors import Conflict, Invalid, Missing
from tallybook.settle.ports import Happened
from tallybook.settle.purse import StoredTopUp, topped_up
from tallybook.settle.receivable.anew import invoice_now, reissue
from tallybook.settle.receivable.audit import audit
from tallybook.settle.receivable.crediting import Ask
from tallybook.settle.receivable.flow import (
    check_note,
    estimate,
    give_up,
    pay,
    pay_from_credit,
    pay_out,
    put_extras,
    redeem,
    take_back,
    take_back_note,
    void_invoice,
    withdraw_coupon,
)
from tests.support.billing_world import TENANT, at
from tests.support.settled_world import MONTHLY, SettledWorld

ONE, TWO, THREE = "INV-000001", "INV-000002", "INV-000003"


@pytest.fixture
def world(any_world: SettledWorld) -> SettledWorld:
    any_world.apply(MONTHLY.format(rate="20", amount="100"))
    return any_world


def billed(world: SettledWorld, *months: str) -> SettledWorld:
    for month in months:
        world.bill(month)
    return world


def test_a_payment_pays_the_oldest_first_and_what_is_over_pays_the_next(
    world: SettledWorld,
) -> None:
    billed(world, "2026-05", "2026-06")
    assert world.open() == {ONE: ("finalized", 12000), TWO: ("finalized", 12000)}
    payment = world.pay(15000)
    assert [(a.number, a.amount_minor) for a in payment.allocations] == [(ONE, 12000), (TWO, 3000)]
    assert world.open() == {ONE: ("paid", 0), TWO: ("finalized", 9000)}
    assert world.balances() == {
        "cash:bank": 15000,
        "receivable:acme": 9000,
        "revenue:acme": -20000,
        "tax:vat": -4000,
    }
    world.pay(10000)
    assert list(world.credits().values()) == [1000]
    assert world.balances()["credit:acme"] == -1000
    billed(world, "2026-07")
    assert world.open()[THREE] == ("finalized", 11000)
    assert world.credits() == {}
    assert world.balances()["receivable:acme"] == 11000


def test_a_payment_names_its_invoices_or_its_reference_does(world: SettledWorld) -> None:
    billed(world, "2026-05", "2026-06", "2026-07")
    world.pay(12000, reference=TWO)
    assert world.open()[TWO] == ("paid", 0)
    world.pay(13000, wanted={THREE: None, ONE: 500})
    assert world.open() == {ONE: ("finalized", 11500), TWO: ("paid", 0), THREE: ("paid", 0)}
    assert list(world.credits().values()) == [500]
    with pytest.raises(Invalid, match=r"115\.00 USD is open"):
        world.pay(99999, wanted={ONE: 11501})
    with pytest.raises(Invalid, match="named twice"):
        world.pay(100, wanted={ONE: 1, world.head(ONE).id: 1})
    with pytest.raises(Conflict, match="a paid invoice cannot be paid"):
        world.pay(100, wanted={TWO: None})
    with pytest.raises(Missing, match="no invoice"):
        world.pay(100, wanted={"INV-000009": None})
    with pytest.raises(Invalid, match="above zero"):
        world.pay(0)
    with pytest.raises(Missing):
        world.pay(100, customer="nobody")


def test_a_payment_that_is_reversed_leaves_everything_open_again(world: SettledWorld) -> None:
    billed(world, "2026-05")
    before = world.balances()
    payment = world.pay(13000)
    back = take_back(world.settling, payment.id, "charge-back")
    assert (back.state, back.lost_minor) == ("reversed", 0)
    assert world.open() == {ONE: ("finalized", 12000)}
    assert world.credits() == {}
    assert world.balances() == before
    with pytest.raises(Conflict, match="reversed already"):
        take_back(world.settling, payment.id, "again")


def test_credit_that_was_spent_is_taken_from_other_credits_then_lost(world: SettledWorld) -> None:
    billed(world, "2026-05")
    first = world.pay(12000 + 5000)
    billed(world, "2026-06")
    assert world.open()[TWO] == ("finalized", 7000)
    world.pay(7000 + 2000)
    back = take_back(world.settling, first.id, "charge-back")
    assert back.lost_minor == 3000
    assert world.credits() == {}
    assert world.open() == {ONE: ("finalized", 12000), TWO: ("paid", 0)}
    assert world.balances()["bad-debt:acme"] == 3000


def test_credit_pays_open_invoices_when_it_is_told_to(world: SettledWorld) -> None:
    world.pay(5000)
    billed(world, "2026-05")
    assert world.open()[ONE] == ("finalized", 7000)
    world.credit(ONE, {"1": 1000})
    note = world.credit(ONE, {"1": 9000})
    assert (note.reduces_minor, note.credited_minor) == (5800, 5000)
    billed(world, "2026-06")
    assert world.open()[TWO] == ("finalized", 7000)
    world.credit(TWO)
    billed(world, "2026-07")
    assert world.open()[THREE] == ("finalized", 7000)
    world.pay(1500)
    world.credit(THREE, {"1": 5000})
    with pytest.raises(Conflict, match="no credit"):
        pay_from_credit(world.settling, "acme", world.received(100))


def test_a_credit_note_takes_off_what_is_open_and_the_rest_is_credit(world: SettledWorld) -> None:
    billed(world, "2026-05")
    world.pay(4000)
    note = world.credit(ONE, {"1": 5000})
    assert (note.number, note.subtotal, note.total) == ("CN-000001", "50.00", "60.00")
    assert [tax.amount for tax in note.taxes] == ["10.00"]
    assert (note.reduces, note.credited, note.refund) == ("60.00", "0.00", "0.00")
    assert world.open() == {ONE: ("finalized", 2000)}
    rest = world.credit(ONE)
    assert (rest.total, rest.reduces, rest.credited) == ("60.00", "20.00", "40.00")
    assert world.open() == {ONE: ("paid", 0)}
    assert world.credits() == {"CN-000002": 4000}
    assert world.balances() == {"cash:bank": 4000, "credit:acme": -4000}
    with pytest.raises(Conflict, match="nothing is left"):
        world.credit(ONE)
    for number in ("CN-000001", "CN-000002"):
        assert check_note(world.settling, number).ok


def test_a_credit_note_is_taken_back_while_nothing_of_it_is_used(world: SettledWorld) -> None:
    billed(world, "2026-05")
    world.pay(10000)
    before, balances = world.open(), world.balances()
    world.credit(ONE, {"1": 1000})
    world.credit(ONE, {"1": 4000})
    with pytest.raises(Conflict, match="builds on"):
        take_back_note(world.settling, "CN-000001")
    take_back_note(world.settling, "CN-000002")
    take_back_note(world.settling, "CN-000001")
    assert (world.open(), world.balances(), world.credits()) == (before, balances, {})
    with pytest.raises(Conflict, match="void already"):
        take_back_note(world.settling, "CN-000001")
    world.credit(ONE)
    billed(world, "2026-06")
    with pytest.raises(Conflict, match="is used"):
        take_back_note(world.settling, "CN-000003")


def test_what_was_paid_can_be_paid_out(world: SettledWorld) -> None:
    billed(world, "2026-05")
    world.pay(5000)
    found = estimate(world.settling, ONE, Ask(reason="broken", rest="refund"))
    assert (found.creditable_minor, found.refundable_minor) == (12000, 5000)
    note = world.credit(ONE, rest="refund")
    assert (note.reduces_minor, note.credited_minor, note.refund_minor) == (7000, 0, 5000)
    assert world.balances() == {"cash:bank": 5000, "refund:acme": -5000}
    billed(world, "2026-06")
    assert world.open()[TWO] == ("finalized", 12000)
    with pytest.raises(Invalid, match=r"at most 50\.00"):
        pay_out(world.settling, "acme", world.received(5001))
    paid = pay_out(world.settling, "acme", world.received(5000), "CN-000001")
    assert "cash:bank" not in world.balances()
    assert "refund:acme" not in world.balances()
    take_back(world.settling, paid.id, "bounced")
    assert world.balances()["refund:acme"] == -5000


def test_an_invoice_that_is_written_off_may_still_be_paid(world: SettledWorld) -> None:
    billed(world, "2026-05")
    world.pay(2000)
    assert give_up(world.settling, ONE).state == "uncollectible"
    assert world.balances()["bad-debt:acme"] == 10000
    assert "receivable:acme" not in world.balances()
    world.pay(500)
    assert list(world.credits().values()) == [500]
    world.pay(4000, wanted={ONE: None})
    assert world.open() == {ONE: ("uncollectible", 6000)}
    assert world.balances()["bad-debt:acme"] == 6000
    world.credit(ONE, {"1": 2500})
    assert world.open() == {ONE: ("uncollectible", 3000)}
    last = world.pay(3000, wanted={ONE: None})
    assert world.open() == {ONE: ("paid", 0)}
    assert "bad-debt:acme" not in world.balances()
    take_back(world.settling, last.id, "bounced")
    assert world.open() == {ONE: ("finalized", 3000)}
    give_up(world.settling, ONE)
    take_back_note(world.settling, "CN-000001")
    assert world.balances()["bad-debt:acme"] == 6000
    with pytest.raises(Conflict, match="cannot be written off"):
        give_up(world.settling, ONE)


def test_a_voided_invoice_is_billed_again_and_its_number_stays_used(world: SettledWorld) -> None:
    billed(world, "2026-05")
    payment = world.pay(100)
    with pytest.raises(Conflict, match="something was paid"):
        void_invoice(world.settling, ONE)
    take_back(world.settling, payment.id, "mistake")
    world.credit(ONE, {"1": 100})
    with pytest.raises(Conflict, match="void the credit notes"):
        void_invoice(world.settling, ONE)
    take_back_note(world.settling, "CN-000001")
    assert void_invoice(world.settling, ONE).state == "void"
    assert world.balances() == {}
    with pytest.raises(Conflict, match="a void invoice"):
        void_invoice(world.settling, ONE)
    with pytest.raises(Conflict, match="not credited"):
        world.credit(ONE)
    billed(world, "2026-05")
    assert world.open() == {ONE: ("void", 0), TWO: ("finalized", 12000)}
    first, second = world.invoices()
    assert [line.amount for line in first.lines] == [line.amount for line in second.lines]


def test_a_written_off_invoice_can_be_voided(world: SettledWorld) -> None:
    billed(world, "2026-05")
    give_up(world.settling, ONE)
    void_invoice(world.settling, ONE)
    assert world.balances() == {}


def test_a_void_gives_back_coupons_credits_and_one_offs(world: SettledWorld) -> None:
    world.apply('[[coupons]]\nkey = "ten"\namount = "10"\ncurrency = "USD"\n')
    redeem(world.settling, "ten", "acme")
    with pytest.raises(Conflict, match="redeemed coupon ten already"):
        redeem(world.settling, "ten", "acme")
    world.pay(2000)
    put_extras(world.settling, "acme", [setup_fee()])
    billed(world, "2026-05")
    first = world.invoices()[0]
    assert [line.name for line in first.lines] == ["fee", "Setup"]
    assert (first.discount_minor, first.payable_minor) == (
        1000,
        (10000 + 5000 - 1000) * 12 // 10 - 2000,
    )
    assert world.credits() == {}
    void_invoice(world.settling, ONE)
    assert list(world.credits().values()) == [2000]
    billed(world, "2026-05")
    second = world.invoices()[1]
    assert [line.net for line in second.lines] == [line.net for line in first.lines]
    assert second.payable_minor == first.payable_minor
    assert world.credits() == {}


def setup_fee() -> Extra:
    return Extra(
        id="ext_1",
        name="Setup",
        amount=Decimal(50),
        start_us=at("2026-05-03"),
        end_us=at("2026-05-04"),
        taxes=("vat",),
    )


def test_a_redeemed_coupon_can_be_taken_away(world: SettledWorld) -> None:
    world.apply('[[coupons]]\nkey = "half"\npercent = "50"\nduration = "forever"\n')
    made = redeem(world.settling, "half", "acme")
    billed(world, "2026-05")
    assert world.open()[ONE] == ("finalized", 6000)
    withdraw_coupon(world.settling, "acme", made.id)
    billed(world, "2026-06")
    assert world.open()[TWO] == ("finalized", 12000)
    with pytest.raises(Missing):
        withdraw_coupon(world.settling, "acme", "red_0")
    with pytest.raises(Missing, match="no coupon"):
        redeem(world.settling, "full", "acme")


def test_everything_is_told_outside_once(world: SettledWorld) -> None:
    billed(world, "2026-05")
    payment = world.pay(12000)
    take_back(world.settling, payment.id, "bounced")
    world.pay(12000)
    assert world.open() == {ONE: ("paid", 0)}
    assert world.billing.tenant == TENANT


def test_one_off_charges_are_billed_at_once(world: SettledWorld) -> None:
    world.pay(1000)
    head = invoice_now(world.settling, "acme", [setup_fee()])
    assert (head.number, head.total_minor, head.open_minor) == (ONE, 6000, 5000)
    assert world.settling.settlements.extras(TENANT, None, head.id)[0].extra.id == "ext_1"
    assert verify(world.billing, ONE).ok
    billed(world, "2026-05")
    assert [line.name for line in world.invoices()[1].lines] == ["fee"]
    with pytest.raises(Invalid, match="at least one"):
        invoice_now(world.settling, "acme", [])
    with pytest.raises(Conflict):
        invoice_now(world.settling, "acme", [setup_fee()])
    assert len(world.open()) == 2


def test_a_one_off_credit_becomes_the_customers_credit(world: SettledWorld) -> None:
    gift = msgspec.structs.replace(setup_fee(), name="Sorry", amount=Decimal(-50))
    head = invoice_now(world.settling, "acme", [gift])
    assert (head.state, head.total_minor, head.open_minor) == ("paid", -6000, 0)
    assert world.credits() == {ONE: 6000}
    billed(world, "2026-05")
    assert world.open()[TWO] == ("finalized", 6000)
    with pytest.raises(Conflict, match="is used"):
        void_invoice(world.settling, ONE)
    void_invoice(world.settling, TWO)
    void_invoice(world.settling, ONE)
    assert (world.credits(), world.balances()) == ({}, {})


def test_an_invoice_is_reissued_as_things_stand_now(world: SettledWorld) -> None:
    billed(world, "2026-05")
    world.apply(MONTHLY.format(rate="25", amount="100"))
    head = reissue(world.settling, ONE)
    assert (head.number, head.total_minor) == (TWO, 12500)
    assert world.open() == {ONE: ("void", 0), TWO: ("finalized", 12500)}
    assert world.invoices()[1].replaces == ONE
    assert verify(world.billing, TWO).ok
    with pytest.raises(Conflict, match="was reissued as INV-000002"):
        reissue(world.settling, ONE)
    world.bill("2026-06")
    with pytest.raises(Conflict, match="nothing to bill"):
        reissue_after_rebilling(world)


def reissue_after_rebilling(world: SettledWorld) -> None:
    void_invoice(world.settling, THREE)
    world.bill("2026-06")
    reissue(world.settling, THREE)


def test_a_one_off_invoice_is_reissued_with_its_charges(world: SettledWorld) -> None:
    invoice_now(world.settling, "acme", [setup_fee()])
    void_invoice(world.settling, ONE)
    head = reissue(world.settling, ONE)
    assert (head.number, head.total_minor) == (TWO, 6000)
    assert world.invoices()[1].replaces == ONE


def test_a_one_off_invoice_whose_charge_is_on_another_one_is_not_reissued(
    world: SettledWorld,
) -> None:
    invoice_now(world.settling, "acme", [setup_fee()])
    void_invoice(world.settling, ONE)
    world.bill("2026-05")
    with pytest.raises(Conflict, match="is on another invoice") as caught:
        reissue(world.settling, ONE)
    assert caught.value.code == "later-document"
    assert world.settling.settlements.replaced_by(TENANT, world.head(ONE).id) is None


def test_a_second_reissue_is_noticed_after_any_number_of_invoices(world: SettledWorld) -> None:
    invoice_now(world.settling, "acme", [setup_fee()])
    assert reissue(world.settling, ONE).number == TWO
    assert world.settling.settlements.replaced_by(TENANT, world.head(ONE).id) == TWO
    void_invoice(world.settling, TWO)  # its charge waits again
    with pytest.raises(Conflict, match="was reissued as INV-000002") as caught:
        reissue(world.settling, ONE)
    assert caught.value.code == "exists"
    assert reissue(world.settling, TWO).number == THREE


def test_an_invoice_until_an_instant_is_reissued(world: SettledWorld) -> None:
    world.bill("2026-06-01")
    head = reissue(world.settling, ONE)
    assert (head.number, head.total_minor) == (TWO, 12000)


def test_credit_is_put_on_what_is_open_and_taken_back(world: SettledWorld) -> None:
    billed(world, "2026-05", "2026-06")
    world.pay(12000)
    world.credit(ONE, {"1": 5000})
    before = (world.open(), world.credits(), world.balances())
    used = pay_from_credit(world.settling, "acme", world.received(4000))
    assert (used.kind, used.amount_minor, used.method) == ("credit", 4000, "credit")
    assert world.open()[TWO] == ("finalized", 8000)
    assert list(world.credits().values()) == [2000]
    take_back(world.settling, used.id, "mistake")
    assert (world.open(), world.credits(), world.balances()) == before
    more = pay_from_credit(world.settling, "acme", world.received(99999, wanted={TWO: None}))
    assert more.amount_minor == 6000
    euros = msgspec.structs.replace(world.received(1, wanted={TWO: None}), currency="EUR")
    with pytest.raises(Invalid, match="is in USD"):
        pay(world.settling, "acme", euros)


def top_up(world: SettledWorld, wallets: SqlWallets, key: str, minor: int) -> Wallet:
    """Put dollars into wallet w, paid by card just now."""
    wallet = world.billing.catalog.load(TENANT).wallets["w"]
    stored = StoredTopUp(
        wallet="w",
        customer="acme",
        top_up=TopUp(key=key, amount=Decimal(minor) / 100, at_us=world.clock.now),
        cost_minor=minor,
        recorded_us=world.clock.now,
        method="card",
    )
    with wallets.transaction(TENANT) as transaction:
        transaction.purse(wallet)
        transaction.books.post(topped_up(stored, "USD"))
        transaction.put(Happened(top_ups=(stored,)))
    return wallet


def test_a_wallet_may_run_into_debt_that_the_next_top_up_pays(world: SettledWorld) -> None:
    if world.engine is None:
        pytest.skip("wallets are drawn from the database's catalog")
    wallets = SqlWallets(world.engine)
    world.apply(
        '[[wallets]]\nkey = "w"\ncustomer = "acme"\ncurrency = "USD"\noverdraft = "repay"\n'
    )
    wallet = world.billing.catalog.load(TENANT).wallets["w"]

    def owed() -> tuple[Decimal, Decimal]:
        purse = wallets.purses(TENANT, [wallet])["w"]
        state = purse.now(world.clock.now)
        return state.balance, purse.debt(state)

    billed(world, "2026-05")
    assert (world.open()[ONE], owed()) == (("paid", 0), (0, 120))
    assert world.balances()["prepaid:w"] == 12000
    assert verify(world.billing, ONE).ok
    top_up(world, wallets, "a", 5000)
    billed(world, "2026-06")
    assert (world.open()[TWO], owed()) == (("paid", 0), (0, 190))
    assert audit(world.settling, world.ledger, wallets).ok
    void_invoice(world.settling, TWO)
    assert owed() == (0, 70)
    top_up(world, wallets, "b", 10000)
    assert owed() == (30, 0)
    assert world.balances()["prepaid:w"] == -3000
    assert audit(world.settling, world.ledger, wallets).ok


def test_a_wallet_that_paid_is_refilled_by_a_void(world: SettledWorld) -> None:
    if world.engine is None:
        pytest.skip("wallets are drawn from the database's catalog")
    wallets = SqlWallets(world.engine)
    world.apply('[[wallets]]\nkey = "w"\ncustomer = "acme"\ncurrency = "USD"\n')
    wallet = top_up(world, wallets, "t", 50000)

    def left() -> Decimal:
        return wallets.purses(TENANT, [wallet])["w"].now(world.clock.now).balance

    billed(world, "2026-05")
    assert (world.open()[ONE], left()) == (("paid", 0), Decimal(380))
    assert audit(world.settling, world.ledger, wallets).ok
    void_invoice(world.settling, ONE)
    assert left() == Decimal(500)
    assert world.balances() == {"cash:card": 50000, "prepaid:w": -50000}
    assert audit(world.settling, world.ledger, wallets).ok


CHILD = """
[[customers]]
key = "branch"
currency = "USD"
parent = "acme"

[[subscriptions]]
key = "branch"
customer = "branch"
plan = "web"
start = 2026-05-01
"""


def test_a_childs_one_offs_are_on_its_parents_invoice_once(world: SettledWorld) -> None:
    world.apply(CHILD)
    day = at("2026-05-03")
    extra = Extra(id="x1", name="Visit", amount=Decimal(30), start_us=day, end_us=day)
    put_extras(world.settling, "branch", [extra])
    assert [one.customer for one in world.ledger.extras(TENANT, "branch", "")] == ["branch"]
    billed(world, "2026-05")
    (invoice,) = world.invoices()
    assert invoice.customer_key == "acme"
    assert [(x.customer, x.kind, x.amount) for x in invoice.lines] == [
        ("", "fee", "100.00"),
        ("branch", "fee", "100.00"),
        ("branch", "one-off", "30.00"),
    ]
    assert [member.key for member in invoice.manifest.members] == ["branch"]
    assert verify(world.billing, ONE).ok
    assert world.ledger.extras(TENANT, "branch", "") == []
    assert [one.extra.id for one in world.ledger.extras(TENANT, "branch", invoice.id)] == ["x1"]
    billed(world, "2026-06")
    assert [line.kind for line in world.invoices()[-1].lines] == ["fee", "fee"]
    assert world.balances()["revenue:branch"] == -23000
    void_invoice(world.settling, TWO)
    void_invoice(world.settling, ONE)
    assert [one.extra.id for one in world.ledger.extras(TENANT, "branch", "")] == ["x1"]
    billed(world, "2026-05")
    assert [line.amount for line in world.invoices()[-1].lines if line.kind == "one-off"] == [
        "30.00"
    ]


def test_a_childs_one_off_on_an_invoice_of_its_own_is_its_parents(world: SettledWorld) -> None:
    world.apply(CHILD)
    day = at("2026-05-03")
    extra = Extra(id="x1", name="Visit", amount=Decimal(30), start_us=day, end_us=day)
    head = invoice_now(world.settling, "branch", [extra])
    assert (head.customer, head.total_minor) == ("acme", 3000)
    (line,) = world.invoices()[-1].lines
    assert (line.customer, line.kind) == ("branch", "one-off")
    assert verify(world.billing, head.number).ok
    billed(world, "2026-05")
    assert [line.kind for line in world.invoices()[-1].lines] == ["fee", "fee"]


def test_a_customer_whose_child_alone_has_a_one_off(world: SettledWorld) -> None:
    world.apply('[[customers]]\nkey = "own"\ncurrency = "USD"\nparent = "acme"\n')
    day = at("2026-05-03")
    extra = Extra(id="x1", name="Visit", amount=Decimal(30), start_us=day, end_us=day)
    put_extras(world.settling, "own", [extra])
    billed(world, "2026-05")
    assert [line.customer for line in world.invoices()[-1].lines] == ["", "own"]
