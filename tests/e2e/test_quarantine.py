"""What cannot be processed, over HTTP with a real server: found, corrected, sent again, dropped."""

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tallybook.adapters.http.client import Client
from tallybook.kernel.errors import Invalid, Missing, Refused
from tallybook.serve.cli.main import cli
from tests.e2e.server import Server, visiting

WRONG_VERSION = 6
PATH = "/api/v1/quarantine"
HIDDEN = re.compile(r'<input type="hidden" name="([^"]+)" value="([^"]*)"')


@pytest.fixture(scope="module")
def server(shared_server: Server) -> Server:
    return shared_server.tenant("quarantine")


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Client]:
    with server.client() as made:
        events: list[dict[str, Any]] = [
            {"specversion": "0.3", "id": f"old-{n}", "source": f"edge-{n % 2}", "type": "t",
             "time": f"2026-01-0{n + 1}T00:00:00Z", "data": {"n": n}}
            for n in range(WRONG_VERSION)
        ]  # fmt: skip
        events += [{"specversion": "1.0", "id": "no-source", "type": "t"}]
        kind = {"content-type": "application/cloudevents-batch+json"}
        body = json.dumps(events).encode()
        made.raw("POST", "/api/v1/events?partial=true", content=body, headers=kind)
        deadline = time.monotonic() + 60
        while len(made.get(PATH)["items"]) < len(events):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield made


def items(client: Client, **asked: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get(PATH, asked)["items"]
    return found


def test_the_way_of_pieces_through_quarantine(client: Client) -> None:
    version, missing = _codes(client)
    assert len(items(client, code=version)) == WRONG_VERSION
    assert len(items(client, code="none")) == 0

    piece = items(client, code=version)[0]
    assert client.get(f"{PATH}/{piece['id']}") == piece
    like = piece["id"][:-1] + ("y" if piece["id"].endswith("z") else "z")
    for unknown in ("qua_x", "qua_" + "0" * 25, "other", like):
        with pytest.raises(Missing):
            client.get(f"{PATH}/{unknown}")

    corrected = {
        "specversion": "1.0",
        "type": "t",
        "time": "2026-01-06T00:00:00Z",
        "data": {"n": 5},
    }
    body = {"event": corrected, "reason": "sent as 1.0"}
    assert client.post(f"{PATH}/{piece['id']}/redrive", body)["state"] == "redriven"
    with pytest.raises(Refused):
        client.post(f"{PATH}/{piece['id']}/redrive", body)
    _until_stored(client, "old-5", "2026-01-06T00:00:00Z")

    tried = client.post(f"{PATH}/redrive", {"code": version})
    assert (tried["dry_run"], tried["matched"], len(tried["done"])) == (True, 5, 5)
    refused = client.post(f"{PATH}/redrive", {"code": version, "dry_run": False})
    assert (len(refused["done"]), len(refused["refused"])) == (0, 5)
    with pytest.raises(Invalid):
        client.post(f"{PATH}/drop", {"code": version, "dry_run": False})
    chosen = {"code": version, "source": "edge-0", "reason": "a test of ours"}
    assert len(client.post(f"{PATH}/drop", chosen)["done"]) == 3
    dropped = client.post(f"{PATH}/drop", chosen | {"dry_run": False})
    assert len(dropped["done"]) == 3

    counts = {one["code"]: one for one in client.get(f"{PATH}/counts")}
    assert counts[version] == {"code": version, "open": 2, "redriven": 1, "dropped": 3}
    assert counts[missing]["open"] == 1

    decisions = client.get(f"{PATH}/decisions", {"limit": 3})
    assert len(decisions["items"]) == 3
    rest = client.get(f"{PATH}/decisions", {"cursor": decisions["next_cursor"]})["items"]
    (redriven,) = [one for one in rest if one["action"] == "redriven"]
    assert redriven["reason"] == "sent as 1.0"
    assert json.loads(redriven["before"])["specversion"] == "0.3"
    assert json.loads(redriven["after"]) == corrected | {"id": "old-5", "source": "edge-1"}
    assert redriven["by"]

    now = items(client, code=version, state="all")[0]["event"]["received_time"]
    assert len(items(client, type="t", state="all")) == WRONG_VERSION + 1
    assert items(client, type="other", state="all") == []
    asked = {"code": version, "state": "all"}
    assert len(items(client, **asked, **{"from": now})) == WRONG_VERSION
    assert items(client, **asked, to=now) == []

    lines = client.raw("GET", f"{PATH}/export", params={"state": "all"}).content.splitlines()
    assert len(lines) == WRONG_VERSION + 1
    assert {json.loads(line)["state"] for line in lines} == {"open", "redriven", "dropped"}


def test_many_pieces_by_command_and_by_form(client: Client, server: Server) -> None:
    version, missing = _codes(client)
    shell = {"TALLYBOOK_URL": client.url, "TALLYBOOK_KEY": server.key}

    def run(*words: str) -> Result:
        return CliRunner().invoke(cli, ["quarantine", *words], env=shell)

    told = run("drop-all", "--code", missing, "--reason", "x")
    assert "1 would be dropped" in told.output
    told = run("redrive-all", "--code", version, "--yes")
    assert told.output.startswith("0 sent again")
    assert told.output.count("  refused  ") == 2
    with visiting(base_url=client.url) as browser:
        browser.post("/login", data={"key": server.key})
        page = browser.get("/quarantine", params={"code": missing, "type": "t"}).text
        assert page.count('class="tag bad"') == 1
        form = dict(HIDDEN.findall(page)) | {"action": "drop", "reason": "by form"}
        asked = browser.post("/quarantine/all", data=form).text
        assert "Drop: 1 piece" in asked
        assert len(items(client, code=missing)) == 1
        browser.post("/quarantine/all", data=dict(HIDDEN.findall(asked)))
        assert items(client, code=missing) == []
    told = run("drop-all", "--type", "t", "--reason", "x", "--yes")
    assert told.output.strip() == "2 dropped"
    assert run("drop-all", "--reason", "x", "--yes").exit_code == 2
    assert items(client) == []


def _codes(client: Client) -> tuple[str, str]:
    found = [one["code"] for one in items(client)]
    version = max(found, key=found.count)
    return version, next(code for code in found if code != version)


def _until_stored(client: Client, id: str, when: str) -> None:
    deadline = time.monotonic() + 60
    while not (found := client.get("/api/v1/events", {"id": id})["items"]):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert found[0]["time"] == when
