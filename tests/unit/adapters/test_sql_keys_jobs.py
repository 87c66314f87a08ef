"""Keys, jobs, decisions and remembered answers in the control database."""

from pathlib import Path

import pytest
from sqlalchemy import Engine

from tallybook.adapters.sql.database import open_database, sqlite_url
from tallybook.adapters.sql.idempotency import STALE_US, Remembered, SqlIdempotency
from tallybook.adapters.sql.jobs import SqlJobs
from tallybook.adapters.sql.keys import SqlKeys, key_digest
from tallybook.adapters.sql.quarantine import Decision, SqlQuarantine, Trace
from tallybook.admit.key import ApiKey
from tallybook.kernel.errors import Conflict, Missing


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return open_database(sqlite_url(tmp_path / "control.db"))


def key(name: str, tenant: str = "t") -> ApiKey:
    return ApiKey(
        tenant=tenant,
        id=f"key_{name}",
        name=name,
        shown="tb_x",
        digest=key_digest(b"s", name),
        scopes=("read", "ingest"),
        created_us=1,
    )


def test_a_digest_depends_on_secret_and_key() -> None:
    assert len({key_digest(b"a", "x"), key_digest(b"b", "x"), key_digest(b"a", "y")}) == 3


def test_keys_are_kept_listed_and_revoked(engine: Engine) -> None:
    keys = SqlKeys(engine)
    assert keys.version() == 0
    keys.add(key("a"))
    keys.add(key("b", "u"))
    before = keys.version()

    keys.revoke("t", "key_a", 5)

    assert keys.version() > before > 0
    assert keys.good() == [key("b", "u")]
    assert [k.revoked_us for k in keys.listed("t")] == [5]
    with pytest.raises(Missing):
        keys.revoke("t", "key_a", 6)
    with pytest.raises(Missing):
        keys.revoke("t", "key_b", 6)


def test_the_first_key_is_stored_once(engine: Engine) -> None:
    keys = SqlKeys(engine)
    assert keys.add(key("a"), only_if_first=True)
    keys.revoke("t", "key_a", 5)
    assert not keys.add(key("b"), only_if_first=True)


def test_a_text_names_one_key(engine: Engine) -> None:
    keys = SqlKeys(engine)
    keys.add(key("a"))
    with pytest.raises(Conflict):
        keys.add(key("a", "u"))


def test_a_job_survives_the_process_that_ran_it(engine: Engine) -> None:
    jobs = SqlJobs(engine)
    assert jobs.take(1) is None
    jobs.ask("t", "job_1", "billing-run", b'{"until":"now"}', 1)
    jobs.ask("t", "job_2", "billing-run", b"{}", 2)

    first = jobs.take(3)
    again = jobs.take(4)

    assert first is not None
    assert again is not None
    assert (first.id, first.attempts, again.id, again.attempts) == ("job_1", 1, "job_1", 2)
    jobs.advance(again, 3, 10, 5)
    assert (jobs.get("t", "job_1").finished, jobs.get("t", "job_1").total) == (3, 10)
    jobs.done(again, b'{"invoices":10}', 6)
    second = jobs.take(7)
    assert second is not None
    jobs.failed(second, b'{"code":"x"}', 8)
    assert jobs.take(9) is None
    assert [(j.id, j.state) for j in jobs.listed("t", "billing-run", 10)] == [
        ("job_2", "failed"),
        ("job_1", "done"),
    ]
    assert bytes(jobs.get("t", "job_1").result or b"") == b'{"invoices":10}'
    assert [j.id for j in jobs.listed("t", "billing-run", 10, before="job_2")] == ["job_1"]
    with pytest.raises(Missing):
        jobs.get("u", "job_1")


def test_one_decision_an_event(engine: Engine) -> None:
    quarantine = SqlQuarantine(engine)
    decision = Decision(
        tenant="t", id="q1", action="dropped", reason="a test", key_id="k", decided_us=1
    )
    trace = Trace(code="c", message="m", source="s", event_id="e", before="{}")
    quarantine.decide(decision, trace)
    assert quarantine.decided("t", ["q1", "q2"]) == {"q1": decision}
    assert quarantine.decided("u", ["q1"]) == {}
    assert quarantine.count("t") == {"redriven": 0, "dropped": 1}
    assert quarantine.decisions("t", 10) == [(decision, trace)]
    assert quarantine.decisions("t", 10, before=(1, "q1")) == []
    assert quarantine.codes("t") == {("c", "dropped"): 1}
    assert quarantine.codes("u") == {}
    with pytest.raises(Conflict):
        quarantine.decide(decision, trace)


def test_the_first_answer_is_given_again(engine: Engine) -> None:
    answers = SqlIdempotency(engine)
    assert answers.begin("t", "k", "d1", 1) is None
    with pytest.raises(Conflict, match="still running"):
        answers.begin("t", "k", "d1", 2)
    answers.finish("t", "k", Remembered(201, "application/json", b"{}"))
    assert answers.begin("t", "k", "d1", 3) == Remembered(201, "application/json", b"{}")
    with pytest.raises(Conflict, match="another request"):
        answers.begin("t", "k", "d2", 4)
    assert answers.begin("u", "k", "d2", 4) is None


def test_a_failed_or_killed_request_gives_its_key_back(engine: Engine) -> None:
    answers = SqlIdempotency(engine)
    assert answers.begin("t", "k", "d", 1) is None
    answers.release("t", "k")
    assert answers.begin("t", "k", "d", 2) is None
    assert answers.begin("t", "k", "d", 3 + STALE_US) is None
    assert answers.forget(2 + STALE_US) == 0
    assert answers.forget(4 + STALE_US) == 1
    assert answers.forget(4 + STALE_US) == 0
