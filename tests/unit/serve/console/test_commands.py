"""What is done on pages: shown first, written once it is confirmed, and not twice."""

import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from tallybook.catalog.entitlement import Metered
from tallybook.invoice.amend import outlook
from tallybook.invoice.manifest import Extra
from tallybook.settle.prepaid.recharging import ask_for
from tallybook.settle.receivable.flow import put_extras
from tallybook.settle.request import Request
from tests.support.browser import Browser
from tests.support.sample_world import TENANT, Sample


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sample]:
    """A world that nothing is changed in."""
    made = Sample(tmp_path_factory.mktemp("kept"))
    yield made
    made.world.engine.dispose()


@pytest.fixture(scope="module")
def asker(kept: Sample) -> Browser:
    return Browser(kept, ["billing"])


@pytest.fixture
def sample(kept: Sample, tmp_path: Path) -> Iterator[Sample]:
    made = Sample(tmp_path, like=kept)
    yield made
    made.world.engine.dispose()


@pytest.fixture
def biller(sample: Sample) -> Browser:
    return Browser(sample, ["billing"])


def amendments(sample: Sample, key: str = "acme-team") -> list[str]:
    found = sample.world.catalog.load(TENANT).subscriptions[key].amendments
    return [str(type(one).__struct_config__.tag) for one in found]


def test_a_subscription_is_changed_after_a_dry_run_with_its_invoice(
    sample: Sample, biller: Browser
) -> None:
    path = "/subscriptions/acme-team"
    form = {"charge": "seats", "quantity": "8", "at": "now"}
    asked = biller.ask(f"{path}/quantity", form)
    assert "8 of seats" in asked.text
    assert "The invoice that would follow, of 2026-11-18" in asked.text
    assert amendments(sample) == []
    assert biller.confirm(f"{path}/quantity", form).place == path
    assert (
        biller.confirm(f"{path}/change", {"plan": "enterprise", "at": "period-end"}).status == 303
    )
    assert biller.confirm(f"{path}/pause", {"at": "date", "date": "2026-11-20"}).status == 303
    assert amendments(sample) == ["quantity", "plan", "pause"]
    catalog = sample.world.catalog.load(TENANT)
    subscription = catalog.subscriptions["acme-team"]
    assert str(outlook(sample.world.billing(TENANT), catalog, subscription).quantities) == (
        "{'seats': Decimal('8')}"
    )
    shown = biller.get(path).text
    assert "8 of seats" in shown
    assert "plan enterprise" in shown


def test_a_page_that_no_longer_holds_is_refused(sample: Sample, biller: Browser) -> None:
    path = "/subscriptions/acme-team/cancel"
    first = biller.ask(path, {"at": "now"}).hidden()
    assert biller.post(path, first).status == 303
    again = biller.post(path, first)
    assert (again.status, "look at it again" in again.text) == (409, True)
    assert amendments(sample) == ["cancel"]


def test_paused_and_cancelled_subscriptions_offer_the_way_back(
    sample: Sample, biller: Browser
) -> None:
    path = "/subscriptions/borealis-team"
    biller.confirm(f"{path}/pause", {"at": "now"})
    assert f"{path}/resume" in biller.get(path).html
    biller.confirm(f"{path}/resume", {"at": "now"})
    biller.confirm(f"{path}/cancel", {"at": "period-end", "credit": "yes"})
    assert f"{path}/uncancel" in biller.get(path).html
    biller.confirm(f"{path}/uncancel", {})
    assert amendments(sample, "borealis-team") == ["pause", "resume", "cancel", "uncancel"]


