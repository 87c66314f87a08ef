"""A small world with drafts in their days of grace: what several stories of them begin with."""

from tallybook.invoice.ports import StoredDraft
from tallybook.kernel.timestamps import DAY_US
from tests.support.billing_world import TENANT, World, at

CATALOG = """
[seller]
name = "We"
grace_days = 3

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
price = { type = "unit", unit_amount = 1 }

[[customers]]
key = "acme"
currency = "USD"
subjects = ["s"]

[[customers]]
key = "quick"
currency = "USD"
subjects = ["q"]
grace_days = 0

[[subscriptions]]
key = "acme"
customer = "acme"
plan = "web"
start = 2026-05-01

[[subscriptions]]
key = "quick"
customer = "quick"
plan = "web"
start = 2026-05-01
"""
MANY = "".join(
    f"""
[[customers]]
key = "c{n}"
currency = "USD"
subjects = ["s{n}"]

[[subscriptions]]
key = "c{n}"
customer = "c{n}"
plan = "web"
start = 2026-05-01
"""
    for n in range(5)
)
"""Five customers more, each with a subject of its own."""

EACH = {"c0": "1.00", "c1": "2.00", "c2": "3.00", "c3": "4.00", "c4": "5.00"}
"""What they come to once they used what `due_drafts` says."""


def filled(world: World) -> World:
    world.apply(CATALOG)
    world.clock.now = at("2026-06-01")
    for subject in ("s", "s", "q"):
        world.event("2026-05-17", subject=subject)
    return world


def the_draft(world: World) -> str:
    (draft,) = world.billing.invoices.drafts.drafts(TENANT, limit=9)
    return draft.id


def open_drafts(world: World) -> list[StoredDraft]:
    return world.billing.invoices.drafts.drafts(TENANT, limit=99)


def totals(world: World) -> dict[str, int]:
    return {one.customer: one.head.total_minor for one in open_drafts(world)}


def due_drafts(world: World) -> list[str]:
    """Bill five customers of whom each used as often as its number says, and go to the day."""
    world.apply(CATALOG + MANY)
    for n in range(5):
        for _ in range(n + 1):
            world.event("2026-05-17", subject=f"s{n}")
    world.bill("2026-05")
    world.clock.now += 3 * DAY_US
    return [name for _, name in world.billing.invoices.drafts.drafts_due(world.clock.now, 99)]


def counted(world: World) -> dict[str, str]:
    return {one.customer_key: one.total for one in world.invoices() if one.customer_key[0] == "c"}
