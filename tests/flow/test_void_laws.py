"""Laws of voids: what a voided invoice corrected is corrected by another one, to the unit."""

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tallybook.adapters.memory.wallets import MemoryWallets
from tallybook.catalog.amendment import Amendment
from tallybook.catalog.customer import CustomerSpec, check_customer
from tallybook.invoice.audit.reconcile import reconcile
from tallybook.invoice.audit.verify import verify_all
from tallybook.invoice.ports import InvoiceHead
from tallybook.kernel.errors import Conflict
from tallybook.kernel.timestamps import DAY_US, format_us
from tallybook.settle.receivable.anew import reissue
from tallybook.settle.receivable.audit import audit
from tallybook.settle.receivable.flow import void_invoice
from tests.support.billing_world import TENANT, at
from tests.support.settled_world import SettledWorld
from tests.support.subscription_story import CUSTOMER, Story, decisions, fee

START = at("2026-01-20")
DAYS = st.integers(0, 120).map(lambda day: START + day * DAY_US)
DECIDED = decisions(DAYS, 4)
STEPS = st.lists(
    st.one_of(st.sampled_from(["decide", "void", "reissue"]), st.integers(0, 140)), max_size=12
)


class Settled(Story):
    """A story whose invoices are voided and reissued."""

    def __init__(self) -> None:
        """Start with nothing sold."""
        self.world: SettledWorld = SettledWorld()
        self.zone, self.currency = "UTC", "USD"
        self.put(check_customer(CustomerSpec(key=CUSTOMER, currency="USD", subjects=["s"])))

    def void(self) -> str:
        """Void the newest invoice that is not void; return its number, '' for none."""
        number = self._newest()
        if number:
            void_invoice(self.world.settling, number)
        return number

    def reissue(self) -> None:
        """Reissue the newest invoice that is not void, where anything is left of it."""
        number = self._newest()
        with suppress(Conflict):
            if number:
                reissue(self.world.settling, number)

    def stands(self) -> int:
        """Return the sum of all invoices that are not void, in minor units."""
        return sum(head.total_minor for head in self._heads() if head.state != "void")

    def _newest(self) -> str:
        return next((h.number for h in reversed(self._heads()) if h.state != "void"), "")

    def _heads(self) -> list[InvoiceHead]:
        return self.world.billing.invoices.invoices(TENANT, limit=1000)


@pytest.mark.parametrize("timing", ["advance", "arrears"])
@pytest.mark.parametrize("when", ["2026-05-11", "2026-05-01", "2026-04-11", "2026-04-01"])
@pytest.mark.parametrize("how", ["cancel", "pause", "change", "change-of-fees"])
@pytest.mark.parametrize("anew", ["void", "reissue"])
def test_what_a_voided_invoice_gave_back_is_given_back_by_the_next(
    timing: str, when: str, how: str, anew: str
) -> None:
    story = Settled()
    story.plan("a", fee("f", 31, timing=timing), fee("extra", 5))
    story.plan("b", fee("f", 62, timing=timing), fee("extra", 7))
    story.plan("c", fee("f", 62, timing=timing))
    story.start("a", "2026-04-01")
    story.run("2026-06-01")
    if how == "cancel":
        story.cancel(when)
    elif how == "pause":
        story.pause(when)
    else:
        story.change(when, "b" if how == "change" else "c")
    story.world.clock.now = at("2026-07-02")
    story.world.bill("2026-06")
    wanted = story.stands()
    if anew == "reissue":
        story.reissue()
    elif story.void():
        story.world.bill("2026-06")
    assert story.stands() == wanted


def begun(used: list[int]) -> Settled:
    story = Settled()
    seats = fee("seats", "31", interval="P1M")
    calls = {"key": "calls", "meter": "calls", "price": {"type": "unit", "unit_amount": "1"}}
    story.meter("calls")
    story.plan("a", seats, fee("late", "7", timing="arrears"), calls)
    story.plan("b", fee("seats", "45", proration="second"), fee("week", 7, interval="P1W"), calls)
    story.plan("y", fee("seats", "365", interval="P1Y"), minimum={"amount": "50"}, interval="P1M")
    story.start("a", "2026-01-20", anchor_day=31)
    for day in used:
        story.world.event(format_us(START + day * DAY_US + 1))
    return story


@settings(max_examples=60, deadline=None)
@given(DECIDED, STEPS, st.lists(st.integers(0, 140), max_size=4))
def test_whatever_is_voided_the_same_is_billed_at_last(
    decided: list[Amendment], steps: list[str | int], used: list[int]
) -> None:
    once = begun(used)
    once.decide(*decided)
    once.run("2026-08-20")

    voided = begun(used)
    waiting = list(decided)
    for step in steps:
        if step == "decide" and waiting:
            voided.decide(waiting.pop(0))
        elif step == "void":
            voided.void()
        elif step == "reissue":
            voided.reissue()
        elif isinstance(step, int):
            voided.run(format_us(START + step * DAY_US))
    voided.decide(*waiting)
    voided.run("2026-08-20")
    assert voided.stands() == once.stands()
    assert voided.run("2026-08-20") is None, "nothing is left to bill"
    world = voided.world
    assert [one for one in verify_all(world.billing, list(world.bodies())) if not one.ok] == []
    assert reconcile(world.billing, world.usage).differences == ()
    assert audit(world.settling, world.ledger, MemoryWallets(world.kept)).differences == ()
