"""Requests side by side: one pass and one log row for all that are alike, each with its answer."""

import asyncio
import json
from types import SimpleNamespace

import pytest
import uvloop

from tallybook.kernel.errors import Unavailable
from tallybook.serve.api import gathering
from tallybook.serve.api.admission.ticket import TICKET, Limits, Ticket
from tallybook.serve.api.company import Company
from tallybook.serve.api.gathering import BYTES_MAX, EVENTS_MAX, Gathering, groups
from tallybook.serve.api.ingest import NOTING, IngestApp
from tallybook.transport.accept import AcceptLimits
from tallybook.transport.alike import EVENTS_MIN, split
from tests.unit.serve.event_door import BATCH, COLUMNS, KEY, Door, Server

LIMITS = AcceptLimits()
MANY = 300
KIND = {"content-type": BATCH}


@pytest.fixture
def server(tmp_path):
    made = Server(tmp_path)
    made.app.close()
    mark = tmp_path / "mark"
    made.app = IngestApp(made.partition, mark, Door(), lambda: COLUMNS, LIMITS)
    yield made
    made.close()


def body(name: str, count: int = MANY, **more) -> bytes:
    events = [
        {"specversion": "1.0", "id": f"{name}-{i}", "source": "/s", "type": "t", "subject": "c",
         "data": {"bytes": i, "text": "x" * 60}, **more}
        for i in range(count)
    ]  # fmt: skip
    return json.dumps(events, separators=(",", ":")).encode()


def side_by_side(server, *bodies):
    """Return the answers of requests that come at once."""

    async def all_of_them():
        return await asyncio.gather(*[server.send(one, KIND) for one in bodies])

    return asyncio.run(all_of_them())


def rows(server) -> list[int]:
    return [row.events for row in server.log.read(0, 100)]


def test_requests_that_are_alike_become_one_row(server):
    answers = side_by_side(server, body("a"), body("b"), body("c"))
    assert [status for status, _, _ in answers] == [204, 204, 204]
    assert rows(server) == [3 * MANY]
    assert {event["id"] for event in server.stored()} == {
        f"{name}-{i}" for name in "abc" for i in range(MANY)
    }


def test_one_that_is_refused_refuses_no_other(server):
    wrong = json.loads(body("b"))
    wrong[7]["id"] = ""
    answers = side_by_side(server, body("a"), json.dumps(wrong).encode(), body("c"))
    assert [status for status, _, _ in answers] == [204, 400, 204]
    assert [one["index"] for one in answers[1][2]["errors"]] == [7]
    assert len(server.stored()) == 2 * MANY


def test_partial_ones_share_a_row_where_nothing_is_bad(server):
    """They are told so; what has a bad event goes by itself, and loses nothing else."""
    wrong = json.loads(body("c"))
    wrong[7]["id"] = ""

    async def both():
        asked = {"headers": KIND, "query": b"partial=true"}
        whole = [body("a"), body("b"), json.dumps(wrong).encode()]
        return await asyncio.gather(*[server.send(one, **asked) for one in whole])

    answers = asyncio.run(both())
    assert [status for status, _, _ in answers] == [200, 200, 200]
    assert [told["stored"] for _, _, told in answers] == [MANY, MANY, MANY - 1]
    assert [len(told["quarantined"]) for _, _, told in answers] == [0, 0, 1]
    assert sorted(rows(server)) == [MANY, 2 * MANY]
    assert len(server.stored()) == 3 * MANY


def test_what_is_spelled_otherwise_goes_by_itself(server):
    answers = side_by_side(server, body("a"), body("b", traceparent="x"), body("ü"))
    assert [status for status, _, _ in answers] == [204, 204, 204]
    assert len(server.stored()) == 3 * MANY


def test_a_row_is_the_same_whoever_came_along(server):
    side_by_side(server, body("a"), body("b"))
    together = server.stored()
    side_by_side(server, body("a"))
    alone = server.stored()[2 * MANY :]
    for one, other in zip(alone, together, strict=False):
        assert {**one, "received_us": 0, "time_us": 0} == {
            **other, "received_us": 0, "time_us": 0,
        }  # fmt: skip


def test_a_full_log_is_told_to_all(server, monkeypatch):
    def full(*_):
        raise Unavailable("the log is busy", retry_after_seconds=1)

    monkeypatch.setattr(server.app._gathering, "_submit", full)
    answers = side_by_side(server, body("a"), body("b"))
    assert [status for status, _, _ in answers] == [503, 503]
    assert server.stored() == []


