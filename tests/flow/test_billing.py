"""Stories of billing: partial, late, corrected, moved, prorated, parked, resumed."""

from decimal import Decimal

import pytest

from tallybook.invoice.audit.verify import explain, verify, verify_all
from tallybook.invoice.due import BillRequest
from tallybook.invoice.flow import bill, preview
from tallybook.kernel.errors import Conflict, Invalid
from tests.support.billing_world import TENANT, World, acme, at

CATALOG = """
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
name = "Calls"
meter = "calls"
price = { type = "graduated", tiers = [{ up_to = 10, unit_amount = 1 }, { unit_amount = "0.50" }] }
""" + acme()


@pytest.fixture
def world(any_world: World) -> World:
    return any_world


def figures(world: World, run: object = None) -> list[tuple[str, str, str]]:
    return [
        (line.quantity, line.amount, line.period_start[:7])
        for invoice in world.invoices(run)  # type: ignore[arg-type]
        for line in invoice.lines
    ]


def use(world: World, count: int, day: str, **more: str) -> None:
    for _ in range(count):
        world.event(day, **more)


def test_the_page_on_rerating_row_by_row(world: World) -> None:
    """docs/algorithms/rerating.md"""
    world.apply(CATALOG)
    use(world, 8, "2026-05-03")
    world.bill("2026-05-10")
    use(world, 4, "2026-05-12")
    world.bill("2026-05-20")
    assert world.bill("2026-05-20").invoices == 0
    use(world, 3, "2026-05-30")
    world.bill("2026-05")
    use(world, 2, "2026-05-04")
    use(world, 1, "2026-06-04")
    world.bill("2026-06")
    assert figures(world) == [
        ("8", "8.00", "2026-05"),
        ("4", "3.00", "2026-05"),
        ("3", "1.50", "2026-05"),
        ("2", "1.00", "2026-05"),
        ("1", "1.00", "2026-06"),
    ]
    last = world.invoices()[-1]
    assert [line.adjustment for line in last.lines] == [True, False]
    assert last.total == "2.00"
    assert last.lines[0].now.amount == "13.50"
    assert last.lines[0].before.amount == "12.50"
    assert [invoice.number for invoice in world.invoices()] == [
        f"INV-00000{i}" for i in range(1, 5)
    ]
    assert [v.ok for v in verify_all(world.billing, list(world.bodies()))] == [True] * 4


def test_a_finalized_invoice_keeps_its_bytes_whatever_comes_later(world: World) -> None:
    world.apply(CATALOG)
    use(world, 12, "2026-05-03")
    world.bill("2026-05")
    before = world.bodies()
    use(world, 5, "2026-05-03")
    world.apply(CATALOG.replace("unit_amount = 1", "unit_amount = 2"))
    world.apply(CATALOG.replace('subjects = ["s"]', 'subjects = []\nname = "New name"'))
    world.bill("2026-06")
    after = world.bodies()
    assert after["INV-000001"] == before["INV-000001"]
    assert verify(world.billing, "INV-000001").ok
    assert figures(world)[1] == ("-12", "-11.00", "2026-05"), "the usage is nobody's now"


def test_a_new_price_counts_from_the_next_period_and_closed_ones_keep_theirs(world: World) -> None:
    world.apply(CATALOG)
    use(world, 1, "2026-05-03")
    world.bill("2026-05-10")
    world.apply(CATALOG.replace("unit_amount = 1 ", "unit_amount = 3 "))
    use(world, 1, "2026-05-20")
    use(world, 1, "2026-06-20")
    world.bill("2026-05")
    use(world, 1, "2026-05-21")
    world.bill("2026-06")
    assert figures(world) == [
        ("1", "1.00", "2026-05"),
        ("1", "1.00", "2026-05"),
        ("1", "1.00", "2026-05"),
        ("1", "3.00", "2026-06"),
    ]
    assert [line.plan_version for line in world.invoices()[-1].lines] == [1, 2]


def test_a_corrected_meter_counts_for_open_periods_only(world: World) -> None:
    world.apply(CATALOG)
    use(world, 3, "2026-05-03", data='{"region":"test"}')
    use(world, 2, "2026-05-03", data='{"region":"eu"}')
    use(world, 3, "2026-06-03", data='{"region":"test"}')
    world.bill("2026-05")
    world.bill("2026-06-10")
    corrected = CATALOG.replace('"COUNT"', '"COUNT"\nfilter = { "$.region" = ["eu"] }')
    world.apply(corrected)
    use(world, 1, "2026-06-12", data='{"region":"eu"}')
    world.bill("2026-06")
    assert figures(world) == [
        ("5", "5.00", "2026-05"),
        ("3", "3.00", "2026-06"),
        ("-2", "-2.00", "2026-06"),
    ]
    assert [i.lines[0].meter.version for i in world.invoices()] == [1, 1, 2]  # type: ignore[union-attr]
    assert all(one.ok for one in verify_all(world.billing, list(world.bodies())))


