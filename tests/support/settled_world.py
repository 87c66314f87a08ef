"""A small world in which invoices are paid, credited, voided: on memory or SQL adapters."""

from pathlib import Path

from tallybook.adapters.memory.settlements import MemorySettlements
from tallybook.adapters.sql.accounts import SqlAccounts
from tallybook.adapters.sql.catalog import SqlCatalog
from tallybook.adapters.sql.database import open_database, sqlite_url
from tallybook.adapters.sql.invoices import SqlInvoices
from tallybook.adapters.sql.settlements import SqlSettlements
from tallybook.invoice.ports import InvoiceHead
from tallybook.settle.receivable.credit_note import CreditNote, decode_note
from tallybook.settle.receivable.crediting import Ask
from tallybook.settle.receivable.flow import Settling, credit, pay
from tallybook.settle.receivable.noting import LineAsk
from tallybook.settle.receivable.paying import Received, Wanted
from tallybook.settle.receivable.payment import Payment
from tests.support.billing_world import TENANT, World

MONTHLY = """
[[taxes]]
key = "vat"
rate = "{rate}"

[[plans]]
key = "web"
currency = "USD"
taxes = ["vat"]
[[plans.charges]]
key = "fee"
price = {{ type = "flat", amount = "{amount}" }}

[[customers]]
key = "acme"
currency = "USD"

[[subscriptions]]
key = "acme"
customer = "acme"
plan = "web"
start = 2026-05-01
"""
"""A customer with a fee in arrears each month."""


class SettledWorld(World):
    """A world with payments and credit notes; amounts are minor units of USD."""

    def __init__(self, folder: Path | None = None, url: str = "") -> None:
        """Start empty, on memory adapters, on a database in a folder, or on that at an address."""
        if folder is not None:
            url = sqlite_url(folder / "control.db")
        if not url:
            super().__init__()
            self.ledger = MemorySettlements(self.kept)
            self.engine = None
        else:
            self.engine = open_database(url)
            super().__init__(
                SqlCatalog(self.engine), SqlInvoices(self.engine), SqlAccounts(self.engine)
            )
            self.ledger = SqlSettlements(self.engine)
        self.settling = Settling(
            billing=self.billing, settlements=self.ledger, payments=self.ledger
        )

    def close(self) -> None:
        """Let go of the database."""
        if self.engine is not None:
            self.engine.dispose()

    def received(
        self, minor: int, *, reference: str = "", wanted: dict[str, int | None] | None = None
    ) -> Received:
        """Return a bank transfer of now."""
        now = self.clock.now_us()
        named = (wanted or {}).items()
        return Received(
            id=self.billing.ids.new("pay"),
            currency="USD",
            amount_minor=minor,
            method="bank",
            reference=reference,
            received_us=now,
            recorded_us=now,
            wanted=tuple(Wanted(invoice=name, amount_minor=part) for name, part in named),
        )

    def pay(self, minor: int, customer: str = "acme", **how: object) -> Payment:
        """Record a bank transfer."""
        return pay(self.settling, customer, self.received(minor, **how))  # type: ignore[arg-type]

    def credit(
        self, name: str, lines: dict[str, int | None] | None = None, rest: str = "credit"
    ) -> CreditNote:
        """Issue a credit note: of lines, by their positions, or of all that is left."""
        asked = tuple(
            LineAsk(line=line, amount_minor=minor) for line, minor in (lines or {}).items()
        )
        ask = Ask(reason="broken", lines=asked, rest=rest)  # type: ignore[arg-type]
        return decode_note(credit(self.settling, name, ask).body)

    def head(self, name: str) -> InvoiceHead:
        """Return how an invoice stands."""
        return self.billing.invoices.invoice(TENANT, name).head

    def open(self) -> dict[str, tuple[str, int]]:
        """Return state and open amount of every invoice, by number."""
        heads = self.billing.invoices.invoices(TENANT, limit=1000)
        return {head.number: (head.state, head.open_minor) for head in heads}

    def balances(self) -> dict[str, int]:
        """Return the balance of every account that is not zero."""
        found = self.ledger.balances(TENANT)
        return {one.account: one.balance_minor for one in found if one.balance_minor}

    def credits(self, customer: str = "acme") -> dict[str, int]:
        """Return what is left of a customer's credits, by the number of their documents."""
        held = self.ledger.standing(TENANT, customer).held
        return {one.number: one.left_minor for one in held.credits if one.left_minor}
