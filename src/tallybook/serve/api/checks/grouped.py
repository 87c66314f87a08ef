"""Questions that are asked while others are answered are answered together afterwards.

A turn of another thread, and what it reads, cost the same for one question as for hundred.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

import msgspec

from tallybook.kernel.errors import TallybookError, Unavailable
from tallybook.serve.api.common.rounds import LAST_SECONDS

Question = TypeVar("Question")
Answer = TypeVar("Answer")

GROUP_MAX = 200
"""Questions that are answered at once: the first of them wait for the last."""
LOOK_SECONDS = 1.0
"""Pause between two looks of an idle thread at whether its process goes on."""


class _Waiting(msgspec.Struct, Generic[Question, Answer], frozen=True):
    question: Question
    told: "asyncio.Future[Answer]"


class Grouped(Generic[Question, Answer]):
    """Has questions answered on a thread of its own, all that wait together.

    The thread is a plain one with a queue: a pool's would cost twice as much a turn.

    Args:
        answers: returns the answers to questions, in their order.
        name: of the thread.

    Guarantees:
        What answers a question begins after it was asked.
    """

    def __init__(
        self, answers: Callable[[Sequence[Question]], Sequence[Answer]], name: str
    ) -> None:
        """Nobody asks yet; the thread begins with the first question."""
        self._answers = answers
        self._groups: SimpleQueue[list[_Waiting[Question, Answer]]] = SimpleQueue()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=False)
        self._begin(None)

    def _begin(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Know nothing of an event loop that was before: whoever waited in it has gone with it."""
        self._loop = loop
        self._coming: list[_Waiting[Question, Answer]] = []
        self._busy = False

    def close(self) -> None:
        """Answer no more, once those that were begun are answered; wait `LAST_SECONDS` at most."""
        self._ended = True
        self._groups.put([])
        if self._thread.is_alive():
            self._thread.join(LAST_SECONDS)

    async def answer(self, question: Question) -> Answer:
        """Return the answer.

        Raises:
            Unavailable: it was closed.
            TallybookError: what answering any of those beside it raised.
            RuntimeError: the thread cannot begin, or a bug in what answers; its cause tells which.
        """
        if self._ended:
            raise Unavailable("the server stops; ask again")
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._begin(loop)
        if self._thread.ident is None:
            self._thread.start()  # before anybody waits for it
        told: asyncio.Future[Answer] = loop.create_future()
        self._coming.append(_Waiting(question, told))
        if not self._busy:
            self._busy = True
            loop.call_soon(self._take)  # whoever is ready now comes along
        return await told

    def _take(self) -> None:
        """Have a group answered."""
        group, self._coming = self._coming[:GROUP_MAX], self._coming[GROUP_MAX:]
        self._busy = bool(group)
        if group and self._ended:
            self._told(group, (), Unavailable("the server stops; ask again"))
        elif group:
            self._groups.put(group)

    def _run(self) -> None:
        while threading.main_thread().is_alive():
            try:
                group = self._groups.get(timeout=LOOK_SECONDS)
            except Empty:
                continue
            if not group:
                return
            self._answer(group)

    def _answer(self, group: list[_Waiting[Question, Answer]]) -> None:
        answers: Sequence[Answer] = ()
        failed: Exception | None = None
        try:
            answers = self._answers([one.question for one in group])
            assert len(answers) == len(group), "one for each"
        except TallybookError as error:
            failed = error
        except BaseException as error:  # noqa: BLE001 - it is told to those who wait
            failed = RuntimeError("answering broke off")
            failed.__cause__ = error
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            group[0].told.get_loop().call_soon_threadsafe(self._told, group, answers, failed)

    def _told(
        self,
        group: Sequence[_Waiting[Question, Answer]],
        answers: Sequence[Answer],
        failed: Exception | None,
    ) -> None:
        if group[0].told.get_loop() is self._loop:
            self._take()
        for number, one in enumerate(group):
            if one.told.done():  # its client has gone
                continue
            if failed is not None:
                one.told.set_exception(failed)
            else:
                one.told.set_result(answers[number])
