"""Stories of what is carried over: seats that come and go, billed in parts, and late."""

import msgspec
import pytest

from tallybook.invoice.audit.chart import usage_charts
from tallybook.invoice.audit.reconcile import reconcile
from tallybook.invoice.audit.verify import explain, verify_all
from tallybook.kernel.errors import Conflict, Invalid
from tests.support.billing_world import World, acme

CATALOG = """
[[meters]]
key = "seats"
event_type = "t"
aggregation = "%s"
value = "$.v"
group_by = { op = "$.op" }

[[plans]]
key = "team"
currency = "USD"
[[plans.charges]]
key = "seats"
meter = "seats"
price = { type = "unit", unit_amount = "31" }
recurring = true
%s
""" + acme("team")


def world(aggregation: str = "SUM", more: str = "") -> World:
    made = World()
    made.apply(CATALOG % (aggregation, more))
    return made


def lines(made: World, what: str) -> list[tuple[str, str, str, bool]]:
    """Return month, quantity and amount of each line of a run, and whether it is late."""
    run = made.bill(what)
    assert run.parked == ()
    return [
        (line.period_start[:7], line.quantity, line.amount, line.adjustment)
        for invoice in made.invoices(run)
        for line in invoice.lines
    ]


def proven(made: World) -> None:
    """Every invoice is recomputed, and every line is made of its events."""
    assert [one for one in verify_all(made.billing, list(made.bodies())) if not one.ok] == []
    for invoice in made.invoices():
        usage_charts(made.billing, invoice)
        for line in invoice.lines:
            assert explain(made.billing, invoice.id, line.id).ok
    assert reconcile(made.billing, made.usage).differences == ()


def test_seats_day_by_day() -> None:
    made = world()
    made.event("2026-04-20", data='{"v":2}')
    made.event("2026-05-11", data='{"v":1}')
    assert lines(made, "2026-05-16") == [("2026-05", "1.129032258065", "35.00", False)]
    assert lines(made, "2026-05") == [("2026-05", "1.548387096774", "48.00", False)]
    assert lines(made, "2026-06") == [("2026-06", "3", "93.00", False)]
    proven(made)
    made.event("2026-05-21", data='{"v":1}')
    assert lines(made, "2026-07") == [
        ("2026-05", "0.354838709677", "11.00", True),
        ("2026-06", "1", "31.00", True),
        ("2026-07", "4", "124.00", False),
    ]
    proven(made)


def test_a_line_says_how_it_came_about() -> None:
    made = world()
    made.event("2026-04-20", data='{"v":2}')
    made.event("2026-05-11", data='{"v":1}')
    made.bill("2026-05")
    (invoice,) = made.invoices()
    assert [step.text for step in invoice.lines[0].steps] == [
        "from 2026-05-01: 2 × 31 = 62, × 10 of 31 days = 20",
        "from 2026-05-11: 3 × 31 = 93, × 21 of 31 days = 63",
    ]
    assert [(step.quantity, step.unit_amount) for step in invoice.lines[0].steps] == [
        ("2", "31"),
        ("3", "31"),
    ]
    assert explain(made.billing, invoice.id, "1").count == 1


def test_seats_of_named_people() -> None:
    made = world("UNIQUE_COUNT", 'releases = { op = ["remove"] }')
    made.event("2026-05-01", data='{"v":"ann"}')
    made.event("2026-05-11", data='{"v":"bob"}')
    made.event("2026-05-12", data='{"v":"bob"}')
    made.event("2026-05-20T12:00:00Z", data='{"v":"ann","op":"remove"}')
    assert lines(made, "2026-05") == [("2026-05", "1.322580645161", "41.00", False)]
    assert lines(made, "2026-06") == [("2026-06", "1", "31.00", False)]
    proven(made)


@pytest.mark.parametrize(
    ("aggregation", "more", "field"),
    [
        ("MAX", "", "recurring"),
        ("TIME_WEIGHTED", "", "recurring"),
        ("SUM", 'releases = { op = ["remove"] }', "releases"),
        ("UNIQUE_COUNT", 'releases = { who = ["remove"] }', "releases"),
    ],
)
def test_what_cannot_be_carried_over_is_refused(aggregation: str, more: str, field: str) -> None:
    with pytest.raises(Conflict) as refused:
        world(aggregation, more)
    assert refused.value.field == field


def test_prices_of_single_events_have_nothing_to_carry_over() -> None:
    text = CATALOG % ("SUM", "")
    price = '{ type = "percentage", rate = "1", fixed_amount = "2" }'
    with pytest.raises(Conflict, match="what is carried over has no single events"):
        World().apply(text.replace('{ type = "unit", unit_amount = "31" }', price))
    with pytest.raises(Invalid, match="releases is about what is carried over"):
        World().apply(
            text.replace("recurring = true", 'recurring = false\nreleases = { op = ["x"] }')
        )


def test_a_period_of_which_nothing_is_left_is_given_back() -> None:
    made = world()
    made.event("2026-05-03", data='{"v":2}')
    made.bill("2026-05-20")
    ended = (CATALOG % ("SUM", "")).replace(
        "start = 2026-05-01", "start = 2026-05-01\nend = 2026-05-01T00:00:01Z"
    )
    made.apply(ended)
    made.bill("2026-06-20")
    given_back = made.invoices()[-1].lines[0]
    assert given_back.now.amount == "0.00"
    assert made.invoices()[-1].total_minor == -made.invoices()[0].total_minor
    proven(made)


def test_a_period_of_which_nothing_is_left_has_no_chart() -> None:
    made = world()
    made.event("2026-05-03", data='{"v":2}')
    made.bill("2026-05")
    (invoice,) = made.invoices()
    (item,) = invoice.manifest.items
    emptied = msgspec.structs.replace(item, until_us=item.position.start_us)
    manifest = msgspec.structs.replace(invoice.manifest, items=(emptied,))
    assert len(usage_charts(made.billing, invoice)) == 1
    assert usage_charts(made.billing, msgspec.structs.replace(invoice, manifest=manifest)) == ()
