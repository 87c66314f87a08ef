"""The pages of webhooks: looked at and used as a person would."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tallybook.deliver.delivery import Answer, Tried
from tallybook.deliver.flow import fan_out, put_on_record, take
from tests.support.api import Api
from tests.support.browser import Browser


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with Api(tmp_path) as made:
        yield made


def add(browser: Browser, url: str = "https://example.com/x", **form: str) -> str:
    fields = {"url": url, "kinds": "*", "customers": "", "description": ""} | form
    page = browser.post("/webhooks", browser.get("/webhooks").hidden() | fields)
    assert page.status == 200, page.text
    assert "whsec_" in page.text
    return page.text.partition('class="button" href="/webhooks/')[2].partition('"')[0]


def press(browser: Browser, page: str, action: str, **form: str) -> str:
    """Press a button of a page, and confirm where that is asked; return where it leads."""
    answer = browser.post(action, browser.get(page).hidden() | form)
    if 'name="confirmed"' in answer.text:
        answer = browser.post(action, answer.hidden() | form)
    return answer.place or answer.text


def test_an_endpoint_is_added_and_its_secret_is_shown_once(api: Api):
    browser = Browser(api, ["admin"])
    assert "Nobody is told anything" in browser.get("/webhooks").text
    name = add(browser, description="books", kinds="invoice.* key.created", customers="acme")
    listed = browser.get("/webhooks").text
    assert "https://example.com/x" in listed
    assert "whsec_" not in listed
    page = browser.get(f"/webhooks/{name}").text
    assert "books" in page
    assert "invoice.*" in page
    assert "acme" in page
    assert "whsec_" not in page


def test_a_form_that_is_wrong_is_shown_again(api: Api):
    browser = Browser(api, ["admin"])
    hidden = browser.get("/webhooks").hidden()
    form = {"url": "https://127.0.0.1/", "kinds": "*", "customers": "", "description": "mine"}
    page = browser.post("/webhooks", hidden | form)
    assert page.status == 400
    assert "not a public address" in page.text
    assert 'value="mine"' in page.text


def test_a_delivery_is_tested_looked_at_and_sent_again(api: Api):
    browser = Browser(api, ["admin"])
    name = add(browser)
    place = press(browser, f"/webhooks/{name}", f"/webhooks/{name}/test")
    assert "None yet." in browser.get(place).text
    post, now = api.world.post, api.clock.now
    fan_out(post, now, 10)
    parcels = take(post, ("default", name), now, 9, now + 9, "me")
    bad = Answer(outcome="failed", code=500, text="<b>no</b>", error="it answered 500")
    tries = [Tried(parcel=p, at_us=now, took_us=5000, answer=bad, fraction=0.5) for p in parcels]
    put_on_record(post, tries, now, 5)
    page = browser.get(place)
    assert "it answered 500" in page.text
    assert "<b>no</b>" not in page.html
    assert "retrying" in page.text
    assert "in a row failed since" in browser.get(f"/webhooks/{name}").text
    press(browser, place, f"{place}/replay")
    assert "pending" in browser.get(place).text
    shown = browser.get(f"/webhooks/{name}?show=delivered").text
    assert "No deliveries" in shown
    assert "webhook.test" in browser.get(f"/webhooks/{name}?show=on+their+way").text


def test_an_endpoint_is_disabled_enabled_given_a_secret_and_removed(api: Api):
    browser = Browser(api, ["admin"])
    name = add(browser)
    at = f"/webhooks/{name}"
    press(browser, at, f"{at}/switch", enabled="no")
    assert "disabled by hand" in browser.get(at).text
    press(browser, at, f"{at}/switch", enabled="yes")
    assert "disabled by hand" not in browser.get(at).text
    assert "whsec_" in press(browser, at, f"{at}/rotate")
    assert "signs too until" in browser.get(at).text
    assert press(browser, at, f"{at}/replay", since="2026-01-01") == at
    assert press(browser, at, f"{at}/remove") == "/webhooks"
    assert browser.get(at).status == 404


def test_who_may_read_changes_nothing(api: Api):
    name = add(Browser(api, ["admin"]))
    reader = Browser(api, ["read"])
    page = reader.get(f"/webhooks/{name}")
    assert page.status == 200
    assert "<button>Send a test" not in page.html
    assert "Add an endpoint" not in reader.get("/webhooks").text
    for command in ("test", "rotate", "remove", "switch", "replay"):
        assert reader.post(f"/webhooks/{name}/{command}", page.hidden()).status == 403
    stranger = Browser(api, ["admin"], tenant="other")
    assert stranger.get(f"/webhooks/{name}").status == 404
