"""What the server changes by itself, put into the audit log by the transaction that changes it.

A request has its row from its `Recording`. What no request does (a billing run, a draft whose time
has come, a recharge, a command at the machine) is known from the facts that its transaction writes,
or is said by a store: one row a transaction and kind of fact, with the ids, however many there are.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from weakref import WeakKeyDictionary

import msgspec
from sqlalchemy import Connection

from tallybook.admit.trail import Change
from tallybook.kernel.book.fact import Fact

IDS_MAX = 1_000
"""More ids are another row."""
CHANGES: Mapping[str, tuple[str, str]] = {
    "invoice.finalized": ("finalize", "invoice"),
    "invoice.paid": ("pay", "invoice"),
    "invoice.unpaid": ("unpay", "invoice"),
    "invoice.voided": ("void", "invoice"),
    "invoice.written_off": ("write-off", "invoice"),
    "credit_note.issued": ("issue", "credit-note"),
    "credit_note.voided": ("void", "credit-note"),
    "charge.withdrawn": ("withdraw", "charge"),
    "payment.received": ("receive", "payment"),
    "payment.refunded": ("refund", "payment"),
    "payment.reversed": ("reverse", "payment"),
    "wallet.topped_up": ("top-up", "wallet"),
    "wallet.recharge_requested": ("request-recharge", "wallet"),
    "wallet.recharge_paid": ("pay-recharge", "wallet"),
    "wallet.recharge_failed": ("fail-recharge", "wallet"),
    "subscription.created": ("create", "subscription"),
    "subscription.changed": ("change", "subscription"),
    "subscription.paused": ("pause", "subscription"),
    "subscription.resumed": ("resume", "subscription"),
    "subscription.cancelled": ("cancel", "subscription"),
    "subscription.uncancelled": ("uncancel", "subscription"),
    "key.created": ("create", "key"),
    "key.revoked": ("revoke", "key"),
    "webhook.disabled": ("disable", "webhook-endpoint"),
}
"""Kind of fact -> action and kind of thing in the log; what else is told changed nothing."""


class Acting(msgspec.Struct, frozen=True):
    """Who changes something where no request does.

    Attributes:
        actor: as in `admit.trail.Change`.
        route: the job, chore or command.
    """

    actor: str = "server"
    route: str = ""


class _Told(msgspec.Struct, frozen=True):
    """What a row of many says: how many there are, and their ids."""

    count: int
    ids: list[str]


_SERVER = Acting()
_ACTING: ContextVar[Acting] = ContextVar("acting", default=_SERVER)
_WAITING: WeakKeyDictionary[Connection, dict[str, list[Change | Fact]]] = WeakKeyDictionary()
"""By connection and tenant: what its open transaction changed."""


@contextmanager
def acting(actor: str, route: str) -> Iterator[None]:
    """Say who changes what the block changes, where no request does."""
    token = _ACTING.set(Acting(actor, route))
    try:
        yield
    finally:
        _ACTING.reset(token)


def facts_told(connection: Connection, tenant: str, facts: Sequence[Fact]) -> None:
    """Take down the facts that an open write transaction tells."""
    found = [fact for fact in facts if fact.kind in CHANGES]
    if found:
        _WAITING.setdefault(connection, {}).setdefault(tenant, []).extend(found)


def happened(
    connection: Connection, tenant: str, action: str, kind: str, subject: str, after: object
) -> None:
    """Take down what an open write transaction changes, where no fact tells it.

    Args:
        connection: with the transaction.
        tenant: whose.
        action, kind, subject: as in `admit.trail.Change`.
        after: the thing as it is now.
    """
    change = Change(
        actor="",
        action=action,
        kind=kind,
        subject=subject,
        after=msgspec.json.encode(after, order="sorted").decode(),
    )
    _WAITING.setdefault(connection, {}).setdefault(tenant, []).append(change)


def take(connection: Connection) -> dict[str, list[Change]]:
    """Return by tenant what the connection's transaction changed, and forget it."""
    if connection not in _WAITING:
        return {}
    waiting = _WAITING.pop(connection)
    return {tenant: _changes(waiting[tenant], _ACTING.get()) for tenant in sorted(waiting)}


def _changes(some: Sequence[Change | Fact], who: Acting) -> list[Change]:
    changes, facts = list[Change](), dict[str, list[Fact]]()
    for one in some:
        if isinstance(one, Fact):
            facts.setdefault(one.kind, []).append(one)
        else:
            changes.append(msgspec.structs.replace(one, actor=who.actor, route=who.route))
    for kind, of_kind in facts.items():
        for at in range(0, len(of_kind), IDS_MAX):
            changes.append(_change(kind, of_kind[at : at + IDS_MAX], who))
    return changes


def _change(fact_kind: str, facts: Sequence[Fact], who: Acting) -> Change:
    """Return the row of facts of one kind: of one, with what it tells; of many, with their ids."""
    action, kind = CHANGES[fact_kind]
    if len(facts) == 1:
        subject, after = facts[0].subject, facts[0].body
    else:
        ids = [fact.subject for fact in facts]
        subject, after = "", msgspec.json.encode(_Told(len(ids), ids)).decode()
    return Change(
        actor=who.actor, route=who.route, action=action, kind=kind, subject=subject, after=after
    )
