"""Rounds of reading: every source when it is due, and then the windows whose time is over."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from threading import Event
from typing import TypeVar

from tallybook.kernel.errors import TallybookError
from tallybook.serve.agent.intake import SpoolIntake
from tallybook.serve.agent.sources.plug import Source
from tallybook.serve.agent.status import SourceStatus
from tallybook.serve.agent.voice import Voice

T = TypeVar("T")

_LOOK_SECONDS = 0.2
_CLOSING_SECONDS = 1.0
_SLOW_SECONDS = 1.0
_REST_TIMES = 10
_REST_SECONDS_MAX = 300.0
"""A source that fails slowly (its server hangs) rests ten times as long as it has held up the
others, at most five minutes."""
_FILES_SHARE = 0.9
"""With so much of the spool in use, files wait: what they hold can be read later."""
_OFTEN_SECONDS = 60
"""A source that is read less often does not hold windows open; what it brings comes as late."""


class Schedule:
    """A source and when it is read next.

    Attributes:
        source: what is read.
        due: on the monotonic clock, seconds.
        read_us: when the last reading began, wall clock; 0 for never.
        events: that it gave since the start.
        problem: why the last reading failed, or None.
    """

    def __init__(self, source: Source, due: float) -> None:
        """Due from then on."""
        self.source = source
        self.due = due
        self.read_us = 0
        self.events = 0
        self.problem: str | None = None

    def settle(self, interval_seconds: float, rest_seconds: float = 0.0) -> None:
        """Set the next time, after at least a rest; what was missed is not made up for."""
        step = self.source.interval_seconds or interval_seconds
        self.due = max(self.due + step, time.monotonic() + rest_seconds)


class Rounds:
    """`Surroundings` of the sources, and the order in which they are read.

    Attributes:
        count: rounds since the start.
        failed: why the last attempt failed, None where it did not.

    Args:
        intake: where everything goes.
        voice: tells what fails.
        stop: set from outside to end.
        on_events: called after events came.
    """

    dry = False

    def __init__(
        self, intake: SpoolIntake, voice: Voice, stop: Event, on_events: Callable[[], None]
    ) -> None:
        """Read nothing; `adopt` says what."""
        self.intake = intake
        self.voice = voice
        self.count = 0
        self.failed: str | None = None
        self._plan: list[Schedule] = []
        self._stop = stop
        self._woken = Event()
        self._early = Event()
        self._closed_at = 0.0
        self._on_events = on_events

    def adopt(self, sources: Sequence[Source]) -> None:
        """Read these from now on; one that is read already, under the same table, goes on."""
        now = time.monotonic()
        plan = []
        for source in sources:
            same = next((p for p in self._plan if _same(p.source, source)), None)
            if same is None:
                plan.append(Schedule(source, now))
                continue
            plan.append(same)
            self._plan.remove(same)
            if same.source is not source:
                source.close()
        self.close()
        self._plan = plan

    def wake(self, source: Source | None = None) -> None:
        """Ask for a round now, of one source or of all; from any thread."""
        if source is None:
            self._woken.set()
        for planned in list(self._plan):
            if planned.source is source:
                planned.due = time.monotonic()
        self._early.set()

    def may_go_on(self) -> bool:
        """Whether a long step may take its next piece."""
        return self.intake.used_share() < _FILES_SHARE

    def read_due(self, interval_seconds: float, *, everything: bool = False) -> None:
        """Read what is due, then close windows; what fails is told, and tried the next time."""
        woken = self._woken.is_set() or everything
        self._woken.clear()
        self._early.clear()
        for planned in self._plan:
            if not woken and planned.due > time.monotonic():
                continue
            waits = self.attempt("spool", partial(self._must_wait, planned.source)) is not False
            rest = 0.0 if waits else self._read(planned)
            planned.settle(interval_seconds, rest)
        self.count += 1
        if everything or time.monotonic() - self._closed_at >= _CLOSING_SECONDS:
            self._closed_at = time.monotonic()
            self.close_windows(self._read_up_to(interval_seconds))

    def _read(self, planned: Schedule) -> float:
        """Read a source; return how long it must rest, which is not at all where it works."""
        began = time.monotonic()
        planned.read_us = time.time_ns() // 1000
        came = self.attempt(planned.source.name, partial(planned.source.read, self))
        planned.problem = self.failed
        planned.events += came or 0
        if came:
            self._on_events()
        took = time.monotonic() - began
        slow = self.failed is not None and took > _SLOW_SECONDS
        return min(took * _REST_TIMES, _REST_SECONDS_MAX) if slow else 0.0

    def _read_up_to(self, interval_seconds: float) -> int:
        """Return an instant up to which everything was read that is read often."""
        often = [
            planned.read_us
            for planned in self._plan
            if (planned.source.interval_seconds or interval_seconds) <= _OFTEN_SECONDS
        ]
        return min(often, default=time.time_ns() // 1000)

    def close_windows(self, now_us: int) -> None:
        """Close the windows whose time was over at an instant up to which all was read."""
        if self.attempt("windows", partial(self.intake.close_windows, now_us)):
            self._on_events()

    def wait(self, until: float | None) -> None:
        """Wait for the next time that something is due, at most until then."""
        times = [planned.due for planned in self._plan] + ([until] if until is not None else [])
        due = min(times, default=time.monotonic() + 1)
        while (left := due - time.monotonic()) > 0 and not self._stop.is_set():
            if self._early.wait(min(left, _LOOK_SECONDS)):
                return

    def attempt(self, about: str, work: Callable[[], T]) -> T | None:
        """Return what the work returns; None where it failed, which is told."""
        try:
            done = work()
        except TallybookError as error:
            self.failed = f"{error.message} ({error.code})"
            self.voice.complain(about, self.failed)
            return None
        self.failed = None
        self.voice.settle(about)
        return done

    def sources(self) -> tuple[SourceStatus, ...]:
        """Return how every source is."""
        return tuple(
            SourceStatus(name=p.source.name, events=p.events, read_us=p.read_us, problem=p.problem)
            for p in self._plan
        )

    def close(self) -> None:
        """Close every source."""
        for planned in self._plan:
            planned.source.close()
        self._plan = []

    def _must_wait(self, source: Source) -> bool:
        """Whether a source must not be read now, for want of room in the spool."""
        used = self.intake.used_share()
        if used < _FILES_SHARE:
            self.voice.settle("spool size")
            return False
        full = used >= 1
        message = (
            "the spool is full: reading stops until the server has taken some"
            " (files and counters keep what is not read)"
            if full
            else "the spool is nearly full: files wait until the server has taken some"
        )
        self.voice.complain("spool size", message)
        return full or bool(getattr(source, "can_wait", False))


def _same(one: Source, other: Source) -> bool:
    return type(one) is type(other) and one.name == other.name and one.told == other.told