@pytest.mark.parametrize(
    ("command", "form", "status"),
    [
        ("dance", {}, 404),
        ("quantity", {"charge": "seats", "quantity": "many"}, 400),
        ("quantity", {"charge": "seats", "quantity": "NaN"}, 400),
        ("quantity", {"quantity": "1"}, 400),
        ("change", {"plan": "team@x"}, 400),
        ("change", {"plan": "team@9"}, 409),
        ("cancel", {"at": "date"}, 400),
        ("cancel", {"at": "soon"}, 400),
        ("resume", {}, 409),
        ("pause", {"at": "x" * 501}, 400),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_asked(
    kept: Sample, asker: Browser, command: str, form: dict[str, str], status: int
) -> None:
    assert asker.ask(f"/subscriptions/acme-team/{command}", form).status == status
    assert amendments(kept) == []


def test_a_payment_is_recorded_once_however_often_it_is_sent(
    sample: Sample, biller: Browser
) -> None:
    number = sample.numbers["acme"]
    start = biller.get(f"/payments/new?invoice={number}")
    assert 'value="221.23"' in start.html
    form = {"customer": "acme", "amount": "21.23", "method": "card", "invoice": number,
            "once": start.hidden()["once"], "received": "2026-11-17"}  # fmt: skip
    asked = biller.ask("/payments", form)
    assert "EUR 21.23" in asked.text
    first = biller.post("/payments", asked.hidden())
    second = biller.post("/payments", asked.hidden())
    assert (first.status, first.place) == (303, second.place)
    assert sample.world.invoices.invoice(TENANT, number).head.open_minor == 20_000
    assert "card" in biller.get(first.place).text
    taken = biller.confirm(f"{first.place}/reverse", {"reason": "charge-back"})
    assert taken.place == first.place
    assert "charge-back" in biller.get(first.place).text
    assert sample.world.invoices.invoice(TENANT, number).head.open_minor == 22_123


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"amount": "abc"}, "must be a number"),
        ({"amount": "1.234"}, "at most 2 decimals"),
        ({"amount": "1", "customer": "nobody"}, "no customer"),
        ({"amount": "1", "received": "2030-01-01"}, "not in the future"),
        ({"amount": "1", "invoice": "INV-000009", "confirmed": "yes"}, "INV-000009"),
    ],
)
def test_a_wrong_payment_shows_the_form_again_with_what_was_written(
    asker: Browser, fields: dict[str, str], says: str
) -> None:
    form = {"customer": "acme", "method": "card", "once": "o"} | fields
    found = asker.ask("/payments", form)
    assert (found.status, says in found.text) == (400, True), found.text


def test_a_wallet_is_topped_up_once(sample: Sample, biller: Browser) -> None:
    path = "/wallets/borealis-prepaid"
    once = biller.get(path).hidden()["once"]
    form = {"amount": "25", "method": "card", "once": once, "expires": "2027-12-31"}
    asked = biller.ask(f"{path}/top-ups", form)
    assert "EUR 25.00" in asked.text
    assert biller.post(f"{path}/top-ups", asked.hidden()).place == path
    assert biller.post(f"{path}/top-ups", asked.hidden()).place == path
    wallet = sample.world.catalog.load(TENANT).wallets["borealis-prepaid"]
    purse = sample.world.wallets.purses(TENANT, [wallet])["borealis-prepaid"]
    assert len(purse.top_ups) == 2
    free = {"amount": "1", "free": "yes", "once": "other"}
    assert "free of charge" in biller.ask(f"{path}/top-ups", free).text
    wrong = biller.ask(f"{path}/top-ups", {"amount": "-3", "once": "n"})
    assert (wrong.status, 'value="-3"' in wrong.html) == (400, True)


def test_a_credit_note_is_estimated_issued_and_voided(sample: Sample, biller: Browser) -> None:
    path = f"/invoices/{sample.numbers['acme']}/credit"
    assert "Take back" in biller.get(path).text
    form = {"line-4": "12.00", "line-7": "all", "reason": "Wrong seats", "rest": "refund"}
    asked = biller.ask(path, form)
    assert "Line 4: Seats" in asked.text
    done = biller.post(path, asked.hidden())
    assert done.status == 303
    assert "Wrong seats" in biller.get(done.place).text
    assert biller.post(path, asked.hidden()).status == 400
    assert biller.confirm(f"{done.place}/void", {}).place == done.place
    small = biller.ask(path, {"line-5": "1.00", "reason": "r"}).hidden()
    assert biller.post(path, small).status == 303
    stale = biller.post(path, small)
    assert (stale.status, "look at it again" in stale.text) == (400, True)
    for wrong in ({"reason": "r"}, {"line-1": "x", "reason": "r"}, {"what": "everything"}):
        assert biller.ask(path, wrong).status == 400


def test_invoices_are_voided_reissued_and_written_off(sample: Sample, biller: Browser) -> None:
    newest = sample.first("acme")
    asked = biller.ask(f"/invoices/{newest}/reissue", {})
    assert "EUR 793.80" in asked.text
    made = biller.confirm(f"/invoices/{newest}/reissue", {})
    replaced = biller.get(made.place).text
    assert f"Issued in place of {newest}" in " ".join(_words(replaced).split())
    voided = biller.get(f"/invoices/{newest}")
    assert "Reissue" in voided.text
    assert biller.confirm(f"{made.place}/write-off", {}).place == made.place
    assert "uncollectible" in biller.get(made.place).text
    assert biller.confirm(f"{made.place}/void", {}).place == made.place
    assert biller.ask(f"/invoices/{newest}/dance", {}).status == 404
    refused = biller.ask(f"/invoices/{sample.numbers['acme']}/void", {"confirmed": "yes"})
    assert refused.status == 409


