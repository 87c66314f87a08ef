"""Rules of aggregation in the control database, on every database."""

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import update

from tallybook.adapters.sql.database import open_database, write
from tallybook.adapters.sql.edge.rules import RULES, SqlEdgeRules
from tallybook.collect.aggregate.rule import EdgeRule
from tallybook.kernel.errors import Corrupt, Invalid
from tests.support.databases import KINDS

ONE = (EdgeRule(name="one", match="a", value="$.bytes", where={"$.s": ["ä"]}),)
TWO = (*ONE, EdgeRule(name="two", match="b", late_seconds=0))


@pytest.fixture(params=KINDS)
def store(
    request: pytest.FixtureRequest, new_database: Callable[[str], str]
) -> Iterator[SqlEdgeRules]:
    engine = open_database(new_database(request.param))
    yield SqlEdgeRules(engine)
    engine.dispose()


def test_an_edge_goes_by_its_own_rules_else_by_those_for_all(store: SqlEdgeRules) -> None:
    assert store.of("t", "e").told().version == ""
    store.put("t", "", ONE, 5)
    assert (store.of("t", "e").told().version, store.of("t", "e").rules) == ("1", ONE)
    own = store.put("t", "e", TWO, 6)
    assert own == store.of("t", "e")
    assert (own.told().version, own.changed_us) == ("e:1", 6)
    assert store.of("t", "f").told().version == "1"
    assert store.of("t", "").rules == ONE
    assert store.of("u", "e").version == 0


def test_an_edge_may_be_told_to_send_everything_as_it_is(store: SqlEdgeRules) -> None:
    store.put("t", "", ONE, 5)
    store.put("t", "e", (), 5)
    assert (store.of("t", "e").told().version, store.of("t", "e").rules) == ("e:1", ())


def test_a_version_is_never_used_twice(store: SqlEdgeRules) -> None:
    versions = [store.put("t", "e", rules, 1).version for rules in (ONE, None, ONE, TWO, None)]
    assert versions == [1, 2, 3, 4, 5]
    assert store.of("t", "e").version == 0
    store.put("t", "", ONE, 5)
    store.put("t", "", None, 5)
    assert (store.of("t", "").told().version, store.of("t", "e").rules) == ("", ())
    assert store.put("t", "", ONE, 5).told().version == "3"


def test_rules_that_cannot_be_are_not_stored(store: SqlEdgeRules) -> None:
    with pytest.raises(Invalid):
        store.put("t", "", (*ONE, *ONE), 1)
    assert store.of("t", "").version == 0


def test_damaged_rules_are_corrupt_not_none(store: SqlEdgeRules) -> None:
    store.put("t", "e", ONE, 1)
    with write(store._engine) as connection:
        connection.execute(update(RULES).values(body="{"))
    with pytest.raises(Corrupt):
        store.of("t", "e")
