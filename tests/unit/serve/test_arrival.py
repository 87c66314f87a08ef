"""How long a body may take, and when it is whole."""

import asyncio

import pytest

from tallybook.kernel.errors import Invalid
from tallybook.serve.api.gateway import arrival
from tallybook.serve.api.gateway.arrival import end_soon, within_time

GONE = {"type": "http.disconnect"}


def piece(body: bytes, *, more: bool) -> dict[str, object]:
    return {"type": "http.request", "body": body, "more_body": more}


def heard(messages, headers, times):
    """Return what is received in so many calls."""
    left = list(messages)

    async def receive():
        return left.pop(0)

    async def all_of_it():
        bounded = within_time(receive, headers)
        return [await bounded() for _ in range(times)], left

    return asyncio.run(all_of_it())


def length(count: int) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"x"), (b"content-length", str(count).encode())]


def test_a_body_of_a_known_length_is_whole_with_its_last_piece():
    said = [piece(b"he", more=True), piece(b"llo", more=True), piece(b"", more=False), GONE]
    found, left = heard(said, length(5), 2)
    assert found == [piece(b"he", more=True), piece(b"llo", more=False)]
    assert len(left) == 2  # its end is not waited for


def test_who_waits_for_the_client_to_go_hears_of_nothing_before():
    said = [piece(b"hello", more=True), piece(b"", more=False), GONE]
    found, _ = heard(said, length(5), 2)
    assert found == [piece(b"hello", more=False), GONE]


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"content-length", b"5"), (b"transfer-encoding", b"chunked")],
        [(b"content-length", b"5"), (b"content-length", b"5")],
        [(b"content-length", b"five")],
        [(b"content-length", b"0" * 5_000 + b"5")],
        length(6),
    ],
)
def test_where_the_length_is_not_certain_the_end_is_waited_for(headers):
    said = [piece(b"hello", more=True), piece(b"", more=False), GONE]
    found, _ = heard(said, headers, 3)
    assert found == said


def never(asked):
    async def receive():
        asked.append("asked")
        await asyncio.Event().wait()

    return receive


def test_a_piece_that_does_not_come_is_not_waited_for(monkeypatch):
    async def waited():
        asked = []
        with pytest.raises(Invalid) as caught:
            await within_time(never(asked), idle=0.03)()
        task = asyncio.current_task()
        assert (asked, task.cancelling()) == (["asked"], 0)
        return caught.value.code

    monkeypatch.setattr(arrival, "LOOK_SECONDS", 0.01)
    assert asyncio.run(asyncio.wait_for(waited(), 60)) == "request-timeout"


def test_pieces_that_drip_are_not_waited_for_for_ever(monkeypatch):
    async def drip():
        await asyncio.sleep(0.01)
        return piece(b"x", more=True)

    async def waited():
        bounded = within_time(drip, whole=0.1)

        async def whole():
            while True:
                await bounded()

        with pytest.raises(Invalid):
            await whole()

    monkeypatch.setattr(arrival, "LOOK_SECONDS", 0.01)
    asyncio.run(asyncio.wait_for(waited(), 60))


def test_who_is_ended_by_somebody_else_ends(monkeypatch):
    async def waited():
        asked = []
        task = asyncio.create_task(within_time(never(asked), idle=60.0)())
        other = asyncio.create_task(within_time(never(asked), idle=0.02)())
        with pytest.raises(Invalid):
            await other
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    monkeypatch.setattr(arrival, "LOOK_SECONDS", 0.01)
    asyncio.run(asyncio.wait_for(waited(), 60))


def test_the_client_may_take_its_time_to_go(monkeypatch):
    async def waited():
        left = [piece(b"x", more=False)]

        async def receive():
            if left:
                return left.pop()
            await asyncio.sleep(0.1)
            return GONE

        bounded = within_time(receive, idle=0.01)
        return [await bounded(), await bounded()]

    monkeypatch.setattr(arrival, "LOOK_SECONDS", 0.01)
    assert asyncio.run(waited()) == [piece(b"x", more=False), GONE]


def test_a_server_that_stops_waits_for_bodies_for_a_short_while_only(monkeypatch):
    async def waited():
        loop = asyncio.get_running_loop()
        asked = []
        before = asyncio.create_task(within_time(never(asked), idle=600.0)())
        await asyncio.sleep(0)
        assert asked
        end_soon(loop)
        after = asyncio.create_task(within_time(never(asked), idle=600.0)())
        return await asyncio.gather(before, after, return_exceptions=True)

    monkeypatch.setattr(arrival, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(arrival, "STOP_SECONDS", 0.05)
    told = asyncio.run(asyncio.wait_for(waited(), 60))
    assert [error.code for error in told] == ["request-timeout"] * 2
