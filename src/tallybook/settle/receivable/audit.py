"""Guarantee 7 over money: invoices, payments, credits and wallets are what the ledger says.

1. For each invoice: lines and taxes together are its total, and so are its entries on the
   receivable; what is open is what the receivable still has (for a written off one, bad debt).
2. What was paid and credited of an invoice is what is no longer open of it.
3. Customers' credit is their credit account, what waits to be paid out their refund account.
4. What wallets hold is the prepaid liability, what trusted recharges have yet to bring is pending.
5. Numbers of a series have no gap, and the trial balance is zero in every currency.
6. The balances that are kept of accounts are what their entries add up to.

Source: docs/algorithms/ledger.md
"""

from collections import Counter
from collections.abc import Iterable, Iterator

import msgspec

from tallybook.invoice.document import decode_invoice, number_place
from tallybook.invoice.ports import InvoiceHead
from tallybook.kernel.book.entry import Entry
from tallybook.kernel.money import money_text
from tallybook.settle.ports import WalletStore
from tallybook.settle.receivable.flow import Settling
from tallybook.settle.receivable.ports import Balance, Ledger
from tallybook.settle.request import owed

DIFFERENCES_MAX = 100
_AT_ONCE = 5000

Amounts = Counter[tuple[str, str]]
"""Minor units by account, or id, and currency."""


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the money adds up, and what does not.

    Attributes:
        invoices, credit_notes, payments, entries: how many were looked at.
        differences: one sentence each; () where everything adds up.
    """

    ok: bool
    invoices: int
    credit_notes: int
    payments: int
    entries: int
    differences: tuple[str, ...]


class Posted(msgspec.Struct):
    """What the entries add up to.

    Attributes:
        earned: on receivables from lines and taxes, by invoice, of its own first step.
        owed: on receivables, by invoice.
        lost: on bad debt, by invoice.
        accounts: by account and currency.
    """

    earned: Counter[str] = msgspec.field(default_factory=Counter)
    owed: Counter[str] = msgspec.field(default_factory=Counter)
    lost: Counter[str] = msgspec.field(default_factory=Counter)
    accounts: Amounts = msgspec.field(default_factory=Counter)
    entries: int = 0

    def add(self, entry: Entry) -> None:
        """Count an entry."""
        self.entries += 1
        for name, other, sign in ((entry.debit, entry.credit, 1), (entry.credit, entry.debit, -1)):
            kind, amount = name.partition(":")[0], sign * entry.amount_minor
            self.accounts[name, entry.currency] += amount
            if kind == "receivable":
                self.owed[entry.invoice] += amount
                first = entry.document == entry.invoice and entry.id.startswith(
                    f"{entry.invoice}.."
                )
                if first and other.partition(":")[0] in {"revenue", "tax"}:
                    self.earned[entry.invoice] += amount
            elif kind == "bad-debt":
                self.lost[entry.invoice] += amount


def audit(settling: Settling, ledger: Ledger, wallets: WalletStore) -> Audit:
    """Return whether the money of a tenant adds up.

    Args:
        settling: ports.
        ledger: of the same store.
        wallets: of the same store.

    Cost: every invoice, payment, credit note and entry is read; do it while nobody bills or pays.
    """
    tenant = settling.billing.tenant
    posted = Posted()
    for entry in _entries(ledger, tenant):
        posted.add(entry)
    heads = list(_heads(settling))
    settled, payments, notes = _settled(settling)
    balances = ledger.balances(tenant)
    numbers = [head.number for head in heads]
    found = [
        *(text for head in heads for text in _invoice(settling, head, posted, settled)),
        *_gaps(numbers, "invoice"),
        *_gaps(notes, "credit note"),
        *_credits(settling, balances),
        *_prepaid(settling, balances, wallets),
        *_trial(balances),
        *_kept(posted.accounts, balances),
    ]
    return Audit(
        ok=not found,
        invoices=len(heads),
        credit_notes=len(notes),
        payments=payments,
        entries=posted.entries,
        differences=tuple(found[:DIFFERENCES_MAX]),
    )


def _entries(ledger: Ledger, tenant: str) -> Iterator[Entry]:
    after = None
    while page := ledger.entries(tenant, limit=_AT_ONCE, after=after):
        yield from page
        after = page[-1].id


def _heads(settling: Settling) -> Iterator[InvoiceHead]:
    billing, after = settling.billing, None
    while page := billing.invoices.invoices(billing.tenant, limit=_AT_ONCE, after=after):
        yield from page
        after = page[-1].number


def _settled(settling: Settling) -> tuple[Counter[str], int, list[str]]:
    """Return what was paid and credited by invoice, how many payments, and the notes' numbers."""
    tenant, found, count = settling.billing.tenant, Counter[str](), 0
    after = None
    while page := settling.payments.payments(tenant, limit=_AT_ONCE, after=after):
        after, count = page[-1].id, count + len(page)
        for payment in page:
            if payment.state == "recorded":
                found.update({one.invoice: one.amount_minor for one in payment.allocations})
    numbers: list[str] = []
    after = None
    while heads := settling.payments.credit_notes(tenant, limit=_AT_ONCE, after=after):
        after = heads[-1].number
        numbers += (head.number for head in heads)
        for head in heads:
            found[head.invoice] += head.reduces_minor if head.state == "issued" else 0
    return found, count, numbers


