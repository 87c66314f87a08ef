"""One suite for every `WalletStore`: each test tries to break a sentence of the port."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from sqlalchemy import Engine

from tallybook.adapters.memory.accounts import MemoryAccounts
from tallybook.adapters.memory.catalog import MemoryCatalog
from tallybook.adapters.memory.invoices import MemoryInvoices
from tallybook.adapters.memory.wallets import MemoryWallets
from tallybook.adapters.sql.accounts import SqlAccounts
from tallybook.adapters.sql.catalog import SqlCatalog
from tallybook.adapters.sql.database import open_database
from tallybook.adapters.sql.invoices import SqlInvoices
from tallybook.adapters.sql.prepaid.wallets import SqlWallets
from tallybook.adapters.sql.settlements import SqlSettlements
from tallybook.catalog.catalog import Archive
from tallybook.catalog.customer import Customer
from tallybook.catalog.entitlement import TopUp, Wallet
from tallybook.catalog.ports import CatalogStore
from tallybook.invoice.funds import WalletInHand, WalletUsed
from tallybook.invoice.ports import Accounts, InvoiceStore, Spent
from tallybook.kernel.errors import Conflict
from tallybook.settle.ports import Happened, WalletStore
from tallybook.settle.prepaid.flow import top_up
from tallybook.settle.prepaid.recharging import Outcome, failed, paid
from tallybook.settle.purse import GivenUp, StoredTopUp, Watch, give_up, topped_up
from tallybook.settle.request import Request
from tests.support.databases import KINDS

WALLET = Wallet(key="w", customer="c", currency="USD")
UNITS = Wallet(key="u", customer="c", currency="USD", unit="CRD", rate=Decimal("0.000000000004"))
OTHER = Wallet(key="o", customer="d", currency="EUR")


@dataclass
class Stores:
    """The stores that share customers' accounts."""

    catalog: CatalogStore
    invoices: InvoiceStore
    accounts: Accounts
    wallets: WalletStore


@pytest.fixture(params=["memory", *KINDS])
def stores(request: pytest.FixtureRequest, new_database: Callable[[str], str]) -> Iterator[Stores]:
    if request.param == "memory":
        catalog, invoices = MemoryCatalog(), MemoryInvoices()
        made = Stores(catalog, invoices, MemoryAccounts(invoices, catalog), MemoryWallets(invoices))
        _begin(made)
        yield made
        return
    engine = open_database(new_database(request.param))
    made = Stores(SqlCatalog(engine), SqlInvoices(engine), SqlAccounts(engine), SqlWallets(engine))
    _begin(made)
    yield made
    engine.dispose()


def _begin(stores: Stores) -> None:
    customers = [Customer(key=key, name=key, currency="USD") for key in ("c", "d")]
    stores.catalog.write("t", [*customers, WALLET, UNITS, OTHER])


def up(key: str, amount: str = "10", wallet: Wallet = WALLET, **said: Any) -> StoredTopUp:
    top_up = TopUp(key=key, amount=Decimal(amount), at_us=5, **said)
    return StoredTopUp(
        wallet=wallet.key,
        customer=wallet.customer,
        top_up=top_up,
        cost_minor=1000,
        recorded_us=7,
        method="card",
        reference="r",
    )


def put(stores: Stores, *ups: StoredTopUp, tenant: str = "t", wallet: Wallet = WALLET) -> None:
    with stores.wallets.transaction(tenant) as transaction:
        transaction.purse(wallet)
        transaction.put(Happened(top_ups=ups))


def purse(stores: Stores, wallet: Wallet = WALLET, tenant: str = "t") -> Any:
    return stores.wallets.purses(tenant, [wallet])[wallet.key]


def spend(stores: Stores, version: int, units: str, at_us: int = 9, invoice: str = "inv") -> None:
    used = WalletUsed(
        wallet="w", units=units, unit="", amount=units, amount_minor=int(Decimal(units) * 100)
    )
    spent = Spent(
        customer="c",
        version=version,
        invoice=invoice,
        number="1",
        currency="USD",
        at_us=at_us,
        wallets=(used,),
    )
    with stores.invoices.transaction("t") as transaction:
        transaction.books.spend([spent])


