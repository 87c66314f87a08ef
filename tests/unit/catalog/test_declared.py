"""Taxes, coupons, entitlements and wallets in catalog.toml; what commands decided outlives it."""

import re
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from tallybook.adapters.memory.catalog import MemoryCatalog
from tallybook.catalog.amendment import PlanChange
from tallybook.catalog.catalog import KINDS, Archive, Catalog, entry_kind, with_entries
from tallybook.catalog.change import change_of, difference
from tallybook.catalog.check import check_references, check_stored
from tallybook.catalog.document import DOCUMENT_CHARS_MAX, parse_document
from tallybook.catalog.flow import apply, plan_apply, put
from tallybook.catalog.plan import check_plan, plan_spec
from tallybook.catalog.tax import Tax
from tallybook.kernel.errors import Conflict, Invalid
from tallybook.kernel.timestamps import format_us

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "guides" / "catalog.md"
TEXT = """
[seller]
name = "Example Ltd"
taxes = ["vat"]
bank = { iban = "DE89 3704 0044 0532 0130 00", bic = "cobadeff" }

[[taxes]]
key = "vat"
rate = 19

[[meters]]
key = "calls"
event_type = "call"
aggregation = "COUNT"

[prices.call]
type = "unit"
unit_amount = 0.5

[[plans]]
key = "team"
currency = "USD"
interval = "P3M"
effective = 2026-01-01
thresholds = [100]
thresholds_in = { EUR = [90] }

  [[plans.charges]]
  key = "calls"
  meter = "calls"
  price = "call"

  [[plans.charges]]
  key = "seats"
  price = { type = "flat", amount = 10 }
  shares = [{ party = "partner", percent = 12.5 }]

  [plans.minimum]
  amount = 50
  [plans.minimum.currencies]
  EUR = 45

  [plans.currencies.EUR]
  calls = "call"
  seats = { type = "flat", amount = 9 }

  [[plans.phases]]
  key = "trial"
  length = "P14D"
  charges = []

[[plans]]
key = "support"
kind = "add-on"
currency = "USD"
charges = [{ key = "fee", price = { type = "flat", amount = 3 } }]

[[coupons]]
key = "welcome"
percent = 10
duration = "recurring"
invoices = 3
plans = ["team"]
redeem_until = 2026-12-31

[[customers]]
key = "acme"
currency = "USD"
zone = "Europe/Berlin"

[[customers]]
key = "acme-labs"
currency = "USD"
parent = "acme"
taxes = []
grace_days = 3

[[subscriptions]]
key = "acme-team"
customer = "acme"
plan = "team"
start = 2026-05-01

[[subscriptions]]
key = "acme-support"
customer = "acme"
plan = "support"
base = "acme-team"
start = 2026-05-01

[[entitlements]]
customer = "acme"
feature = "calls"
type = "metered"
meter = "calls"
period = "P1M"
included = 1000
start = 2026-05-01

[[wallets]]
key = "acme-credit"
customer = "acme"
currency = "USD"
thresholds = [10, 50]

[[customer_rules]]
key = "everybody"
event_type = "call"
plan = "team"
currency = "USD"
"""

CHANGED = 'kind = "add-on"\ncurrency = "GBP"'


def applied(text: str, catalog: Catalog | None = None, *, prune: bool = False) -> Catalog:
    before = catalog or Catalog()
    entries = [c.entry for c in difference(before, parse_document(text), prune=prune)]
    check_stored(before, entries)
    after = with_entries(before, entries)
    check_references(after)
    return after


def told(text: str, catalog: Catalog, *, prune: bool = False) -> list[str]:
    return [str(change) for change in difference(catalog, parse_document(text), prune=prune)]


def test_every_kind_is_declared_and_written_in_its_order() -> None:
    changes = difference(Catalog(), parse_document(TEXT), prune=False)
    kinds = [change.kind for change in changes if change.kind != "seller"]
    assert kinds == sorted(kinds, key=KINDS.index)
    assert set(kinds) == set(KINDS) - {"seller"}
    catalog = applied(TEXT)
    assert catalog.taxes["vat"] == Tax(key="vat", name="vat", rate=Decimal(19))
    assert format_us(catalog.coupons["welcome"].redeem_until_us or 0) == "2026-12-31T00:00:00Z"
    feature = catalog.entitlements["acme:calls"]
    assert format_us(feature.start_us) == "2026-04-30T22:00:00Z", "midnight in Berlin"
    assert catalog.wallets["acme-credit"].thresholds == (Decimal(10), Decimal(50))
    assert catalog.customers["acme-labs"].parent == "acme"
    assert catalog.subscriptions["acme-support"].base == "acme-team"
    assert catalog.seller.bank.iban == "DE89370400440532013000"
    plan = catalog.plan("team")
    assert format_us(plan.effective_us or 0) == "2026-01-01T00:00:00Z"
    assert plan.charges[1].shares[0].percent == Decimal("12.5")
    assert check_plan(plan_spec(plan)) == plan


def test_applied_again_nothing_changes_pruned_everything_is_archived_and_comes_back() -> None:
    catalog = applied(TEXT)
    assert told(TEXT, catalog, prune=True) == []
    with pytest.raises(Conflict, match="the seller refers to tax 'vat', which is archived"):
        applied("", catalog, prune=True)
    seller = '[seller]\nname = "Example Ltd"\n'
    assert told(seller, catalog, prune=True)[-1] == "archive tax vat"
    archived = applied(seller, catalog, prune=True)
    kept = [key for kind in KINDS for key in archived.keys(kind) if archived.live(kind, key)]
    assert kept == ["seller"]
    assert told(TEXT, archived)[1] == "restore tax vat"
    assert applied(TEXT, archived) == catalog


