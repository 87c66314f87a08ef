"""Stories of plans: a trial, a ramp, two currencies, an add-on, a parent, versions with dates."""

from tallybook.invoice.document import Invoice
from tests.support.billing_world import World, at

CATALOG = """
[[meters]]
key = "calls"
event_type = "t"
aggregation = "COUNT"

[[plans]]
key = "team"
currency = "USD"

  [[plans.charges]]
  key = "seats"
  timing = "advance"
  price = { type = "flat", amount = "30" }

  [[plans.charges]]
  key = "calls"
  meter = "calls"
  price = { type = "unit", unit_amount = "1" }

  [plans.currencies.EUR]
  seats = { type = "flat", amount = "27" }
  calls = { type = "unit", unit_amount = "0.9" }

[[customers]]
key = "us"
currency = "USD"
subjects = ["us"]

[[customers]]
key = "eu"
currency = "EUR"
subjects = ["eu"]
"""
TRIAL = """
  [[plans.phases]]
  key = "trial"
  length = "P14D"
  charges = []

  [[plans.phases]]
  key = "ramp"
  length = "P1M"
  prices = { calls = { type = "unit", unit_amount = "0.5" } }
  currencies = { EUR = { calls = { type = "unit", unit_amount = "0.4" } } }
"""
PLAN_END = "[[customers]]"


def subscribed(customer: str, start: str, more: str = "") -> str:
    head = f'\n[[subscriptions]]\nkey = "{customer}"\ncustomer = "{customer}"\nplan = "team"\n'
    return f"{head}start = {start}\n{more}"


def lines(invoice: Invoice) -> list[tuple[str, str, str, str]]:
    """Return charge, phase, start and amount of each line."""
    return [(one.charge, one.phase, one.period_start[5:10], one.amount) for one in invoice.lines]


def billed(world: World, month: str) -> dict[str, Invoice]:
    run = world.bill(month)
    assert run.parked == (), run.parked
    return {invoice.customer_key: invoice for invoice in world.invoices(run)}


def test_a_plan_is_billed_in_each_customers_currency() -> None:
    world = World()
    world.apply(CATALOG + subscribed("us", "2026-05-01") + subscribed("eu", "2026-05-01"))
    for subject in ("us", "eu"):
        for _ in range(3):
            world.event("2026-05-10", subject)
    made = billed(world, "2026-05")
    assert (made["us"].currency, made["eu"].currency) == ("USD", "EUR")
    assert ("calls", "", "05-01", "3.00") in lines(made["us"])
    assert ("calls", "", "05-01", "2.70") in lines(made["eu"])
    assert ("seats", "", "05-01", "27.00") in lines(made["eu"])


def test_a_trial_is_free_and_a_ramp_is_cheaper() -> None:
    world = World()
    both = subscribed("us", "2026-05-01") + subscribed("eu", "2026-05-01")
    world.apply(CATALOG.replace(PLAN_END, TRIAL + PLAN_END, 1) + both)
    for day in ("2026-05-10", "2026-05-20", "2026-06-20"):
        for subject in ("us", "eu"):
            for _ in range(10):
                world.event(day, subject)
    may, june = billed(world, "2026-05"), billed(world, "2026-06")
    found = lines(may["us"]) + lines(june["us"])
    usage = [line for line in found if line[0] == "calls"]
    assert usage == [("calls", "ramp", "05-15", "5.00"), ("calls", "", "06-15", "10.00")]
    assert not [line for line in found if line[1] == "trial"]
    euro = [line for line in lines(may["eu"]) + lines(june["eu"]) if line[0] == "calls"]
    assert euro == [("calls", "ramp", "05-15", "4.00"), ("calls", "", "06-15", "9.00")]