def hands(stores: Stores, currency: str = "USD", at_us: int = 9) -> Sequence[WalletInHand]:
    return stores.accounts.accounts("t", ["c", "d"], currency, at_us)["c"].funds.wallets


def test_a_wallet_to_which_nothing_happened_is_empty(stores: Stores) -> None:
    found = purse(stores)
    assert (found.version, found.top_ups, found.draws, found.watch) == (0, (), (), None)
    assert stores.wallets.purses("t", []) == {}


def test_top_ups_are_read_as_they_were_written_and_move_the_account(stores: Stores) -> None:
    odd = up("b", "12345678.123456789012", free=True, expires_us=90, priority=3)
    put(stores, up("a"), odd)
    assert purse(stores).top_ups == (up("a"), odd)
    assert purse(stores).version == 1
    assert purse(stores, UNITS).version == 1
    assert purse(stores, tenant="other").top_ups == ()


def test_a_voiding_takes_the_place_of_the_top_up(stores: Stores) -> None:
    put(stores, up("a"))
    put(stores, up("a", voided_us=50))
    assert purse(stores).top_ups == (up("a", voided_us=50),)
    assert purse(stores).version == 2


def fail_half_way(stores: Stores) -> None:
    with stores.wallets.transaction("t") as transaction:
        transaction.purse(WALLET)
        transaction.books.post(topped_up(up("a"), "USD"))
        transaction.put(Happened(top_ups=(up("a"),)))
        assert len(transaction.purse(WALLET).top_ups) == 1
        raise ZeroDivisionError


def test_what_raises_in_a_transaction_leaves_nothing(stores: Stores) -> None:
    with pytest.raises(ZeroDivisionError):
        fail_half_way(stores)
    assert purse(stores).top_ups == ()


def test_a_watch_moves_no_account(stores: Stores) -> None:
    watch = Watch(
        wallet="w", customer="c", at_us=3, ongoing=Decimal("-0.000000000001"), cut=4, version=0
    )
    for low in (1, 2):
        with stores.wallets.transaction("t") as transaction:
            transaction.put(Happened(watches=(replace_low(watch, low),)))
    assert purse(stores).watch == replace_low(watch, 2)
    assert purse(stores).version == 0


def test_a_request_moves_no_account_and_is_kept_as_it_became(stores: Stores) -> None:
    asked = Request(
        wallet="w",
        customer="c",
        key="recharge-1",
        amount=Decimal("12.5"),
        cost_minor=1250,
        asked_us=7,
        trusted=True,
    )
    done = msgspec.structs.replace(
        asked, state="paid", settled_us=9, method="card", reference="ch_1"
    )
    other = msgspec.structs.replace(asked, key="recharge-2", state="failed", reason="no")
    for some in ((asked,), (done, other)):
        with stores.wallets.transaction("t") as transaction:
            before = transaction.purse(WALLET).version
            transaction.put(Happened(requests=some))
    assert purse(stores).requests == (done, other)
    assert purse(stores).version == before == 0


def replace_low(watch: Watch, low: int) -> Watch:
    return Watch(
        wallet=watch.wallet,
        customer=watch.customer,
        at_us=watch.at_us,
        ongoing=watch.ongoing,
        cut=watch.cut,
        version=watch.version,
        low=low,
    )


def test_what_is_given_up_is_kept(stores: Stores) -> None:
    put(stores, up("a", expires_us=8))
    gone = give_up(purse(stores), 8)
    assert gone == GivenUp(
        wallet="w", customer="c", number=1, at_us=8, amount_minor=1000, account="breakage:c"
    )
    with stores.wallets.transaction("t") as transaction:
        transaction.purse(WALLET)
        transaction.put(Happened(given_up=(gone,)))
    assert purse(stores).given_up == (gone,)
    assert purse(stores).version == 2
    assert give_up(purse(stores), 9) is None


