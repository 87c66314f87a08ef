"""Where rules are kept: all of a change or nothing, and read again only when there is more."""

from pathlib import Path

import pytest

from tallybook.adapters.memory.streams import MemoryRules
from tallybook.adapters.sql.database import open_database
from tallybook.adapters.sql.routing.known import KnownRules
from tallybook.adapters.sql.routing.rules import SqlRules
from tallybook.adapters.sqlite.streams import SqliteStreamReader
from tallybook.compose import World
from tallybook.kernel.errors import Conflict, Invalid
from tallybook.route.ports import RuleStore
from tallybook.route.rule import Rule
from tallybook.route.stream import Keep
from tallybook.serve.worker.watching.routing import wake_router
from tallybook.settings import Settings, StreamSettings, load
from tests.support.api import Api


def rule(key: str, version: int = 1) -> Rule:
    return Rule(tenant="t", key=key, version=version, pattern='{"a":[1]}', targets=("x",))


@pytest.fixture(params=["memory", "sql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> RuleStore:
    return (
        MemoryRules()
        if request.param == "memory"
        else SqlRules(open_database(f"sqlite:///{tmp_path / 'control.db'}"))
    )


def test_several_versions_are_stored_together_or_not_at_all(store: RuleStore) -> None:
    store.add(rule("a"), rule("b"))
    with pytest.raises(Conflict):
        store.add(rule("c"), rule("b"))
    assert [one.key for one in store.rules("t")] == ["a", "b"]
    assert store.version() == 2


def test_what_is_known_is_read_again_when_there_is_more(store: RuleStore) -> None:
    known = KnownRules(store)
    assert known.all_versions() == []
    store.add(rule("a"))
    first = known.all_versions()
    assert [one.key for one in first] == ["a"]
    assert known.all_versions() is first
    known.add(rule("a", 2))
    assert [one.version for one in known.all_versions()] == [1, 2]
    assert known.version() == 2
    assert known.rules("t") == [rule("a", 2)]
    assert known.history("t", "a") == known.all_versions()


def test_looking_at_routing_makes_no_file_and_a_rule_without_one_wakes_the_router(
    tmp_path: Path,
) -> None:
    with Api(tmp_path) as api:
        assert (api.get("/routes")["items"], api.get("/streams")["items"]) == ([], [])
        assert not api.world.settings.streams_db.exists()
        assert wake_router(api.world) == 0
        api.world.rules.add(rule("a"))
        assert wake_router(api.world) == 1
        assert api.world.settings.streams_db.exists()
        assert wake_router(api.world) == 0


def test_new_streams_keep_records_as_the_settings_say(tmp_path: Path) -> None:
    world = World(Settings(data_dir=tmp_path, streams=StreamSettings(keep_hours=2, keep_mb=3)))
    reader = SqliteStreamReader(world.streams_file)
    reader.make("t", ["a"], 0)
    assert reader.stream("t", "a").keep == Keep(keep_hours=2, keep_mb=3)
    for wrong in ("0", "-1", "9999999"):
        with pytest.raises(Invalid) as refused:
            load(environ={"TALLYBOOK__STREAMS__KEEP_MB": wrong})
        assert refused.value.field == "streams.keep_mb"
