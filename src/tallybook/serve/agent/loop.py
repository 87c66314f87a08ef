"""The agent's life: rounds of reading, spooling and sending; at the end one more, and draining."""

import os
import time
from threading import Event

from tallybook.serve.agent.intake import SpoolIntake
from tallybook.serve.agent.line import line_of
from tallybook.serve.agent.rounds import Rounds
from tallybook.serve.agent.sending import Sender
from tallybook.serve.agent.settings import AgentSettings
from tallybook.serve.agent.sources.registry import edge_name, sources_of
from tallybook.serve.agent.spool import SharedSpool, opened_spool
from tallybook.serve.agent.status import AgentStatus, write_status
from tallybook.serve.agent.voice import Voice


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
        self._line = line_of(settings, url, key)
        self._settings = settings
        self._stop = stop
        self._voice = Voice()
        self._sources = sources_of(settings)
        self._started_us = time.time_ns() // 1000

    def run(self, run_seconds: float | None = None) -> int:
        """Collect and send until stopped, or for so long; return the events left in the spool.

        Raises:
            Conflict: another agent works on the state folder.
            Unavailable: the state folder cannot be used.
        """
        state = self._settings.state
        with opened_spool(state) as spool, self._line:
            if spool.lost is not None:
                self._voice.complain("spool", f"could not be read; what it held is in {spool.lost}")
            sender = Sender(spool, self._line.route, state, self._voice)
            self._voice.say(f"collecting into {state}, sending to {self._line.url}")
            sender.start()
            sender.wake()
            self._collect(spool, sender, run_seconds)
            emptied = sender.drain(self._settings.drain_seconds)
            self._tell(sender, running=False)
            if sender.bug is not None:
                raise sender.bug
            left = 0 if emptied else spool.waiting().events
        self._say_goodbye(sender, left)
        return left

    def _collect(self, spool: SharedSpool, sender: Sender, run_seconds: float | None) -> None:
        begin = time.monotonic()
        end = begin + run_seconds if run_seconds is not None else None
        name = edge_name(self._settings)
        intake = SpoolIntake(spool, self._line.route.packing, self._settings.spool_bytes_max, name)
        rounds = Rounds(intake, self._voice, self._stop, sender.wake)
        rounds.adopt(self._sources)
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
            url=self._line.url,
            started_us=self._started_us,
            written_us=time.time_ns() // 1000,
            acked_us=sender.acked_us,
            stored=sender.total.stored,
            quarantined=sender.total.quarantined,
            parked=sender.total.parked,
            complaint=self._voice.last_complaint,
            running=running,
            circuit=sender.circuit(),
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
