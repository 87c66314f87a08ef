"""The agent's life: rounds of reading, spooling and sending; at the end one more, and draining."""

import os
import time
from collections.abc import Callable
from functools import partial
from threading import Event
from typing import TypeVar

from tallybook.adapters.http.client import Client
from tallybook.adapters.http.sender import HttpEventSender, ZstdPacking
from tallybook.kernel.errors import TallybookError
from tallybook.serve.agent.intake import SpoolIntake
from tallybook.serve.agent.sending import Sender
from tallybook.serve.agent.settings import AgentSettings
from tallybook.serve.agent.sources.plug import Source
from tallybook.serve.agent.sources.registry import sources_of
from tallybook.serve.agent.spool import SharedSpool, opened_spool
from tallybook.serve.agent.status import AgentStatus, write_status
from tallybook.serve.agent.voice import Voice

T = TypeVar("T")


class Schedule:
    """A source and when it is read next.

    Attributes:
        source: what is read.
        due: on the monotonic clock, seconds.
    """

    def __init__(self, source: Source, due: float) -> None:
        """Due at once, or from `due` on."""
        self.source = source
        self.due = due

    def settle(self, interval_seconds: float) -> None:
        """Set the next time; what was missed is not made up for."""
        step = self.source.interval_seconds or interval_seconds
        self.due = max(self.due + step, time.monotonic())


class Rounds:
    """Reads every source when it is due.

    Args:
        sources: what to read.
        intake: where it goes.
        voice: tells what fails.
        stop: set from outside to end.
        on_events: called after events came.
    """

    def __init__(
        self,
        sources: list[Source],
        intake: SpoolIntake,
        voice: Voice,
        stop: Event,
        on_events: Callable[[], None],
    ) -> None:
        """Read nothing yet; everything is due."""
        now = time.monotonic()
        self.intake = intake
        self.voice = voice
        self._plan = [Schedule(source, now) for source in sources]
        self._stop = stop
        self._woken = Event()
        self._on_events = on_events

    def wake(self) -> None:
        """Ask for a round now."""
        self._woken.set()

    def may_go_on(self) -> bool:
        """Whether a long step may take its next piece."""
        return not self.intake.is_full()

    def read_due(self, interval_seconds: float, *, everything: bool = False) -> None:
        """Read what is due; what fails is told and tried again the next time."""
        woken = self._woken.is_set()
        self._woken.clear()
        for planned in self._plan:
            if not (everything or woken or planned.due <= time.monotonic()):
                continue
            if self.attempt("spool", self._is_full) is not False:
                return
            if self.attempt(planned.source.name, partial(planned.source.read, self)):
                self._on_events()
            planned.settle(interval_seconds)

    def wait(self, until: float | None) -> None:
        """Wait for the next time that something is due, at most until then."""
        times = [planned.due for planned in self._plan] + ([until] if until is not None else [])
        due = min(times, default=time.monotonic() + 1)
        while (left := due - time.monotonic()) > 0 and not self._stop.is_set():
            if self._woken.wait(min(left, 0.2)):
                return

    def attempt(self, about: str, work: Callable[[], T]) -> T | None:
        """Return what the work returns; None where it failed, which is told."""
        try:
            done = work()
        except TallybookError as error:
            self.voice.complain(about, f"{error.message} ({error.code})")
            return None
        self.voice.settle(about)
        return done

    def close(self) -> None:
        """Close every source."""
        for planned in self._plan:
            planned.source.close()

    def _is_full(self) -> bool:
        if not self.intake.is_full():
            self.voice.settle("spool size")
            return False
        message = (
            "the spool is full: reading stops until the server has taken some"
            " (files and counters keep what is not read)"
        )
        self.voice.complain("spool size", message)
        return True


class Agent:
    """One agent on one state folder.

    Args:
        settings: what to collect.
        url: the server.
        key: its API key.
        stop: set from outside to end in good order.
    """

    def __init__(self, settings: AgentSettings, url: str, key: str, stop: Event) -> None:
        """Check address and key; nothing is opened or sent yet."""
        ca_file = str(settings.ca_file) if settings.ca_file else None
        self._client = Client(url, key, verify=ca_file)
        self._settings = settings
        self._stop = stop
        self._voice = Voice()
        self._packing = ZstdPacking()
        self._sources = sources_of(settings)
        self._started_us = time.time_ns() // 1000

    def run(self, run_seconds: float | None = None) -> int:
        """Collect and send until stopped, or for so long; return the events left in the spool.

        Raises:
            Conflict: another agent works on the state folder.
            Unavailable: the state folder cannot be used.
        """
        state = self._settings.state
        with opened_spool(state) as spool, self._client:
            sender = Sender(spool, HttpEventSender(self._client), self._packing, state, self._voice)
            self._voice.say(f"collecting into {state}, sending to {self._client.url}")
            sender.start()
            sender.wake()
            self._collect(spool, sender, run_seconds)
            emptied = sender.drain(self._settings.drain_seconds)
            self._tell(sender, running=False)
            if sender.bug is not None:
                raise sender.bug
            left = 0 if emptied else _waiting_events(spool)
        self._say_goodbye(sender, left)
        return left

    def _collect(self, spool: SharedSpool, sender: Sender, run_seconds: float | None) -> None:
        begin = time.monotonic()
        end = begin + run_seconds if run_seconds is not None else None
        intake = SpoolIntake(spool, self._packing, self._settings.spool_bytes_max)
        rounds = Rounds(self._sources, intake, self._voice, self._stop, sender.wake)
        last = False
        try:
            while True:
                rounds.read_due(self._settings.interval_seconds, everything=last)
                rounds.attempt("status", lambda: self._tell(sender, running=True))
                if last or (run_seconds == 0):
                    return
                rounds.wait(end)
                ended = end is not None and time.monotonic() >= end
                last = ended or self._stop.is_set() or sender.bug is not None
        finally:
            rounds.close()

    def _tell(self, sender: Sender, *, running: bool) -> None:
        status = AgentStatus(
            pid=os.getpid(),
            url=self._client.url,
            started_us=self._started_us,
            written_us=time.time_ns() // 1000,
            acked_us=sender.acked_us,
            stored=sender.total.stored,
            quarantined=sender.total.quarantined,
            parked=sender.total.parked,
            complaint=self._voice.last_complaint,
            running=running,
        )
        write_status(self._settings.state, status)

    def _say_goodbye(self, sender: Sender, left: int) -> None:
        total = sender.total
        text = f"{total.stored} events stored, {total.quarantined} quarantined"
        if total.parked:
            text += f", {total.parked} refused and kept"
        if left:
            text += f"; {left} wait in {self._settings.state} and are sent at the next start"
        self._voice.say(f"stopped: {text}")


def _waiting_events(spool: SharedSpool) -> int:
    first = spool.read(0, 1)
    if not first:
        return 0
    return spool.state().events_total - first[0].events_total + first[0].events
