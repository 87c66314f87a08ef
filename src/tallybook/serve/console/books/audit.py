"""The audit: every event is accounted for, and every amount is what the ledger says."""

from typing import Any

from litestar import Request, Response, get
from litestar.types import ControllerRouterHandler

from tallybook.compose import World
from tallybook.invoice.audit.reconcile import reconcile
from tallybook.serve.console.access import PAGE, session_of
from tallybook.serve.console.render import html
from tallybook.settle.receivable.audit import audit

SHOWN = 100


@get("/audit", opt=PAGE, sync_to_thread=True)
def audit_page(request: "Request[Any, Any, Any]", world: World, check: str = "") -> Response[bytes]:
    """Explain what is proved, and with `check` prove it: events, or money, or both."""
    session = session_of(request)
    tenant = session.grant.tenant
    events = money = None
    if check in {"events", "all"}:
        events = reconcile(world.billing(tenant), world.usage)
    if check in {"money", "all"}:
        money = audit(world.settling(tenant), world.settlements, world.wallets)
    return html(
        "books/audit.html",
        session=session,
        here="audit",
        events=events,
        money=money,
        shown=SHOWN,
        at=world.clock.now_us(),
    )


ROUTES: list[ControllerRouterHandler] = [audit_page]