def test_split_by_starts_each_value_in_the_first_tier(world: World) -> None:
    world.apply(CATALOG.replace('name = "Calls"', 'split_by = "region"'))
    use(world, 11, "2026-05-03", data='{"region":"eu"}')
    use(world, 11, "2026-05-03", data='{"region":"us"}')
    use(world, 1, "2026-05-03")
    world.bill("2026-05-10")
    use(world, 1, "2026-05-11", data='{"region":"us"}')
    world.bill("2026-05")
    lines = [line for invoice in world.invoices() for line in invoice.lines]
    assert [(line.dimensions["region"], line.quantity, line.amount) for line in lines] == [
        (None, "1", "1.00"),
        ("eu", "11", "10.50"),
        ("us", "11", "10.50"),
        ("us", "1", "0.50"),
    ]
    assert explain(world.billing, "INV-000001", "1").ok
    only = explain(world.billing, "INV-000002", "1")
    assert (only.ok, only.count, sum(only.fresh)) == (True, 12, 1)


def test_fixed_fees_in_advance_and_arrears_prorated(world: World) -> None:
    fees = """
[[plans.charges]]
key = "early"
timing = "advance"
price = { type = "flat", amount = "31" }
[[plans.charges]]
key = "late"
price = { type = "flat", amount = "62" }

[[customers]]
"""
    text = CATALOG.replace("\n[[customers]]\n", fees).replace("2026-05-01", "2026-05-17")
    world.apply(text)
    world.bill("2026-05-20")
    assert [(i.total, i.lines[0].charge) for i in world.invoices()] == [("15.00", "early")]
    run = world.bill("2026-05")
    assert [(line.charge, line.amount) for line in world.invoices(run)[0].lines] == [
        ("late", "30.00"),
        ("early", "31.00"),
    ]
    world.apply(text.replace("start = 2026-05-17", "start = 2026-05-17\nend = 2026-06-11"))
    run = world.bill("2026-06")
    lines = world.invoices(run)[0].lines
    assert [(line.charge, line.amount) for line in lines] == [
        ("early", "-20.67"),
        ("late", "20.67"),
    ]
    assert world.bill("2026-07").invoices == 0


def test_tiers_flat_amounts_are_due_at_zero_and_nothing_else_is(world: World) -> None:
    world.apply(CATALOG)
    assert world.bill("2026-05").invoices == 0
    flat = CATALOG.replace("unit_amount = 1 }", 'unit_amount = 1, flat_amount = "2.50" }')
    world.apply(flat)
    world.bill("2026-06")
    assert figures(world) == [("0", "2.50", "2026-06")]


def test_a_rule_makes_customers_once(world: World) -> None:
    rule = CATALOG[: CATALOG.index("[[customers]]")] + (
        '[[customer_rules]]\nkey = "r"\nevent_type = "t"\nplan = "web"\ncurrency = "USD"\n'
    )
    world.apply(rule)
    for n in range(5):
        use(world, n + 1, "2026-05-17", subject=f"10.0.0.{n}")
    world.event("2026-05-17", subject="-")
    run = world.bill("2026-05")
    assert run.invoices == 5
    assert [parked.customer for parked in run.parked] == ["-"]
    assert world.bill("2026-05").invoices == 0
    use(world, 1, "2026-05-18", subject="10.0.0.9")
    assert world.bill("2026-05").invoices == 1
    total = sum(Decimal(line.quantity) for i in world.invoices() for line in i.lines)
    assert total == 16
    assert [i.customer_key for i in world.invoices()][-1] == "10.0.0.9"


def test_usage_mapped_later_is_billed_later(world: World) -> None:
    world.apply(CATALOG)
    use(world, 1, "2026-05-03")
    use(world, 2, "2026-05-03", subject="other")
    world.bill("2026-05")
    world.apply(CATALOG.replace('subjects = ["s"]', 'subjects = ["s", "other"]'))
    world.bill("2026-06")
    assert figures(world) == [("1", "1.00", "2026-05"), ("2", "2.00", "2026-05")]


def test_a_period_that_has_not_ended_waits(world: World) -> None:
    world.apply(CATALOG)
    world.clock.now = at("2026-05-20")
    use(world, 1, "2026-05-03")
    run = world.bill("2026-05")
    assert (run.invoices, run.waiting) == (0, 1)
    world.clock.now = at("2026-06-01")
    assert world.bill("2026-05").invoices == 1


