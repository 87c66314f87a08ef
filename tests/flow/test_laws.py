"""What holds for billing whatever happens, in whatever order."""

from collections import defaultdict
from decimal import Decimal
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tallybook.catalog.meter import LEVELS
from tallybook.catalog.plan import Charge
from tallybook.invoice.audit.reconcile import reconcile
from tallybook.invoice.audit.verify import explain, verify_all
from tallybook.kernel.money import to_minor
from tallybook.rate.charge import rate
from tests.support.billing_world import TENANT, World

PRICES = (
    '{ type = "unit", unit_amount = "0.333" }',
    '{ type = "graduated", tiers = [{ up_to = 3, unit_amount = "1.005" }, { flat_amount = 2 }] }',
    '{ type = "graduated", tiers = [{ up_to = 3, flat_amount = 2 }, { unit_amount = "0.335" }] }',
    '{ type = "volume", tiers = [{ up_to = 4, unit_amount = "1.005" }, { unit_amount = "0.5" }] }',
    '{ type = "package", package_size = "2.5", amount = "1.115" }',
)
OF_MORE = (
    (
        '{ type = "matrix", dimensions = ["region"], default_unit_amount = "0.335", free_units = 2,'
        ' cells = [{ match = { region = "eu" }, unit_amount = "1.005" }] }'
    ),
    '{ type = "unit", unit_amount = "0.335", minimum_amount = "10.005", maximum_amount = 12 }',
    (
        '{ type = "graduated_percentage", tiers = [{ up_to = 3, rate = "33.3" }, { rate = 7 }],'
        ' unit_conversion = { operation = "divide", factor = 3 }, discount_percent = "0.7",'
        ' pricing_unit = { name = "CRD", conversion_rate = "0.07" } }'
    ),
)
"""Priced by more than the total of a period: by dimension, or by whether it is over."""
OF_EVENTS = (
    '{ type = "percentage", rate = "33.3", fixed_amount = "0.335", event_min = 1, event_max = 2 }',
    (
        '{ type = "percentage", rate = "33.3", fixed_amount = "0.335", free_events = 3,'
        " free_amount = 4 }"
    ),
)
"""Priced event by event: for SUM meters."""
CARRIED = tuple(f'recurring = true\nproration = "{how}"' for how in ("day", "second", "none"))
CATALOG = """
[[meters]]
key = "units"
event_type = "t"
aggregation = "{aggregation}"
value = "$.v"
group_by = {{ region = "$.region" }}

[[plans]]
key = "web"
currency = "{currency}"
[[plans.charges]]
key = "units"
meter = "units"
{split}
price = {price}

[[customers]]
key = "acme"
currency = "{currency}"
subjects = ["s", {{ subject = "t", start = 2026-05-10 }}]

[[subscriptions]]
key = "acme"
customer = "acme"
plan = "web"
start = {start}
"""

EVENTS = st.tuples(
    st.integers(4, 6),
    st.integers(1, 28),
    st.sampled_from("stu"),
    st.sampled_from(['"eu"', '"us"', "null"]),
    st.sampled_from(["1", "2.5", '"0.000000000001"', "-1", "null", "7"]),
)
RUNS = st.sampled_from(
    ["2026-04", "2026-05", "2026-06", "2026-05-03", "2026-05-20", "2026-06-10", "2026-07-01"]
)
STORIES = st.lists(st.one_of(EVENTS, RUNS), min_size=1, max_size=25)


@st.composite
def catalogs(draw: st.DrawFn) -> str:
    aggregation = draw(st.sampled_from(["SUM", "MAX", "LATEST", "AVG", "UNIQUE_COUNT"]))
    carried = draw(st.sampled_from(["", "", *CARRIED])) if aggregation in LEVELS else ""
    if carried and aggregation == "UNIQUE_COUNT":
        carried += draw(st.sampled_from(["", '\nreleases = { region = ["us"] }']))
    prices = (*PRICES, *OF_MORE, *(OF_EVENTS if aggregation == "SUM" and not carried else ()))
    split = draw(st.sampled_from(["", 'split_by = "region"', 'where = { region = ["eu"] }']))
    return CATALOG.format(
        aggregation=aggregation,
        currency=draw(st.sampled_from(["USD", "JPY", "KWD"])),
        split=f"{split}\n{carried}",
        price=draw(st.sampled_from(prices)),
        start=draw(st.sampled_from(["2026-04-01", "2026-05-11"])),
    )


def told(catalog: str, story: list[object]) -> World:
    """Return the world after the story, with bytes of finalized invoices checked on the way."""
    world = World()
    world.apply(catalog)
    for step in story:
        if isinstance(step, str):
            before = world.bodies()
            world.bill(step)
            after = world.bodies()
            assert {number: after[number] for number in before} == before
        else:
            tell(world, step)  # type: ignore[arg-type]
    return world


def tell(world: World, step: tuple[object, ...]) -> None:
    """Add the event that a step of a story says."""
    month, day, subject, region, value = step
    data = f'{{"v":{value},"region":{region}}}'
    world.event(f"2026-{month:02d}-{day:02d}", subject=str(subject), data=data)


