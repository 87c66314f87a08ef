"""What is refused, what differs and is named: edges that no story reaches."""

from decimal import Decimal

import msgspec
import pytest

from tallybook.adapters.memory.wallets import MemoryWallets
from tallybook.catalog.coupon import Coupon
from tallybook.catalog.flow import put
from tallybook.invoice.document import decode_invoice
from tallybook.invoice.ledger.holdings import Holdings
from tallybook.kernel.book.entry import Entry
from tallybook.kernel.errors import Conflict, Corrupt, Invalid, Missing
from tallybook.settle.receivable.anew import invoice_now
from tallybook.settle.receivable.audit import Audit, audit
from tallybook.settle.receivable.credit_note import NoteManifest, decode_note
from tallybook.settle.receivable.crediting import Ask, note_manifest, verify_note
from tallybook.settle.receivable.flow import estimate, redeem, take_back_note, void_invoice
from tallybook.settle.receivable.noting import LineAsk, compose_note
from tallybook.settle.receivable.owing import owed
from tallybook.settle.receivable.ports import Balance
from tallybook.settle.receivable.standing import Changed, Moves
from tests.support.billing_world import TENANT, acme, at
from tests.support.settled_world import MONTHLY, SettledWorld
from tests.unit.invoice.ledger.test_holdings import CREDIT
from tests.unit.settle.receivable.test_pages import extra

ONE, TWO = "INV-000001", "INV-000002"


@pytest.fixture
def world() -> SettledWorld:
    made = SettledWorld()
    made.apply(MONTHLY.format(rate="20", amount="100"))
    made.bill("2026-05")
    return made


def ask(world: SettledWorld, *lines: LineAsk) -> None:
    estimate(world.settling, ONE, Ask(reason="x", lines=lines))


def test_lines_of_a_credit_note_that_are_refused(world: SettledWorld) -> None:
    with pytest.raises(Missing, match="has no line '2'"):
        ask(world, LineAsk(line="2"))
    with pytest.raises(Invalid, match="named twice"):
        ask(world, LineAsk(line="1", amount_minor=1), LineAsk(line="1", amount_minor=2))
    for amount in (0, -1, 10001):
        with pytest.raises(Invalid, match=r"at most 100\.00 USD"):
            ask(world, LineAsk(line="1", amount_minor=amount))


def mixed() -> SettledWorld:
    """Return a world with an invoice of 100.00 and -40.00, without tax."""
    world = SettledWorld()
    world.apply('[[customers]]\nkey = "acme"\ncurrency = "USD"\n')
    extras = [extra(Decimal(100), 0, ()), extra(Decimal(-40), 1, ())]
    invoice_now(world.settling, "acme", extras)
    return world


def test_a_credit_note_is_bounded_by_the_invoice(world: SettledWorld) -> None:
    world = mixed()
    with pytest.raises(Invalid, match=r"at most 60\.00 USD can be credited"):
        ask(world, LineAsk(line="1"))
    with pytest.raises(Invalid, match="more than nothing"):
        ask(world, LineAsk(line="2"))
    assert world.credit(ONE).total_minor == 6000


def test_a_tax_on_nothing_is_nothing() -> None:
    world = SettledWorld()
    world.apply(
        '[[taxes]]\nkey = "t"\nrate = "20"\n[[customers]]\nkey = "acme"\ncurrency = "USD"\n'
    )
    taxed = [extra(Decimal(100), 0, ("t",)), extra(Decimal(-100), 1, ("t",))]
    invoice_now(world.settling, "acme", [*taxed, extra(Decimal(50), 2, ())])
    note = world.credit(ONE, {"1": 3000})
    assert (note.tax_minor, note.total_minor) == (0, 3000)
    both = world.credit(ONE, {"1": 7000, "2": -7000, "3": 1000})
    assert [part.amount_minor for line in both.lines for part in line.taxes] == [0, 0]


