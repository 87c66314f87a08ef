"""The audit log: who changed what, from what to what, and whether anybody tampered with it."""

from typing import Any

from litestar import Request, Response, get
from litestar.types import ControllerRouterHandler

from tallybook.adapters.sql.access.audit import Question
from tallybook.compose import World
from tallybook.kernel.errors import Missing
from tallybook.serve.api.admission.anchoring import verdict_of
from tallybook.serve.api.common.paging import page, place_of
from tallybook.serve.api.rest.access.audit import audit_view
from tallybook.serve.console.access import ADMIN_PAGE, session_of
from tallybook.serve.console.render import html

PAGE_ROWS = 100


def names_of(world: World, tenant: str) -> dict[str, str]:
    """Return what keys are called, as actors are written in the log."""
    return {f"key:{key.id}": key.name for key in world.keys.listed(tenant)}


@get("/changes", opt=ADMIN_PAGE, sync_to_thread=True)
def changes_page(
    request: "Request[Any, Any, Any]",
    world: World,
    cursor: str | None = None,
    kind: str = "",
    subject: str = "",
    check: str = "",
) -> Response[bytes]:
    """List changes, newest first; `check` also tells whether the log hangs together."""
    session = session_of(request)
    tenant = session.grant.tenant
    asked = Question(kind=kind.strip(), subject=subject.strip(), before_seq=place_of(cursor, int))
    shown = page(
        world.audit.listed(tenant, asked, PAGE_ROWS + 1), PAGE_ROWS, lambda entry: entry.seq
    )
    return html(
        "gate/changes.html",
        session=session,
        here="changes",
        changes=[audit_view(entry) for entry in shown.items],
        next_cursor=shown.next_cursor,
        names=names_of(world, tenant),
        kind=kind,
        subject=subject,
        verdict=verdict_of(world, tenant) if check else None,
    )


@get("/changes/{seq:int}", opt=ADMIN_PAGE, sync_to_thread=True)
def change_page(request: "Request[Any, Any, Any]", world: World, seq: int) -> Response[bytes]:
    """Show one change with what was before and after."""
    session = session_of(request)
    tenant = session.grant.tenant
    found = world.audit.listed(tenant, Question(before_seq=seq + 1), 1)
    if not found or found[0].seq != seq:
        raise Missing(f"there is no change {seq}", field="seq")
    change = audit_view(found[0])
    names = names_of(world, tenant)
    return html("gate/change.html", session=session, here="changes", change=change, names=names)


ROUTES: list[ControllerRouterHandler] = [changes_page, change_page]
