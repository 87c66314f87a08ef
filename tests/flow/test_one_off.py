"""One-off charges on an invoice of their own."""

from decimal import Decimal

import msgspec
import pytest

from tallybook.adapters.memory.books import MemoryBooks
from tallybook.catalog import flow
from tallybook.catalog.catalog import Archive
from tallybook.invoice.audit.verify import verify
from tallybook.invoice.due import BillRequest
from tallybook.invoice.flow import bill
from tallybook.invoice.ledger.holdings import Holdings, PendingExtra
from tallybook.invoice.manifest import Extra
from tallybook.invoice.run.oneoff import bill_extras
from tallybook.kernel.errors import Conflict, Missing
from tests.flow.test_payers import CATALOG
from tests.support.billing_world import TENANT, World, at

LONE = """
[[customers]]
key = "lone"
currency = "USD"

[[customers]]
key = "gone"
currency = "USD"

[[customers]]
key = "mother"
currency = "USD"

[[customers]]
key = "child"
currency = "USD"
parent = "mother"
"""
"""Customers who have subscribed to nothing."""


def extra(name: str, amount: str) -> Extra:
    day = at("2026-12-01")
    return Extra(id=name, name=name, amount=Decimal(amount), start_us=day, end_us=day + 1)


def put(world: World, customer: str, *extras: Extra, batch: str = "") -> None:
    made = tuple(
        PendingExtra(customer=customer, currency="USD", at_us=1, extra=one, batch=batch)
        for one in extras
    )
    with world.billing.invoices.transaction(TENANT) as transaction:
        books = transaction.books
        assert isinstance(books, MemoryBooks)
        books.put(Holdings(extras=made))


@pytest.fixture
def world() -> World:
    world = World()
    world.apply(CATALOG)
    return world


def test_what_waits_is_billed_at_once_and_once(world: World) -> None:
    put(world, "alone", extra("setup", "100"), extra("gift", "-10"))
    stored = bill_extras(world.billing, "alone", name="run_1")
    (invoice,) = world.invoices()
    assert (invoice.number, invoice.subtotal, invoice.total) == ("INV-000001", "90.00", "107.10")
    assert {line.kind for line in invoice.lines} == {"one-off"}
    assert verify(world.billing, stored.head.id).ok
    assert bill_extras(world.billing, "alone", name="run_1").head.id == stored.head.id
    with pytest.raises(Conflict, match="waits to be billed"):
        bill_extras(world.billing, "alone")
    with pytest.raises(Missing):
        bill_extras(world.billing, "nobody")
    world.event("2026-05-17", subject="a")
    run = world.bill("2026-05")
    charges = [line.charge for invoice in world.invoices(run) for line in invoice.lines]
    assert "setup" not in charges


def test_chosen_charges_alone(world: World) -> None:
    put(world, "alone", extra("later", "1"))
    chosen = (extra("now", "5"),)
    put(world, "alone", *chosen, batch="b")
    bill_extras(world.billing, "alone", chosen)
    assert [line.charge for line in world.invoices()[0].lines] == ["now"]
    bill_extras(world.billing, "alone")
    assert [line.charge for line in world.invoices()[1].lines] == ["later"]


def test_the_charges_of_a_child_are_on_its_parents_invoice(world: World) -> None:
    put(world, "north", extra("repair", "7"))
    put(world, "group", extra("own", "1"))
    bill_extras(world.billing, "north")
    (invoice,) = world.invoices()
    assert invoice.customer_key == "group"
    assert [(line.customer, line.charge) for line in invoice.lines] == [("north", "repair")]
    run = world.bill("2026-05")
    (group,) = [one for one in world.invoices(run) if one.customer_key == "group"]
    lines = [(line.customer, line.charge) for line in group.lines if line.kind == "one-off"]
    assert lines == [("", "own")]


def test_the_run_is_kept(world: World) -> None:
    put(world, "alone", extra("setup", "100"))
    bill_extras(world.billing, "alone", name="run_1")
    (run,) = world.billing.invoices.runs(TENANT, limit=9)
    expected = ("run_1", "one-off", "done", 1)
    assert (run.id, run.request, run.state, run.invoices) == expected
    assert msgspec.json.decode(next(iter(world.bodies().values())))["manifest"]["run"] == "run_1"


def test_what_waits_of_a_customer_without_a_subscription_is_billed_by_a_run(world: World) -> None:
    world.apply(LONE)
    put(world, "lone", extra("setup", "100"))
    put(world, "child", extra("visit", "7"))
    put(world, "gone", extra("late", "1"))
    flow.put(world.billing.catalog, TENANT, [Archive(kind="customer", key="gone")])
    run = bill(world.billing, BillRequest(period="2026-05"), only=["lone"])
    (invoice,) = world.invoices(run)
    assert (invoice.customer_key, invoice.subtotal) == ("lone", "100.00")
    run = world.bill("2026-05")
    lines = {
        one.customer_key: [(line.customer, line.charge) for line in one.lines]
        for one in world.invoices(run)
        if one.customer_key in {"lone", "mother", "gone", "child"}
    }
    assert lines == {"mother": [("child", "visit")]}
    assert not run.parked
