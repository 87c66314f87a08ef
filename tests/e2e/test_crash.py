"""Kill everything, at random, under load: each acknowledged event is counted once, no other twice.

Guarantees 1, 2 and 5 of CONTRACTS §1. The load goes on while supervisor, API workers, pump and
job runner are killed with SIGKILL; roll-ups, compaction and vacuum run all the while, and
invoices made in between must verify at the end.
"""

import http.client
import json
import random
import threading
import time
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tallybook.adapters.delta.event_table import DeltaEventTable
from tallybook.adapters.duckdb.usage_reader import LakeUsageReader
from tallybook.kernel.errors import TallybookError
from tests.e2e.server import KEY, Server, workers

BATCH = 50
CATALOG = """
[[meters]]
key = "requests"
event_type = "crash"
aggregation = "COUNT"

[[meters]]
key = "amount"
event_type = "crash"
aggregation = "SUM"
value = "$.n"

[[plans]]
key = "crash"
currency = "USD"

[[plans.charges]]
key = "requests"
meter = "requests"
price = { type = "unit", unit_amount = "0.01" }

[[plans.charges]]
key = "amount"
meter = "amount"
[plans.charges.price]
type = "graduated"
tiers = [{ up_to = "1000", unit_amount = "0.5" }, { unit_amount = "0.1" }]

[[customers]]
key = "acme"
currency = "USD"
subjects = ["s0", "s1", "s2"]

[[subscriptions]]
key = "acme"
customer = "acme"
plan = "crash"
start = "2026-11-01"
"""


class Sender(threading.Thread):
    """Sends batches until told to stop; retries an unanswered batch with the same ids."""

    def __init__(self, server: Server, number: int) -> None:
        super().__init__(daemon=True)
        self.server = server
        self.number = number
        self.acknowledged: set[str] = set()
        self.sent: set[str] = set()
        self.stopping = threading.Event()

    def run(self) -> None:
        batch = 0
        while not self.stopping.is_set():
            ids = [f"{self.number}-{batch}-{i}" for i in range(BATCH)]
            self.sent.update(ids)
            if self.deliver(ids):
                self.acknowledged.update(ids)
            batch += 1

    def deliver(self, ids: list[str]) -> bool:
        body = json.dumps(
            [
                {
                    "specversion": "1.0", "id": event_id, "source": "/crash", "type": "crash",
                    "subject": f"s{self.number}", "time": "2026-11-10T10:00:00Z", "data": {"n": 2},
                }
                for event_id in ids
            ]
        )  # fmt: skip
        while True:
            if self.post(body):
                return True
            if self.stopping.is_set():
                return False  # the outcome stays unknown: counted once or not at all
            time.sleep(0.02)

    def post(self, body: str) -> bool:
        parts = urlsplit(self.server.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
        headers = {
            "Authorization": f"Bearer {KEY}",
            "Content-Type": "application/cloudevents-batch+json",
        }
        try:
            connection.request("POST", "/api/v1/events", body, headers)
            return connection.getresponse().status == http.HTTPStatus.NO_CONTENT
        except (OSError, http.client.HTTPException):
            return False  # killed meanwhile: the batch is sent again
        finally:
            connection.close()


def kill_one(server: Server, rng: random.Random) -> str:
    """Kill a random process of the tree with SIGKILL; return which kind."""
    children = server.children()
    victims = [("supervisor", server.pid)] + [(c["kind"], c["pid"]) for c in children]
    kind, pid = rng.choice(victims)
    try:
        server.kill(pid)
    except ProcessLookupError:
        return f"{kind} (was gone)"
    return kind


def crash(folder: Path, kills: int, seed: int) -> None:
    """Run the load and the killer, then compare what was acknowledged with what is counted."""
    rng = random.Random(seed)
    settings = {
        **workers(2),
        "TALLYBOOK__LAKE__MAINTAIN_SECONDS": "1",
        "TALLYBOOK__LAKE__TIDY_SECONDS": "5",
        "TALLYBOOK__RETENTION__VACUUM_HOURS": "0",
    }
    killed: Counter[str] = Counter()
    with Server(folder, settings) as server:
        server.post("/api/v1/catalog/apply", CATALOG, kind="application/toml")
        senders = [Sender(server, number) for number in range(3)]
        for sender in senders:
            sender.start()
        invoices: list[str] = []
        for round_number in range(kills):
            time.sleep(rng.uniform(0.05, 1.2))
            killed[kill_one(server, rng)] += 1
            server.revive()
            if round_number % 10 == 5:
                invoices += bill(server)
        for sender in senders:
            sender.stopping.set()
        for sender in senders:
            sender.join(60)
        server.caught_up()
        invoices += bill(server)
        print(
            "seed",
            seed,
            "killed",
            dict(killed),
            "restarts",
            server.starts,
            "invoices",
            len(invoices),
        )
        check(server, senders, invoices)
    no_row_twice(folder, senders)


def bill(server: Server) -> list[str]:
    """Bill what is open; a run that a kill interrupts is resumed or asked for again."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            return server.bill_until_now()
        except (TallybookError, OSError, http.client.HTTPException):
            server.revive()
            time.sleep(0.2)
    raise AssertionError("no billing run came through")


def check(server: Server, senders: list[Sender], invoices: list[str]) -> None:
    """What meters say lies between what was acknowledged and what was sent, and accounts agree."""
    for sender in senders:
        path = f"/api/v1/meters/requests/query?subject=s{sender.number}"
        answer = server.get(path)["data"]
        counted = answer[0]["value"] if answer else 0
        assert len(sender.acknowledged) <= counted <= len(sender.sent)
    assert server.get("/api/v1/reconcile")["ok"], server.get("/api/v1/reconcile")
    assert invoices, "no invoice was made"
    for invoice in invoices:
        assert server.get(f"/api/v1/invoices/{invoice}/verify")["ok"], invoice


def no_row_twice(folder: Path, senders: list[Sender]) -> None:
    """In the lake itself: every acknowledged id once, no id twice, nothing that was not sent."""
    table = DeltaEventTable(folder / "lake" / "events")
    reader = LakeUsageReader(table, folder / "lake" / "rollups")
    rows = reader.recent("default", limit=10_000_000, where={"type": "crash"})
    stored = Counter(row.id for row in rows)
    assert max(stored.values()) == 1
    acknowledged = set().union(*(sender.acknowledged for sender in senders))
    sent = set().union(*(sender.sent for sender in senders))
    assert acknowledged <= set(stored), (
        f"{len(acknowledged - set(stored))} acknowledged events are lost"
    )
    assert set(stored) <= sent
    print("acknowledged", len(acknowledged), "stored", len(stored), "sent", len(sent))


def test_twenty_kills(tmp_path: Path) -> None:
    """The short run."""
    crash(tmp_path / "data", kills=20, seed=int(time.time()) % 100_000)


@pytest.mark.slow(300)
def test_two_hundred_kills(tmp_path: Path) -> None:
    """The long run."""
    crash(tmp_path / "data", kills=200, seed=int(time.time()) % 100_000)
