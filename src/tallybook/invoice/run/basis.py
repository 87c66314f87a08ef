"""What everybody's invoice of a run starts from: ports, the run's snapshot, books and accounts."""

from collections.abc import Sequence

import msgspec

from tallybook.catalog.catalog import Catalog
from tallybook.invoice.due import Alike
from tallybook.invoice.ports import Account, Billing, BillingRun, Books, Part
from tallybook.invoice.run.batch.quiet import quiet
from tallybook.invoice.run.payers import Payer
from tallybook.kernel.timestamps import DAY_US


class Basis(msgspec.Struct, frozen=True):
    """A run as it started: its snapshot, its date, the catalog it reads.

    Attributes:
        at_once: nothing waits as a draft.
    """

    billing: Billing
    run: BillingRun
    catalog: Catalog
    at_once: bool = False


class Stand(msgspec.Struct, frozen=True):
    """Where billing stands of some payers, and what they have.

    Attributes:
        alike: decides what is due.
        quiet: by payer, up to which instant its closed periods are as they were counted.
    """

    books: Books
    accounts: dict[str, Account]
    alike: Alike
    quiet: dict[str, int] = {}


def standing(basis: Basis, payers: Sequence[Payer]) -> Stand:
    """Return where billing stands of payers, read now.

    Accounts are read after the books: what is spent in between is refused when it is stored.
    """
    billing, run = basis.billing, basis.run
    part = Part(
        customers=[payer.key for payer in payers],
        subscriptions=[one.key for payer in payers for one in payer.subscriptions],
        run=run.id,
        since_us=run.started_us - DAY_US,
    )
    books = billing.invoices.books(billing.tenant, part)
    by_currency: dict[str, list[str]] = {}
    for payer in payers:
        if payer.customer.parent:
            continue  # whoever pays for it has its charges, too
        keys = by_currency.setdefault(payer.customer.currency, [])
        keys += (payer.key, *(member.key for member in payer.members))
    accounts: dict[str, Account] = {}
    for currency, keys in by_currency.items():
        accounts |= billing.accounts.accounts(billing.tenant, keys, currency, run.started_us)
    known = quiet(billing, run, basis.catalog, books, payers)
    return Stand(books, accounts, Alike(basis.catalog, run.cut), known)