def test_invoices_draw_from_what_is_there(stores: Stores) -> None:
    put(stores, up("a"))
    assert hands(stores) == (WalletInHand(wallet=WALLET, balance=Decimal(10), since_us=7),)
    spend(stores, 1, "4")
    assert [hand.balance for hand in hands(stores)] == [6]
    assert [draw.amount_minor for draw in purse(stores).draws] == [400]
    with pytest.raises(Conflict, match="changed meanwhile"):
        spend(stores, 1, "4", invoice="other")


def test_a_draw_counts_at_every_later_asking(stores: Stores) -> None:
    put(stores, up("a"))
    spend(stores, 1, "4", at_us=9)
    spend(stores, 2, "1", at_us=6, invoice="earlier")
    assert sorted(draw.at_us for draw in purse(stores).draws) == [9, 10]
    assert [hand.balance for hand in hands(stores, at_us=6)] == [5]


def test_only_wallets_in_use_of_the_currency_pay(stores: Stores) -> None:
    put(stores, up("a"))
    put(stores, up("a", wallet=UNITS), wallet=UNITS)
    put(stores, up("a", wallet=OTHER), wallet=OTHER)
    assert [hand.wallet.key for hand in hands(stores)] == ["u", "w"]
    assert hands(stores, "EUR") == ()
    stores.catalog.write("t", [Archive("wallet", "u")])
    assert [hand.wallet.key for hand in hands(stores)] == ["w"]


def asking_for_a_recharge(engine: Engine) -> SqlWallets:
    """Return wallets of which one has asked for a payment, and nothing has moved yet."""
    SqlCatalog(engine).write("t", [Customer(key="c", name="c", currency="USD"), WALLET])
    wallets = SqlWallets(engine)
    asked = Request(
        wallet="w", customer="c", key="recharge-1", amount=Decimal(7), cost_minor=700, asked_us=1
    )
    with wallets.transaction("t") as transaction:
        transaction.put(Happened(requests=(asked,)))
    return wallets


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_top_ups_of_a_customer_may_come_at_once(
    kind: str, new_database: Callable[[str], str]
) -> None:
    engine = open_database(new_database(kind))
    wallets, ledger = asking_for_a_recharge(engine), SqlSettlements(engine)
    told = Outcome(key="recharge-1", method="card")

    def settle(number: int) -> str:
        if number % 3 == 0:
            top_up(wallets, "t", WALLET, up(f"k{number}"))
            return "topped up"
        settled = paid if number % 3 == 1 else failed
        try:
            return settled(wallets, "t", WALLET, told, 9).state
        except Conflict as error:
            return error.code

    with ThreadPoolExecutor(9) as pool:
        came = list(pool.map(settle, range(9)))
    assert came.count("topped up") == 3
    outcome = wallets.purses("t", [WALLET])["w"].requests[0].state
    assert came.count(outcome) == came.count("recharge-settled") == 3
    cents = 3 * 1000 + (700 if outcome == "paid" else 0)
    (prepaid,) = ledger.balances("t", "prepaid:")
    assert prepaid.balance_minor == -cents
    engine.dispose()


@pytest.mark.parametrize("kind", KINDS)
def test_a_wallet_that_is_looked_at_waits_even_before_anything_moved(
    kind: str, new_database: Callable[[str], str]
) -> None:
    engine = open_database(new_database(kind))
    wallets = asking_for_a_recharge(engine)
    with ThreadPoolExecutor(1) as pool:
        with wallets.transaction("t") as transaction:
            (seen,) = transaction.purse(WALLET).requests
            other = pool.submit(paid, wallets, "t", WALLET, Outcome(key="recharge-1"), 9)
            wait([other], timeout=1)
            lost = msgspec.structs.replace(seen, state="failed", settled_us=8)
            transaction.put(Happened(requests=(lost,)))
        with pytest.raises(Conflict, match="failed already"):
            other.result()
    assert wallets.purses("t", [WALLET])["w"].top_ups == ()
    engine.dispose()