def test_an_effective_date_keeps_a_version_from_earlier_periods() -> None:
    world = World()
    world.apply(CATALOG + subscribed("us", "2026-05-01"))
    dearer = CATALOG.replace('unit_amount = "1"', 'unit_amount = "2"')
    dearer = dearer.replace('currency = "USD"\n', 'currency = "USD"\neffective = 2026-07-01\n', 1)
    world.apply(dearer + subscribed("us", "2026-05-01"))
    for day in ("2026-05-10", "2026-06-10", "2026-07-10"):
        world.event(day, "us")
    months = [billed(world, month)["us"] for month in ("2026-05", "2026-06", "2026-07")]
    found = [line for invoice in months for line in invoice.lines if line.charge == "calls"]
    assert [(line.plan_version, line.amount) for line in found] == [
        (1, "1.00"),
        (1, "1.00"),
        (2, "2.00"),
    ]


ADD_ON = """
[[plans]]
key = "support"
kind = "add-on"
currency = "USD"
charges = [{ key = "help", price = { type = "flat", amount = "31" } }]
"""


def test_an_add_on_is_on_the_invoice_and_ends_with_its_base() -> None:
    world = World()
    extra = '\n[[subscriptions]]\nkey = "extra"\ncustomer = "us"\nplan = "support"\nbase = "us"\n'
    own = subscribed("us", "2026-05-01", 'end = "2026-05-16"\n')
    world.apply(CATALOG + ADD_ON + own + extra + "start = 2026-05-01\n")
    (invoice,) = billed(world, "2026-05").values()
    found = {line.charge: (line.subscription, line.amount) for line in invoice.lines}
    assert found["help"] == ("extra", "15.00"), "15 of 31 days"
    assert found["seats"][0] == "us"


def test_a_parent_pays_for_its_children_on_one_invoice() -> None:
    world = World()
    child = '\n[[customers]]\nkey = "lab"\ncurrency = "USD"\nparent = "us"\nsubjects = ["lab"]\n'
    world.apply(CATALOG + child + subscribed("us", "2026-05-01") + subscribed("lab", "2026-05-01"))
    world.event("2026-05-10", "us")
    world.event("2026-05-10", "lab")
    made = billed(world, "2026-05")
    assert made.keys() == {"us"}
    usage = [line for line in made["us"].lines if line.charge == "calls"]
    assert [(line.subscription, line.amount) for line in usage] == [("us", "1.00"), ("lab", "1.00")]


def test_a_commitment_stands_in_the_currency() -> None:
    world = World()
    plan = "\n  [plans.minimum]\n  amount = 10\n  charges = ['calls']\n  currencies = { EUR = 9 }\n"
    world.apply(CATALOG.replace(PLAN_END, plan + PLAN_END, 1) + subscribed("eu", "2026-05-01"))
    world.event("2026-05-10", "eu")
    (invoice,) = billed(world, "2026-05").values()
    (true_up,) = [line for line in invoice.lines if line.kind == "minimum"]
    assert true_up.amount == "8.10"


DECLARED = """
[[plans]]
key = "old"
currency = "USD"
[[plans.charges]]
key = "fee"
timing = "advance"
price = { type = "flat", amount = "31" }

[[plans]]
key = "new"
currency = "USD"
interval = "P1Y"
[[plans.charges]]
key = "year"
timing = "advance"
price = { type = "flat", amount = "365" }

[[customers]]
key = "acme"
currency = "USD"

[[subscriptions]]
key = "acme"
customer = "acme"
plan = "old"
start = 2026-05-01
"""


def test_a_plan_declared_anew_with_an_end_in_the_stored_period_never_begins() -> None:
    world = World()
    world.clock.now = at("2026-05-03")
    world.apply(DECLARED)
    assert [one.total for one in world.invoices(world.bill("2026-05-02"))] == ["31.00"]
    ending = 'plan = "new"\nstart = 2026-05-01\nend = 2026-05-16'
    world.apply(DECLARED.replace('plan = "old"\nstart = 2026-05-01', ending))
    world.clock.now = at("2026-06-03")
    (invoice,) = world.invoices(world.bill("2026-06-01"))
    assert [(line.charge, line.amount) for line in invoice.lines] == [("fee", "-16.00")]
