"""The commands of the guides on routing, limits and security, run in their order."""

import contextlib
import json
import re
import secrets
import shlex
from pathlib import Path
from typing import Any

from tests.e2e.server import Server
from tests.e2e.test_guides import ROOT, SECURITY, fences

ROUTING = ROOT / "docs" / "guides" / "routing.md"
LIMITS = ROOT / "docs" / "guides" / "limits.md"
EVENT = {
    "specversion": "1.0",
    "source": "web-1",
    "type": "http.server.request",
    "subject": "acme",
    "data": {"status": 503, "took": 3},
}
ASKED = re.compile(r"^(GET|POST) +(/api/v1/streams/\S+) *(\{[^}]*\})?", re.MULTILINE)


def lines(page: Path, *kinds: str) -> list[list[str]]:
    """Return the `tallybook` lines of a page, without remarks at their ends."""
    text = "\n".join(body for kind in kinds for body in fences(page, kind)).replace("\\\n", " ")
    split = [shlex.split(line, comments=True)[1:] for line in text.splitlines()
             if line.startswith("tallybook ")]  # fmt: skip
    return [words for words in split if words[0] != "serve"]


def run(server: Server, work: Path, words: list[str]) -> str:
    asks = words[0] == "quarantine" and words[1].endswith("-all")
    with contextlib.chdir(work):
        return server.tallybook(*words, *(["--yes"] if asks else []))


def sent(server: Server, number: int, **more: Any) -> None:
    body = json.dumps([EVENT | {"id": f"e{number}"} | more])
    path, kind = "/api/v1/events?partial=true", "application/cloudevents-batch+json"
    assert server.post(path, body, kind) is not None


def test_the_commands_of_the_routing_guide_work_in_their_order(shared_server, tmp_path):
    server = shared_server.tenant("routing")
    (tmp_path / "catalog.toml").write_text(fences(ROUTING, "toml")[0])
    put, test, *rest = lines(ROUTING, "")
    (tmp_path / "pattern.json").write_text(put[put.index("--pattern") + 1])
    (tmp_path / "event.json").write_text(json.dumps(EVENT | {"id": "e0"}))
    (tmp_path / "corrected.json").write_text(json.dumps(EVENT | {"id": "old", "source": "edge-7"}))
    sent(server, 1, id="old", specversion="0.3", source="edge-7")
    sent(server, 2, id="older", specversion="0.3", source="edge-7")
    server.caught_up()
    for words in (put, test):
        run(server, tmp_path, words)
    piece = server.get("/api/v1/quarantine?source=edge-7")["items"][0]["id"]
    for words in rest:
        run(server, tmp_path, [piece if word == "ID" else word for word in words])
    assert {rule["key"] for rule in server.get("/api/v1/routes")["items"]} == {"failures", "slow"}
    assert server.get("/api/v1/quarantine")["items"] == []


def test_what_the_routing_guide_asks_of_a_group_is_answered(shared_server, tmp_path):
    server = shared_server.tenant("consuming")
    put, _, *rest = lines(ROUTING, "")
    run(server, tmp_path, put)
    run(
        server,
        tmp_path,
        next(words for words in rest if words[:3] == ["streams", "groups", "create"]),
    )
    (take, *answers) = ASKED.findall("\n".join(fences(ROUTING, "")))
    assert (take[0], len(answers)) == ("GET", 5)
    for number, (method, path, body) in enumerate(answers):
        sent(server, number)
        batch: Any = {"records": []}
        while not batch["records"]:  # the request itself waits
            batch = server.get(take[1])
        said = json.loads(body) | {"lease": batch["lease"]}
        last = batch["records"][-1]["id"]
        said |= {"ids": [last]} if "ids" in said else {"up_to": last} if "up_to" in said else {}
        assert method == "POST"
        assert server.post(path, json.dumps(said))
        server.post("/api/v1/streams/failures/groups/alerting/seek", '{"to": "latest"}')


def test_the_commands_of_the_limits_guide_work_in_their_order(shared_server, tmp_path):
    server = shared_server.tenant("limits")
    (tmp_path / "plans.toml").write_text(fences(LIMITS, "toml")[0])
    key = server.post("/api/v1/keys", '{"name": "k", "scopes": ["read"]}')["id"]
    for words in lines(LIMITS, ""):
        run(server, tmp_path, [key if word == "KEY-ID" else word for word in words])
    assert server.get(f"/api/v1/keys/{key}")["usage_plan"] == "standard"


def test_keys_people_tenants_and_the_log_of_the_security_guide(shared_server, tmp_path):
    server = shared_server.tenant("access")
    server.client().post("/api/v1/customers", {"key": "acme", "currency": "USD"})
    made = server.post("/api/v1/keys", '{"name": "old", "scopes": ["read"]}')["id"]
    tenant = f"acme-{secrets.token_hex(4)}"
    ran = 0
    for words in lines(SECURITY, "", "text"):
        if words[0] not in {"keys", "users", "tenants", "audit"}:
            continue
        where = server if words[0] != "tenants" else shared_server
        named = {"KEY_ID": made, "acme": tenant if words[0] == "tenants" else "acme"}
        run(where, tmp_path, [named.get(word, word) for word in words])
        ran += 1
    assert ran >= 12
    assert {"collector", "portal"} <= {k["name"] for k in server.get("/api/v1/keys")["items"]}