def test_nobody_waits_for_ever_where_there_is_a_bug(server, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(gathering, "alike", broken)
    with pytest.raises(ZeroDivisionError):
        side_by_side(server, body("a"))
    assert server.stored() == []


def test_events_under_a_limit_are_counted_before_they_are_stored(server, monkeypatch):
    counted = []
    ticket = Ticket(None, Limits(events=["a limit"]))
    monkeypatch.setattr(Ticket, "_through", lambda _self, _bounds, amount: counted.append(amount))

    async def one():
        token = TICKET.set(ticket)
        try:
            return await server.send(body("a"), KIND)
        finally:
            TICKET.reset(token)

    assert asyncio.run(one())[0] == 204
    assert counted == [MANY]
    assert ticket.events_counted == MANY


def test_events_under_no_limit_are_counted_too(server):
    ticket = Ticket(None, Limits(use=("t", "k", "r")))

    async def one():
        token = TICKET.set(ticket)
        try:
            return await server.send(body("a"), KIND)
        finally:
            TICKET.reset(token)

    assert asyncio.run(one())[0] == 204
    assert ticket.events_counted == MANY


def test_notes_are_kept_with_their_events(server):
    headers = [(b"authorization", KEY), (b"content-type", BATCH)]

    async def asked(name):
        said = [{"type": "http.request", "body": body(name), "more_body": False}]

        async def receive():
            return said.pop()

        async def tell(_message):
            return None

        scope = {"headers": headers, NOTING: lambda tenant: f"{tenant} {name}".encode()}
        await server.app(scope, receive, tell)

    async def both():
        await asyncio.gather(asked("a"), asked("b"))

    asyncio.run(both())
    assert [note for _, note in server.log.notes(0, 10)] == [b"acme a", b"acme b"]
    assert rows(server) == [2 * MANY]


def test_too_few_events_take_another_road():
    found = []

    async def asked():
        gathered = Gathering(lambda: COLUMNS, LIMITS, lambda *made: found.append(made))
        return await gathered.stored("t", split(body("a", EVENTS_MIN - 1), LIMITS, COLUMNS), None)

    assert asyncio.run(asked()) is False
    assert found == []


def test_a_pass_is_of_one_tenant_and_bounded_and_tenants_take_turns():
    def coming(tenant, count, size=1):
        return SimpleNamespace(tenant=tenant, events=count, bytes=size)

    given = [coming("a", EVENTS_MAX - 1), coming("b", 2), coming("a", 1), coming("a", 1)]
    given.append(coming("b", EVENTS_MAX * 2))
    found = [
        [(one.tenant, one.events) for one in group]
        for group in groups(given, EVENTS_MAX, BYTES_MAX)
    ]
    assert found == [
        [("a", EVENTS_MAX - 1), ("a", 1)],
        [("b", 2)],
        [("a", 1)],
        [("b", EVENTS_MAX * 2)],
    ]
    wide = [coming("a", 1, BYTES_MAX - 1), coming("a", 1), coming("a", 1), coming("a", 1)]
    assert list(map(len, groups(wide, EVENTS_MAX, BYTES_MAX))) == [2, 2]


def told_of(submit, *coming, columns=lambda: COLUMNS):
    """Return what each of some requests that come at once is answered."""

    async def all_of_them():
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        gathered = Gathering(columns, LIMITS, submit)
        asked = [
            gathered.stored(tenant, split(part, LIMITS, COLUMNS), None) for tenant, part in coming
        ]
        return await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 60)

    return asyncio.run(all_of_them())


def test_what_breaks_one_group_keeps_no_other_waiting():
    def submit(_made, tokens, _notes):
        if not submitted:
            submitted.append("broken")
            raise ZeroDivisionError
        for token in tokens:
            token.set_result(None)

    submitted = []
    first, second, third = told_of(submit, *[(name, body(name)) for name in "abc"])
    assert isinstance(first, ZeroDivisionError)
    assert (second, third) == (True, True)


def test_a_full_log_is_told_to_those_who_were_not_stored_only():
    def submit(_made, tokens, _notes):
        submitted.append(tokens)
        if len(submitted) == 2:
            raise Unavailable("the log is busy")
        asyncio.get_running_loop().call_soon(tokens[0].set_result, None)

    submitted = []
    parts = [body(name) for name in "abc"] + [body("d", time="9999-01-01T00:00:00Z")]
    answers = told_of(submit, *[("t", part) for part in parts])
    assert [answers[0], answers[2], answers[3]] == [True, True, False]
    assert isinstance(answers[1], Unavailable)


def test_who_has_gone_keeps_nobody_waiting():
    async def all_of_them():
        came = asyncio.Event()

        def submit(_made, tokens, _notes):
            found.extend(tokens)
            came.set()

        gathered = Gathering(lambda: COLUMNS, LIMITS, submit)
        gone, stays = (
            asyncio.create_task(gathered.stored("t", split(body(name), LIMITS, COLUMNS), None))
            for name in "ab"
        )
        await asyncio.sleep(0)
        gone.cancel()
        await came.wait()
        IngestApp._notify(found, None)
        return await asyncio.gather(gone, stays, return_exceptions=True)

    found = []
    left, stored = asyncio.run(all_of_them())
    assert isinstance(left, asyncio.CancelledError)
    assert stored is True


def test_others_have_their_turn_between_two_passes():
    def submit(_made, tokens, _notes):
        turns.append("pass")
        asyncio.get_running_loop().call_soon(turns.append, "other")
        for token in tokens:
            token.set_result(None)

    turns = []
    assert told_of(submit, *[(name, body(name)) for name in "abc"]) == [True] * 3
    assert turns == ["pass", "other"] * 3


