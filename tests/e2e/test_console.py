"""The console of a real server: a month is billed, paid and credited on its pages alone."""

import json
import re
import time
from html import unescape

import httpx2
import pytest

from tallybook.admit.issue import KeySpec
from tallybook.compose import World
from tallybook.serve.api.rest.access.keys import make_key
from tallybook.settings import Settings
from tests.e2e.server import Server, visiting
from tests.support.sample_world import CATALOG

PAGES = (
    "/",
    "/system",
    "/meters",
    "/meters/calls",
    "/quarantine",
    "/customers",
    "/customers/acme",
    "/customers/group",
    "/subscriptions",
    "/subscriptions/acme-team",
    "/wallets",
    "/wallets/borealis-prepaid",
    "/plans",
    "/plans/team",
    "/taxes",
    "/coupons",
    "/invoices",
    "/invoices/{number}?check=1",
    "/invoices/{number}/lines/1",
    "/drafts",
    "/runs",
    "/payments",
    "{payment}",
    "/credit-notes",
    "{note}?check=1",
    "/ledger?kind=receivable",
    "/ledger/entries",
    "/audit?check=all",
)
OURS = ("Acme Rockets", "Borealis", "Conglomerate")
_HIDDEN = re.compile(r'<input type="hidden" name="([^"]+)" value="([^"]*)"')


class Visitor:
    """Somebody with a browser."""

    def __init__(self, server: Server, key: str = "") -> None:
        """Sign in where there is a key."""
        self.client = visiting(base_url=server.url)
        if key:
            assert self.client.post("/login", data={"key": key}).status_code == 303

    def get(self, path: str) -> httpx2.Response:
        """Return a page."""
        return self.client.get(path)

    def does(self, path: str, **form: str) -> str:
        """Send a form and what asks whether it is meant so; return the page it leads to."""
        token = dict(_HIDDEN.findall(self.get("/taxes").text))["token"]
        asked = self.client.post(path, data=form | {"token": token})
        assert asked.status_code == 200, asked.text
        assert "default-src 'none'" in asked.headers["content-security-policy"]
        hidden = {name: unescape(text) for name, text in _HIDDEN.findall(asked.text)}
        done = self.client.post(path, data=hidden)
        assert done.status_code == 303, done.text
        return str(done.headers["location"])


@pytest.fixture(scope="module")
def server(shared_server: Server) -> Server:
    running = shared_server.tenant("console")
    running.raw("POST", "/api/v1/catalog/apply", CATALOG)
    events = [
        {
            "specversion": "1.0",
            "id": f"e{day}",
            "source": "test",
            "type": "api.call",
            "subject": "acme-app",
            "time": f"2026-10-{day:02d}T10:00:00Z",
            "data": {"region": "eu"},
        }
        for day in range(1, 11)
    ]
    running.post("/api/v1/events", json.dumps(events))
    running.caught_up()
    return running


@pytest.fixture(scope="module")
def places(server: Server) -> dict[str, str]:
    """A month that was billed, paid and credited by hand; where the documents are."""
    clerk = Visitor(server, server.key)
    clerk.does("/wallets/borealis-prepaid/top-ups", amount="40", method="card", once="1")
    clerk.does("/customers/acme/redeem", coupon="launch")
    assert clerk.does("/invoices/bill", period="2026-10") == "/runs"
    deadline = time.monotonic() + 60
    while "INV-" not in clerk.get("/invoices?customer=acme").text:
        assert time.monotonic() < deadline, clerk.get("/runs").text
        time.sleep(0.1)
    found = re.search(r"INV-\d+", clerk.get("/invoices?customer=acme").text)
    assert found is not None
    number = found.group()
    note = clerk.does(f"/invoices/{number}/credit", **{"line-1": "all", "reason": "Outage"})
    payment = clerk.does(
        "/payments", customer="acme", amount="500", method="bank-transfer", once="2"
    )
    assert clerk.does("/subscriptions/acme-team/quantity", charge="seats", quantity="7", at="now")
    return {"number": number, "note": note, "payment": payment}


def test_all_pages_for_who_may_read(server: Server, places: dict[str, str]) -> None:
    key = server.post("/api/v1/keys", '{"name": "reader", "scopes": ["read"]}')["key"]
    server.known(key)
    reader = Visitor(server, key)
    for path in PAGES:
        page = reader.get(path.format(**places))
        assert page.status_code == 200, (path, page.text)
        assert "<script" not in page.text
        assert set(re.findall(r'method="post" action="([^"]+)"', page.text)) == {"/logout"}, path
    assert "byte for byte the same" in reader.get(f"{places['note']}?check=1").text
    proved = reader.get("/audit?check=all").text
    assert "Every invoice, payment, credit and wallet is what the ledger says" in proved
    assert "Every event is billed" in proved
    assert "7 of seats" in reader.get("/subscriptions/acme-team").text
    assert reader.get("/payments/new").status_code == 403
    assert reader.client.post("/payments", data={}).status_code == 403
    assert reader.get(f"/invoices/{places['number']}.pdf").content[:5] == b"%PDF-"


def test_no_page_for_nobody(server: Server, places: dict[str, str]) -> None:
    nobody = Visitor(server)
    for path in (*PAGES, "/payments/new", f"/invoices/{places['number']}.pdf"):
        page = nobody.get(path.format(**places))
        assert page.status_code == 303, path
        assert page.headers["location"].startswith("/login"), path
    assert nobody.client.post("/invoices/bill", data={"confirmed": "yes"}).status_code == 303


def test_nothing_of_ours_for_another_tenant(server: Server, places: dict[str, str]) -> None:
    world = World(Settings(data_dir=server.folder))
    key = str(make_key(world, "other", KeySpec(name="s", scopes=["admin"])).key)
    world.engine.dispose()
    server.known(key)
    stranger = Visitor(server, key)
    for path in PAGES:
        page = stranger.get(path.format(**places))
        assert page.status_code in {200, 404}, (path, page.text)
        for name in OURS:
            assert name not in page.text, path
    for path in ("/customers/acme", "/subscriptions/acme-team", f"/invoices/{places['number']}"):
        assert stranger.get(path).status_code == 404
