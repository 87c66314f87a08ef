"""What catalog.toml means, what an apply would change, and what it refuses."""

import msgspec
import pytest

from tallybook.catalog.catalog import Archive, Catalog, with_entries
from tallybook.catalog.change import change_of, difference
from tallybook.catalog.check import check_references
from tallybook.catalog.document import parse_document
from tallybook.catalog.rule import CustomerRule, check_rule, customer_key, follow
from tallybook.kernel.errors import Conflict, Invalid, Missing
from tallybook.kernel.timestamps import format_us

TEXT = """
[seller]
name = "Example Ltd"
address = ["1 High Street", "London"]

[[meters]]
key = "requests"
event_type = "http.server.request"
aggregation = "COUNT"
group_by = { status = "$.status" }

[prices.steps]
type = "graduated"
tiers = [{ up_to = 100, unit_amount = "0.01" }, { unit_amount = 0.005 }]

[[plans]]
key = "web"
currency = "USD"

  [[plans.charges]]
  key = "requests"
  meter = "requests"
  price = "steps"
  split_by = "status"

  [[plans.charges]]
  key = "fee"
  timing = "advance"
  price = { type = "flat", amount = "9.90" }

[[customers]]
key = "acme"
name = "Acme GmbH"
currency = "USD"
zone = "Europe/Berlin"
locale = "de_DE"
subjects = ["10.0.0.1", { subject = "10.0.0.2", start = 2026-05-01, end = "2026-06-01" }]

[[subscriptions]]
key = "acme-web"
customer = "acme"
plan = "web"
start = 2026-05-01

[[customer_rules]]
key = "addresses"
event_type = "http.server.request"
plan = "web"
currency = "USD"
"""


def applied(text: str, catalog: Catalog | None = None, *, prune: bool = False) -> Catalog:
    before = catalog or Catalog()
    changes = difference(before, parse_document(text), prune=prune)
    after = with_entries(before, [change.entry for change in changes])
    check_references(after)
    return after


def actions(text: str, catalog: Catalog, *, prune: bool = False) -> list[str]:
    changes = difference(catalog, parse_document(text), prune=prune)
    return [f"{change.action} {change.kind} {change.key}" for change in changes]


def test_everything_is_made_in_an_order_that_can_be_written() -> None:
    assert actions(TEXT, Catalog()) == [
        "update seller seller",
        "create meter requests",
        "create plan web",
        "create customer acme",
        "create subscription acme-web",
        "create rule addresses",
    ]
    catalog = applied(TEXT)
    start = catalog.subscriptions["acme-web"].start_us
    assert format_us(start) == "2026-04-30T22:00:00Z", "midnight in Berlin"
    assert format_us(catalog.customers["acme"].subjects[1].end_us or 0) == "2026-05-31T22:00:00Z"


def test_an_apply_is_idempotent() -> None:
    assert actions(TEXT, applied(TEXT)) == []


def test_a_changed_price_is_a_new_version_and_the_old_one_stays() -> None:
    catalog = applied(TEXT)
    dearer = TEXT.replace('"0.01"', '"0.02"')
    assert actions(dearer, catalog) == ["new-version plan web"]
    after = applied(dearer, catalog)
    assert [plan.version for plan in after.plans["web"]] == [1, 2]
    assert after.plan("web", 1) == catalog.plan("web")


def test_a_changed_meter_is_a_new_version_but_its_name_is_not() -> None:
    catalog = applied(TEXT)
    status = 'aggregation = "COUNT"\nfilter = {"$.status" = ["200"]}'
    corrected = TEXT.replace('aggregation = "COUNT"', status)
    assert actions(corrected, catalog) == ["new-version meter requests"]
    named = TEXT.replace('aggregation = "COUNT"', 'aggregation = "COUNT"\nname = "Requests"')
    assert actions(named, catalog) == ["update meter requests"]
    assert applied(named, catalog).meter("requests").version == 1


