"""Webhooks of a real server: the post is killed again and again, and every fact arrives."""

import json
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from tallybook.serve.cli.main import cli
from tests.e2e.server import KEY, Server
from tests.support.receiver import Handler, receiving

PRIVATE = {"TALLYBOOK__WEBHOOKS__ALLOW_PRIVATE": "true"}


def make_keys(server: Server, first: int, count: int) -> None:
    """Make API keys: each is a fact of the kind key.created."""
    for number in range(first, first + count):
        server.post("/api/v1/keys", json.dumps({"name": f"k{number}", "scopes": ["read"]}))


def deliveries(server: Server, endpoint: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = server.get(f"/api/v1/webhooks/{endpoint}/deliveries?limit=1000")[
        "items"
    ]
    return found


def await_quiet(server: Server) -> None:
    """Wait until nobody is left to be asked about the facts so far, such as the first key's."""
    deadline = time.monotonic() + 60
    while "webhook_facts_waiting 0.0" not in server.raw("GET", "/metrics").decode():
        assert time.monotonic() < deadline, server.log.read_text()[-3000:]
        time.sleep(0.2)


def await_delivered(server: Server, endpoint: str, count: int, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        server.revive()
        states = Counter(one["state"] for one in deliveries(server, endpoint))
        if states["delivered"] == count:
            return
        time.sleep(0.2)
    raise AssertionError(f"{states}: {server.log.read_text()[-3000:]}")


def test_every_fact_arrives_though_the_post_is_killed(tmp_path: Path) -> None:
    seed = random.randrange(10**6)
    print("seed", seed)
    dice = random.Random(seed)

    def slowly(handler: Handler, _number: int) -> None:
        time.sleep(0.05)
        handler.say(200)

    with receiving(slowly) as hook, Server(tmp_path / "data", PRIVATE) as server:
        await_quiet(server)
        body = json.dumps({"url": hook.url, "kinds": ["key.*"]})
        made = server.post("/api/v1/webhooks", body)
        hook.secrets.append(made["secret"])
        for turn in range(5):
            make_keys(server, turn * 20, 20)
            time.sleep(dice.uniform(0, 0.4))
            victims = [one["pid"] for one in server.children() if one["kind"] == "post"]
            server.kill(server.pid if turn == 3 or not victims else victims[0])
            server.revive()
        await_delivered(server, made["id"], 100)
        told = deliveries(server, made["id"])
    assert len({one["fact"] for one in told}) == 100
    assert hook.ids() == {one["fact"] for one in told}
    names = {one.body["data"]["name"] for one in hook.heard}
    assert names == {f"k{number}" for number in range(100)}
    assert hook.unverified == []
    again = sum(count - 1 for count in Counter(one.id for one in hook.heard).values())
    print("told twice:", again)
    assert again <= 5 * 4, "only what was under way at a kill"


def test_the_commands_and_the_figures(tmp_path: Path) -> None:
    with receiving() as hook, Server(tmp_path / "data", PRIVATE) as server:
        told = ["--url", server.url, "--key", KEY]

        def run(*words: str) -> str:
            result = CliRunner().invoke(cli, ["webhooks", *words, *told])
            assert result.exit_code == 0, (result.output, result.exception)
            return result.output

        assert "No endpoints." in run("list")
        assert "invoice.paid" in run("kinds")
        await_quiet(server)
        made = json.loads(run("add", hook.url, "--kind", "key.*", "--json"))
        hook.secrets.append(made["secret"])
        assert made["id"] in run("list", "--json")
        assert "On its way" in run("test", made["id"])
        make_keys(server, 0, 1)
        await_delivered(server, made["id"], 2)
        assert hook.unverified == []
        found = json.loads(run("deliveries", made["id"], "--kind", "key.created", "--json"))
        (one,) = found["items"]
        assert "1. " in run("delivery", one["id"])
        assert "On its way" in run("replay", one["id"])
        await_delivered(server, made["id"], 2)
        assert "0 are on their way" in run("replay", made["id"], "--since", one["time"])
        assert "whsec_" in run("rotate", made["id"], "--overlap-hours", "0")
        assert "disabled" in run("disable", made["id"])
        assert "active" in run("enable", made["id"])
        text = server.raw("GET", "/metrics").decode()
        assert 'tallybook_webhook_endpoints{state="active"} 1.0' in text
        assert "tallybook_webhook_delivered " in text
        assert "removed" in run("remove", made["id"])
        audit = server.raw("GET", "/api/v1/audit?limit=1000").decode()
        log = server.log.read_text()
        database = b"".join(path.read_bytes() for path in (tmp_path / "data").glob("control.db*"))
        secret = made["secret"].removeprefix("whsec_")
        assert secret not in audit
        assert secret not in log
        assert secret.encode() not in database
