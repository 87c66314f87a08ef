"""One control database that many processes bill in, each with the same events in memory."""

from sqlalchemy import Engine, func, select

from tallybook.adapters.sql.accounts import SqlAccounts
from tallybook.adapters.sql.books import LEDGER
from tallybook.adapters.sql.catalog import SqlCatalog
from tallybook.adapters.sql.database import open_database
from tallybook.adapters.sql.invoices import SqlInvoices
from tallybook.adapters.sql.outbox import OUTBOX
from tallybook.invoice.document import number_place
from tallybook.invoice.ports import InvoiceHead
from tests.support.billing_world import TENANT, World, at

CATALOG = """
[seller]
name = "We"
grace_days = {grace}
taxes = ["vat"]

[[taxes]]
key = "vat"
rate = 19

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
price = {{ type = "unit", unit_amount = 1 }}
[[plans.charges]]
key = "seat"
price = {{ type = "flat", amount = "9.99" }}
"""
CUSTOMER = """
[[customers]]
key = "{key}"
currency = "USD"
subjects = ["s-{key}"]

[[subscriptions]]
key = "{key}"
customer = "{key}"
plan = "web"
start = 2026-05-01
"""


def keys(customers: int) -> list[str]:
    """Return the keys of the customers."""
    return [f"c{n:03d}" for n in range(customers)]


def catalog_text(customers: int, grace: int = 0) -> str:
    """Return a catalog of so many customers."""
    return CATALOG.format(grace=grace) + "".join(CUSTOMER.format(key=k) for k in keys(customers))


def world_on(url: str, customers: int) -> tuple[World, Engine]:
    """Return a world on a control database; everybody used two calls in May; it is June."""
    engine = open_database(url)
    world = World(SqlCatalog(engine), SqlInvoices(engine), SqlAccounts(engine))
    for key in keys(customers):
        world.event("2026-05-17", subject=f"s-{key}")
        world.event("2026-05-18", subject=f"s-{key}")
    world.clock.now = at("2026-06-01")
    return world, engine


def check_books(url: str, customers: int) -> list[InvoiceHead]:
    """Check that everybody has one invoice, and all the books agree; return the invoices."""
    world, engine = world_on(url, customers)
    heads = world.billing.invoices.invoices(TENANT, limit=100_000)
    assert sorted(head.customer for head in heads) == keys(customers)
    ordinals = [number_place(head.number)[1] for head in heads]
    assert ordinals == list(range(1, customers + 1)), "numbers have no gap"
    with engine.connect() as connection:
        owed = dict(
            connection.execute(
                select(LEDGER.c.debit, func.sum(LEDGER.c.amount_minor)).group_by(LEDGER.c.debit)
            ).all()
        )
        told = connection.execute(select(OUTBOX.c.subject)).scalars().all()
    assert {f"receivable:{h.customer}": h.total_minor for h in heads} == owed
    assert sorted(told) == sorted(head.id for head in heads)
    books = world.billing.invoices.books(TENANT)
    billed = sum(one.amount_minor for groups in books.billed.values() for one in groups.values())
    assert billed == customers * (200 + 999)
    assert all(p.closed for periods in books.periods.values() for p in periods if p.until_us)
    engine.dispose()
    return heads
