"""Stories of subscriptions: plans of fixed fees, what is decided meanwhile, runs up to dates."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec
from hypothesis import strategies as st

from tallybook.catalog.amendment import (
    Amendment,
    AnchorChange,
    Cancel,
    Pause,
    PlanChange,
    QuantityChange,
    Resume,
)
from tallybook.catalog.catalog import Archive
from tallybook.catalog.customer import CustomerSpec, check_customer
from tallybook.catalog.flow import put
from tallybook.catalog.meter import MeterSpec, check_meter
from tallybook.catalog.plan import PlanSpec, check_plan
from tallybook.catalog.subscription import SubscriptionSpec, check_subscription
from tallybook.catalog.tax import Tax
from tallybook.invoice.document import Invoice
from tallybook.kernel.timestamps import format_us
from tests.support.billing_world import TENANT, World, at

CUSTOMER = "c"


def fee(key: str, amount: object, **more: object) -> dict[str, Any]:
    """Return a fixed fee in advance, as it is written."""
    price = {"type": "flat", "amount": str(amount)}
    return {"key": key, "price": price, "timing": "advance"} | more


class Story:
    """One customer, whose runs are kept."""

    def __init__(self, zone: str = "UTC", currency: str = "USD", **customer: object) -> None:
        """Start with nothing sold."""
        self.world = World()
        self.zone, self.currency = zone, currency
        spec = CustomerSpec(key=CUSTOMER, currency=currency, zone=zone, subjects=["s"], **customer)  # type: ignore[arg-type]
        self.put(check_customer(spec))

    def put(self, entry: Any) -> None:
        """Write one thing."""
        put(self.world.billing.catalog, TENANT, [entry])

    def tax(self, key: str, rate: object) -> None:
        """Make a tax."""
        self.put(Tax(key=key, name=key, rate=Decimal(str(rate))))

    def meter(self, key: str) -> None:
        """Make a meter that counts events."""
        self.put(check_meter(MeterSpec(key=key, event_type="t", aggregation="COUNT")))

    def plan(self, key: str, *charges: dict[str, Any], **more: object) -> None:
        """Make a plan of these charges."""
        raw = {"key": key, "currency": self.currency, "charges": list(charges)} | more
        self.put(check_plan(msgspec.convert(raw, PlanSpec)))

    def start(self, plan: str, start: str, key: str = "s", **more: object) -> None:
        """Subscribe."""
        raw = {"key": key, "customer": CUSTOMER, "plan": plan, "start": start} | more
        self.put(check_subscription(msgspec.convert(raw, SubscriptionSpec), self.zone))

    def decide(self, *amendments: Amendment, key: str = "s") -> None:
        """Add to what is decided."""
        known = self.world.billing.catalog.load(TENANT).subscriptions[key]
        made = (*known.amendments, *amendments)
        self.put(msgspec.structs.replace(known, amendments=made))

    def change(self, when: str, plan: str, key: str = "s") -> None:
        """Change the plan."""
        self.decide(PlanChange(at_us=self.at(when), recorded_us=0, plan=plan), key=key)

    def anchor(self, when: str, anchor: str, key: str = "s") -> None:
        """Align otherwise."""
        at_us, anchor_us = self.at(when), self.at(anchor)
        self.decide(AnchorChange(at_us=at_us, recorded_us=0, anchor_us=anchor_us), key=key)

    def change_anchored(self, when: str, plan: str, key: str = "s") -> None:
        """Change the plan, with periods that start then."""
        self.change(when, plan, key)
        self.anchor(when, when, key)

    def pause(self, when: str, key: str = "s") -> None:
        """Pause."""
        self.decide(Pause(at_us=self.at(when), recorded_us=0), key=key)

    def resume(self, when: str, key: str = "s") -> None:
        """Resume."""
        self.decide(Resume(at_us=self.at(when), recorded_us=0), key=key)

    def cancel(self, when: str, key: str = "s", *, credit: bool = True) -> None:
        """End it."""
        self.decide(Cancel(at_us=self.at(when), recorded_us=0, credit=credit), key=key)

    def archive(self, key: str) -> None:
        """Take a subscription out of use."""
        self.put(Archive("subscription", key))

    def at(self, when: str) -> int:
        """Return an instant in the customer's zone."""
        return at(when, self.zone)

    def run(self, until: str) -> Invoice | None:
        """Bill what is open so far, and return the invoice; None where there is none."""
        self.world.clock.now = max(self.world.clock.now, self.at(until))
        run = self.world.bill(until if self.zone == "UTC" else format_us(self.at(until)))
        assert run.parked == (), run.parked
        found = self.world.invoices(run)
        return found[0] if found else None

    def lines(self, until: str) -> list[tuple[str, str, Decimal]]:
        """Bill, and return (start, end, amount) of every line."""
        return spans(self.run(until))

    def total(self, until: str) -> Decimal:
        """Bill, and return the total."""
        invoice = self.run(until)
        return Decimal(invoice.total) if invoice else Decimal(0)


def spans(invoice: Invoice | None) -> list[tuple[str, str, Decimal]]:
    """Return (start, end, amount) of every line, by start."""
    lines = () if invoice is None else invoice.lines
    found = [(x.period_start[:10], x.period_end[:10], Decimal(x.amount)) for x in lines]
    return sorted(found)


def amounts(found: Sequence[tuple[str, str, Decimal]]) -> Decimal:
    """Return the sum of the lines."""
    return sum((amount for _, _, amount in found), Decimal(0))


def decisions(days: st.SearchStrategy[int], most: int) -> st.SearchStrategy[list[Amendment]]:
    """Return a strategy of what is decided of a subscription on some days, so many at the most."""
    made = (
        st.builds(
            PlanChange, at_us=days, recorded_us=st.just(0), plan=st.sampled_from(["a", "b", "y"])
        ),
        *(st.builds(kind, at_us=days, recorded_us=st.just(0)) for kind in (Pause, Resume, Cancel)),
        st.builds(
            QuantityChange,
            at_us=days,
            recorded_us=st.just(0),
            charge=st.just("seats"),
            quantity=st.integers(0, 5).map(Decimal),
        ),
    )
    return st.lists(st.one_of(*made), max_size=most)
