"""The ledger: entries by document or account, and balances."""

from typing import Annotated

import msgspec
from litestar import Controller, get
from litestar.params import Parameter

from tallybook.compose import World
from tallybook.kernel.book.entry import Entry
from tallybook.kernel.money import money_text
from tallybook.kernel.timestamps import format_us
from tallybook.serve.api.common.access import READ
from tallybook.serve.api.common.paging import LIMIT_DEFAULT, Cursor, Limit, Page, page, place_of
from tallybook.serve.api.gate import Grant
from tallybook.settle.receivable.audit import Audit, audit
from tallybook.settle.receivable.ports import Balance


class EntryView(msgspec.Struct, frozen=True, kw_only=True):
    """A ledger entry; money is a string, times are RFC 3339."""

    id: str
    at: str
    debit: str
    credit: str
    amount: str
    currency: str
    document: str
    invoice: str
    line: str
    service_start: str | None
    service_end: str | None


class BalanceView(msgspec.Struct, frozen=True, kw_only=True):
    """Debits less credits of an account in a currency."""

    account: str
    currency: str
    balance: str


class TrialBalance(msgspec.Struct, frozen=True, kw_only=True):
    """Every account's balance; of each currency they add up to zero."""

    balances: list[BalanceView]


def entry_view(entry: Entry) -> EntryView:
    """Return an entry as the API shows it."""
    start, end = entry.service_start_us, entry.service_end_us
    return EntryView(
        id=entry.id,
        at=format_us(entry.at_us),
        debit=entry.debit,
        credit=entry.credit,
        amount=money_text(entry.amount_minor, entry.currency),
        currency=entry.currency,
        document=entry.document,
        invoice=entry.invoice,
        line=entry.line,
        service_start=None if start is None else format_us(start),
        service_end=None if end is None else format_us(end),
    )


def balance_view(balance: Balance) -> BalanceView:
    """Return a balance as the API shows it."""
    return BalanceView(
        account=balance.account,
        currency=balance.currency,
        balance=money_text(balance.balance_minor, balance.currency),
    )


class LedgerRoutes(Controller):
    """Double entry: what every document means."""

    path = "/ledger"
    tags = ("settlement",)

    @get("/entries", opt=READ, sync_to_thread=True)
    def list_entries(
        self,
        world: World,
        grant: Grant,
        limit: Limit = LIMIT_DEFAULT,
        cursor: Cursor = None,
        document: str | None = None,
        account: str | None = None,
    ) -> Page[EntryView]:
        """List entries by id; those of a document, or those on an account."""
        found = world.settlements.entries(
            grant.tenant,
            limit=limit + 1,
            after=place_of(cursor, str),
            document=document,
            account=account,
        )
        shown = page(found, limit, lambda entry: entry.id)
        return Page([entry_view(entry) for entry in shown.items], shown.next_cursor)

    @get("/balances", opt=READ, sync_to_thread=True)
    def show_balances(
        self,
        world: World,
        grant: Grant,
        account: Annotated[
            str, Parameter(description="Accounts whose name begins so, such as receivable:.")
        ] = "",
    ) -> TrialBalance:
        """Show the balance of every account, or of some; debits are above zero."""
        found = world.settlements.balances(grant.tenant, account)
        return TrialBalance(balances=[balance_view(balance) for balance in found])

    @get("/audit", opt=READ, sync_to_thread=True)
    def audit_ledger(self, world: World, grant: Grant) -> Audit:
        """Prove that invoices, payments, credits and wallets are what the ledger says.

        Reads every invoice and entry of the tenant.
        """
        return audit(world.settling(grant.tenant), world.settlements, world.wallets)
