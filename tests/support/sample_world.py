"""A world with a little of everything that the console shows: plans with phases, add-ons, taxes,
coupons, wallets, entitlements, a parent that pays, drafts, payments, credit notes, a parked
customer; all in two months, and a second tenant that has its own.
"""

import shutil
from decimal import Decimal
from pathlib import Path

from tallybook.adapters.memory.usage_reader import MemoryUsageReader
from tallybook.catalog.document import parse_document
from tallybook.catalog.entitlement import TopUp
from tallybook.catalog.flow import apply
from tallybook.invoice.due import BillRequest
from tallybook.invoice.flow import bill
from tallybook.invoice.manifest import Extra
from tallybook.invoice.ports import BillingRun
from tallybook.meter.usage import StoredEvent
from tallybook.settle.prepaid.flow import made, top_up
from tallybook.settle.receivable.crediting import Ask
from tallybook.settle.receivable.flow import credit, give_up, pay, put_extras, redeem, void_invoice
from tallybook.settle.receivable.noting import LineAsk
from tallybook.settle.receivable.paying import Received, Wanted
from tests.support.api import Api
from tests.support.billing_world import at

TENANT = "default"
OTHER = "other"
NOW = "2026-11-18T09:30:00Z"

CATALOG = """
[seller]
name = "Harbour Cloud GmbH"
address = ["Speicherstrasse 8", "20457 Hamburg", "Germany"]
email = "billing@harbour.example"
tax_id = "DE123456789"
taxes = ["vat"]
payment_days = 14
bank = { name = "Hafenbank", iban = "DE02120300000000202051" }
[seller.place]
street = "Speicherstrasse 8"
city = "Hamburg"
postal_code = "20457"
country = "DE"
contact = "Billing"
phone = "+49 40 1234567"
endpoint = "9930:DE123456789"

[[taxes]]
key = "vat"
name = "VAT"
rate = "19"
[[taxes]]
key = "reverse"
name = "Reverse charge"
rate = "0"
category = "AE"
reason = "VAT is owed by the recipient"

[[coupons]]
key = "launch"
name = "Launch offer"
percent = "20"
duration = "recurring"
invoices = 3
[[coupons]]
key = "sorry-50"
name = "Fifty off after the outage"
amount = "50"
currency = "EUR"
redeem_until = "2027-01-01"

[[meters]]
key = "calls"
name = "API calls"
event_type = "api.call"
aggregation = "COUNT"
unit = "calls"
group_by = { region = "$.region" }
[[meters]]
key = "storage"
name = "Storage"
event_type = "disk.used"
aggregation = "MAX"
value = "$.gb"
unit = "GB"

[[plans]]
key = "team"
name = "Team"
currency = "EUR"
thresholds = ["1000"]
[[plans.charges]]
key = "seats"
name = "Seats"
timing = "advance"
price = { type = "flat", amount = "12" }
[[plans.charges]]
key = "calls"
name = "API calls"
meter = "calls"
split_by = "region"
price = { type = "graduated", tiers = [
  { up_to = "3", unit_amount = "0" },
  { up_to = "8", unit_amount = "0.50" },
  { unit_amount = "0.25", flat_amount = "1" },
] }
[[plans.charges]]
key = "storage"
name = "Storage"
meter = "storage"
price = { type = "package", package_size = "10", amount = "2" }
[[plans.charges]]
key = "support"
name = "Support contract"
timing = "advance"
interval = "P1Y"
price = { type = "flat", amount = "600" }
shares = [{ party = "helpdesk-partner", percent = "40" }]
[[plans.phases]]
key = "trial"
name = "Trial"
length = "P14D"
charges = ["calls"]
[[plans.phases]]
key = "ramp"
name = "Ramp-up"
length = "P3M"
prices = { seats = { type = "flat", amount = "6" } }

[[plans]]
key = "enterprise"
name = "Enterprise"
currency = "EUR"
[plans.minimum]
amount = "500"
name = "Minimum commitment"
[[plans.charges]]
key = "platform"
name = "Platform fee"
price = { type = "flat", amount = "250" }
[[plans.charges]]
key = "calls"
name = "API calls"
meter = "calls"
price = { type = "volume", tiers = [
  { up_to = "5", unit_amount = "0.40" },
  { unit_amount = "0.20" },
] }
[plans.currencies.USD]
platform = { type = "flat", amount = "270" }
calls = { type = "unit", unit_amount = "0.25" }
[plans.minimum.currencies]
USD = "550"

[[plans]]
key = "backup"
name = "Backup add-on"
kind = "add-on"
currency = "EUR"
[[plans.charges]]
key = "backup"
name = "Nightly backup"
timing = "advance"
price = { type = "flat", amount = "19.90" }

[[plans]]
key = "regional"
name = "Regional"
currency = "EUR"
[[plans.charges]]
key = "calls"
name = "API calls"
meter = "calls"
price = { type = "matrix", dimensions = ["region"], cells = [
  { match = { region = "eu" }, unit_amount = "0.20" },
] }

[[customers]]
key = "acme"
name = "Acme Rockets SARL"
currency = "EUR"
zone = "Europe/Paris"
address = ["1 rue de la Paix", "75002 Paris", "France"]
email = "compta@acme.example"
tax_id = "FR40303265045"
subjects = ["acme-app"]
[customers.place]
street = "1 rue de la Paix"
city = "Paris"
postal_code = "75002"
country = "FR"
endpoint = "9957:FR40303265045"
[[customers]]
key = "borealis"
name = "Borealis AB"
currency = "EUR"
subjects = ["borealis"]
[[customers]]
key = "group"
name = "Conglomerate Group"
currency = "EUR"
taxes = ["reverse"]
[[customers]]
key = "group-north"
name = "Conglomerate North"
currency = "EUR"
parent = "group"
subjects = ["north"]
[[customers]]
key = "group-south"
name = "Conglomerate South"
currency = "EUR"
parent = "group"
subjects = ["south"]
[[customers]]
key = "dragon"
name = "Dragon Shipping Inc."
currency = "USD"
taxes = []
subjects = ["dragon"]
[[customers]]
key = "waiting"
name = "Waiting Room Ltd."
currency = "EUR"
grace_days = 5
[[customers]]
key = "parker"
name = "Parker Parking"
currency = "EUR"
subjects = ["parker"]
[[customers]]
key = "prospect"
name = "Prospect without a plan"
currency = "EUR"

[[subscriptions]]
key = "acme-team"
customer = "acme"
plan = "team"
start = 2026-06-01
quantities = { seats = "5" }
[[subscriptions]]
key = "acme-backup"
customer = "acme"
plan = "backup"
start = 2026-06-01
base = "acme-team"
[[subscriptions]]
key = "borealis-team"
customer = "borealis"
plan = "team"
start = 2026-10-01
quantities = { seats = "2" }
[[subscriptions]]
key = "north"
customer = "group-north"
plan = "enterprise"
start = 2026-10-01
[[subscriptions]]
key = "south"
customer = "group-south"
plan = "enterprise"
start = 2026-10-01
[[subscriptions]]
key = "dragon"
customer = "dragon"
plan = "enterprise"
start = 2026-10-01
[[subscriptions]]
key = "waiting"
customer = "waiting"
plan = "enterprise"
start = 2026-10-01

[[subscriptions]]
key = "parker"
customer = "parker"
plan = "regional"
start = 2026-10-01

[[wallets]]
key = "borealis-prepaid"
customer = "borealis"
currency = "EUR"
thresholds = ["20", "5"]
recharge = { at = "5", to = "100" }
[[wallets]]
key = "dragon-units"
customer = "dragon"
currency = "USD"
unit = "token"
rate = "0.5"

[[entitlements]]
customer = "acme"
feature = "api-calls"
type = "metered"
meter = "calls"
start = "2026-10-01"
period = "P1M"
included = "20"
[[entitlements]]
customer = "acme"
feature = "single-sign-on"
type = "boolean"
start = "2026-10-01"
[[entitlements]]
customer = "acme"
feature = "retention"
type = "static"
start = "2026-10-01"
config = '{"days":90}'
"""

