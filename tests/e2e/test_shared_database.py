"""The control database on PostgreSQL and MariaDB under a real server: usage becomes an invoice, and
everything is there again after a kill."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import make_url

from tests.e2e.server import KEY, Server

CATALOG = """
[[meters]]
key = "calls"
event_type = "api.call"
aggregation = "COUNT"

[[plans]]
key = "web"
currency = "USD"
[[plans.charges]]
key = "calls"
meter = "calls"
price = { type = "unit", unit_amount = 2 }

[[customers]]
key = "acme"
currency = "USD"
subjects = ["acme"]

[[subscriptions]]
key = "acme"
customer = "acme"
plan = "web"
start = 2026-10-01
"""


def tallybook(*command: str, environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tallybook", *command],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_usage_becomes_money_on(
    kind: str, empty_database: Callable[[str], str], tmp_path: Path
) -> None:
    address = make_url(empty_database(kind)).set(password="not-asked-for-here")
    secret = tmp_path / "password"
    secret.write_text("" if kind == "mariadb" else f"{address.password}\n")
    url = address.set(password=None).render_as_string()
    settings = {
        "TALLYBOOK__CONTROL__URL": url,
        "TALLYBOOK__CONTROL__PASSWORD_FILE": str(secret),
    }
    (tmp_path / "catalog.toml").write_text(CATALOG)
    with Server(tmp_path / "data", settings) as server:
        speaking = {"TALLYBOOK_URL": server.url, "TALLYBOOK_KEY": KEY}
        tallybook("apply", str(tmp_path / "catalog.toml"), "--yes", environment=speaking)
        events = [
            {
                "specversion": "1.0",
                "id": str(number),
                "source": "test",
                "type": "api.call",
                "subject": "acme",
                "time": "2026-10-10T00:00:00Z",
            }
            for number in range(3)
        ]
        server.post("/api/v1/events", json.dumps(events))
        server.caught_up()
        (invoice,) = server.bill_until_now()
        server.kill()
        server.revive()
        assert server.get(f"/api/v1/invoices/{invoice}")["total"] == "6.00"
        assert server.get(f"/api/v1/invoices/{invoice}/verify")["ok"] is True
        found = tallybook(
            "doctor", "--data", str(tmp_path / "data"), "--json", environment=settings
        )
        told = {one["about"]: one for one in json.loads(found)["findings"]}
        assert "schema" in told["control database"]["text"]
        assert told["control database"]["level"] == "good"
    assert not (tmp_path / "data" / "control.db").exists()
    done = tallybook("upgrade", "--data", str(tmp_path / "data"), environment=settings)
    assert "nothing to do" in done