def test_a_manifest_that_names_foreign_lines_is_corrupt(world: SettledWorld) -> None:
    note = world.credit(ONE, {"1": 100})
    invoice = world.invoices()[0]
    asked = (msgspec.structs.replace(note.manifest.asked[0], line="line_0"),)
    wrong = msgspec.structs.replace(note.manifest, asked=asked)
    with pytest.raises(Corrupt, match="does not have"):
        compose_note(wrong, invoice)
    with pytest.raises(Corrupt, match="cannot be read"):
        decode_note("{}")


def test_a_credit_note_that_was_tampered_with_differs(world: SettledWorld) -> None:
    world.credit(ONE, {"1": 100})
    stored = world.ledger.credit_note(TENANT, "CN-000001")
    body = world.billing.invoices.invoice(TENANT, ONE).body
    changed = msgspec.structs.replace(stored, body=stored.body.replace("broken", "BROKEN", 1))
    found = verify_note(changed, decode_invoice(body), body.encode() + b" ")
    assert not found.ok
    assert len(found.differences) == 3


def test_a_share_is_taken_back_with_its_line() -> None:
    from tallybook.catalog.plan import Share

    world = SettledWorld()
    world.apply('[[customers]]\nkey = "acme"\ncurrency = "USD"\n')
    shared = msgspec.structs.replace(
        extra(Decimal("0.10"), 0, ()), shares=(Share(party="isp", percent=Decimal(33)),)
    )
    invoice_now(world.settling, "acme", [shared])
    assert world.balances()["share:isp"] == -3
    taken = [world.credit(ONE, {"1": 2}).lines[0].shares[0].amount_minor for _ in range(5)]
    assert taken == [1, 0, 1, 0, 1]
    assert world.balances() == {}


def test_coupons_that_are_refused(world: SettledWorld) -> None:
    def offer(**terms: object) -> None:
        known = {"key": "k", "name": "k", "percent": Decimal(1)} | terms
        put(world.billing.catalog, TENANT, [Coupon(**known)])  # type: ignore[arg-type]

    offer(redeem_until_us=world.clock.now)
    with pytest.raises(Conflict, match="no longer"):
        redeem(world.settling, "k", "acme")
    offer(percent=None, amount=Decimal(1), currency="EUR")
    with pytest.raises(Invalid, match="is in EUR"):
        redeem(world.settling, "k", "acme")
    from tallybook.catalog.catalog import Archive

    put(world.billing.catalog, TENANT, [Archive("coupon", "k")])
    with pytest.raises(Conflict, match="archived"):
        redeem(world.settling, "k", "acme")


def test_a_child_redeems_for_who_pays(world: SettledWorld) -> None:
    world.apply(
        '[[customers]]\nkey = "child"\ncurrency = "USD"\nparent = "acme"\n'
        '[[coupons]]\nkey = "ten"\npercent = "10"\n'
    )
    assert redeem(world.settling, "ten", "child").customer == "acme"
    head = invoice_now(world.settling, "child", [extra(Decimal(50), 0, ())])
    assert (head.customer, head.total_minor) == ("acme", 4500)
    (line,) = world.invoices()[1].lines
    assert line.customer == "child"


def test_the_first_of_two_notes_cannot_be_voided_first(world: SettledWorld) -> None:
    world.credit(ONE, {"1": 100})
    world.credit(ONE, {"1": 100})
    with pytest.raises(Conflict) as refused:
        take_back_note(world.settling, "CN-000001")
    assert refused.value.code == "later-document"


def test_what_is_owed_leaves_out_what_is_given_up(world: SettledWorld) -> None:
    world.bill("2026-06")
    from tallybook.settle.receivable.flow import give_up

    give_up(world.settling, ONE)
    standing = world.ledger.standing(TENANT, "acme")
    assert owed(standing, at("2030-01-01"))["USD"].overdue == (TWO,)
    assert owed(standing, 0)["USD"].overdue_minor == 0