def test_until_never_goes_back(world: World) -> None:
    world.apply(CATALOG)
    use(world, 2, "2026-05-15")
    world.bill("2026-05-20")
    assert world.bill("2026-05-10").invoices == 0


def test_an_end_moved_forward_gives_back_what_came_after_it(world: World) -> None:
    world.apply(CATALOG)
    use(world, 2, "2026-05-03")
    use(world, 3, "2026-05-15")
    world.clock.now = at("2026-05-20")
    assert world.bill("2026-05-20").invoices == 1
    world.apply(CATALOG.replace("start = 2026-05-01", "start = 2026-05-01\nend = 2026-05-05"))
    use(world, 1, "2026-05-06")
    run = world.bill("2026-05-20")
    assert figures(world, run) == [("-3", "-3.00", "2026-05")]
    assert all(found.ok for found in verify_all(world.billing, list(world.bodies())))


def test_a_customer_that_fails_is_parked_and_the_rest_goes_on(world: World) -> None:
    big = CATALOG.replace('aggregation = "COUNT"', 'aggregation = "SUM"\nvalue = "$.v"')
    more = big.split("[[customers]]")[1].replace("acme", "ben").replace('"s"', '"b"')
    world.apply(big + "[[customers]]" + more)
    world.event("2026-05-02", data='{"v":9e19}')
    world.event("2026-05-02", subject="b", data='{"v":2}')
    run = world.bill("2026-05")
    assert (run.invoices, [(p.customer, p.code) for p in run.parked]) == (1, [("acme", "invalid")])
    assert "too large" in run.parked[0].message
    assert world.invoices()[0].customer_key == "ben"


def test_a_run_that_goes_on_makes_no_second_invoice(world: World) -> None:
    world.apply(CATALOG)
    use(world, 2, "2026-05-15")
    first = world.bill("2026-05", name="run_x")
    assert world.bill("2026-05", name="run_x") == first
    assert len(world.invoices()) == 1


def test_a_preview_stores_nothing(world: World) -> None:
    world.apply(CATALOG)
    use(world, 2, "2026-05-15")
    draft = preview(world.billing, BillRequest(until_us=at("2026-05-20")), "acme")
    assert draft is not None
    assert (draft.invoice.number, draft.invoice.total) == ("DRAFT", "2.00")
    assert world.billing.invoices.books(TENANT).periods == {}


@pytest.mark.parametrize("period", ["2026-13", "may", "2026-5"])
def test_a_request_that_cannot_be_followed_is_refused(world: World, period: str) -> None:
    with pytest.raises(Invalid):
        preview(world.billing, BillRequest(period=period), "acme")
    with pytest.raises(Invalid, match="future"):
        bill(world.billing, BillRequest(until_us=at("2030-01-01")))


def test_months_are_those_of_the_customers_zone(world: World) -> None:
    text = CATALOG.replace(
        'currency = "USD"\nsubjects', 'currency = "USD"\nzone = "Asia/Kolkata"\nsubjects'
    )
    world.apply(text)
    world.event("2026-05-31T18:29:59Z")
    world.event("2026-05-31T18:30:00Z")
    world.bill("2026-05")
    world.bill("2026-06")
    assert [line[:2] for line in figures(world)] == [("1", "1.00"), ("1", "1.00")]
    assert world.invoices()[1].lines[0].period_start == "2026-05-31T18:30:00Z"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (('customer = "acme"', 'customer = "beta"'), "acme's for good"),
        (('"USD"', '"EUR"'), "pays in USD for good"),
    ],
)
def test_what_one_paid_is_never_given_back_to_another(
    world: World, change: tuple[str, str], why: str
) -> None:
    """Billed periods stay their customer's, in the currency they were billed in."""
    other = '[[customers]]\nkey = "beta"\ncurrency = "USD"\nsubjects = ["b"]\n'
    world.apply(CATALOG + other)
    use(world, 5, "2026-05-15")
    world.bill("2026-05")
    with pytest.raises(Conflict, match=why):
        world.apply((CATALOG + other).replace('key = "web"', 'key = "web2"').replace(*change))
    use(world, 1, "2026-05-16")
    world.bill("2026-06")
    assert [(i.customer_key, i.currency, i.total) for i in world.invoices()] == [
        ("acme", "USD", "5.00"),
        ("acme", "USD", "1.00"),
    ]


def test_verify_names_what_differs(world: World) -> None:
    world.apply(CATALOG)
    use(world, 2, "2026-05-15")
    world.bill("2026-05")
    assert verify(world.billing, "INV-000001").differences == ()
    world.event("2026-05-16", seq=1)
    found = verify(world.billing, "INV-000001")
    assert not found.ok
    assert any(d.startswith("lines[0].quantity: stored '2'") for d in found.differences)
    assert not explain(world.billing, "INV-000001", "1").ok