def _words(text: str) -> str:
    return re.sub(r"<[^>]*>", "", text)


def test_drafts_are_refreshed_finalized_and_discarded(sample: Sample, biller: Browser) -> None:
    draft = sample.numbers["draft"]
    assert biller.ask(f"/invoices/{draft}/refresh", {}).place == f"/invoices/{draft}"
    assert "Finalize draft?" in biller.ask(f"/invoices/{draft}/finalize", {}).text
    made = biller.confirm(f"/invoices/{draft}/finalize", {})
    assert made.place.startswith("/invoices/INV-")
    sample.run("2026-10")
    assert biller.get("/drafts").status == 200


def test_a_discarded_draft_is_gone(sample: Sample, biller: Browser) -> None:
    draft = sample.numbers["draft"]
    assert biller.confirm(f"/invoices/{draft}/discard", {}).place == "/drafts"
    assert "No drafts" in biller.get("/drafts").text


def test_coupons_are_redeemed_and_taken_away(sample: Sample, biller: Browser) -> None:
    asked = biller.ask("/customers/group-north/redeem", {"coupon": "launch"})
    assert "Conglomerate Group's, which pays for it" in asked.text
    assert biller.confirm("/customers/borealis/redeem", {"coupon": "launch"}).status == 303
    page = biller.get("/customers/borealis")
    assert "on 0 of 3 invoices" in page.text
    taken = page.hidden()["redemption"]
    assert biller.confirm("/customers/borealis/withdraw", {"redemption": taken}).status == 303
    assert "taken away" in biller.get("/customers/borealis").text
    assert biller.ask("/customers/borealis/redeem", {"coupon": "none"}).status == 404


def test_a_billing_run_is_asked_for_after_it_is_confirmed(sample: Sample, biller: Browser) -> None:
    assert "everything used so far" in biller.ask("/invoices/bill", {}).text
    assert "ends in 2026-10" in biller.ask("/invoices/bill", {"period": "2026-10"}).text
    assert biller.ask("/invoices/bill", {"period": "october"}).status == 400
    assert not sample.world.jobs.listed(TENANT, "billing-run", 5)
    assert biller.confirm("/invoices/bill", {"period": "2026-10"}).place == "/runs"
    assert biller.confirm("/invoices/bill", {}).place == "/runs"
    assert len(sample.world.jobs.listed(TENANT, "billing-run", 5)) == 2
    assert "A billing run is queued" in biller.get("/runs").text


def test_a_price_and_the_start_of_periods_are_changed(sample: Sample, biller: Browser) -> None:
    path = "/subscriptions/acme-team"
    form = {"charge": "calls", "price": '{"type":"unit","unit_amount":"0.5"}', "at": "period-end"}
    asked = biller.ask(f"{path}/price", form)
    assert amendments(sample) == []
    assert "Change a price of acme-team?" in asked.text
    assert biller.confirm(f"{path}/price", form).place == path
    assert biller.confirm(f"{path}/price", {"charge": "calls", "at": "period-end"}).status == 303
    move = {"anchor": "2026-12-15", "zone": "Europe/Berlin", "at": "period-end"}
    assert biller.confirm(f"{path}/anchor", move).status == 303
    assert amendments(sample) == ["price", "price", "anchor"]
    page = biller.get(path).html
    for name in ("price", "anchor"):
        assert f'action="{path}/{name}"' in page
    for wrong in ("{", "[]", '{"type":"free"}'):
        refused = biller.ask(f"{path}/price", {"charge": "calls", "price": wrong})
        assert refused.status == 400, refused.text
    assert biller.ask(f"{path}/anchor", {"anchor": "soon", "zone": "UTC"}).status == 400


def test_subscriptions_of_a_plan_are_moved_after_a_dry_run(sample: Sample, biller: Browser) -> None:
    assert 'action="/plans/team/migrate"' in biller.get("/plans/team").html
    form = {"version": "", "at": "period-end"}
    asked = biller.ask("/plans/team/migrate", form)
    assert "Would move" in asked.text
    assert "acme-team" in asked.text
    assert amendments(sample) == []
    assert biller.post("/plans/team/migrate", asked.hidden()).place == "/plans/team"
    stale = biller.post("/plans/team/migrate", asked.hidden())
    assert stale.status in {303, 409}
    assert biller.ask("/plans/team/migrate", {"version": "x"}).status == 400
    assert biller.ask("/plans/nothing/migrate", form).status == 404


