"""What the benches declare: a meter for each kind of event, and a plan of five charges."""

from bench.generator.plan import KINDS

METERS = """
[[meters]]
key = "requests"
event_type = "http.server.request"
aggregation = "COUNT"
group_by = { status = "$.status" }

[[meters]]
key = "bytes"
event_type = "http.server.request"
aggregation = "SUM"
value = "$.bytes"
group_by = { region = "$.region", status = "$.status" }
"""
OTHERS = "".join(
    f"""
[[meters]]
key = "{kind.meter}"
event_type = "{kind.type}"
aggregation = "SUM"
value = "$.{kind.meter}"
"""
    for kind in KINDS[1:]
)
PLAN = """
[[plans]]
key = "bench"
currency = "USD"
""" + "".join(
    f"""
[[plans.charges]]
key = "c{i}"
meter = "{meter}"
[plans.charges.price]
type = "graduated"
tiers = [{{ up_to = "1000", unit_amount = "0.001" }}, {{ unit_amount = "0.0005" }}]
"""
    for i, meter in enumerate(["requests", "bytes", "requests", "bytes", "requests"])
)
BILLED = METERS + PLAN
"""What billing runs need."""
MEASURED = METERS + OTHERS
"""What generated events need."""
METER_KEYS = ("requests", *(kind.meter for kind in KINDS))