@pytest.mark.parametrize(
    ("old", "new", "change"),
    [
        ("rate = 19", "rate = 20", 'update tax vat (rate: "19" -> "20")'),
        ("percent = 10\n", "percent = 15\n", 'update coupon welcome (percent: "10" -> "15")'),
        ("included = 1000", "included = 9", "update entitlement acme:calls"),
        ("[10, 50]", "[10]", "update wallet acme-credit"),
        ('length = "P14D"', 'length = "P7D"', "new-version plan team"),
        ("EUR = 45", "EUR = 44", "new-version plan team"),
        ("grace_days = 3", "grace_days = 4", "update customer acme-labs (grace_days: 3 -> 4)"),
    ],
)
def test_a_change_of_each_kind_is_told(old: str, new: str, change: str) -> None:
    assert old in TEXT
    (found,) = told(TEXT.replace(old, new), applied(TEXT))
    assert found.startswith(change)


def test_a_long_difference_is_shortened() -> None:
    (line,) = told(TEXT.replace("amount = 10 }", "amount = 11 }"), applied(TEXT))
    assert line.endswith("...)")


def test_a_plan_keeps_currency_and_kind() -> None:
    catalog = applied(TEXT)
    with pytest.raises(Conflict, match=r"under currencies\.GBP") as caught:
        told(TEXT.replace('kind = "add-on"\ncurrency = "USD"', CHANGED), catalog)
    assert caught.value.field == "currency"
    with pytest.raises(Conflict, match="support is of kind add-on for good"):
        told(TEXT.replace('kind = "add-on"', 'kind = "plan"'), catalog)


def test_what_was_decided_about_a_subscription_outlives_an_apply() -> None:
    catalog = applied(TEXT)
    known = catalog.subscriptions["acme-team"]
    later = known.start_us + 10**12
    decided = PlanChange(at_us=later, recorded_us=1, plan="team", plan_version=1)
    amended = msgspec.structs.replace(known, amendments=(decided,))
    (change,) = [c for c in [change_of(catalog, amended)] if c is not None]
    catalog = with_entries(catalog, [change.entry])
    assert catalog.subscriptions["acme-team"].amendments == (decided,)
    assert told(TEXT, catalog) == []
    ended = 'plan = "team"\nstart = 2026-05-01\nend = 2026-09-01'
    after = applied(TEXT.replace('plan = "team"\nstart = 2026-05-01', ended), catalog)
    assert after.subscriptions["acme-team"].amendments == (decided,)
    assert after.subscriptions["acme-team"].end_us is not None


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ('[[taxes]]\nkey = "vat"\nrate = 7', "taxes: 'vat' is there twice"),
        ('[[coupons]]\nkey = "welcome"\npercent = 7', "coupons: 'welcome' is there twice"),
        ('[[subscriptions]]\nkey = "acme-team"\ncustomer = "acme"\nplan = "team"\nstart = "x"',
         "subscriptions: 'acme-team' is there twice"),
        ('[[entitlements]]\ncustomer = "acme"\nfeature = "calls"\ntype = "boolean"\nstart = "x"',
         "entitlements: 'acme:calls' is there twice"),
        ('[[wallets]]\nkey = "acme-credit"\ncustomer = "acme"\ncurrency = "USD"', "there twice"),
        ("#" * DOCUMENT_CHARS_MAX, "longer than"),
    ],
)  # fmt: skip
def test_nothing_is_declared_twice(more: str, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        parse_document(TEXT + more)


def test_an_entitlement_of_nobody_is_refused() -> None:
    more = '[[entitlements]]\ncustomer = "x"\nfeature = "f"\ntype = "boolean"\nstart = 2026-01-01'
    with pytest.raises(Conflict, match="entitlement f refers to customer 'x'"):
        told(TEXT + more, Catalog())


def test_showing_applying_and_writing_one_thing() -> None:
    store = MemoryCatalog()
    document = parse_document(TEXT)
    shown = plan_apply(store, "t", document)
    assert store.load("t").taxes == {}, "shown, not written"
    assert apply(store, "t", document) == shown
    version = store.version()
    assert apply(store, "t", document) == []
    assert store.version() == version, "nothing is written where nothing differs"
    raised = Tax(key="vat", name="vat", rate=Decimal(20))
    assert [str(c) for c in put(store, "t", [raised])] == ['update tax vat (rate: "19" -> "20")']
    assert put(store, "t", [raised]) == []
    with pytest.raises(Conflict, match="the seller refers to tax"):
        put(store, "t", [Archive("tax", "vat")])
    (archived,) = put(store, "t", [Archive("coupon", "welcome")])
    assert archived.action == "archive"
    assert put(store, "t", [Archive("coupon", "welcome")]) == []
    assert entry_kind(archived.entry) == "coupon"


def test_every_example_of_the_guide_applies() -> None:
    examples = re.findall(r"```toml\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(examples) == 4
    catalog = applied("\n".join(examples))
    assert told("\n".join(examples), catalog, prune=True) == []
    for kind in KINDS:
        assert catalog.keys(kind), kind
