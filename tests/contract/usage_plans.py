"""Usage plans, limits of keys, and reports of use in the control database, on every database."""

from collections.abc import Callable, Iterator

import msgspec
import pytest
from sqlalchemy import Engine, select, update

from tallybook.adapters.sql.access.usage_plans import (
    KEY_LIMITS,
    PLANS,
    SqlKeyUse,
    SqlUsagePlans,
    StoredLimits,
)
from tallybook.adapters.sql.database import open_database, read, write
from tallybook.adapters.sql.keys import SqlKeys
from tallybook.adapters.sql.outbox import OUTBOX
from tallybook.admit.key import ApiKey
from tallybook.admit.plan.decide import EXCEEDED, Tell
from tallybook.admit.plan.facts import told
from tallybook.admit.plan.limit import Entitled, Quota, Rate
from tallybook.admit.plan.plan import UsagePlan
from tallybook.admit.plan.use import Reported, UsedKey
from tallybook.kernel.errors import Conflict, Corrupt, Missing
from tests.support.databases import KINDS
from tests.unit.admit.plan.sample import NOON_US, bound_to

ONE = UsagePlan(key="one", limits=(Rate(key="r", rate=5, warn=(80, 95)),))
TWO = UsagePlan(key="two", name="Zwei €", limits=(Entitled(key="e", feature="f"),), default=True)
OWN = (Quota(key="q", limit=9, window="week", per="tenant"),)


@pytest.fixture(params=KINDS)
def engine(request: pytest.FixtureRequest, new_database: Callable[[str], str]) -> Iterator[Engine]:
    engine = open_database(new_database(request.param))
    yield engine
    engine.dispose()


@pytest.fixture
def plans(engine: Engine) -> SqlUsagePlans:
    return SqlUsagePlans(engine)


def a_key(tenant: str, key_id: str, plan: str = "", customer: str = "") -> ApiKey:
    return ApiKey(
        tenant=tenant,
        id=key_id,
        name="k",
        shown="tb_",
        digest=f"{tenant}{key_id}",
        scopes=("read",),
        created_us=1,
        usage_plan=plan,
        customer=customer,
    )


def test_a_plan_has_versions_and_its_tenant(plans: SqlUsagePlans) -> None:
    assert plans.put("t", ONE, 5).version == 1
    more = msgspec.structs.replace(ONE, name="more")
    assert plans.put("t", more, 6, expected=1).version == 2
    assert (plans.get("t", "one").plan, plans.get("t", "one").changed_us) == (more, 6)
    assert plans.put("u", ONE, 7).version == 1
    assert [stored.plan for stored in plans.listed("t")] == [more]
    with pytest.raises(Missing):
        plans.get("u", "two")


def test_whoever_was_slower_is_refused(plans: SqlUsagePlans) -> None:
    plans.put("t", ONE, 5, expected=0)
    for expected in (0, 2):
        with pytest.raises(Conflict) as caught:
            plans.put("t", ONE, 5, expected=expected)
        assert caught.value.code == "version-changed"


def test_a_tenant_has_one_default(plans: SqlUsagePlans) -> None:
    plans.put("t", TWO, 5)
    plans.put("u", TWO, 5)
    plans.put("t", msgspec.structs.replace(ONE, default=True), 6)
    assert {s.plan.key: s.plan.default for s in plans.listed("t")} == {"one": True, "two": False}
    assert plans.get("t", "two").version == 2
    assert plans.get("u", "two").plan.default


def test_a_plan_goes_out_of_use_once_no_key_is_on_it(plans: SqlUsagePlans, engine: Engine) -> None:
    keys = SqlKeys(engine)
    plans.put("t", ONE, 5)
    keys.add(a_key("t", "k", "one"))
    with pytest.raises(Conflict) as caught:
        plans.delete("t", "one", 6)
    assert caught.value.code == "in-use"
    keys.revoke("t", "k", 6)
    plans.delete("t", "one", 7)
    assert plans.listed("t") == []
    with pytest.raises(Missing):
        plans.delete("t", "one", 8)
    assert plans.put("t", ONE, 9, expected=0).version == 3, "a version is never used twice"


def test_limits_of_single_keys(plans: SqlUsagePlans) -> None:
    assert plans.limits_of("t", "k") == StoredLimits()
    assert plans.put_limits("t", "k", OWN, 5) == StoredLimits(OWN, 1)
    assert plans.limits_of("t", "k") == StoredLimits(OWN, 1)
    assert plans.limits_of("u", "k") == StoredLimits()
    assert plans.every().own == {("t", "k"): OWN}
    plans.put_limits("t", "k", (), 6)
    assert (plans.every().own, plans.limits_of("t", "k")) == ({}, StoredLimits((), 2))


def test_every_change_is_noticed(plans: SqlUsagePlans) -> None:
    versions = [plans.version()]
    plans.put("t", ONE, 5)
    versions.append(plans.version())
    plans.put_limits("t", "k", OWN, 5)
    versions.append(plans.version())
    plans.delete("t", "one", 6)
    versions.append(plans.version())
    assert versions == sorted(set(versions))
    plans.put("t", ONE, 5)
    plans.put("u", TWO, 5)
    assert plans.every().plans == {("t", "one"): ONE, ("u", "two"): TWO}


def test_what_cannot_be_read_is_told(plans: SqlUsagePlans, engine: Engine) -> None:
    plans.put("t", ONE, 5)
    plans.put_limits("t", "k", OWN, 5)
    with write(engine) as connection:
        connection.execute(update(PLANS).values(body="{"))
        connection.execute(update(KEY_LIMITS).values(body="{"))
    with pytest.raises(Corrupt):
        plans.listed("t")
    with pytest.raises(Corrupt):
        plans.limits_of("t", "k")


def test_a_fact_is_in_the_outbox_once(plans: SqlUsagePlans, engine: Engine) -> None:
    fact = told(Tell(bound_to(OWN[0]), 0, EXCEEDED, NOON_US), NOON_US)
    plans.tell([("t", fact), ("u", fact)])
    plans.tell([("t", fact)])
    with read(engine) as connection:
        rows = connection.execute(select(OUTBOX.c.tenant, OUTBOX.c.id)).all()
    assert sorted(map(tuple, rows)) == [("t", fact.id), ("u", fact.id)]


def test_reports_of_use(engine: Engine) -> None:
    use, keys = SqlKeyUse(engine), SqlKeys(engine)
    one = Reported(tenant="t", key_id="k", route="api", status="2xx", generation="g", requests=5)
    two = msgspec.structs.replace(one, status="4xx", pending_requests=9, pending_us=7)
    use.put([one, two])
    assert sorted(use.reported(), key=lambda row: row.status) == [one, two]
    moved = msgspec.structs.replace(one, requests=6)
    use.put([moved])
    assert sorted(use.of("t", "k"), key=lambda row: row.status) == [moved, two]
    assert use.of("u", "k") == []
    keys.add(a_key("t", "k", customer="acme"))
    keys.add(a_key("u", "k2"))
    keys.revoke("u", "k2", 5)
    assert use.keys() == {("t", "k"): UsedKey("acme"), ("u", "k2"): UsedKey("", 5)}
