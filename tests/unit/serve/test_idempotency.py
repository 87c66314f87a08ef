"""Answers remembered under an Idempotency-Key: never a secret, never another key's answer."""

import asyncio
import json
import sqlite3
from pathlib import Path

import pytest

from tallybook.admit.issue import KeySpec
from tallybook.compose import World
from tallybook.serve.api.common.idempotency import Idempotent
from tallybook.serve.api.gate import Gate
from tallybook.serve.api.rest.access.keys import make_key
from tallybook.settings import Settings

TEXT = "tb_the-new-key"


class Served:
    """Routes that make a key, behind the memory of answers."""

    def __init__(self, folder: Path) -> None:
        (folder / "secret").write_bytes(b"s" * 32)
        self.world = World(Settings(data_dir=folder))
        self.runs = 0
        self.keys = {
            scope: str(make_key(self.world, "default", KeySpec(name=scope, scopes=[scope])).key)
            for scope in ("admin", "read")
        }
        self.app = Idempotent(self.routes, self.world, Gate(self.world.keys, self.world.secret))

    async def routes(self, scope, receive, send):
        await receive()
        self.runs += 1
        body = json.dumps({"id": "key_1", "key": TEXT}).encode()
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 201, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def post(self, who: str, path: str) -> tuple[int, dict[str, str]]:
        heard = []

        async def receive():
            return {"type": "http.request", "body": b"{}", "more_body": False}

        async def send(message):
            heard.append(message)

        headers = [
            (b"authorization", f"Bearer {self.keys[who]}".encode()),
            (b"idempotency-key", b"one"),
        ]
        scope = {"type": "http", "method": "POST", "path": path, "headers": headers}
        asyncio.run(self.app(scope, receive, send))
        return heard[0]["status"], json.loads(heard[1]["body"])


@pytest.fixture
def served(tmp_path: Path) -> Served:
    return Served(tmp_path)


@pytest.mark.parametrize("path", ["/api/v1/keys", "/api/v1/keys/"])
def test_a_new_key_is_shown_once_and_never_stored(served: Served, path: str) -> None:
    assert served.post("admin", path) == (201, {"id": "key_1", "key": TEXT})
    assert served.post("admin", path) == (201, {"id": "key_1"})
    assert served.runs == 1, "and a second key is not made"
    ((body,),) = sqlite3.connect(served.world.settings.control_db).execute(
        "SELECT body FROM idempotency"
    )
    assert TEXT.encode() not in body


def test_a_smaller_key_does_not_hear_the_answer_of_a_greater_one(served: Served) -> None:
    served.post("admin", "/api/v1/customers")
    status, answer = served.post("read", "/api/v1/customers")
    assert (status, answer["code"]) == (409, "idempotency-key-reused")
