"""The agent's life: rounds of reading, spooling and sending; at the end one more, and draining."""

import os
import time
from contextlib import ExitStack, closing
from threading import Event

from tallybook.kernel.timestamps import LAST_US
from tallybook.serve.agent.following import RuleFollower
from tallybook.serve.agent.intake import SpoolIntake
from tallybook.serve.agent.outbound.line import line_of
from tallybook.serve.agent.outbound.sending import Sender
from tallybook.serve.agent.reload import SettingsWatch, adopted, fixed_changes
from tallybook.serve.agent.rounds import Rounds
from tallybook.serve.agent.settings import AgentSettings, listen_address
from tallybook.serve.agent.sources.registry import sources_of
from tallybook.serve.agent.spool import SharedSpool, opened_spool
from tallybook.serve.agent.status import AgentStatus, footprint, write_status
from tallybook.serve.agent.voice import Voice

FIRST_RULES_SECONDS = 3.0
"""How long a first start waits to be told what to add up, before it reads anything."""


class Agent:
    """One agent on one state folder.

    Args:
        settings: what to collect.
        url: the server.
        key: its API key.
        stop: set from outside to end in good order.
        watch: tells when the settings changed; None where they cannot.
    """

    def __init__(
        self,
        settings: AgentSettings,
        url: str,
        key: str,
        stop: Event,
        watch: SettingsWatch | None = None,
    ) -> None:
        """Check address and key; nothing is opened or sent yet."""
        self._line = line_of(settings, url, key)
        self._settings = settings
        self._stop = stop
        self._watch = watch
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
        with opened_spool(state) as spool, self._line, ExitStack() as ends:
            if spool.lost is not None:
                self._voice.complain("spool", f"could not be read; what it held is in {spool.lost}")
            sender = Sender(spool, self._line.route, state, self._voice)
            self._voice.say(f"collecting into {state}, sending to {self._line.url}")
            ends.callback(sender.end)
            sender.start()
            sender.wake()
            rounds = self._rounds(spool, sender, ends)
            rules = self._follow_rules(rounds)
            ends.callback(rules.end)
            self._collect(rounds, rules, sender, run_seconds)
            emptied = sender.drain(self._settings.drain_seconds)
            self._tell(rounds, sender, running=False)
            if sender.bug is not None:
                raise sender.bug
            left = 0 if emptied else spool.waiting().events
        self._say_goodbye(sender, left)
        return left

    def _rounds(self, spool: SharedSpool, sender: Sender, ends: ExitStack) -> Rounds:
        """Return rounds over all sources; what they need is ended with `ends`."""
        packing, edge = self._line.route.packing, self._line.edge
        intake = SpoolIntake(spool, packing, self._settings.spool_bytes_max, edge)
        rounds = ends.enter_context(closing(Rounds(intake, self._voice, self._stop, sender.wake)))
        rounds.adopt(self._sources)
        self._open_metrics(rounds, spool, sender, ends)
        return rounds

    def _open_metrics(
        self, rounds: Rounds, spool: SharedSpool, sender: Sender, ends: ExitStack
    ) -> None:
        address = self._settings.metrics_listen
        if address is None:
            return
        from tallybook.serve.agent.metrics import MetricsDoor, metrics_text

        def text() -> str:
            status = self._status(rounds, sender, running=True)
            return metrics_text(status, spool.waiting(), time.time_ns() // 1000)

        door = ends.enter_context(closing(MetricsDoor(listen_address(address), text)))
        self._voice.say(f"metrics on port {door.port}")

    def _collect(
        self, rounds: Rounds, rules: RuleFollower, sender: Sender, run_seconds: float | None
    ) -> None:
        begin = time.monotonic()
        end = begin + run_seconds if run_seconds is not None else None
        last = run_seconds == 0
        while True:
            if rules.newest.version != rounds.intake.version:
                rounds.intake.follow(rules.newest)
            rounds.attempt("config", lambda: self._reload(rounds))
            rounds.read_due(self._settings.interval_seconds, everything=last)
            rounds.attempt("status", lambda: self._tell(rounds, sender, running=True))
            if last:
                break
            rounds.wait(end)
            ended = end is not None and time.monotonic() >= end
            last = ended or self._stop.is_set() or sender.bug is not None
        rules.end()
        if run_seconds is not None and not self._stop.is_set():
            rounds.close_windows(LAST_US)  # nobody comes back to close them

    def _follow_rules(self, rounds: Rounds) -> RuleFollower:
        state, edge = self._settings.state, self._line.edge
        rules = RuleFollower(lambda: self._line.client, edge, state, self._voice)
        rounds.intake.follow(rules.newest)
        rules.start()
        if not rules.known:
            rules.asked.wait(FIRST_RULES_SECONDS)
        return rules

    def _reload(self, rounds: Rounds) -> None:
        """Follow new settings where there are any; spool and baselines stay as they are."""
        settings = self._watch.changed() if self._watch is not None else None
        if settings is None:
            return
        later = fixed_changes(self._settings, settings)
        settings = adopted(self._settings, settings)
        rounds.adopt(sources_of(settings))
        rounds.intake.bytes_max = settings.spool_bytes_max
        said = f"; at the next start: {', '.join(later)}" if later else ""
        self._voice.say(f"settings were read again: {len(rounds.sources())} sources{said}")
        self._settings = settings

    def _tell(self, rounds: Rounds, sender: Sender, *, running: bool) -> None:
        write_status(self._settings.state, self._status(rounds, sender, running=running))

    def _status(self, rounds: Rounds, sender: Sender, *, running: bool) -> AgentStatus:
        rss_bytes, cpu_seconds = footprint()
        return AgentStatus(
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
            rounds=rounds.count,
            sources=rounds.sources(),
            windows=rounds.intake.windows,
            rules_version=rounds.intake.version,
            rss_bytes=rss_bytes,
            cpu_seconds=round(cpu_seconds, 2),
        )

    def _say_goodbye(self, sender: Sender, left: int) -> None:
        total = sender.total
        text = f"{total.stored} events stored, {total.quarantined} quarantined"
        if total.parked:
            text += f", {total.parked} refused and kept"
        if left:
            text += f"; {left} wait in {self._settings.state} and are sent at the next start"
        self._voice.say(f"stopped: {text}")