def audited(world: SettledWorld) -> Audit:
    return audit(world.settling, world.ledger, MemoryWallets(world.kept))


def test_an_audit_names_what_differs(world: SettledWorld) -> None:
    world.credit(ONE, {"1": 100})
    assert audited(world).ok
    entry = Entry(
        id="x..1",
        at_us=0,
        debit="receivable:acme",
        credit="prepaid:w",
        amount_minor=7,
        currency="USD",
        document="x",
        invoice=world.head(ONE).id,
    )
    version = world.ledger.standing(TENANT, "acme").version
    moves = Moves(
        customer="acme",
        version=version,
        entries=(entry,),
        held=Holdings(credits=(msgspec.structs.replace(CREDIT, customer="acme"),)),
        changed=(Changed(world.head(ONE).id, "finalized", 500),),
    )
    with world.ledger.transaction(TENANT) as transaction:
        transaction.settle(moves)
        transaction.invoices.take_numbers("CN", 1)
    world.credit(ONE, {"1": 100})
    found = "\n".join(audited(world).differences)
    for text in (
        "its receivable",
        "what was paid and credited",
        "credit note numbers: CN-000003 follows CN 1",
        "account credit:acme: the ledger owes 0.00 USD, customers hold 0.10",
        "account prepaid:w: the ledger owes 0.07 USD, wallets hold 0.00",
    ):
        assert text in found


def test_books_that_do_not_balance_are_named(
    world: SettledWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    balances = [*world.ledger.balances(TENANT), Balance("cash:card", "USD", -7)]
    monkeypatch.setattr(world.ledger, "balances", lambda *_: balances)
    assert audited(world).differences == (
        "the trial balance is -0.07 USD, not zero",
        "account cash:card: -0.07 USD is kept, its entries are 0.00",
    )


def test_a_manifest_of_a_note_says_what_it_depends_on(world: SettledWorld) -> None:
    world.credit(ONE, {"1": 100})
    invoice = world.invoices()[0]
    standing = world.ledger.standing(TENANT, "acme", [ONE])
    made: NoteManifest = note_manifest(TENANT, invoice, Ask(reason="x"), standing, {}, 5)
    assert made.total_credited == 120
    assert made.taxes_credited == {"vat": 20}
    assert (made.open_minor, made.refundable_minor) == (11880, 0)


def test_the_series_of_credit_notes_is_theirs() -> None:
    from tallybook.catalog.customer import SellerSpec, check_seller

    with pytest.raises(Invalid, match="credit notes"):
        check_seller(SellerSpec(name="x", series="CN"))


REGIONS = """
[[meters]]
key = "calls"
event_type = "t"
aggregation = "COUNT"
group_by = { region = "$.region" }

[[plans]]
key = "web"
currency = "USD"
[[plans.charges]]
key = "calls"
meter = "calls"
split_by = "region"
price = { type = "unit", unit_amount = 1 }
""" + acme()


def test_each_group_of_a_voided_invoice_stands_where_it_stood_before() -> None:
    world = SettledWorld()
    world.apply(REGIONS)
    for region in ("eu", "us", "eu"):
        world.event("2026-05-02", data=f'{{"region": "{region}"}}')
    world.bill("2026-05-10")
    before = world.billing.invoices.books(TENANT).billed
    for region in ("us", "us", "eu", "cn"):
        world.event("2026-05-12", data=f'{{"region": "{region}"}}')
    world.bill("2026-05-20")
    void_invoice(world.settling, TWO)
    (position,) = before
    after = world.billing.invoices.books(TENANT).billed[position]
    figures = {group: one.amount_minor for group, one in after.items() if one.amount_minor}
    assert figures == {("eu",): 200, ("us",): 100}
    again = world.bill("2026-05-20")
    assert [invoice.total for invoice in world.invoices(again)] == ["4.00"]