def test_a_charge_that_waits_is_withdrawn(sample: Sample, biller: Browser) -> None:
    settling = sample.world.settling(TENANT)
    extra = Extra(id="ext_form", name="Visit", amount=Decimal(40), start_us=1, end_us=2)
    put_extras(settling, "acme", [extra])
    assert 'value="ext_form"' in biller.get("/customers/acme").html
    form = {"charge": "ext_form"}
    asked = biller.ask("/customers/acme/charges", form)
    assert ("Withdraw Visit?" in asked.text, "EUR 40" in asked.text) == (True, True)
    assert biller.post("/customers/acme/charges", asked.hidden()).place == "/customers/acme"
    assert biller.post("/customers/acme/charges", asked.hidden()).status == 404
    assert "ext_form" not in biller.get("/customers/acme").html
    assert biller.ask("/customers/acme/charges", {"charge": "nothing"}).status == 404


def test_credit_is_paid_out_once_however_often_it_is_sent(sample: Sample, biller: Browser) -> None:
    pay_in = {"customer": "borealis", "amount": "5000", "method": "card", "once": "a"}
    biller.confirm("/payments", pay_in)
    page = biller.get("/customers/borealis")
    assert 'action="/customers/borealis/refunds"' in page.html
    form = {"amount": "10.50", "method": "bank-transfer", "reference": "r1", "once": "b"}
    asked = biller.ask("/customers/borealis/refunds", form)
    assert "10.50" in asked.text
    first = biller.post("/customers/borealis/refunds", asked.hidden())
    second = biller.post("/customers/borealis/refunds", asked.hidden())
    assert (first.status, first.place) == (303, second.place)
    assert "Refund" in biller.get(first.place).text
    refunds = [
        one for one in sample.world.settlements.payments(TENANT, limit=99) if one.kind == "refund"
    ]
    assert [one.amount_minor for one in refunds] == [1050]
    beyond = form | {"amount": "1000000", "once": "c"}
    assert biller.confirm("/customers/borealis/refunds", beyond).status == 400


def metered(sample: Sample) -> tuple[str, str]:
    catalog = sample.world.catalog.load(TENANT)
    return next(
        (one.key, one.customer)
        for one in catalog.entitlements.values()
        if isinstance(one.access, Metered)
    )


def test_more_of_a_feature_is_granted_once(sample: Sample, biller: Browser) -> None:
    key, customer = metered(sample)
    path = f"/customers/{customer}"
    assert f'action="{path}/grants"' in biller.get(path).html
    form = {"entitlement": key, "amount": "500", "expires_after": "P30D", "once": "a"}
    before = len(sample.world.entitlements.facts(TENANT, [key])[key].grants)
    asked = biller.ask(f"{path}/grants", form)
    assert "P30D" in asked.text
    for _ in range(2):
        assert biller.post(f"{path}/grants", asked.hidden()).place == path
    assert len(sample.world.entitlements.facts(TENANT, [key])[key].grants) == before + 1
    for wrong, status in (
        ({"amount": "0"}, 400),
        ({"entitlement": "nothing"}, 404),
        ({"expires_after": "soon"}, 400),
    ):
        assert biller.ask(f"{path}/grants", form | wrong).status == status


def test_a_recharge_is_said_to_be_paid_or_failed(sample: Sample, biller: Browser) -> None:
    wallet = sample.world.catalog.load(TENANT).wallets["borealis-prepaid"]
    for number in (1, 2):
        asked = Request(
            wallet=wallet.key,
            customer=wallet.customer,
            key=f"recharge-{number}",
            amount=Decimal(25),
            cost_minor=2500,
            asked_us=sample.world.clock.now_us(),
        )
        with sample.world.wallets.transaction(TENANT) as transaction:
            ask_for(transaction, transaction.purse(wallet), asked)
    page = "/wallets/borealis-prepaid"
    assert "requested" in biller.get(page).text
    assert biller.confirm(f"{page}/recharges/recharge-1", {"outcome": "paid"}).place == page
    gone = {"outcome": "failed", "reference": "card declined"}
    assert biller.confirm(f"{page}/recharges/recharge-2", gone).place == page
    shown = biller.get(page).text
    assert ("paid" in shown, "card declined" in shown) == (True, True)
    states = [
        one.state for one in sample.world.wallets.purses(TENANT, [wallet])[wallet.key].requests
    ]
    assert states == ["paid", "failed"]
    assert biller.confirm(f"{page}/recharges/recharge-2", {"outcome": "paid"}).status == 400
