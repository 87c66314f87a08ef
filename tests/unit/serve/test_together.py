"""Small requests side by side: judged together, one row, and each has its own answer."""

import asyncio
import json

import pytest

from tallybook.kernel.errors import Unavailable
from tallybook.serve.api import together
from tallybook.serve.api.admission.ticket import TICKET, Limits, Ticket
from tallybook.serve.api.ingest import NOTING, IngestApp
from tallybook.serve.api.together import Together
from tallybook.transport.accept import AcceptLimits
from tests.unit.serve.event_door import BATCH, COLUMNS, KEY, STRUCTURED, Server, event

LIMITS = AcceptLimits()
KIND = {"content-type": STRUCTURED}


@pytest.fixture
def server(tmp_path):
    made = Server(tmp_path / "log")
    yield made
    made.close()


def body(name: str, **more) -> bytes:
    return json.dumps(event(name, data={"bytes": 7}, **more), separators=(",", ":")).encode()


def side_by_side(server, *bodies, kind=KIND):
    """Return the answers of requests that come at once."""

    async def all_of_them():
        return await asyncio.gather(*[server.send(one, kind) for one in bodies])

    return asyncio.run(all_of_them())


def statuses(answers) -> list[int]:
    return [status for status, _, _ in answers]


def rows(server) -> list[int]:
    return [row.events for row in server.log.read(0, 100)]


def test_requests_that_come_at_once_become_one_row(server):
    assert statuses(side_by_side(server, *map(body, "abc"))) == [204] * 3
    assert rows(server) == [3]
    assert [one["id"] for one in server.stored()] == ["a", "b", "c"]


def test_a_few_events_of_one_request_go_along(server):
    few = b"[" + body("b") + b" , " + body("c") + b"]"
    answers = side_by_side(server, few, b"[" + body("a") + b"]", kind={"content-type": BATCH})
    assert statuses(answers) == [204] * 2
    assert rows(server) == [3]


def test_who_is_refused_refuses_nobody_else(server):
    answers = side_by_side(server, body("a"), body(""), body("c"), body("d", time="x"), body("e"))
    assert statuses(answers) == [204, 400, 204, 400, 204]
    assert [answers[1][2]["errors"][0]["index"], answers[3][2]["errors"][0]["index"]] == [0, 0]
    assert sorted(one["id"] for one in server.stored()) == ["a", "c", "e"]


def test_bodies_never_complete_each_other(server):
    whole = body("a")
    cut = len(whole) - 3
    twice = body("x") + b"," + body("y")
    answers = side_by_side(server, whole[:cut], whole[cut:], twice, body("b"))
    assert statuses(answers) == [400, 400, 400, 204]
    assert [one["id"] for one in server.stored()] == ["b"]


def test_what_needs_a_closer_look_goes_by_itself(server):
    odd = body("b", traceparent="00-x")
    answers = side_by_side(server, body("a"), odd, body("ü"), body("d"))
    assert statuses(answers) == [204] * 4
    found = {one["id"]: one["ext"] for one in server.stored()}
    assert found == {"a": None, "b": '{"traceparent":"00-x"}', "ü": None, "d": None}


def test_a_row_is_the_same_whoever_came_along(server):
    side_by_side(server, *map(body, "abc"))
    together_ = server.stored()
    for name in "abc":
        side_by_side(server, body(name))
    alone = server.stored()[3:]
    for one, other in zip(alone, together_, strict=True):
        assert {**one, "received_us": 0, "time_us": 0} == {
            **other, "received_us": 0, "time_us": 0,
        }  # fmt: skip


def test_a_note_is_kept_with_its_event(server):
    async def asked(name):
        said = [{"type": "http.request", "body": body(name), "more_body": False}]

        async def receive():
            return said.pop()

        async def tell(_message):
            return None

        headers = [(b"authorization", KEY), (b"content-type", STRUCTURED)]
        scope = {"headers": headers, NOTING: lambda tenant: f"{tenant} {name}".encode()}
        await server.app(scope, receive, tell)

    asyncio.run(asked("a"))
    assert [note for _, note in server.log.notes(0, 10)] == [b"acme a"]


@pytest.mark.parametrize("limits", [Limits(events=["a limit"]), Limits(use=("t", "k", "r"))])
def test_events_are_counted(server, monkeypatch, limits):
    ticket = Ticket(None, limits)
    monkeypatch.setattr(Ticket, "_through", lambda *_: None)

    async def one():
        token = TICKET.set(ticket)
        try:
            return await server.send(body("a"), KIND)
        finally:
            TICKET.reset(token)

    assert asyncio.run(one())[0] == 204
    assert ticket.events_counted == 1


def told_of(submit, *bodies, tenants=None, limits=LIMITS):
    """Return what each of some requests that come at once is told."""

    async def all_of_them():
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        made = Together(lambda: COLUMNS, limits, submit)
        whose = tenants or ["t"] * len(bodies)
        asked = [made.stored(one, part) for one, part in zip(whose, bodies, strict=True)]
        return await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 60)

    return asyncio.run(all_of_them())