@pytest.mark.parametrize(
    "loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
def test_who_was_waited_for_ends_the_wait(monkeypatch, loop):
    async def twice():
        gathered = Gathering(lambda: COLUMNS, LIMITS, at_once)
        parts = [split(body(name), LIMITS, COLUMNS) for name in "abcd"]
        first = [gathered.stored("t", part, None) for part in parts[:2]]
        told = await asyncio.gather(*first)
        one = asyncio.create_task(gathered.stored("t", parts[2], None))
        await asyncio.sleep(0)
        return [*told, await gathered.stored("t", parts[3], None), await one]

    def at_once(_made, tokens, _notes):
        made.append(len(tokens))
        for token in tokens:
            token.set_result(None)

    made: list[int] = []
    monkeypatch.setattr(gathering, "LINGER_SECONDS", 3600)
    monkeypatch.setattr(gathering, "COMPANY_SECONDS", 0)
    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(asyncio.wait_for(twice(), 30)) == [True] * 4
    assert made == [2, 2]


def at_once(_made, tokens, _notes):
    for token in tokens:
        token.set_result(None)


def test_those_who_come_on_their_own_share_a_pass(monkeypatch):
    """Each at its time, and nobody waiting for the answer of another."""

    async def one_by_one():
        gathered = Gathering(lambda: COLUMNS, LIMITS, submit)
        waiting = []
        for name in "abcdef":
            part = split(body(name), LIMITS, COLUMNS)
            waiting.append(asyncio.create_task(gathered.stored("t", part, None)))
            await asyncio.sleep(0.005)
        return await asyncio.wait_for(asyncio.gather(*waiting), 30)

    def submit(made, tokens, notes):
        counts.append(len(tokens))
        at_once(made, tokens, notes)

    counts: list[int] = []
    monkeypatch.setattr(gathering, "COMPANY_SECONDS", 3600)
    monkeypatch.setattr(gathering, "EVENTS_MAX", 3 * MANY)
    assert asyncio.run(one_by_one()) == [True] * 6
    assert counts == [3, 3]


def learned(monkeypatch) -> list[bool | None]:
    """Return, as it grows, what each pass taught: whether somebody came; None without a wait."""
    found: list[bool | None] = []
    was, without = Company.awaited, Company.not_awaited

    def awaited(one, came):
        found.append(came)
        was(one, came=came)

    def not_awaited(one):
        found.append(None)
        without(one)

    monkeypatch.setattr(Company, "awaited", awaited)
    monkeypatch.setattr(Company, "not_awaited", not_awaited)
    return found


def test_a_client_alone_is_hardly_ever_kept_waiting(monkeypatch):
    async def one_after_the_other():
        gathered = Gathering(lambda: COLUMNS, LIMITS, at_once)
        for number in range(70):
            await gathered.stored("t", split(body(str(number)), LIMITS, COLUMNS), None)

    found = learned(monkeypatch)
    asyncio.run(one_after_the_other())
    vain = [number for number, came in enumerate(found) if came is False]
    assert vain == [0, 2, 5, 10, 19, 36, 69]
    assert True not in found


def test_who_does_not_come_again_is_a_vain_wait_too(monkeypatch):
    async def two_then_one():
        gathered = Gathering(lambda: COLUMNS, LIMITS, at_once)
        parts = [split(body(name), LIMITS, COLUMNS) for name in "abc"]
        await asyncio.gather(*(gathered.stored("t", part, None) for part in parts[:2]))
        await gathered.stored("t", parts[2], None)

    found = learned(monkeypatch)
    asyncio.run(two_then_one())
    assert found == [True, False]


@pytest.mark.parametrize("limit", ["EVENTS_MAX", "BYTES_MAX"])
def test_what_is_full_waits_for_nobody(monkeypatch, limit):
    async def one_after_the_other():
        gathered = Gathering(lambda: COLUMNS, LIMITS, at_once)
        for name in "abc":
            await gathered.stored("t", split(body(name), LIMITS, COLUMNS), None)

    found = learned(monkeypatch)
    monkeypatch.setattr(gathering, "COMPANY_SECONDS", 3600)
    monkeypatch.setattr(gathering, limit, MANY)
    asyncio.run(one_after_the_other())
    assert found == [None] * 3


def test_another_event_loop_knows_nothing_of_the_one_before(monkeypatch):
    async def left_waiting():
        waiting = asyncio.create_task(gathered.stored("t", parts[0], None))
        await asyncio.sleep(0.01)
        waiting.cancel()

    async def another():
        return await asyncio.wait_for(gathered.stored("t", parts[1], None), 30)

    gathered = Gathering(lambda: COLUMNS, LIMITS, at_once)
    parts = [split(body(name), LIMITS, COLUMNS) for name in "ab"]
    monkeypatch.setattr(gathering, "COMPANY_SECONDS", 3600)
    asyncio.run(left_waiting())
    monkeypatch.setattr(gathering, "COMPANY_SECONDS", 0.01)
    assert asyncio.run(another()) is True