def test_absence_never_deletes_and_prune_archives() -> None:
    catalog = applied(TEXT)
    assert actions("", catalog) == []
    assert actions("", catalog, prune=True) == [
        "archive rule addresses",
        "archive subscription acme-web",
        "archive customer acme",
        "archive plan web",
        "archive meter requests",
    ]
    pruned = applied("", catalog, prune=True)
    assert pruned.live_meters() == []
    assert actions(TEXT, pruned)[0] == "restore meter requests"
    assert applied(TEXT, pruned) == catalog


def test_prune_keeps_what_a_living_rule_made() -> None:
    catalog = applied(TEXT)
    customer, subscription = follow(catalog.rules["addresses"], "10.9.9.9", 0)
    grown = with_entries(catalog, [customer, subscription])
    assert actions(TEXT, grown, prune=True) == []
    renamed = msgspec.structs.replace(customer, name="Renamed", rule="")
    assert change_of(grown, msgspec.structs.replace(subscription, rule="")) is None
    change = change_of(grown, renamed)
    assert change is not None
    edited = with_entries(grown, [change.entry])
    assert edited.customers[customer.key].name == "Renamed"
    assert actions(TEXT, edited, prune=True) == [], "who was edited stays the rule's"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('plan = "web"\nstart', 'plan = "gold"\nstart', "plan 'gold', which is not there"),
        ('meter = "requests"', 'meter = "calls"', "meter 'calls', which is not there"),
        ('split_by = "status"', 'split_by = "region"', "no dimension 'region'"),
        ('customer = "acme"', 'customer = "ben"', "customer 'ben', which is not there"),
        ('currency = "USD"\nzone', 'currency = "EUR"\nzone', "acme-web is in EUR, but plan web"),
    ],
)
def test_a_catalog_that_contradicts_itself_is_refused(old: str, new: str, message: str) -> None:
    assert old in TEXT
    with pytest.raises(Conflict, match=message):
        applied(TEXT.replace(old, new))


def test_a_subject_has_one_customer_at_a_time() -> None:
    other = '\n[[customers]]\nkey = "ben"\ncurrency = "USD"\nsubjects = [{subject="10.0.0.2"%s}]\n'
    with pytest.raises(Conflict, match=r"'10\.0\.0\.2' belongs to"):
        applied(TEXT + other % ', start="2026-05-31"')
    applied(TEXT + other % ', start="2026-06-01T00:00:00+02:00"')


def test_a_plan_keeps_its_currency() -> None:
    with pytest.raises(Conflict, match="is in USD"):
        difference(applied(TEXT), parse_document(TEXT.replace('"USD"', '"EUR"')), prune=False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[meters]", "not TOML"),
        ("[[meter]]\nkey='a'", "unknown field"),
        (TEXT.replace('"steps"', '"stairs"'), "no price named 'stairs'"),
        (TEXT.replace('timing = "advance"', 'timing = "now"'), "catalog.toml"),
        (TEXT.replace('  meter = "requests"\n', ""), "needs meter"),
        (TEXT + '[[customers]]\nkey="acme"\ncurrency="USD"', "there twice"),
    ],
)
def test_a_document_that_is_wrong_says_where(text: str, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        parse_document(text)


def test_a_rule_gives_every_subject_one_key() -> None:
    rule = CustomerRule(
        key="r", event_type="t", plan="p", currency="JPY", customer_key="ip-{subject}"
    )
    assert customer_key(rule, "::1") == "ip-::1"
    odd, other = customer_key(rule, "a b"), customer_key(rule, "a/b")
    assert odd.startswith("ip-a-b-")
    assert odd != other
    customer, subscription = follow(rule, "10.0.0.1", 1431829000_000_000)
    assert (customer.key, subscription.customer) == ("ip-10.0.0.1", "ip-10.0.0.1")
    assert format_us(subscription.start_us) == "2015-05-01T00:00:00Z"
    with pytest.raises(Invalid, match="subject"):
        check_rule(CustomerRule(key="r", event_type="t", plan="p", currency="USD", name="x"))


def test_archiving_what_is_not_there_is_refused() -> None:
    with pytest.raises(Missing):
        change_of(Catalog(), Archive("plan", "web"))
