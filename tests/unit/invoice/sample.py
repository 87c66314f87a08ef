"""One small billed world."""

from tests.support.billing_world import World

CATALOG = """
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
price = { type = "unit", unit_amount = "0.125" }
[[plans.charges]]
key = "fee"
price = { type = "flat", amount = "10" }

[[customers]]
key = "acme"
name = "Äcme \\"quoted\\""
currency = "USD"
subjects = ["s"]

[[subscriptions]]
key = "acme"
customer = "acme"
plan = "web"
start = 2026-05-10
"""


def sample() -> World:
    """Return a world with one invoice."""
    world = World()
    world.apply(CATALOG)
    for day in ("2026-05-11", "2026-05-12", "2026-05-13"):
        world.event(day)
    world.bill("2026-05")
    return world
