"""What is told although nobody did anything, and of contracts and keys; each once."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from tallybook.adapters.sql.edge.edges import Sighting
from tallybook.collect.sending.fleet import Seen
from tallybook.collect.sending.parcel import Note, Parcel
from tallybook.kernel.timestamps import SECOND_US
from tallybook.meter.usage import StoredEvent
from tallybook.serve.worker.watching.edges import watch_edges
from tallybook.serve.worker.watching.entitlements import EntitlementWatch
from tallybook.serve.worker.watching.overdue import OverdueWatch
from tallybook.serve.worker.watching.quarantine import watch_quarantine
from tests.flow.test_entitlement_routes import AT, CALLS, CATALOG
from tests.support.api import Api

PLAN = """
[[plans]]
key = "p"
currency = "USD"

[[plans.charges]]
key = "fee"
price = { type = "flat", amount = "10" }

[[subscriptions]]
key = "acme-p"
customer = "acme"
plan = "p"
start = "2026-01-01"
"""


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with Api(tmp_path) as made:
        made.apply(CATALOG)
        yield made


def facts(api: Api, pattern: str) -> list[tuple[str, Any]]:
    """Return kind and body of what was told."""
    query = text("SELECT kind, body FROM outbox WHERE kind LIKE :kind ORDER BY at_us, id")
    with api.world.engine.connect() as connection:
        rows = connection.execute(query, {"kind": pattern})
        return [(row[0], json.loads(row[1])) for row in rows]


def test_a_new_subscription_is_told_once(api: Api) -> None:
    api.apply(PLAN)
    api.apply(PLAN)
    ((kind, body),) = facts(api, "subscription.%")
    assert kind == "subscription.created"
    assert (body["subscription"], body["customer"], body["plan"]) == ("acme-p", "acme", "p")
    spec = {"key": "second", "customer": "acme", "plan": "p", "start": "2026-02-01"}
    api.post("/subscriptions", spec)
    told = {body["subscription"] for _, body in facts(api, "subscription.%")}
    assert told == {"acme-p", "second"}


def test_what_is_decided_about_a_subscription_is_told_by_its_kind(api: Api) -> None:
    api.apply(PLAN)
    for command in ("pause", "resume", "cancel", "uncancel"):
        api.clock.now += SECOND_US
        when = {"at": "2026-03-01"} if command == "cancel" else {}
        api.post(f"/subscriptions/acme-p/{command}", when, 200)
    kinds = [kind for kind, _ in facts(api, "subscription.%")]
    assert kinds == [
        "subscription.created",
        "subscription.paused",
        "subscription.resumed",
        "subscription.cancelled",
        "subscription.uncancelled",
    ]


def test_keys_are_told_without_their_text(api: Api) -> None:
    made = api.post("/keys", {"name": "mine", "scopes": ["read"]})
    api.clock.now += SECOND_US
    api.delete(f"/keys/{made['id']}")
    told = [one for one in facts(api, "key.%") if one[1]["key"] == made["id"]]
    assert [kind for kind, _ in told] == ["key.created", "key.revoked"]
    assert made["key"] not in json.dumps(told)


def test_an_entitlement_is_told_at_thresholds_and_when_it_is_used_up(api: Api) -> None:
    api.post("/entitlements", CALLS)
    watch = EntitlementWatch()

    def look() -> list[tuple[str, int]]:
        watch.round(api.world)
        return [(kind, body["percent"]) for kind, body in facts(api, "entitlement.%")]

    assert look() == []
    api.event("2026-01-09", '{"v": 79}')
    assert look() == []
    api.clock.now += SECOND_US
    api.event("2026-01-09", '{"v": 1}')
    assert look() == [("entitlement.threshold", 80)]
    assert look() == [("entitlement.threshold", 80)]
    api.clock.now += SECOND_US
    api.event("2026-01-09", '{"v": 25}')
    assert look()[1:] == [("entitlement.exhausted", 100)]
    (body,) = (body for kind, body in facts(api, "entitlement.exhausted"))
    assert (body["usage"], body["overage"], body["feature"]) == ("105", "5", "calls")
    assert EntitlementWatch().round(api.world) == 0, "a restart tells nothing again"
    api.clock.now += SECOND_US
    api.post(f"{AT}/grants", {"key": "more", "amount": "1000", "effective": "2026-01-10"})
    watch = EntitlementWatch()
    assert len(look()) == 2
    api.clock.set("2026-02-02T00:00:00Z")
    api.event("2026-02-01T12:00:00Z", '{"v": 2000}')
    assert look()[2:] == [("entitlement.exhausted", 100)], "another period"


def test_what_came_into_quarantine_is_told_by_reason(api: Api) -> None:
    assert watch_quarantine(api.world) == 0

    def put_aside(name: str, problem: str, seq: int) -> None:
        event = StoredEvent(
            id=name, source="test", type="t", subject="s", time_us=1, received_us=1,
            commit_seq=seq, data="{}", ext=None, problem=problem, row_hash=seq,
        )  # fmt: skip
        api.usage.add("default", [event])

    for number, problem in enumerate(["time-malformed: x", "time-malformed: y", "type-missing: z"]):
        put_aside(f"q{number}", problem, number + 5)
    assert watch_quarantine(api.world) == 1
    assert watch_quarantine(api.world) == 0
    ((_, body),) = facts(api, "quarantine.%")
    assert body == {
        "count": 3,
        "reasons": {"time-malformed": 2, "type-missing": 1},
        "until_commit": 7,
    }
    put_aside("q9", "type-missing: z", 9)
    assert watch_quarantine(api.world) == 1


def test_an_edge_that_falls_silent_and_comes_back_is_told(api: Api) -> None:
    def heard() -> None:
        parcel = Parcel(edge="berlin", incarnation="i", number=1)
        note = Note(parcel=parcel, sent_us=api.clock.now)
        seen = Seen(note=note, at_us=api.clock.now, stored=True)
        api.world.edges.note([Sighting("default", seen)])

    heard()
    assert watch_edges(api.world) == 0
    api.clock.now += 301 * SECOND_US
    assert watch_edges(api.world) == 1
    assert watch_edges(api.world) == 0
    api.clock.now += SECOND_US
    heard()
    assert watch_edges(api.world) == 1
    assert watch_edges(api.world) == 0
    api.clock.now += 400 * SECOND_US
    assert watch_edges(api.world) == 1
    kinds = [kind for kind, _ in facts(api, "edge.%")]
    assert kinds == ["edge.silent", "edge.returned", "edge.silent"]


def test_an_invoice_past_its_due_date_is_told_once(api: Api) -> None:
    api.apply(PLAN)
    api.clock.set("2026-02-01T12:00:00Z")
    from tallybook.invoice.due import BillRequest
    from tallybook.invoice.flow import bill

    bill(api.world.billing("default"), BillRequest(period="2026-01"), name="run")
    (invoice,) = api.get("/invoices")["items"]
    watch = OverdueWatch()
    assert watch.round(api.world) == 0
    api.clock.set("2026-06-01T00:00:00Z")
    assert watch.round(api.world) == 1
    assert watch.round(api.world) == 0
    assert OverdueWatch().round(api.world) == 0, "a restart tells nothing again"
    ((_, body),) = facts(api, "invoice.overdue")
    assert (body["id"], body["open"]) == (invoice["id"], invoice["open"])
