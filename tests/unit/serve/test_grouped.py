"""Questions that come together are answered together, each by what was known after it was asked."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from tallybook.kernel.errors import Unavailable
from tallybook.serve.api.checks import grouped
from tallybook.serve.api.checks.grouped import Grouped


@contextmanager
def answering(answers: Callable[[Sequence[int]], Sequence[int]]) -> Iterator[Grouped[int, int]]:
    made = Grouped[int, int](answers, "test")
    try:
        yield made
    finally:
        made.close()


def test_all_that_wait_are_answered_at_once() -> None:
    groups: list[list[int]] = []
    begun, go_on = threading.Event(), threading.Event()

    def answers(asked: Sequence[int]) -> list[int]:
        groups.append(list(asked))
        begun.set()
        assert go_on.wait(30)
        return [2 * one for one in asked]

    async def ask(made: Grouped[int, int]) -> list[int]:
        first = [asyncio.ensure_future(made.answer(one)) for one in (1, 2)]
        await asyncio.to_thread(begun.wait, 30)
        others = [asyncio.ensure_future(made.answer(one)) for one in (3, 4, 5)]
        await asyncio.sleep(0)
        go_on.set()
        return await asyncio.gather(*first, *others)

    with answering(answers) as made:
        assert asyncio.run(ask(made)) == [2, 4, 6, 8, 10]
    assert groups == [[1, 2], [3, 4, 5]]


def test_a_group_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouped, "GROUP_MAX", 2)
    groups: list[list[int]] = []

    def answers(asked: Sequence[int]) -> list[int]:
        groups.append(list(asked))
        return list(asked)

    async def ask(made: Grouped[int, int]) -> list[int]:
        return await asyncio.gather(*(made.answer(one) for one in range(5)))

    with answering(answers) as made:
        assert asyncio.run(ask(made)) == list(range(5))
    assert groups == [[0, 1], [2, 3], [4]]


def test_a_failure_is_told_to_those_who_waited_for_it() -> None:
    def answers(asked: Sequence[int]) -> list[int]:
        if 0 in asked:
            raise Unavailable("away")
        return list(asked)

    async def ask(made: Grouped[int, int]) -> None:
        told = await asyncio.gather(made.answer(0), made.answer(1), return_exceptions=True)
        assert [type(one) for one in told] == [Unavailable, Unavailable]
        assert await made.answer(1) == 1

    with answering(answers) as made:
        asyncio.run(ask(made))


def test_who_goes_away_takes_nobody_along() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def answers(asked: Sequence[int]) -> list[int]:
        begun.set()
        assert go_on.wait(30)
        return list(asked)

    async def ask(made: Grouped[int, int]) -> int:
        gone, stays = (asyncio.ensure_future(made.answer(one)) for one in (1, 2))
        await asyncio.to_thread(begun.wait, 30)
        gone.cancel()
        await asyncio.sleep(0)
        go_on.set()
        return await stays

    with answering(answers) as made:
        assert asyncio.run(ask(made)) == 2


def test_an_event_loop_that_ended_holds_nobody_up() -> None:
    async def leave(made: Grouped[int, int]) -> None:
        asyncio.ensure_future(made.answer(1))  # noqa: RUF006 - the loop ends before it is answered
        await asyncio.sleep(0)

    async def ask(made: Grouped[int, int]) -> int:
        return await asyncio.wait_for(made.answer(2), 30)

    with answering(list) as made:
        asyncio.run(leave(made))
        assert asyncio.run(ask(made)) == 2