NEWER = """
[[plans]]
key = "backup"
name = "Backup add-on"
kind = "add-on"
currency = "EUR"
[[plans.charges]]
key = "backup"
name = "Nightly backup"
timing = "advance"
price = { type = "flat", amount = "24.90" }
"""

FOREIGN = """
[[plans]]
key = "secret-plan"
name = "Nobody else's plan"
currency = "EUR"
[[plans.charges]]
key = "fee"
price = { type = "flat", amount = "77" }
[[customers]]
key = "stranger"
name = "Stranger of another tenant"
currency = "EUR"
[[subscriptions]]
key = "stranger-sub"
customer = "stranger"
plan = "secret-plan"
start = 2026-10-01
[[wallets]]
key = "stranger-wallet"
customer = "stranger"
currency = "EUR"
"""


class ShownUsage(MemoryUsageReader):
    """Events in a list, with the questions that only pages ask."""

    def span(
        self, tenant: str, event_type: str, cut: int, _within: object = None
    ) -> tuple[int, int] | None:
        """Return the times of the first and the last event of a type."""
        times = [e.time_us for e in self._accepted(tenant, cut) if e.type == event_type]
        return (min(times), max(times)) if times else None

    def recent(self, tenant: str, *, limit: int, **_: object) -> list[StoredEvent]:
        """Return the newest events, newest first."""
        return sorted(self._accepted(tenant, self.head()), key=lambda e: -e.time_us)[:limit]

    def quarantined(self, tenant: str, *, limit: int, **_: object) -> list[StoredEvent]:
        """Return pieces in quarantine: none."""
        del tenant, limit
        return []

    def piece_counts(self, tenant: str, asked: object = None) -> dict[str, int]:
        """Return how many pieces are in quarantine for each reason: none."""
        del tenant, asked
        return {}


