"""Stories of prices that need more than a total: by dimension, by event, at the end."""

import pytest

from tallybook.invoice.audit.reconcile import reconcile
from tallybook.invoice.audit.verify import explain, verify_all
from tallybook.kernel.errors import Conflict
from tests.support.billing_world import World

CATALOG = """
[[meters]]
key = "payments"
event_type = "t"
aggregation = "SUM"
value = "$.amount"
group_by = { region = "$.region", kind = "$.kind" }

[[meters]]
key = "calls"
event_type = "t"
aggregation = "COUNT"

[[plans]]
key = "web"
currency = "USD"
[[plans.charges]]
key = "c"
meter = "payments"
%s

[[customers]]
key = "acme"
currency = "USD"
subjects = ["s", "s2"]

[[subscriptions]]
key = "acme"
customer = "acme"
plan = "web"
start = 2026-05-01
"""


def world(charge: str, events: str) -> World:
    """Return a world with a charge, and events such as '05-03 10 eu gold'."""
    made = World()
    made.apply(CATALOG % charge)
    use(made, events)
    return made


def use(made: World, events: str) -> None:
    for text in events.split(","):
        day, amount, *dimensions = text.split()
        named = dict(zip(("region", "kind"), dimensions, strict=False))
        data = "".join(f', "{name}": "{value}"' for name, value in named.items())
        made.event(f"2026-{day}", data=f'{{"amount": "{amount}"{data}}}')


def amounts(made: World) -> list[str]:
    return [line.amount for invoice in made.invoices() for line in invoice.lines]


def sound(made: World) -> None:
    """Everything verifies, explains itself and is accounted for."""
    numbers = [invoice.number for invoice in made.invoices()]
    assert all(one.ok for one in verify_all(made.billing, numbers))
    for invoice in made.invoices():
        assert all(explain(made.billing, invoice.id, line.id).ok for line in invoice.lines)
    made.usage.duplicates = 0
    assert reconcile(made.billing, made.usage).ok


MATRIX = """
price = { type = "matrix", dimensions = ["region", "kind"], default_unit_amount = "3", \
cells = [{ match = { region = "eu" }, unit_amount = "2" }, \
{ match = { region = "eu", kind = "gold" }, unit_amount = "1" }] }
"""


def test_a_matrix_is_asked_by_its_dimensions() -> None:
    made = world(MATRIX, "05-03 10 eu, 05-04 5 eu gold, 05-05 1 us gold, 05-06 1")
    made.bill("2026-05-10")
    assert amounts(made) == ["31.00"]
    (invoice,) = made.invoices()
    (line,) = invoice.lines
    assert (line.quantity, line.events, line.dimensions) == ("17", 4, {})
    assert [step.text for step in line.steps] == [
        "region eu, kind (none): 10 × 2 = 20",
        "region eu, kind gold: 5 × 1 = 5",
        "region (none), kind (none): 1 × 3 = 3",
        "region us, kind gold: 1 × 3 = 3",
    ]
    use(made, "05-02 2 eu gold")
    made.bill("2026-05")
    assert amounts(made) == ["31.00", "2.00"]
    sound(made)


def test_a_split_matrix_is_applied_within_each_value() -> None:
    made = world(f'split_by = ["kind"]\n{MATRIX}', "05-03 10 eu, 05-04 5 eu gold, 05-05 1 us gold")
    made.bill("2026-05")
    assert amounts(made) == ["20.00", "8.00"]
    sound(made)


def test_usage_without_a_price_parks_its_customer() -> None:
    price = (
        'price = { type = "matrix", dimensions = ["region"],'
        ' cells = [{ match = { region = "eu" }, unit_amount = "2" }] }'
    )
    made = world(price, "05-03 10 eu, 05-04 5 us")
    (parked,) = made.bill("2026-05").parked
    assert (parked.customer, parked.code) == ("acme", "invalid")
    assert "no cell of the matrix prices region us" in parked.message
    assert made.invoices() == []


PERCENTAGE = """
price = { type = "percentage", rate = "1", fixed_amount = "1", free_events = 2, \
free_amount = "250", event_max = "4" }
"""


def test_a_percentage_of_each_event_follows_their_time() -> None:
    """Free are the earliest, whatever came in first; the difference is billed."""
    made = world(PERCENTAGE, "05-03 100, 05-04 200, 05-05 1000")
    made.bill("2026-05-10")
    assert amounts(made) == ["5.50"]  # 50 at 1 % + 1; 10 + 1 capped at 4
    (line,) = made.invoices()[0].lines
    assert [step.text for step in line.steps] == [
        "1 event free",
        "1 % of 1 event: 50 × 1 % = 0.5",
        "fixed amount of 1 event: 1 × 1 = 1",
        "at most, for 1 event: 1 × 4 = 4",
    ]
    made.event("2026-05-01", subject="s2", data='{"amount": "10"}')
    use(made, "05-20 5")
    made.bill("2026-05")
    # 10 and 100 are free; 200: 2 + 1; 1000: 4; 5: 0.05 + 1
    assert amounts(made) == ["5.50", "2.55"]
    sound(made)


def test_a_percentage_without_usage_is_nothing() -> None:
    made = world(PERCENTAGE, "05-03 100")
    made.bill("2026-05")
    made.bill("2026-06")
    assert amounts(made) == ["0.00"]
    sound(made)


def test_a_minimum_is_due_when_the_period_is_over() -> None:
    price = 'price = { type = "unit", unit_amount = "10", minimum_amount = "100" }'
    made = world(price, "05-03 2")
    made.bill("2026-05-10")
    use(made, "05-12 3")
    made.bill("2026-05-20")
    made.bill("2026-05")
    made.bill("2026-06")
    assert amounts(made) == ["20.00", "30.00", "50.00", "100.00"]
    use(made, "05-30 4, 05-31 2")
    made.bill("2026-07")
    assert amounts(made)[4:] == ["10.00", "100.00"]
    sound(made)


def test_a_minimum_shrinks_with_its_period() -> None:
    """A charge of 8 a call and at least 10.00, ended after 25 of 28 days: 8.00 + 0.93."""
    price = 'price = { type = "unit", unit_amount = "8", minimum_amount = "10" }'
    made = World()
    dates = ("start = 2026-05-01", "start = 2026-02-01\nend = 2026-02-26")
    made.apply((CATALOG % price).replace(*dates))
    use(made, "02-03 1")
    made.bill("2026-02")
    assert amounts(made) == ["8.93"]
    assert made.invoices()[0].lines[0].steps[-1].text == (
        "minimum of 10 × 25 of 28 days = 8.928571428571: 8 is 0.928571428571 short of it"
    )
    sound(made)


@pytest.mark.parametrize(
    "price",
    [
        'price = { type = "percentage", rate = "1", fixed_amount = "1" }',
        'price = { type = "dynamic", multiplier = "1" }',
    ],
)
def test_what_events_carry_needs_a_sum(price: str) -> None:
    text = (CATALOG % price).replace('meter = "payments"', 'meter = "calls"')
    with pytest.raises(Conflict, match="use a SUM meter"):
        World().apply(text)


def test_a_matrix_names_dimensions_of_its_meter() -> None:
    text = (CATALOG % MATRIX).replace('meter = "payments"', 'meter = "calls"')
    with pytest.raises(Conflict, match="no dimension 'region'"):
        World().apply(text)
