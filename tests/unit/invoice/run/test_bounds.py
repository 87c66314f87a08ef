"""What no sane run makes is refused whole: docs/algorithms/billing-runs.md"""

import msgspec
import pytest

from tallybook.catalog.subscription import StoredPeriod
from tallybook.invoice import state
from tallybook.invoice.document import Draft, compose, decode_invoice
from tallybook.invoice.ports import Bounds
from tallybook.invoice.questions import Asked, ask
from tallybook.invoice.run.bounds import check_draft, check_periods
from tallybook.kernel.errors import Conflict
from tallybook.kernel.timestamps import DAY_US
from tests.golden.vectors import Case, cases, identity
from tests.support.billing_world import TENANT, World, at
from tests.unit.invoice.sample import sample


def drafted(world: World) -> Draft:
    """Return the world's invoice, composed again."""
    store = world.billing.invoices
    manifest = decode_invoice(store.invoice(TENANT, "INV-000001").body).manifest
    catalog = world.billing.catalog.load(TENANT)
    asked = [Asked(manifest.customer, manifest.items)]
    facts = ask(world.usage, TENANT, asked, catalog, manifest.cut)
    draft = compose(manifest, catalog, facts["acme"])
    assert draft is not None
    return draft


def code_of(draft: Draft, bounds: Bounds, today: int = 0) -> str:
    with pytest.raises(Conflict) as caught:
        check_draft(draft, today, bounds)
    return caught.value.code


def test_each_bound_refuses_what_is_past_it() -> None:
    draft = drafted(sample())
    lines, total = len(draft.lines), draft.invoice.total_minor
    most = Bounds(lines_max=lines, total_minor_max=total, invoices_a_day_max=1)
    assert check_draft(draft, 0, most) is draft
    assert code_of(draft, Bounds(lines_max=lines - 1)) == "too-many-lines"
    assert code_of(draft, Bounds(total_minor_max=total - 1)) == "total-out-of-bounds"
    assert code_of(draft, most, today=1) == "too-many-invoices"
    below = msgspec.structs.replace(draft.invoice, total_minor=-total - 1)
    assert code_of(Draft(invoice=below, lines=draft.lines), most) == "total-out-of-bounds"


def test_one_charge_and_period_is_billed_once_on_an_invoice() -> None:
    draft = drafted(sample())
    twice = Draft(invoice=draft.invoice, lines=(*draft.lines, draft.lines[0]))
    assert code_of(twice, Bounds()) == "double-billing"


def period(start: str, end: str, interval: str = "P1M") -> StoredPeriod:
    return StoredPeriod(
        subscription="s",
        start_us=at(start),
        end_us=at(end),
        full_start_us=at(start),
        full_end_us=at(end),
        plan="p",
        plan_version=1,
        until_us=at(start),
        interval=interval,
    )


def test_periods_of_different_intervals_may_overlap_and_empty_ones_do_not_count() -> None:
    month, year = period("2026-01-01", "2026-02-01"), period("2026-01-01", "2027-01-01", "P1Y")
    gone = period("2026-01-10", "2026-01-10")
    check_periods([year, month, period("2026-02-01", "2026-03-01"), gone])


@pytest.mark.parametrize("case", cases("killbill", "invoice.safety_bounds"), ids=identity)
def test_the_safety_bounds_of_others(case: Case) -> None:
    given, draft = case["given"], drafted(sample())
    if case["id"] == "kb-safety-overlap":
        shown = [*given["existing"], given["proposed"]]
        with pytest.raises(Conflict) as caught:
            check_periods([period(one["start"], one["end"]) for one in shown])
        assert caught.value.code == "double-billing"
        return
    most = given["threshold_per_subscription_per_day"]
    bounds = Bounds(invoices_a_day_max=most)
    assert check_draft(draft, most - 1, bounds) is draft
    assert code_of(draft, bounds, today=most) == "too-many-invoices"


def test_a_customer_past_a_bound_is_parked_and_the_rest_is_billed() -> None:
    world = sample()
    world.clock.now += DAY_US
    world.event("2026-06-11")
    whole = world.billing
    world.billing = msgspec.structs.replace(whole, bounds=Bounds(total_minor_max=1))
    run = world.bill("2026-06")
    assert [(one.customer, one.code) for one in run.parked] == [("acme", "total-out-of-bounds")]
    world.billing = whole
    assert world.bill("2026-06").invoices == 1


def test_an_invoice_is_overdue_after_the_instant_it_is_due() -> None:
    assert [state.shown("finalized", 5, now_us) for now_us in (4, 5, 6)] == [
        "finalized",
        "finalized",
        "overdue",
    ]
    assert state.shown("paid", 5, 6) == "paid"
