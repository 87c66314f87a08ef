"""Every page as it is seen by one who bills, by a reader, by another tenant, by nobody."""

import re
from collections.abc import Iterator

import pytest

from tests.support.browser import Browser
from tests.support.sample_world import OTHER, Sample

WORDS = {
    "/": ("Open receivables", "Recurring a month", "Overdue", "946.90"),
    "/system": ("Lake",),
    "/meters": ("API calls",),
    "/meters/calls?by=region": ("eu",),
    "/quarantine": ("Nothing here",),
    "/customers": ("Acme Rockets SARL", "overdue", "Prospect without a plan"),
    "/customers?find=rocket": ("Acme Rockets SARL",),
    "/customers?find=zzz": ("Nobody found",),
    "/customers/acme": ("api-calls", "of 20", "Launch offer", "on 2 of 3 invoices", "acme-team"),
    "/customers/group": ("Conglomerate North", "Pays for", "invoices to come"),
    "/customers/group-north": ("Conglomerate Group", "pays"),
    "/customers/borealis": ("borealis-prepaid",),
    "/customers/prospect": ("No subscriptions", "No invoices yet", "No wallets"),
    "/subscriptions": ("acme-team", "added to acme-team"),
    "/subscriptions?show=paused": ("No subscriptions here",),
    "/subscriptions?customer=acme&plan=team": ("acme-team",),
    "/subscriptions/acme-team": ("Present period", "The next invoice", "Nothing since it began"),
    "/subscriptions/north": ("that of Conglomerate Group", "at least 500 EUR"),
    "/wallets": ("borealis-prepaid", "dragon-units"),
    "/wallets/borealis-prepaid": ("Statement", "topped up", "paid", "to 100 EUR"),
    "/wallets/dragon-units": ("token", "free"),
    "/plans": ("Backup add-on", "add-on", "EUR, USD"),
    "/plans/team": ("Trial", "for 14 days", "Ramp-up", "for a quarter", "Afterwards", "1,000 EUR"),
    "/plans/enterprise?currency=USD": ("270 USD", "Minimum commitment: at least 550 USD"),
    "/plans/backup?version=1": ("is not the newest", "19.9 EUR"),
    "/taxes": ("Reverse charge", "VAT is owed by the recipient", "19 %"),
    "/coupons": ("20 % off, each of 3 invoices", "50 EUR off, until it is used up"),
    "/invoices": ("INV-000001", "overdue", "1 draft waiting"),
    "/invoices?show=void": ("No void invoices",),
    "/invoices?customer=acme": ("of", "acme"),
    "/invoices/{acme}?check=1": ("VAT 19 %", "Launch offer", "byte for byte the same"),
    "/invoices/{group}": ("Conglomerate South", "commitment", "By customer", "Reverse charge 0 %"),
    "/invoices/{borealis}": ("Prepaid from borealis-prepaid", "Payable"),
    "/invoices/{dragon}": ("uncollectible", "token"),
    "/invoices/{draft}": ("Draft for Waiting Room Ltd.", "Becomes an invoice by itself"),
    "/invoices/{acme}/lines/1": ("How it came about", "Coupons", "Tax vat"),
    "/invoices/{acme}/lines/5": ("the very events",),
    "/invoices/{draft}/lines/1": ("How it came about",),
    "/drafts": ("Waiting Room Ltd.", "595.00"),
    "/drafts?customer=acme": ("No drafts",),
    "/runs": ("2026-10", "Parked"),
    "/runs/{run}": ("parker", "no cell of the matrix", "Drafts"),
    "/payments": ("bank-transfer", "INV-000001"),
    "/payments?customer=dragon": ("No payments yet",),
    "/payments/{payment}": ("Where it went", "100.00"),
    "/credit-notes": ("CN-000001",),
    "/credit-notes?customer=dragon": ("No credit notes yet",),
    "/credit-notes/{note}?check=1": ("One region was unreachable", "byte for byte the same"),
    "/ledger": ("what customers owe", "bad-debt", "both sides are equal"),
    "/ledger?kind=receivable": ("acme",),
    "/ledger?kind=nothing": ("Nothing was posted",),
    "/ledger/entries": ("receivable:acme", "revenue:acme"),
    "/ledger/entries?account=tax:vat": ("tax:vat",),
    "/ledger/entries?document=none": ("No entries here",),
    "/audit": ("Nothing is proved yet",),
    "/audit?check=all": ("Every invoice, payment, credit", "Every event is billed"),
}
"""Page -> what it says; names in braces are of `Sample.numbers`."""

BILLING_PAGES = ("/payments/new", "/payments/new?invoice={acme}", "/invoices/{acme}/credit")
FORMS = (
    "/invoices/bill",
    "/invoices/{acme}/void",
    "/invoices/{acme}/credit",
    "/payments",
    "/payments/{payment}/reverse",
    "/credit-notes/{note}/void",
    "/customers/acme/redeem",
    "/customers/acme/withdraw",
    "/subscriptions/acme-team/cancel",
    "/wallets/borealis-prepaid/top-ups",
)
FOREIGN = (
    "/customers/stranger",
    "/subscriptions/stranger-sub",
    "/plans/secret-plan",
    "/wallets/stranger-wallet",
)
SECRETS = ("tranger", "secret-plan", "Nobody else")


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sample]:
    made = Sample(tmp_path_factory.mktemp("sample"))
    yield made
    made.world.engine.dispose()


@pytest.fixture(scope="module")
def reader(sample: Sample) -> Browser:
    return Browser(sample, ["read"])


