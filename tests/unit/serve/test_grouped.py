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


@pytest.mark.parametrize("leaves", [SystemExit, KeyboardInterrupt, StopIteration, AssertionError])
def test_whatever_leaves_what_answers_is_told_and_the_next_are_answered(
    leaves: type[BaseException],
) -> None:
    def answers(asked: Sequence[int]) -> list[int]:
        if 0 in asked:
            raise leaves
        return list(asked)

    async def ask(made: Grouped[int, int]) -> None:
        with pytest.raises(RuntimeError) as told:
            await asyncio.wait_for(made.answer(0), 30)
        assert isinstance(told.value.__cause__, leaves)
        assert await asyncio.wait_for(made.answer(1), 30) == 1

    with answering(answers) as made:
        asyncio.run(ask(made))


def test_too_few_answers_are_a_bug_that_is_told() -> None:
    async def ask(made: Grouped[int, int]) -> None:
        with pytest.raises(RuntimeError):
            await asyncio.wait_for(made.answer(1), 30)

    with answering(lambda _: []) as made:
        asyncio.run(ask(made))


def test_a_thread_that_cannot_begin_is_told_and_begun_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused() -> None:
        raise RuntimeError("can't start new thread")

    async def ask(made: Grouped[int, int]) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(made._thread, "start", refused)
            for _ in range(2):
                with pytest.raises(RuntimeError, match="new thread"):
                    await asyncio.wait_for(made.answer(1), 30)
        assert await asyncio.wait_for(made.answer(2), 30) == 2

    with answering(list) as made:
        asyncio.run(ask(made))


def test_closing_waits_for_no_longer_than_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouped, "LAST_SECONDS", 0.01)
    begun, go_on = threading.Event(), threading.Event()

    def answers(asked: Sequence[int]) -> list[int]:
        begun.set()
        assert go_on.wait(30)
        return list(asked)

    async def ask(made: Grouped[int, int]) -> None:
        first = asyncio.ensure_future(made.answer(1))
        await asyncio.to_thread(begun.wait, 30)
        second = asyncio.ensure_future(made.answer(2))
        await asyncio.sleep(0)
        made.close()
        assert not go_on.is_set(), "it did not wait"
        go_on.set()
        assert await asyncio.wait_for(first, 30) == 1
        with pytest.raises(Unavailable):
            await asyncio.wait_for(second, 30)
        with pytest.raises(Unavailable):
            await made.answer(3)

    made = Grouped[int, int](answers, "test")
    asyncio.run(ask(made))
    made._thread.join(30)
    assert not made._thread.is_alive()
