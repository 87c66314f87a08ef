"""The ledger: the trial balance, and entries by document or account."""

from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, get
from litestar.params import Parameter
from litestar.types import ControllerRouterHandler

from tallybook.compose import World
from tallybook.kernel.money import money_text
from tallybook.serve.api.common.paging import page, place_of
from tallybook.serve.api.rest.settlement.ledger import entry_view
from tallybook.serve.console.access import PAGE, session_of
from tallybook.serve.console.render import html
from tallybook.settle.receivable.ports import Balance, KindBalance

PAGE_ROWS = 100
ACCOUNT_ROWS = 100
MEANINGS = {
    "receivable": "what customers owe",
    "revenue": "what was earned",
    "tax": "what is owed to tax offices",
    "prepaid": "what wallets hold",
    "credit": "what customers can use for invoices to come",
    "refund": "what waits to be paid out",
    "cash": "what came in, by method",
    "bad-debt": "what was given up",
    "promotion": "what was given away",
    "pending": "what trusted recharges have yet to bring",
    "breakage": "prepaid that lapsed",
    "share": "what belongs to others",
}

Skip = Annotated[int, Parameter(ge=0, le=10_000_000, required=False)]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """An account, or a kind of accounts, in a currency: its balance on one of two sides.

    Attributes:
        accounts: how many of the kind have a balance.
    """

    name: str
    currency: str
    debit: str
    credit: str
    meaning: str = ""
    accounts: int = 0


class Sum(msgspec.Struct, frozen=True, kw_only=True):
    """Both sides of a currency; they are equal."""

    currency: str
    debit: str
    credit: str
    ok: bool


@get("/ledger", opt=PAGE, sync_to_thread=True)
def ledger_page(
    request: "Request[Any, Any, Any]", world: World, kind: str = "", skip: Skip = 0
) -> Response[bytes]:
    """Show the trial balance: by kind of account, or the accounts of one kind."""
    session = session_of(request)
    tenant = session.grant.tenant
    found = world.settlements.kinds(tenant)
    accounts: list[Balance] = []
    if kind:
        most = ACCOUNT_ROWS + 1
        accounts = world.settlements.balances(tenant, f"{kind}:", limit=most, skip=skip)
    return html(
        "books/ledger.html",
        session=session,
        here="ledger",
        kinds=kinds(found),
        sums=sums(found),
        kind=kind,
        meaning=MEANINGS.get(kind, ""),
        accounts=[
            _row(one.account, one.currency, one.balance_minor) for one in accounts[:ACCOUNT_ROWS]
        ],
        skip=skip,
        following=skip + ACCOUNT_ROWS if len(accounts) > ACCOUNT_ROWS else None,
    )


def kinds(found: Iterable[KindBalance]) -> list[Row]:
    """Return one row for each kind of account and currency."""
    order = {name: at for at, name in enumerate(MEANINGS)}
    return [
        msgspec.structs.replace(
            _row(one.kind, one.currency, one.balance_minor),
            meaning=MEANINGS.get(one.kind, ""),
            accounts=one.accounts,
        )
        for one in sorted(found, key=lambda one: (order.get(one.kind, len(order)), one.currency))
    ]


def _row(name: str, currency: str, minor: int) -> Row:
    text = money_text(abs(minor), currency)
    return Row(
        name=name,
        currency=currency,
        debit=text if minor > 0 else "",
        credit=text if minor < 0 else "",
    )


def sums(found: Iterable[KindBalance]) -> list[Sum]:
    """Return the sums of both sides by currency, over kinds of accounts."""
    debit: Counter[str] = Counter()
    credit: Counter[str] = Counter()
    for one in found:
        debit[one.currency] += max(one.balance_minor, 0)
        credit[one.currency] += max(-one.balance_minor, 0)
    return [
        Sum(
            currency=code,
            debit=money_text(debit[code], code),
            credit=money_text(credit[code], code),
            ok=debit[code] == credit[code],
        )
        for code in sorted(debit.keys() | credit.keys())
    ]


@get("/ledger/entries", opt=PAGE, sync_to_thread=True)
def entries_page(
    request: "Request[Any, Any, Any]",
    world: World,
    cursor: str | None = None,
    document: str = "",
    account: str = "",
) -> Response[bytes]:
    """List entries, of a document or on an account."""
    session = session_of(request)
    found = world.settlements.entries(
        session.grant.tenant,
        limit=PAGE_ROWS + 1,
        after=place_of(cursor, str),
        document=document or None,
        account=account or None,
    )
    shown = page(found, PAGE_ROWS, lambda entry: entry.id)
    return html(
        "books/entries.html",
        session=session,
        here="ledger",
        entries=[entry_view(entry) for entry in shown.items],
        document=document,
        account=account,
        next_cursor=shown.next_cursor,
    )


ROUTES: list[ControllerRouterHandler] = [ledger_page, entries_page]