@pytest.fixture(scope="module")
def stranger(sample: Sample) -> Browser:
    return Browser(sample, ["admin"], OTHER)


@pytest.fixture(scope="module")
def biller(sample: Sample) -> Browser:
    return Browser(sample, ["billing"])


def paths(sample: Sample) -> dict[str, str]:
    runs = sample.world.invoices.runs("default", limit=9)
    return sample.numbers | {"run": runs[-1].id}


@pytest.mark.parametrize("page", WORDS)
def test_every_page_says_what_is_there(sample: Sample, biller: Browser, page: str) -> None:
    found = biller.get(page.format(**paths(sample)))
    assert found.status == 200, found.text
    assert "<script" not in found.html
    assert not re.search(r"\bNone\b(?! (redeemed|is|yet|\.))", found.text)
    for word in WORDS[page]:
        assert word in found.text, word
    for secret in SECRETS:
        assert secret not in found.text


@pytest.mark.parametrize("page", WORDS)
def test_every_page_has_landmarks_captions_and_labels(
    sample: Sample, biller: Browser, page: str
) -> None:
    text = biller.get(page.format(**paths(sample))).html
    assert text.count("<main") == text.count("<h1") == 1
    assert text.count("<table") == text.count("<caption>")
    assert '<a class="skip" href="#main">' in text
    for name in re.findall(r'<(?:input|select|textarea) id="([^"]+)"', text):
        assert f'<label for="{name}"' in text, name
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(ids) == len(set(ids)), "an id stands once"
    for head in re.findall(r"<th\b[^>]*>", text):
        assert "scope=" in head, head


@pytest.mark.parametrize("page", [*WORDS, *BILLING_PAGES])
def test_nobody_is_sent_to_the_login_page(sample: Sample, page: str) -> None:
    found = Browser(sample, None).get(page.format(**paths(sample)))
    assert (found.status, found.place.split("?")[0]) == (303, "/login")
    for secret in ("acme", "Rockets"):
        assert secret not in found.text


@pytest.mark.parametrize("page", WORDS)
def test_a_reader_sees_it_without_forms_but_signing_out(
    sample: Sample, reader: Browser, page: str
) -> None:
    found = reader.get(page.format(**paths(sample)))
    assert found.status == 200
    posts = re.findall(r'method="post" action="([^"]+)"', found.html)
    assert set(posts) == {"/logout"}, posts


@pytest.mark.parametrize("page", BILLING_PAGES)
def test_a_reader_may_not_open_the_pages_of_forms(
    sample: Sample, reader: Browser, page: str
) -> None:
    assert reader.get(page.format(**paths(sample))).status == 403


@pytest.mark.parametrize("form", FORMS)
def test_forms_need_a_token_and_the_scope(
    sample: Sample, biller: Browser, reader: Browser, form: str
) -> None:
    path = form.format(**paths(sample))
    confirmed = {"confirmed": "yes", "reason": "r", "coupon": "launch"}
    assert biller.post(path, confirmed).status == 403
    assert biller.post(path, confirmed | {"token": "guessed"}).status == 403
    assert reader.ask(path, confirmed).status == 403
    assert Browser(sample, None).post(path, confirmed).status == 303


@pytest.mark.parametrize("page", FOREIGN)
def test_nothing_of_another_tenant_is_found(biller: Browser, stranger: Browser, page: str) -> None:
    assert biller.get(page).status == 404
    assert stranger.get(page).status == 200


@pytest.mark.parametrize("page", [page for page in WORDS if "{" in page])
def test_another_tenant_finds_none_of_ours(sample: Sample, stranger: Browser, page: str) -> None:
    found = stranger.get(page.format(**paths(sample)))
    assert found.status in {200, 404}, "INV-000001 is a number of theirs too"
    assert "acme" not in found.text
    assert "Rockets" not in found.text


@pytest.mark.parametrize("form", FORMS[1:])
def test_another_tenant_changes_nothing_of_ours(
    sample: Sample, stranger: Browser, form: str
) -> None:
    before = sample.world.settlements.balances("default")
    fields = {"confirmed": "yes", "customer": "acme", "reason": "r", "coupon": "launch",
              "redemption": "red_x", "amount": "1", "once": "x", "method": "m", "seen": "0",
              "what": "everything", "creditable": "0"}  # fmt: skip
    stranger.ask(form.format(**paths(sample)), fields)
    assert sample.world.settlements.balances("default") == before
    assert not sample.world.catalog.load("default").subscriptions["acme-team"].amendments


def test_pages_carry_safe_headers_and_errors_keep_the_menu(biller: Browser) -> None:
    missing = biller.get("/invoices/INV-999999")
    assert (missing.status, "Billing runs" in missing.text) == (404, True)
    assert biller.get("/plans/team?version=x").status == 400
    assert biller.get("/plans/team?currency=JPY").status == 400
    assert biller.get("/invoices?show=nothing").status == 400
    assert biller.get("/runs/run_none").status == 404
    assert biller.get("/subscriptions/none").status == 404
    assert biller.get("/wallets/none").status == 404


def test_documents_are_offered(sample: Sample, biller: Browser) -> None:
    number, note = sample.numbers["acme"], sample.numbers["note"]
    for path, start in {
        f"/invoices/{number}.pdf": b"%PDF-",
        f"/invoices/{sample.numbers['draft']}.pdf": b"%PDF-",
        f"/credit-notes/{note}.pdf": b"%PDF-",
        f"/credit-notes/{note}.xml?xml=ubl": b"<?xml",
    }.items():
        found = biller.get(path)
        assert (found.status, found.body[:5]) == (200, start[:5]), (path, found.body[:300])