class Sample(Api):
    """The sample world behind the routes of API and console; it ends on 18 November 2026.

    Attributes:
        numbers: invoice number by what it stands for.
    """

    def __init__(self, folder: Path, like: "Sample | None" = None) -> None:
        """Make it, in the order in which it happened; or a copy of one, which is faster."""
        if like is not None:
            shutil.copytree(like.world.settings.data_dir, folder, dirs_exist_ok=True)
        super().__init__(folder, now="2026-06-01T00:00:00Z")
        if like is not None:
            self.numbers, self.usage = dict(like.numbers), like.usage
            self.world.__dict__["usage"] = self.usage
            self.clock.set(NOW)
            return
        self.numbers = {}
        self.usage = ShownUsage()
        self.world.__dict__["usage"] = self.usage
        self._catalog()
        self._used()
        self._october()
        self._november()
        self._foreign()
        self.clock.set(NOW)
        self.world.engine.dispose()

    def run(self, period: str | None, until: str | None = None, tenant: str = TENANT) -> BillingRun:
        """Bill, as the jobs process would."""
        request = BillRequest(period=period, until_us=None if until is None else at(until))
        return bill(self.world.billing(tenant), request)

    def first(self, customer: str, tenant: str = TENANT) -> str:
        """Return the number of a customer's newest invoice."""
        found = self.world.invoices.invoices(tenant, limit=1, customer=customer, newest=True)
        return found[0].number

    def paid(self, customer: str, minor: int, currency: str = "EUR", invoice: str = "") -> str:
        """Record a bank transfer of now; return its id."""
        now = self.clock.now_us()
        received = Received(
            id=self.world.ids.new("pay"),
            currency=currency,
            amount_minor=minor,
            method="bank-transfer",
            reference="SEPA 4711",
            received_us=now,
            recorded_us=now,
            wanted=(Wanted(invoice=invoice, amount_minor=None),) if invoice else (),
        )
        return pay(self.world.settling(TENANT), customer, received).id

    def filled(self, wallet: str, amount: str, *, free: bool = False, key: str = "first") -> None:
        """Put an amount into a wallet."""
        found = self.world.catalog.load(TENANT).wallets[wallet]
        now = self.clock.now_us()
        made_ = made(
            found, TopUp(key=key, amount=Decimal(amount), at_us=now, free=free), now, method="card"
        )
        top_up(self.world.wallets, TENANT, found, made_)

    def _catalog(self) -> None:
        self.apply(CATALOG)

    def _used(self) -> None:
        for day in range(1, 29):
            region = "eu" if day % 3 else "us"
            self.event(f"2026-10-{day:02d}T10:00:00Z", f'{{"region":"{region}"}}', "acme-app",
                       "api.call")  # fmt: skip
            if day % 4 == 0:
                for subject in ("north", "south", "dragon", "borealis", "parker"):
                    self.event(f"2026-10-{day:02d}T11:00:00Z", "{}", subject, "api.call")
        self.event("2026-10-15T00:00:00Z", '{"gb":42}', "acme-app", "disk.used")
        for day in range(1, 12):
            self.event(f"2026-11-{day:02d}T10:00:00Z", '{"region":"eu"}', "acme-app", "api.call")

    def _october(self) -> None:
        self.clock.set("2026-10-25T08:00:00Z")
        settling = self.world.settling(TENANT)
        redeem(settling, "launch", "acme")
        redeem(settling, "sorry-50", "group")
        self.filled("borealis-prepaid", "250")
        self.filled("dragon-units", "40", free=True)
        self.clock.set("2026-10-26T08:00:00Z")
        self.filled("dragon-units", "100", key="second")

    def _november(self) -> None:
        self.clock.set("2026-11-01T06:00:00Z")
        self.run("2026-10")
        for name in ("acme", "borealis", "group", "dragon"):
            self.numbers[name] = self.first(name)
        self.clock.set("2026-11-03T12:00:00Z")
        extra = Extra(id="ext_1", name="Migration workshop", amount=Decimal(480),
                      start_us=at("2026-11-03"), end_us=at("2026-11-04"))  # fmt: skip
        put_extras(self.world.settling(TENANT), "acme", [extra])
        settling = self.world.settling(TENANT)
        self.paid("group", 100_000)
        self.numbers["payment"] = self.paid("acme", 10_000, invoice=self.numbers["acme"])
        self.clock.set("2026-11-04T12:00:00Z")
        ask = Ask(reason="One region was unreachable",
                  lines=(LineAsk(line="1", amount_minor=None),), rest="credit")  # fmt: skip
        self.numbers["note"] = credit(settling, self.numbers["acme"], ask).head.number
        self.clock.set("2026-11-05T12:00:00Z")
        self.apply(NEWER)
        self.run(None, until="2026-11-05T12:00:00Z")
        (self.numbers["draft"],) = self._drafts()
        self.numbers["written-off"] = self.first("dragon")
        give_up(settling, self.numbers["dragon"])

    def _drafts(self) -> list[str]:
        """Return the ids of open drafts, the one that was made last at the end."""
        found = self.world.invoices.drafts.drafts(TENANT, limit=10)
        return [draft.id for draft in sorted(found, key=lambda draft: draft.made_us)]

    def _foreign(self) -> None:
        apply(self.world.catalog, OTHER, parse_document(FOREIGN))
        self.clock.set("2026-11-06T00:00:00Z")
        self.run("2026-10", tenant=OTHER)
        self.numbers["foreign"] = self.first("stranger", OTHER)


def voided(sample: Sample, name: str) -> None:
    """Void an invoice."""
    void_invoice(sample.world.settling(TENANT), name)