def by_position(world: World) -> dict[tuple[str, str], tuple[Decimal, int]]:
    """Return the sums of quantities and amounts over all lines, by period and dimensions."""
    sums: dict[tuple[str, str], tuple[Decimal, int]] = defaultdict(lambda: (Decimal(0), 0))
    for invoice in world.invoices():
        assert invoice.total_minor == sum(line.amount_minor for line in invoice.lines)
        for line in invoice.lines:
            place = (line.period_start, str(line.dimensions))
            quantity, amount = sums[place]
            sums[place] = (quantity + Decimal(line.quantity), amount + line.amount_minor)
    return {place: found for place, found in sums.items() if found != (0, 0)}


def charge_of(world: World) -> tuple[Charge, str]:
    plan = world.billing.catalog.load(TENANT).plan("web")
    return plan.charges[0], plan.currency


@given(catalogs(), STORIES)
def test_billing_in_parts_is_billing_once(catalog: str, story: list[object]) -> None:
    parts = told(catalog, [*story, "2026-04", "2026-05", "2026-06"])
    events = [step for step in story if not isinstance(step, str)]
    once = told(catalog, [*events, "2026-04", "2026-05", "2026-06"])
    assert by_position(parts) == by_position(once)
    charge, currency = charge_of(parts)
    if charge.recurring or any(price in catalog for price in (*OF_MORE, *OF_EVENTS)):
        return
    for quantity, amount in by_position(parts).values():
        assert amount == to_minor(rate(charge.price, quantity).amount, currency)


@given(catalogs(), STORIES)
def test_every_invoice_verifies_and_explains_itself(catalog: str, story: list[object]) -> None:
    world = told(catalog, [*story, "2026-06-20"])
    names = list(world.bodies())
    assert names == [f"INV-{n:06d}" for n in range(1, len(names) + 1)], "no gap"
    assert [one for one in verify_all(world.billing, names) if not one.ok] == []
    for invoice in world.invoices():
        for line in invoice.lines:
            assert explain(world.billing, invoice.id, line.id).ok


@given(catalogs(), STORIES)
def test_everything_is_accounted_for(catalog: str, story: list[object]) -> None:
    world = told(catalog, story)
    found = reconcile(world.billing, world.usage)
    assert found.differences == ()


@given(catalogs(), STORIES, EVENTS)
def test_a_late_event_is_an_adjustment(
    catalog: str, story: list[object], late: tuple[object, ...]
) -> None:
    closing = ["2026-04", "2026-05", "2026-06"]
    world = told(catalog, [*story, *closing])
    before = len(world.bodies())
    told_after = told(catalog, [*story, *closing, late, "2026-06"])
    for invoice in told_after.invoices()[before:]:
        assert all(line.adjustment for line in invoice.lines)


@given(catalogs(), STORIES)
def test_split_then_sum_is_the_whole(catalog: str, story: list[object]) -> None:
    plain = catalog.replace('split_by = "region"', "").replace('where = { region = ["eu"] }', "")
    if '"SUM"' not in plain or "recurring" in plain:
        return
    split = plain.replace("price =", 'split_by = "region"\nprice =')
    end = ["2026-04", "2026-05", "2026-06"]
    whole: dict[str, Decimal] = defaultdict(Decimal)
    parts: dict[str, Decimal] = defaultdict(Decimal)
    for sums, text in ((whole, plain), (parts, split)):
        for (period, _), (quantity, _) in by_position(told(text, [*story, *end])).items():
            sums[period] += quantity
    assert {p: q for p, q in whole.items() if q} == {p: q for p, q in parts.items() if q}


CHANGES = st.sampled_from(
    [
        ('unit_amount = "0', 'unit_amount = "1'),
        ("group_by", 'filter = { "$.region" = ["eu"] }\ngroup_by'),
        ('"s", ', ""),
        ("start = 2026-05-10", "start = 2026-06-05"),
        ("anchor_day = 1", "anchor_day = 20"),
        ("anchor_day = 1", "end = 2026-06-12"),
        ('name = "Acme"', 'name = "Acme Ltd"\nzone = "Asia/Kolkata"'),
    ]
)


@given(catalogs(), st.lists(st.one_of(EVENTS, RUNS, CHANGES), min_size=1, max_size=25))
def test_whatever_is_changed_meanwhile_everything_is_accounted_for(
    catalog: str, story: list[tuple[object, ...] | str]
) -> None:
    """Prices, meters, subjects, zones and ends change between runs; no invoice does."""
    catalog = catalog.replace('key = "acme"\ncurrency', 'key = "acme"\nname = "Acme"\ncurrency')
    catalog = catalog.replace('plan = "web"\nstart', 'plan = "web"\nanchor_day = 1\nstart')
    world = World()
    world.apply(catalog)
    for step in [*story, "2026-04", "2026-05", "2026-06", "2026-07-15", "2026-07-15"]:
        if isinstance(step, str):
            before = world.bodies()
            assert world.bill(step).parked == ()
            assert {number: world.bodies()[number] for number in before} == before
        elif len(step) == 2:
            old, new = (str(part) for part in step)
            catalog = catalog if new in catalog else catalog.replace(old, new)
            world.apply(catalog)
        else:
            tell(world, step)
    assert [one for one in verify_all(world.billing, list(world.bodies())) if not one.ok] == []
    assert reconcile(world.billing, world.usage).differences == ()
    periods = world.billing.invoices.books(TENANT).periods.get("acme", ())
    assert all(a.end_us <= b.start_us for a, b in pairwise(periods)), "no instant is in two periods"
