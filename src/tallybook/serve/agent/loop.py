"""The agent's life: read every interval, spool, send; at the end read once more and drain."""

import os
import time
from collections.abc import Callable
from functools import partial
from threading import Event
from typing import TypeVar

from tallybook.adapters.files.tail import FileTail
from tallybook.adapters.host.reader import PsutilHostReader, machine_name
from tallybook.adapters.http.client import Client
from tallybook.adapters.http.sender import HttpEventSender, ZstdPacking
from tallybook.collect.fileid import log_source
from tallybook.collect.flow import read_lines, take_reading
from tallybook.collect.formats.choice import LogFormat, log_format
from tallybook.kernel.errors import TallybookError
from tallybook.kernel.timestamps import SECOND_US
from tallybook.serve.agent.sending import Sender
from tallybook.serve.agent.settings import AccessLog, AgentSettings
from tallybook.serve.agent.spool import SharedSpool, opened_spool
from tallybook.serve.agent.status import AgentStatus, write_status
from tallybook.serve.agent.voice import Voice

T = TypeVar("T")

GAP_INTERVALS = 3
"""Readings further apart than this many intervals are reported as a gap."""


class FollowedLog:
    """An access log with its format."""

    def __init__(self, told: AccessLog) -> None:
        """Open nothing yet."""
        self.tail = FileTail(told.path)
        self.form: LogFormat = log_format(told.format)
        self.source = told.source


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
        self._logs = [FollowedLog(told) for told in settings.access_log]
        self._host = PsutilHostReader(settings.host_name) if settings.host else None
        self._source = log_source(settings.host_name or machine_name())
        self._gap_us = int(max(settings.interval_seconds * GAP_INTERVALS, 5) * SECOND_US)
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
        begin = due = time.monotonic()
        end = begin + run_seconds if run_seconds is not None else None
        while True:
            self._round(spool, sender)
            last = self._stop.is_set() or sender.bug is not None
            if last or (end is not None and time.monotonic() >= end):
                return
            due = max(due + self._settings.interval_seconds, time.monotonic())
            until = due if end is None else min(due, end)
            self._stop.wait(max(0, until - time.monotonic()))

    def _round(self, spool: SharedSpool, sender: Sender) -> None:
        """Read everything once; what fails is told and tried again in the next round."""
        full = self._attempt("spool", lambda: self._is_full(spool))
        if full is False:
            if self._host is not None:
                reading = partial(take_reading, self._host, spool, self._packing, self._gap_us)
                if self._attempt("host", reading):
                    sender.wake()
            for log in self._logs:
                self._attempt(log.tail.name, partial(self._follow, log, spool, sender))
        self._attempt("status", lambda: self._tell(sender, running=True))

    def _follow(self, log: FollowedLog, spool: SharedSpool, sender: Sender) -> None:
        """Read a log to its present end, or until the spool is full."""
        while True:
            found = read_lines(log.tail, log.form, log.source or self._source, spool, self._packing)
            for note in found.notes:
                self._voice.say(f"{log.tail.name}: {note}")
            if found.lines == 0:
                return
            sender.wake()
            if self._is_full(spool):
                return

    def _is_full(self, spool: SharedSpool) -> bool:
        stored = spool.state().stored_bytes
        if stored < self._settings.spool_bytes_max:
            self._voice.settle("spool size")
            return False
        message = (
            f"{stored >> 20} MiB wait for the server; reading stops until it has taken some"
            " (files and counters keep what is not read)"
        )
        self._voice.complain("spool size", message)
        return True

    def _attempt(self, about: str, work: Callable[[], T]) -> T | None:
        try:
            done = work()
        except TallybookError as error:
            self._voice.complain(about, f"{error.message} ({error.code})")
            return None
        self._voice.settle(about)
        return done

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
