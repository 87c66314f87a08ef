"""What an audit finds wrong: every way in which stored figures can lie is named."""

from collections.abc import Sequence

import msgspec
import pytest

from tallybook.adapters.memory.catalog import MemoryCatalog
from tallybook.adapters.memory.invoices import MemoryInvoices
from tallybook.adapters.memory.usage_reader import MemoryUsageReader
from tallybook.catalog.catalog import Archive
from tallybook.catalog.flow import put
from tallybook.invoice.audit.chart import usage_charts
from tallybook.invoice.audit.reconcile import reconcile
from tallybook.invoice.audit.verify import explain, line_item, verify, verify_all
from tallybook.invoice.ports import StoredInvoice
from tallybook.kernel.errors import Corrupt, Missing
from tallybook.meter.usage import Counters, Usage, UsageQuery
from tests.support.billing_world import TENANT, World, acme

CATALOG = """
[[meters]]
key = "bytes"
event_type = "t"
aggregation = "SUM"
value = "$.v"

[[plans]]
key = "web"
currency = "USD"
[[plans.charges]]
key = "usage"
meter = "bytes"
price = { type = "unit", unit_amount = 1 }
[[plans.charges]]
key = "fee"
price = { type = "flat", amount = 5 }
""" + acme()


@pytest.fixture
def world() -> World:
    made = World()
    made.apply(CATALOG)
    for day in (2, 3, 4):
        made.event(f"2026-05-0{day}", data='{"v":1}')
    made.bill("2026-05")
    return made


def tampered(world: World, **changes: object) -> None:
    """Change what is stored of the only invoice behind its back."""
    store = world.billing.invoices
    assert isinstance(store, MemoryInvoices)
    state = store._state(TENANT)
    ((key, stored),) = state.invoices.items()
    state.invoices[key] = msgspec.structs.replace(stored, **changes)


def only(world: World) -> StoredInvoice:
    (number,) = world.bodies()
    return world.billing.invoices.invoice(TENANT, number)


def test_a_changed_body_is_named_with_the_place(world: World) -> None:
    assert verify(world.billing, "INV-000001").ok
    tampered(world, body=only(world).body.replace('"total":"8.00"', '"total":"9.00"'))
    (found,) = verify_all(world.billing, ["INV-000001"])
    assert not found.ok
    assert found.differences == (
        "the stored JSON is not what was stored: its digest differs",
        "total: stored '9.00', recomputed '8.00'",
    )


def test_an_invoice_whose_items_are_gone_cannot_be_recomputed(world: World) -> None:
    fields = msgspec.json.decode(only(world).body)
    fields["manifest"]["items"] = []
    tampered(world, body=msgspec.json.encode(fields).decode())
    found = verify(world.billing, "INV-000001")
    assert not found.ok
    assert found.recomputed_sha256 == ""
    assert "it cannot be recomputed, because its manifest makes no line" in found.differences


def test_what_is_in_the_stored_json_alone_is_named(world: World) -> None:
    tampered(world, body=only(world).body[:-1] + ',"note":"x"}')
    found = verify(world.billing, "INV-000001")
    assert "note: stored 'x', recomputed None" in found.differences


def test_one_whose_plan_is_gone_says_so_and_the_others_are_verified() -> None:
    made = World()
    others = "".join(
        f"""
[[plans]]
key = "plan{n}"
currency = "USD"
[[plans.charges]]
key = "usage"
meter = "bytes"
price = {{ type = "unit", unit_amount = 1 }}

[[customers]]
key = "c{n}"
currency = "USD"
subjects = ["s{n}"]

[[subscriptions]]
key = "c{n}"
customer = "c{n}"
plan = "plan{n}"
start = 2026-05-01
"""
        for n in range(5)
    )
    made.apply(CATALOG + others)
    for n in range(5):
        made.event("2026-05-02", subject=f"s{n}", data='{"v":1}')
    made.bill("2026-05")
    catalog = made.billing.catalog
    assert isinstance(catalog, MemoryCatalog)
    state = catalog._tenants[TENANT]
    whole = state.plans["plan3"]
    state.plans["plan3"] = ()
    found = {one.number: one for one in verify_all(made.billing, list(made.bodies()))}
    bad = [one for one in found.values() if not one.ok]
    assert [one.differences for one in bad] == [
        ("it cannot be recomputed, because there is no plan 'plan3' version 1",)
    ]
    assert bad[0].recomputed_sha256 == ""
    assert len(found) == 6
    renamed = msgspec.structs.replace(whole[0], charges=())
    state.plans["plan3"] = (renamed,)
    (bad_now,) = [one for one in verify_all(made.billing, list(made.bodies())) if not one.ok]
    assert bad_now.number == bad[0].number
    assert bad_now.differences[0].startswith("it cannot be recomputed, because billing it again")


def test_one_that_cannot_be_read_says_so(world: World) -> None:
    tampered(world, body="{")
    (found,) = verify_all(world.billing, ["INV-000001"])
    assert not found.ok
    assert found.differences[0] == "the stored JSON is not what was stored: its digest differs"
    assert (
        "it cannot be recomputed, because a stored invoice cannot be read" in found.differences[1]
    )