def _invoice(
    settling: Settling, head: InvoiceHead, posted: Posted, settled: Counter[str]
) -> Iterator[str]:
    body = settling.billing.invoices.invoice(settling.billing.tenant, head.id).body
    invoice = decode_invoice(body)
    lines = sum(line.net_minor for line in invoice.lines) + invoice.tax_minor
    open_minor = 0 if head.state == "void" else head.open_minor
    given_up = head.state == "uncollectible"
    expected = {
        "its lines and taxes": (lines, invoice.total_minor),
        "its entries from lines and taxes": (posted.earned[head.id], invoice.total_minor),
        "its receivable": (posted.owed[head.id], 0 if given_up else open_minor),
        "its bad debt": (posted.lost[head.id], open_minor if given_up else 0),
        "what was paid and credited": (
            settled[head.id],
            0 if head.state == "void" else head.payable_minor - open_minor,
        ),
    }
    for what, (found, right) in expected.items():
        if found != right:
            amounts = f"{money_text(found, head.currency)}, not {money_text(right, head.currency)}"
            yield f"invoice {head.number}: {what}: {amounts} {head.currency}"


def _gaps(numbers: Iterable[str], what: str) -> Iterator[str]:
    last: dict[str, int] = {}
    for number in numbers:
        series, ordinal = number_place(number)
        if ordinal != last.get(series, 0) + 1:
            yield f"{what} numbers: {number} follows {series} {last.get(series, 0)}"
        last[series] = ordinal


def _credits(settling: Settling, balances: Iterable[Balance]) -> Iterator[str]:
    held: Amounts = Counter()
    for credit in settling.settlements.credits(settling.billing.tenant):
        held[f"{credit.purpose}:{credit.customer}", credit.currency] += credit.left_minor
    yield from _accounts(held, balances, ("credit", "refund"), "customers hold")


def _prepaid(
    settling: Settling, balances: Iterable[Balance], wallets: WalletStore
) -> Iterator[str]:
    tenant = settling.billing.tenant
    known = settling.billing.catalog.load(tenant).wallets
    held: Amounts = Counter()
    for key, purse in wallets.purses(tenant, list(known.values())).items():
        currency = purse.wallet.currency
        held[f"prepaid:{key}", currency] += purse.liability_minor()
        for one in purse.requests:
            if one.trusted and one.state == "requested":
                held[owed(one), currency] -= one.cost_minor
    yield from _accounts(held, balances, ("prepaid", "pending"), "wallets hold")


def _accounts(
    held: Amounts, balances: Iterable[Balance], kinds: tuple[str, ...], who: str
) -> Iterator[str]:
    """Name every liability whose account is not what is held."""
    ledger: Amounts = Counter()
    for one in balances:
        if one.account.partition(":")[0] in kinds:
            ledger[one.account, one.currency] -= one.balance_minor
    for account, currency in sorted(held.keys() | ledger.keys()):
        there, here = ledger[account, currency], held[account, currency]
        if there != here:
            texts = money_text(there, currency), money_text(here, currency)
            yield f"account {account}: the ledger owes {texts[0]} {currency}, {who} {texts[1]}"


def _kept(posted: Amounts, balances: Iterable[Balance]) -> Iterator[str]:
    """Name every account whose kept balance is not what its entries add up to."""
    kept: Amounts = Counter()
    kept.update({(one.account, one.currency): one.balance_minor for one in balances})
    for account, currency in sorted(kept.keys() | posted.keys()):
        there, here = kept[account, currency], posted[account, currency]
        if there != here:
            texts = money_text(there, currency), money_text(here, currency)
            yield f"account {account}: {texts[0]} {currency} is kept, its entries are {texts[1]}"


def _trial(balances: Iterable[Balance]) -> Iterator[str]:
    total: Counter[str] = Counter()
    for one in balances:
        total[one.currency] += one.balance_minor
    for currency, minor in sorted(total.items()):
        if minor:
            yield f"the trial balance is {money_text(minor, currency)} {currency}, not zero"
