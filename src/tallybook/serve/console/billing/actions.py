"""What is done to invoices and drafts: each asks once more, then does it."""

from collections.abc import Callable
from typing import Any

import msgspec
from litestar import Request, Response, post
from litestar.types import ControllerRouterHandler

from tallybook.compose import World
from tallybook.invoice.run.drafts import discard, finalize, refresh
from tallybook.invoice.run.listing import named
from tallybook.kernel.errors import Missing
from tallybook.kernel.money import money_text
from tallybook.serve.console.access import BILLING_PAGE, sent_by
from tallybook.serve.console.auth import Form
from tallybook.serve.console.forms import Confirmation, ask, confirmed, to
from tallybook.settle.receivable.anew import reissue
from tallybook.settle.receivable.flow import give_up, void_invoice


class Action(msgspec.Struct, frozen=True, kw_only=True):
    """Something that can be done.

    Attributes:
        done: does it, and returns the page to go to.
        at_once: harmless, so that nothing is asked.
    """

    title: str
    text: str
    button: str
    done: Callable[[World, str, str], str]
    danger: bool = False
    at_once: bool = False


def _finalize(world: World, tenant: str, name: str) -> str:
    return f"/invoices/{finalize(world.billing(tenant), name).head.number}"


def _refresh(world: World, tenant: str, name: str) -> str:
    return f"/invoices/{refresh(world.billing(tenant), name).head.id}"


def _discard(world: World, tenant: str, name: str) -> str:
    discard(world.billing(tenant), name)
    return "/drafts"


def _void(world: World, tenant: str, name: str) -> str:
    return f"/invoices/{void_invoice(world.settling(tenant), name).number}"


def _write_off(world: World, tenant: str, name: str) -> str:
    return f"/invoices/{give_up(world.settling(tenant), name).number}"


def _reissue(world: World, tenant: str, name: str) -> str:
    return f"/invoices/{reissue(world.settling(tenant), name).number}"


ACTIONS: dict[str, Action] = {
    "finalize": Action(
        title="Finalize",
        text="It is composed anew from what is stored now, takes the next number of its series,"
        " and is posted to the ledger. From then on it is never changed.",
        button="Finalize",
        done=_finalize,
    ),
    "refresh": Action(title="Refresh", text="", button="Refresh", done=_refresh, at_once=True),
    "discard": Action(
        title="Discard",
        text="The draft is thrown away. What it would have billed stays open for another run.",
        button="Discard the draft",
        done=_discard,
        danger=True,
    ),
    "void": Action(
        title="Void",
        text="The invoice is taken back: its ledger entries are reversed, coupons, credits and"
        " wallets get back what it used, and what it billed is open for the next run."
        " Its number stays used.",
        button="Void the invoice",
        done=_void,
        danger=True,
    ),
    "write-off": Action(
        title="Write off",
        text="What is open is given up and posted as bad debt. A payment may still come.",
        button="Write it off",
        done=_write_off,
        danger=True,
    ),
    "reissue": Action(
        title="Void and reissue",
        text="The invoice is voided, and what it billed is billed again at once on a new invoice,"
        " as things stand now. The new invoice names the one it replaces.",
        button="Reissue",
        done=_reissue,
        danger=True,
    ),
}


@post("/invoices/{name:str}/{action:str}", opt=BILLING_PAGE, sync_to_thread=True)
def act_on_invoice(
    request: "Request[Any, Any, Any]", world: World, name: str, action: str, data: Form
) -> Response[Any]:
    """Ask whether something shall be done to an invoice or draft, or do it."""
    session = sent_by(request, data)
    tenant = session.grant.tenant
    if action not in ACTIONS:
        raise Missing(f"nothing named '{action}' can be done to an invoice", field="action")
    chosen = ACTIONS[action]
    if confirmed(data) or chosen.at_once:
        return to(chosen.done(world, tenant, name))
    head = named(world.invoices, tenant, name).head
    draft = head.state == "draft"
    what = "draft" if draft else head.number
    details = [
        ("Customer", head.customer_name),
        ("Total", f"{head.currency} {money_text(head.total_minor, head.currency)}"),
    ]
    if not draft:
        details.append(("Open", f"{head.currency} {money_text(head.open_minor, head.currency)}"))
    return ask(
        session,
        "drafts" if draft else "invoices",
        Confirmation(
            title=f"{chosen.title} {what}?",
            text=chosen.text,
            action=f"/invoices/{name}/{action}",
            button=chosen.button,
            back=f"/invoices/{name}",
            details=tuple(details),
            danger=chosen.danger,
        ),
    )


ROUTES: list[ControllerRouterHandler] = [act_on_invoice]
