"""Wallets: credit paid in advance, its top-ups, and what became of them."""

from decimal import Decimal
from typing import Annotated

import msgspec
from litestar import Controller, delete, get, post, put
from litestar.params import Parameter

from tallybook.catalog.catalog import Catalog
from tallybook.catalog.entitlement import (
    TopUpSpec,
    Wallet,
    WalletSpec,
    check_top_up_spec,
    check_wallet,
    covers_minor,
    wallet_spec,
)
from tallybook.compose import World
from tallybook.invoice.due import BillRequest
from tallybook.invoice.flow import preview
from tallybook.kernel.decimals import EXACT, plain
from tallybook.kernel.money import money_text
from tallybook.kernel.period import parse_moment, zone
from tallybook.kernel.timestamps import format_us
from tallybook.serve.api.common.access import BILLING, READ
from tallybook.serve.api.common.paging import (
    LIMIT_DEFAULT,
    Cursor,
    Limit,
    Page,
    keyed_page,
    page,
    place_of,
)
from tallybook.serve.api.gate import Grant
from tallybook.serve.api.rest.contracts.entries import Archived, archive, change, create, shown
from tallybook.serve.api.rest.contracts.lookups import wallet_of
from tallybook.serve.api.rest.contracts.recharges import Recharges
from tallybook.settle.balance import NOTHING
from tallybook.settle.prepaid.flow import made, top_up, void_top_up
from tallybook.settle.prepaid.watch import unbilled
from tallybook.settle.purse import Purse, StoredTopUp
from tallybook.settle.wallet import WalletState


class WalletView(WalletSpec, frozen=True, kw_only=True):
    """A wallet as it is stored."""

    archived: bool = False


class TopUpView(msgspec.Struct, frozen=True, kw_only=True):
    """A top-up; amounts are in the wallet's unit, `cost` in its currency.

    Attributes:
        left: what is left of it; null where it may not be drawn from.
        reason: hand, or recharge where the wallet's rule made it.
    """

    key: str
    amount: str
    cost: str
    at: str
    expires: str | None
    voided: str | None
    priority: int
    free: bool
    reason: str
    method: str
    reference: str
    left: str | None = None


class BalanceView(WalletView, frozen=True, kw_only=True):
    """A wallet with what is in it; amounts are texts in the wallet's unit.

    Attributes:
        at: the instant it is for.
        balance: what can be drawn.
        balance_money: what that can pay, in the currency.
        debt: what the next top-up pays first.
        unbilled: what was used and not billed yet, tax included; null for a past instant.
        ongoing_balance: balance less debt and unbilled; null for a past instant.
        top_ups: those that may be drawn from.
    """

    at: str
    balance: str
    balance_money: str
    debt: str
    unbilled: str | None
    ongoing_balance: str | None
    top_ups: list[TopUpView]