def test_a_line_tells_its_events_or_why_it_has_none(world: World) -> None:
    (invoice,) = world.invoices()
    usage = next(line for line in invoice.lines if line.meter is not None)
    fee = next(line for line in invoice.lines if line.meter is None)
    whole = explain(world.billing, invoice.number, usage.id)
    assert whole.ok
    assert len(whole.events) == 3
    page = explain(world.billing, invoice.number, str(usage.position), limit=1, skip=1)
    assert page.ok
    assert page.events == whole.events[1:2]
    with pytest.raises(Missing, match="is a fixed fee"):
        explain(world.billing, invoice.number, fee.id)
    with pytest.raises(Missing, match="has no line '9'"):
        explain(world.billing, invoice.number, "9")
    stray = msgspec.structs.replace(usage, charge="other")
    with pytest.raises(Corrupt, match="is not in its manifest"):
        line_item(invoice, stray)


class _Counted(MemoryUsageReader):
    """A lake's counters as a test says: first, of the rows, and afterwards."""

    def __init__(self, before: Counters, rows: Counters, after: Counters) -> None:
        super().__init__()
        self.answers = [before, after]
        self.rows = rows

    def counters(self, tenant: str) -> Counters:
        del tenant
        return self.answers.pop(0)

    def stored(self, tenant: str, cut: int) -> Counters:
        del tenant, cut
        return self.rows


def counters(received: int, accepted: int, quarantined: int) -> Counters:
    return Counters(received=received, accepted=accepted, duplicate=0, quarantined=quarantined)


@pytest.mark.parametrize(
    ("before", "rows", "after", "said"),
    [
        ((3, 3, 0), (3, 3, 0), (3, 3, 0), []),
        ((3, 3, 0), (5, 4, 1), (6, 5, 1), []),
        ((4, 3, 0), (3, 3, 0), (4, 3, 0), ["received 4, but accepted + duplicate + quaran"]),
        ((3, 3, 0), (2, 2, 0), (3, 3, 0), ["accepted 3, but 2 rows are in the lake"]),
        ((3, 3, 0), (4, 4, 0), (3, 3, 0), ["accepted 3, but 4 rows are in the lake"]),
        ((5, 3, 2), (4, 3, 1), (5, 3, 2), ["quarantined 2, but 1 rows are in the lake"]),
    ],
)
def test_counters_that_do_not_add_up_are_named(
    world: World, before: Sequence[int], rows: Sequence[int], after: Sequence[int], said: list[str]
) -> None:
    counted = _Counted(counters(*before), counters(*rows), counters(*after))
    found = reconcile(world.billing, counted)
    assert len(found.differences) == len(said)
    for text, start in zip(found.differences, said, strict=True):
        assert text.startswith(start)


SECOND = """
[[customers]]
key = "quiet"
currency = "USD"
subjects = ["never-seen"]

[[subscriptions]]
key = "quiet"
customer = "quiet"
plan = "web"
start = 2026-05-01
"""


def test_customers_without_events_and_what_is_out_of_use_have_no_account(world: World) -> None:
    world.apply(CATALOG + SECOND)
    assert reconcile(world.billing, world.usage).ok
    put(world.billing.catalog, TENANT, [Archive("subscription", "acme")])
    found = reconcile(world.billing, world.usage)
    assert found.ok
    assert (found.meters[0].billed.events, found.meters[0].not_charged.events) == (0, 3)
    gone = [Archive("subscription", "quiet"), Archive("customer", "quiet")]
    put(world.billing.catalog, TENANT, gone)
    assert reconcile(world.billing, world.usage).ok


@pytest.mark.parametrize(
    ("times", "size"),
    [
        (("2026-05-02", "2026-05-03"), "DAY"),
        (("2026-05-02T01:00:00Z", "2026-05-02T02:00:00Z"), "HOUR"),
        (("2026-05-02T01:00:00Z", "2026-05-02T01:59:00Z"), "MINUTE"),
        (("2026-05-02T01:00:00Z",), "MINUTE"),
    ],
)
def test_a_chart_is_as_fine_as_its_usage_needs(times: Sequence[str], size: str) -> None:
    world = World()
    world.apply(CATALOG)
    for when in times:
        world.event(when, data='{"v":1}')
    world.bill("2026-05")
    (invoice,) = world.invoices()
    (chart,) = usage_charts(world.billing, invoice)
    assert chart.size == size
    assert len([bar for bar in chart.bars if bar.value != "0"]) == len(times)


def test_a_meter_whose_parts_are_not_its_whole_is_named(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that loses an event wherever subjects are asked for."""
    usage = world.usage.usage

    def losing(query: UsageQuery) -> list[Usage]:
        lost = 1 if query.owners else 0
        return [msgspec.structs.replace(row, events=row.events - lost) for row in usage(query)]

    monkeypatch.setattr(world.usage, "usage", losing)
    (text,) = reconcile(world.billing, world.usage).differences
    assert text.startswith("meter bytes: in scope 3 events, quantity 3, but billed 2 events")
