"""Tenants, people and the audit log in the control database, on every database."""

import threading
from collections.abc import Callable, Iterator

import msgspec
import pytest
from sqlalchemy import Engine, event, insert, update

from tallybook.adapters.sql.access.audit import LOG, STALE_US, Question, SqlAudit
from tallybook.adapters.sql.access.recording import Recording, current, within
from tallybook.adapters.sql.access.tenants import TENANTS, SqlTenants, Tenant
from tallybook.adapters.sql.access.unmoved import Unmoved
from tallybook.adapters.sql.access.users import SqlUsers, User
from tallybook.adapters.sql.access.version import bump
from tallybook.adapters.sql.database import open_database, write
from tallybook.adapters.sql.edge.certificates import Certificate, SqlCertificates
from tallybook.adapters.sql.keys import SqlKeys
from tallybook.adapters.sql.outbox import add_facts
from tallybook.admit.trail import Change
from tallybook.kernel.book.fact import Fact
from tallybook.kernel.errors import Conflict, Missing
from tests.support.databases import KINDS

SECRET = b"s" * 32
NOW_US = 1_800_000_000_000_000
WRITERS, EACH = 6, 15


@pytest.fixture(params=KINDS)
def engine(request: pytest.FixtureRequest, new_database: Callable[[str], str]) -> Iterator[Engine]:
    engine = open_database(new_database(request.param))
    yield engine
    engine.dispose()


@pytest.fixture
def audit(engine: Engine) -> SqlAudit:
    return SqlAudit(engine, SECRET, lambda: NOW_US)


def change(subject: str, **more: str) -> Change:
    return Change(actor="key:k", action="change", kind="meter", subject=subject, **more)


def fact(kind: str, subject: str, body: str = '{"a":"€"}') -> Fact:
    return Fact(id=f"f{kind}{subject}", kind=kind, subject=subject, customer="", at_us=1, body=body)


# ------------------------------------------------------------------ tenants and people


def test_tenants_are_made_closed_and_opened(engine: Engine) -> None:
    tenants, keys = SqlTenants(engine), SqlKeys(engine)
    one = Tenant(tenant="acme", name="Äcme 🙂", created_us=5)
    tenants.add(one)
    with pytest.raises(Conflict):
        tenants.add(one)
    before = keys.version()
    tenants.close("acme", 7)
    tenants.close("acme", 7)
    assert keys.version() > before
    assert tenants.get("acme").closed_us == 7
    assert keys.known().closed == {"acme"}
    tenants.close("acme", None)
    assert tenants.listed() == [one]
    for ask in (lambda: tenants.get("no"), lambda: tenants.close("no", 1)):
        with pytest.raises(Missing):
            ask()


def test_people_are_of_their_tenant(engine: Engine) -> None:
    users, keys = SqlUsers(engine), SqlKeys(engine)
    ada = User(tenant="a", name="ada", password="$argon2id$x", scopes=("read",), created_us=5)
    other = msgspec.structs.replace(ada, tenant="b", scopes=("admin", "operator"))
    users.add(ada)
    users.add(other)
    with pytest.raises(Conflict):
        users.add(ada)
    assert (users.listed("a"), users.get("b", "ada")) == ([ada], other)
    users.failed(ada, 9)
    users.failed(ada, 11)
    wrong = users.get("a", "ada")
    assert (wrong.failures, wrong.locked_until_us) == (2, 11)
    users.entered(ada, 12)
    entered = users.get("a", "ada")
    assert (entered.failures, entered.locked_until_us, entered.last_login_us) == (0, 0, 12)
    users.change(msgspec.structs.replace(entered, ended_us=13, epoch=1))
    assert [user.tenant for user in keys.known().users] == ["b"]
    assert users.get("b", "ada") == other
    with pytest.raises(Missing):
        users.get("a", "ADA")


# ------------------------------------------------------------------ the audit log


def test_rows_hang_together_and_are_found(audit: SqlAudit, engine: Engine) -> None:
    audit.add("a", [change("m1", after='{"n":"Ä🙂"}'), change("m2", outcome="failed")], 5)
    audit.add("b", [change("m1")], 6)
    audit.add("a", [change("m1" * 600, asked="x" * 100_000)], 7)
    assert audit.verified("a").whole
    assert [row.seq for row in audit.listed("a", Question(), 9)] == [3, 2, 1]
    assert [row.at_us for row in audit.listed("b", Question(), 9)] == [6]
    (found,) = audit.listed("a", Question(subject="m1", end_us=7), 9)
    assert found.change == change("m1", after='{"n":"Ä🙂"}')
    with write(engine) as connection:
        mine = (LOG.c.tenant == "a", LOG.c.seq == 2)
        connection.execute(update(LOG).where(*mine).values(outcome="done"))
    told = audit.verified("a")
    assert (told.whole, told.wrong_seq) == (False, 2)
    assert audit.verified("b").whole