def single(name: str, **more) -> bytes:
    return b"[" + body(name, **more) + b"]"


def resolve(tokens) -> None:
    for token in tokens:
        asyncio.get_running_loop().call_soon(token.set_result, None)


def queueing(queue: "asyncio.Queue[list[object]]"):
    """Return what queues rows: a test resolves their futures when it likes."""
    return lambda _rows, tokens, _notes: queue.put_nowait(tokens)


def test_nobody_is_answered_before_all_is_written():
    async def all_of_them():
        writes: asyncio.Queue[list[object]] = asyncio.Queue()
        made = Together(lambda: COLUMNS, LIMITS, queueing(writes))
        first = asyncio.create_task(made.stored("t", single("a")))
        tokens = await writes.get()
        others = [asyncio.create_task(made.stored("t", single(name))) for name in "bc"]
        for _ in range(10):
            await asyncio.sleep(0)
        assert writes.empty()  # the others gather while the first is written
        assert not first.done()
        resolve(tokens)
        assert await first == 1
        tokens = await writes.get()
        assert len(tokens) == 3  # two requests, and who waits for the group
        assert not any(other.done() for other in others)
        resolve(tokens)
        return await asyncio.gather(*others)

    assert asyncio.run(asyncio.wait_for(all_of_them(), 60)) == [1, 1]


def test_who_comes_later_is_not_forgotten():
    async def one_by_one():
        made = Together(lambda: COLUMNS, LIMITS, lambda _rows, tokens, _notes: resolve(tokens))
        both = await asyncio.gather(made.stored("t", single("a")), made.stored("t", single("b")))
        return [*both, *[await made.stored("t", single(str(number))) for number in range(5)]]

    assert asyncio.run(asyncio.wait_for(one_by_one(), 60)) == [1] * 7


def test_tenants_and_bounds_keep_groups_apart():
    found = []

    def submit(rows, tokens, _notes):
        found.append((rows.tenants[0], list(rows.ids)))
        resolve(tokens)

    limits = AcceptLimits(request_events_max=2)
    told = told_of(submit, *map(single, "abcd"), tenants=["t", "u", "t", "t"], limits=limits)
    assert told == [1] * 4
    assert sorted(found) == [("t", ["a", "c"]), ("t", ["d"]), ("u", ["b"])]


def test_more_events_than_allowed_go_by_themselves():
    three = b"[" + b",".join(map(body, "abc")) + b"]"
    limits = AcceptLimits(request_events_max=2)
    assert told_of(lambda *_: None, three, b"[]", b"{", limits=limits) == [0, 0, 0]


def test_a_full_log_is_told_to_those_who_were_not_stored_only():
    def submit(rows, tokens, _notes):
        if rows.tenants[0] == "u":
            raise Unavailable("the log is busy")
        resolve(tokens)

    told = told_of(submit, *map(single, "abc"), tenants=["t", "u", "t"])
    assert [told[0], told[2]] == [1, 1]
    assert isinstance(told[1], Unavailable)


def test_a_write_that_fails_is_told_to_all_and_the_next_goes_on():
    failing = [True]

    def submit(_rows, tokens, _notes):
        if failing.pop() if failing else False:
            for token in tokens:
                token.set_exception(Unavailable("the disk is full"))
        else:
            resolve(tokens)

    async def twice():
        made = Together(lambda: COLUMNS, LIMITS, submit)
        asked = [made.stored("t", single(name)) for name in "ab"]
        first = await asyncio.gather(*asked, return_exceptions=True)
        return first, await made.stored("t", single("c"))

    first, last = asyncio.run(asyncio.wait_for(twice(), 60))
    assert [type(one) for one in first] == [Unavailable, Unavailable]
    assert last == 1


def test_nobody_waits_for_ever_where_there_is_a_bug(monkeypatch):
    def broken(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(together, "plain_rows", broken)
    told = told_of(resolve, *map(single, "ab"))
    assert [type(one) for one in told] == [ZeroDivisionError, ZeroDivisionError]


def test_who_has_gone_keeps_nobody_waiting():
    async def all_of_them():
        writes: asyncio.Queue[list[object]] = asyncio.Queue()
        made = Together(lambda: COLUMNS, LIMITS, queueing(writes))
        bodies = [single("a"), single("b"), single("c", traceparent="x")]
        gone, stays, odd = (asyncio.create_task(made.stored("t", one)) for one in bodies)
        await asyncio.sleep(0)
        gone.cancel()
        odd.cancel()
        for _ in range(2):  # the odd one parts the two
            IngestApp._notify(await writes.get(), None)
        return await asyncio.gather(gone, stays, odd, return_exceptions=True)

    left, stored, odd = asyncio.run(asyncio.wait_for(all_of_them(), 60))
    assert isinstance(left, asyncio.CancelledError)
    assert isinstance(odd, asyncio.CancelledError)
    assert stored == 1