class TransactionView(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a statement, in the wallet's unit.

    Attributes:
        type: top-up, lapse, draw or return.
        key: of the top-up, or the invoice it is for.
        balance: after it.
    """

    at: str
    type: str
    key: str
    amount: str
    balance: str


class TakeBackSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a top-up is taken back: with `refund` what is left goes back to how it was paid."""

    refund: bool = False


def wallet_view(catalog: Catalog, key: str) -> WalletView:
    """Return a wallet as the API shows it; raises Missing."""
    written = msgspec.structs.asdict(wallet_spec(wallet_of(catalog, key)))
    return WalletView(**written, archived=not catalog.live("wallet", key))


def top_up_view(wallet: Wallet, stored: StoredTopUp, state: WalletState) -> TopUpView:
    """Return a top-up as the API shows it."""
    made_ = stored.top_up
    left = state.left.get(made_.key)
    return TopUpView(
        key=made_.key,
        amount=plain(made_.amount),
        cost=money_text(stored.cost_minor, wallet.currency),
        at=format_us(made_.at_us),
        expires=None if made_.expires_us is None else format_us(made_.expires_us),
        voided=None if made_.voided_us is None else format_us(made_.voided_us),
        priority=made_.priority,
        free=made_.free,
        reason=stored.reason,
        method=stored.method,
        reference=stored.reference,
        left=None if left is None else plain(left),
    )


def _unbilled(world: World, tenant: str, catalog: Catalog, wallet: Wallet) -> Decimal:
    """Return what an invoice of now would take from the wallet, in its unit."""
    request = BillRequest(until_us=world.clock.now_us())
    draft = preview(world.billing(tenant), request, wallet.customer)
    if draft is None:
        return NOTHING
    theirs = [
        one
        for one in catalog.wallets.values()
        if one.customer == wallet.customer and catalog.live("wallet", one.key)
    ]
    purses = world.wallets.purses(tenant, theirs).values()
    return unbilled(purses, draft.invoice).get(wallet.key, NOTHING)


def balance_view(
    catalog: Catalog, purse: Purse, state: WalletState, owed: Decimal | None
) -> BalanceView:
    """Return a wallet with its balance as the API shows it; `owed` is what is not billed yet."""
    wallet, debt = purse.wallet, purse.debt(state)
    standing = EXACT.subtract(state.balance, debt)
    written = msgspec.structs.asdict(wallet_view(catalog, wallet.key))
    return BalanceView(
        **written,
        at=format_us(state.at_us),
        balance=plain(state.balance),
        balance_money=money_text(covers_minor(wallet, state.balance), wallet.currency),
        debt=plain(debt),
        unbilled=None if owed is None else plain(owed),
        ongoing_balance=None if owed is None else plain(EXACT.subtract(standing, owed)),
        top_ups=[
            top_up_view(wallet, stored, state)
            for stored in purse.top_ups
            if stored.top_up.key in state.left
        ],
    )


class Wallets(Controller):
    """Credit paid in advance."""

    path = "/wallets"
    tags = ("wallets",)

    @get("/", opt=READ, sync_to_thread=True)
    def list_wallets(
        self,
        world: World,
        grant: Grant,
        limit: Limit = LIMIT_DEFAULT,
        cursor: Cursor = None,
        customer: str | None = None,
        archived: Archived = False,
    ) -> Page[WalletView]:
        """List wallets by key."""
        catalog = world.catalog.load(grant.tenant)
        some = [
            one
            for one in shown(catalog, "wallet", catalog.wallets, archived=archived)
            if customer in {None, one.customer}
        ]
        found = keyed_page(some, limit, cursor, lambda one: one.key)
        return Page([wallet_view(catalog, one.key) for one in found.items], found.next_cursor)

    @post("/", opt=BILLING, sync_to_thread=True)
    def create_wallet(self, world: World, grant: Grant, data: WalletSpec) -> WalletView:
        """Create an empty wallet for a customer."""
        return wallet_view(create(world, grant, check_wallet(data)), data.key)

    @get("/{key:str}", opt=READ, sync_to_thread=True)
    def get_wallet(
        self,
        world: World,
        grant: Grant,
        key: str,
        at: Annotated[str | None, Parameter(query="at", required=False)] = None,
    ) -> BalanceView:
        """Show a wallet with its balance, now or at an instant, and what is left of each top-up.

        Now, the ongoing balance says what remains when everything used so far is billed.
        """
        catalog = world.catalog.load(grant.tenant)
        wallet = wallet_of(catalog, key)
        purse = world.wallets.purses(grant.tenant, [wallet])[key]
        if at is not None:
            tz = zone(catalog.customer(wallet.customer).zone)
            at_us = parse_moment(at.replace(" ", "+"), tz, "at")
            return balance_view(catalog, purse, purse.at(at_us), None)
        owed = _unbilled(world, grant.tenant, catalog, wallet)
        return balance_view(catalog, purse, purse.now(world.clock.now_us()), owed)

    @put("/{key:str}", opt=BILLING, sync_to_thread=True)
    def change_wallet(self, world: World, grant: Grant, key: str, data: WalletSpec) -> WalletView:
        """Change a wallet's priority, rules and thresholds; its unit and rate stay."""
        return wallet_view(change(world, grant, key, check_wallet(data)), key)

    @delete("/{key:str}", opt=BILLING, sync_to_thread=True)
    def archive_wallet(self, world: World, grant: Grant, key: str) -> None:
        """Take a wallet out of use: it pays nothing any more; what is in it stays on record."""
        archive(world, grant, "wallet", key)

    @get("/{key:str}/top-ups", opt=READ, sync_to_thread=True)
    def list_top_ups(
        self,
        world: World,
        grant: Grant,
        key: str,
        limit: Limit = LIMIT_DEFAULT,
        cursor: Cursor = None,
    ) -> Page[TopUpView]:
        """List all top-ups of a wallet by key."""
        wallet = wallet_of(world.catalog.load(grant.tenant), key)
        purse = world.wallets.purses(grant.tenant, [wallet])[key]
        state = purse.now(world.clock.now_us())
        views = [top_up_view(wallet, stored, state) for stored in purse.top_ups]
        return keyed_page(views, limit, cursor, lambda view: view.key)

    @post("/{key:str}/top-ups", opt=BILLING, sync_to_thread=True)
    def add_top_up(self, world: World, grant: Grant, key: str, data: TopUpSpec) -> TopUpView:
        """Put an amount into a wallet: paid, or free."""
        catalog = world.catalog.load(grant.tenant)
        wallet = wallet_of(catalog, key)
        now_us = world.clock.now_us()
        place = catalog.customer(wallet.customer).zone
        checked = check_top_up_spec(data, place, now_us, world.ids.new("top"))
        stored = made(wallet, checked, now_us, method=data.method, reference=data.reference)
        top_up(world.wallets, grant.tenant, wallet, stored)
        purse = world.wallets.purses(grant.tenant, [wallet])[key]
        return top_up_view(wallet, stored, purse.now(now_us))

    @post("/{key:str}/top-ups/{name:str}/void", opt=BILLING, status_code=200, sync_to_thread=True)
    def void(
        self, world: World, grant: Grant, key: str, name: str, data: TakeBackSpec
    ) -> TopUpView:
        """Take back what is left of a top-up from now on."""
        wallet = wallet_of(world.catalog.load(grant.tenant), key)
        now_us = world.clock.now_us()
        stored = void_top_up(world.wallets, grant.tenant, wallet, name, now_us, refund=data.refund)
        purse = world.wallets.purses(grant.tenant, [wallet])[key]
        return top_up_view(wallet, stored, purse.now(now_us))

    @get("/{key:str}/transactions", opt=READ, sync_to_thread=True)
    def list_transactions(
        self,
        world: World,
        grant: Grant,
        key: str,
        limit: Limit = LIMIT_DEFAULT,
        cursor: Cursor = None,
    ) -> Page[TransactionView]:
        """List everything that changed the balance, by time; the amounts add up to it."""
        wallet = wallet_of(world.catalog.load(grant.tenant), key)
        purse = world.wallets.purses(grant.tenant, [wallet])[key]
        after = place_of(cursor, int) or 0
        lines = list(enumerate(purse.statement(purse.not_before(world.clock.now_us())), 1))[after:]
        some = page(lines[: limit + 1], limit, lambda line: line[0])
        views = [
            TransactionView(
                at=format_us(line.at_us),
                type=line.change,
                key=line.key,
                amount=plain(line.amount),
                balance=plain(line.balance),
            )
            for _, line in some.items
        ]
        return Page(views, some.next_cursor)


ROUTES = (Wallets, Recharges)