def at_once(do: Callable[[int], None]) -> None:
    """Run something in many threads that begin together; what one raises is raised."""
    failed: list[BaseException] = []
    ready = threading.Barrier(WRITERS)

    def one(number: int) -> None:
        ready.wait()
        try:
            do(number)
        except Exception as error:  # noqa: BLE001 - raised where the threads were begun
            failed.append(error)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def test_many_writers_make_one_chain(audit: SqlAudit, engine: Engine) -> None:
    """Requests, the server's own transactions and single rows, from the very first row on."""

    def work(number: int) -> None:
        for turn in range(EACH):
            name = f"{number}-{turn}"
            if number % 3 == 0:
                audit.add("t", [change(name)], turn)
                continue
            recording = Recording(f"req_{name}", turn)
            recording.tenant, recording.draft = "t", change(name)
            with within(recording if number % 3 == 1 else None), write(engine) as connection:
                bump(connection)
                add_facts(connection, "t", [fact("payment.received", name)])
            if number % 3 == 1:
                audit.finish(recording, [change(name)], turn)

    at_once(work)
    told = audit.verified("t")
    assert (told.whole, told.rows) == (True, WRITERS * EACH)
    rows = audit.listed("t", Question(), 999)
    assert sorted({row.change.subject for row in rows}) == sorted(
        f"{number}-{turn}" for number in range(WRITERS) for turn in range(EACH)
    )
    assert audit.settle_old(NOW_US) == 0


@pytest.mark.parametrize("begun", [True, False], ids=["a log", "no log yet"])
def test_what_was_decided_from_what_was_seen_meets_a_writer_that_saw_nothing(
    audit: SqlAudit, engine: Engine, begun: bool
) -> None:
    """One that is past its last look at the log, and has not committed, is waited for."""
    if begun:
        audit.add("t", [change("other")], 1)
    unmoved = Unmoved(engine)
    first, second = Recording("req_1", 1), Recording("req_2", 2)
    first.tenant = second.tenant = "t"
    first.draft, second.draft = change("m"), change("m")
    second.seen = unmoved.seen("t")
    before_commit, go_on = threading.Event(), threading.Event()
    told: list[BaseException] = []

    def hold(_connection: object) -> None:
        if current() is first:
            before_commit.set()
            assert go_on.wait(60)

    def one(recording: Recording) -> None:
        try:
            with within(recording), write(engine) as connection:
                add_facts(connection, "t", [fact("invoice.noted", recording.id)])
        except Conflict as error:
            told.append(error)

    event.listen(engine, "commit", hold)
    writers = [threading.Thread(target=one, args=(recording,)) for recording in (first, second)]
    writers[0].start()
    assert before_commit.wait(60)
    writers[1].start()
    writers[1].join(0.5)  # as far as it comes
    go_on.set()
    for writer in writers:
        writer.join()
    assert [error.code for error in told] == ["precondition-failed"]  # type: ignore[attr-defined]
    assert (first.commits, second.moved) == (1, True)


def test_what_a_dead_request_changed_is_told(audit: SqlAudit, engine: Engine) -> None:
    recording = Recording("req_1", 5)
    recording.tenant, recording.draft = "t", change("m")
    with within(recording), write(engine) as connection:
        bump(connection)
    assert audit.listed("t", Question(), 9) == []
    assert audit.settle_old(5 + STALE_US) == 0
    assert audit.settle_old(6 + STALE_US) == 1
    (row,) = audit.listed("t", Question(), 9)
    assert (row.change.outcome, row.change.subject) == ("unknown", "m")


# ------------------------------------------------------------------ what the server does by itself


def test_many_facts_of_a_transaction_are_a_row(audit: SqlAudit, engine: Engine) -> None:
    facts = [fact("invoice.finalized", f"inv_{number}") for number in range(1_001)]
    told = [*facts, fact("invoice.paid", "inv_0"), fact("wallet.low", "w")]
    with audit.acting("server", "job j"), write(engine) as connection:
        add_facts(connection, "t", told)
        add_facts(connection, "u", [fact("invoice.voided", "inv_9")])
    paid, alone, many = audit.listed("t", Question(), 9)
    assert (many.change.action, many.change.kind, many.change.subject) == (
        "finalize",
        "invoice",
        "",
    )
    ids = msgspec.json.decode(many.change.after or "")
    assert ids == {"count": 1000, "ids": [one.subject for one in facts[:1000]]}
    assert (alone.change.subject, alone.change.after) == ("inv_1000", '{"a":"€"}')
    assert (paid.change.action, paid.change.actor, paid.change.route) == ("pay", "server", "job j")
    assert [row.change.action for row in audit.listed("u", Question(), 9)] == ["void"]
    assert all(audit.verified(tenant).whole for tenant in "tu")


def test_what_is_rolled_back_was_not_done(audit: SqlAudit, engine: Engine) -> None:
    row = {"tenant": "t", "name": "n", "created_us": 1, "closed_us": None}

    def twice() -> None:
        with write(engine) as connection:
            add_facts(connection, "t", [fact("invoice.paid", "inv_0")])
            connection.execute(insert(TENANTS), row)
            connection.execute(insert(TENANTS), row)

    with pytest.raises(Conflict):
        twice()
    with write(engine) as connection:
        bump(connection)
    assert audit.listed("t", Question(), 9) == []


def test_certificates_are_in_the_log_with_their_rows(audit: SqlAudit, engine: Engine) -> None:
    certificates = SqlCertificates(engine)
    one = Certificate(
        tenant="t", serial="AB", name="edge-1", kind="edge", issued_us=1, expires_us=NOW_US
    )
    with audit.acting("cli:ada", ""):
        certificates.add(one)
        with pytest.raises(Conflict):
            certificates.add(one)
        certificates.revoke("t", "edge-1", "lost", 9)
    rows = [row.change for row in audit.listed("t", Question(kind="certificate"), 9)]
    assert [(row.actor, row.action, row.subject) for row in rows] == [
        ("cli:ada", "revoke", "AB"),
        ("cli:ada", "issue", "AB"),
    ]
