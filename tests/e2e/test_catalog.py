"""The catalog from outside: taxes, coupons, the seller, plan versions, and a backtest."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.server import Server, asked

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "catalog.md"
API = "/api/v1"


@pytest.fixture(scope="module")
def text() -> str:
    return "\n".join(re.findall(r"```toml\n(.*?)```", GUIDE.read_text(), re.DOTALL))


@pytest.fixture(scope="module")
def server(shared_server: Server, tmp_path_factory: pytest.TempPathFactory, text: str) -> Server:
    folder = tmp_path_factory.mktemp("catalog")
    (folder / "catalog.toml").write_text(text)
    running = shared_server.tenant("catalog")
    running.tallybook("apply", str(folder / "catalog.toml"), "--yes")
    events = [
        {
            "specversion": "1.0",
            "id": f"e{n}",
            "source": "test",
            "type": "api.call",
            "subject": "acme-prod",
            "time": "2026-10-10T00:00:00Z",
            "data": {"region": "eu", "weight": 2, "color": "red"},
        }
        for n in range(1500)
    ]
    running.post(f"{API}/events", json.dumps(events))
    running.caught_up()
    return running


def call(server: Server, method: str, path: str, body: object = None, status: int = 200) -> Any:
    url = server.url + API + path
    headers = {"Authorization": f"Bearer {server.key}"}
    done = asked(method, url, json=body, headers=headers)
    assert done.status_code == status, done.text
    return done.json() if done.content else None


@pytest.mark.parametrize(
    ("place", "new", "changed"),
    [
        ("taxes", {"key": "city", "rate": "2.5"}, {"key": "city", "rate": "3"}),
        ("coupons", {"key": "ten", "percent": "10"}, {"key": "ten", "percent": "15"}),
    ],
)
def test_taxes_and_coupons_are_made_changed_and_archived(
    server: Server, place: str, new: dict[str, str], changed: dict[str, str]
) -> None:
    key = new["key"]
    made = call(server, "POST", f"/{place}", new, 201)
    assert new.items() <= made.items()
    assert call(server, "POST", f"/{place}", new, 409)["code"] == "exists"
    assert call(server, "GET", f"/{place}/{key}") == made
    assert changed.items() <= call(server, "PUT", f"/{place}/{key}", changed).items()
    assert call(server, "PUT", f"/{place}/other", changed, 400)["field"] == "key"
    shown = call(server, "GET", f"/{place}?limit=1")
    rest = call(server, "GET", f"/{place}?cursor={shown['next_cursor']}")
    assert key in {item["key"] for item in shown["items"] + rest["items"]}
    call(server, "DELETE", f"/{place}/{key}", None, 204)
    call(server, "DELETE", f"/{place}/{key}", None, 404)
    assert key not in {item["key"] for item in call(server, "GET", f"/{place}")["items"]}
    everything = call(server, "GET", f"/{place}?archived=true")["items"]
    assert [item["archived"] for item in everything if item["key"] == key] == [True]
    call(server, "GET", f"/{place}/nothing", None, 404)
    restored = call(server, "POST", f"/{place}", new, 201)
    assert restored == made
    call(server, "DELETE", f"/{place}/{key}", None, 204)


def test_a_tax_in_use_is_not_archived(server: Server) -> None:
    problem = call(server, "DELETE", "/taxes/vat", None, 409)
    assert "the seller refers to tax 'vat'" in problem["detail"]


def test_the_seller_is_shown_and_changed(server: Server) -> None:
    seller = call(server, "GET", "/seller")
    assert seller["bank"]["iban"] == "DE89370400440532013000"
    changed = call(server, "PUT", "/seller", seller | {"terms": "Payable at once."})
    assert changed["terms"] == "Payable at once."
    assert call(server, "PUT", "/seller", seller) == seller
    bad = seller | {"bank": {"iban": "DE00"}}
    assert call(server, "PUT", "/seller", bad, 400)["field"] == "bank.iban"


def test_every_version_of_a_plan_stays(server: Server) -> None:
    plan = call(server, "GET", "/plans/team")
    assert [phase["key"] for phase in plan["phases"]] == ["trial", "ramp"]
    written = {key: plan[key] for key in plan if key not in {"version", "archived"}}
    assert call(server, "PUT", "/plans/team", written)["version"] == plan["version"], "unchanged"
    dearer = written | {"name": "Team 2", "effective": "2030-01-01"}
    changed = call(server, "PUT", "/plans/team", dearer)
    assert changed["version"] == plan["version"] + 1
    assert changed["effective"] == "2030-01-01T00:00:00Z"
    versions = call(server, "GET", "/plans/team/versions")["items"]
    assert versions[-2:] == [plan, changed]
    first = call(server, "GET", "/plans/team/versions?limit=1")
    rest = call(server, "GET", f"/plans/team/versions?cursor={first['next_cursor']}")
    assert first["items"] + rest["items"] == versions
    call(server, "GET", "/plans/nothing/versions", None, 404)
    euro = written | {"currency": "EUR", "currencies": {}}
    assert call(server, "PUT", "/plans/team", euro, 400)["field"] == "thresholds_in"


def test_those_that_a_customer_pays_for_are_listed(server: Server) -> None:
    items = call(server, "GET", "/customers?parent=acme")["items"]
    assert [item["key"] for item in items] == ["acme-labs"]
    moved = items[0] | {"currency": "EUR"}
    written = {key: moved[key] for key in moved if key not in {"rule", "archived"}}
    assert call(server, "PUT", "/customers/acme-labs", written, 409)["field"] == "currency"


def test_a_backtest_shows_who_would_pay_what_and_writes_nothing(
    server: Server, text: str, tmp_path: Path
) -> None:
    before = call(server, "GET", "/plans/team")
    proposed = tmp_path / "catalog.toml"
    proposed.write_text(text.replace('unit_amount = "0.002"', 'unit_amount = "0.4"'))
    span = ("--from", "2026-10-01", "--to", "2026-11-01")
    said = server.tallybook("apply", str(proposed), "--backtest", *span)
    assert "new-version plan team" in said
    assert "acme-team: API calls" in said
    found = json.loads(server.tallybook("apply", str(proposed), "--backtest", *span, "--json"))
    (acme,) = [one for one in found["customers"] if one["customer"] == "acme"]
    calls = {c["charge"]: c for c in acme["charges"] if c["subscription"] == "acme-team"}
    # 500 calls above the free thousand, and what is missing to the commitment of 100
    assert (calls["calls"]["present"], calls["calls"]["proposed"]) == ("1.00", "200.00")
    assert found["failed"] == []
    assert found["start"] == "2026-09-30T22:00:00Z", "a day of the seller's zone"
    assert call(server, "GET", "/plans/team") == before
    same = tmp_path / "same.toml"
    same.write_text(server.tallybook("apply", "--help") and text)
    assert "customers differ" in server.tallybook("apply", str(same), "--backtest", *span)


NEW_METER = """
[[meters]]
key = "weight"
event_type = "api.call"
aggregation = "SUM"
value = "$.weight"
group_by = { color = "$.color" }
"""


def test_a_backtest_measures_what_nobody_measured_before(
    server: Server, text: str, tmp_path: Path
) -> None:
    at = text.index("[[plans]]")
    heavier = text[:at] + NEW_METER + text[at:]
    heavier = heavier.replace('  meter = "calls"\n', '  meter = "weight"\n')
    heavier = heavier.replace('split_by = ["region"]', 'split_by = ["color"]')
    file = tmp_path / "catalog.toml"
    file.write_text(heavier)
    span = ("--from", "2026-10-01", "--to", "2026-11-01", "--json")
    found = json.loads(server.tallybook("apply", str(file), "--backtest", *span))
    assert found["failed"] == []
    (acme,) = [one for one in found["customers"] if one["customer"] == "acme"]
    (calls,) = [one for one in acme["charges"] if one["charge"] == "calls"]
    assert (calls["present_quantity"], calls["proposed_quantity"]) == ("1500", "3000")


def test_a_backtest_that_cannot_be_made_says_why(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "catalog.toml"
    file.write_text("")
    assert "--from" in server.tallybook("apply", str(file), "--backtest", code=2)
    late = ("--from", "2026-10-01", "--to", "2099-01-01")
    said = server.tallybook("apply", str(file), "--backtest", *late, code=1)
    assert "lies in the future" in said
    odd = ("--from", "October", "--to", "2026-11-01")
    assert "[from]" in server.tallybook("apply", str(file), "--backtest", *odd, code=1)
