"""`/edges` in the API and the console, from what requests told."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tallybook.adapters.sql.edge.certificates import Certificate
from tallybook.adapters.sql.edge.edges import Sighting
from tallybook.collect.sending.fleet import Seen
from tallybook.collect.sending.parcel import Note, Parcel, Waiting
from tallybook.kernel.errors import Missing
from tests.support.api import Api
from tests.support.browser import Browser

MINUTE = 60_000_000


def sighting(api: Api, name: str, number: int, at_us: int, tenant: str = "default") -> Sighting:
    waiting = Waiting(first=number, batches=1, events=5, bytes=99, oldest_us=at_us - 1000)
    parcel = Parcel(edge=name, incarnation="life", number=number, agent="1.2", waiting=waiting)
    return Sighting(tenant, Seen(note=Note(parcel, at_us + 250_000), at_us=at_us, stored=True))


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    with Api(tmp_path) as made:
        now = made.clock.now
        edges = made.world.edges
        edges.note([sighting(made, "web-1", n, now - MINUTE) for n in (1, 2, 5)])
        edges.note([sighting(made, "web-1", 5, now - MINUTE)])
        edges.note([sighting(made, "web-2", 1, now - 10 * MINUTE)])
        edges.note([sighting(made, "web-9", 1, now, tenant="other")])
        made.world.certificates.add(
            Certificate(
                tenant="default",
                serial="AB",
                name="web-1",
                kind="edge",
                issued_us=now - MINUTE,
                expires_us=now + 90 * MINUTE,
            )
        )
        yield made


def test_the_fleet_as_it_is_now(api: Api) -> None:
    found = api.get("/edges")["items"]
    assert [(e["name"], e["state"]) for e in found] == [("web-1", "live"), ("web-2", "silent")]
    one = api.get("/edges/web-1")
    assert one == found[0]
    assert one["missing_batches"] == 2
    assert one["repeated_batches"] == 1
    assert one["sequences"][0]["missing"] == [[3, 4]]
    assert one["sequences"][0]["repeated"] == [[5, 5]]
    assert one["clock_offset_seconds"] == 0.25
    assert one["version"] == "1.2"
    assert one["silent_seconds"] == 60
    assert one["certificate"]["serial"] == "AB"
    assert found[1]["certificate"] is None


def test_edges_come_in_pages(api: Api) -> None:
    first = api.get("/edges?limit=1")
    assert [e["name"] for e in first["items"]] == ["web-1"]
    second = api.get(f"/edges?limit=1&cursor={first['next_cursor']}")
    assert [e["name"] for e in second["items"]] == ["web-2"]
    assert second["next_cursor"] is None


def test_an_edge_is_forgotten_until_it_sends_again(api: Api) -> None:
    api.world.edges.forget("default", "web-2")
    with pytest.raises(Missing):
        api.world.edges.get("default", "web-2")
    with pytest.raises(Missing):
        api.world.edges.forget("default", "web-2")
    assert api.world.edges.get("other", "web-9").name == "web-9"


def test_revoking_by_name_or_number(api: Api) -> None:
    kept = api.world.certificates
    assert kept.revoke("default", "ab", "lost", api.clock.now) == ["AB"]
    with pytest.raises(Missing):
        kept.revoke("default", "web-1", "again", api.clock.now)
    assert [one.reason for one in kept.revoked(api.clock.now)] == ["lost"]
    assert kept.revoked(api.clock.now + 100 * MINUTE) == []
    assert api.get("/edges/web-1")["certificate"]["reason"] == "lost"


def test_pages_of_the_console(api: Api) -> None:
    browser = Browser(api, ["read"])
    page = browser.get("/edges")
    assert page.status == 200
    assert "web-1" in page.text
    assert "silent" in page.text
    assert "web-9" not in page.text
    one = browser.get("/edges/web-1")
    assert "missing 2" in one.text
    assert "3–4" in one.text
    assert browser.get("/edges/nobody").status == 404


def test_names_made_up_are_bounded(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tallybook.adapters.sql.edge.edges.EDGES_MAX", 3)
    made_up = [sighting(api, f"x{n}", 1, api.clock.now) for n in range(5)]
    assert api.world.edges.note(made_up) == 1
    assert api.world.edges.note([sighting(api, "web-1", 6, api.clock.now)]) == 0
