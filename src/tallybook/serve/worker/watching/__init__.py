"""Chores that look for what is to be told although nobody did anything."""

from tallybook.serve.worker.chores import Chore
from tallybook.serve.worker.watching.edges import EDGES_SECONDS, watch_edges
from tallybook.serve.worker.watching.entitlements import ENTITLEMENTS_SECONDS, EntitlementWatch
from tallybook.serve.worker.watching.overdue import OVERDUE_SECONDS, OverdueWatch
from tallybook.serve.worker.watching.quarantine import QUARANTINE_SECONDS, watch_quarantine
from tallybook.serve.worker.watching.routing import ROUTING_SECONDS, wake_router

CHORES = (
    Chore(name="tell-overdue", every_seconds=OVERDUE_SECONDS, step=OverdueWatch().round),
    Chore(
        name="tell-entitlements", every_seconds=ENTITLEMENTS_SECONDS, step=EntitlementWatch().round
    ),
    Chore(name="tell-quarantine", every_seconds=QUARANTINE_SECONDS, step=watch_quarantine),
    Chore(name="tell-edges", every_seconds=EDGES_SECONDS, step=watch_edges),
    Chore(name="wake-router", every_seconds=ROUTING_SECONDS, step=wake_router),
)
"""What is looked after between jobs."""
