"""Parts of the agent: settings read again, rounds, rules, figures, dry runs."""

import os
import time
from pathlib import Path
from threading import Event
from typing import Any

import msgspec
import pytest

from tallybook.adapters.http.client import Answer, Client
from tallybook.adapters.http.sender import ZstdPacking
from tallybook.adapters.memory.event_log import MemoryEventLog
from tallybook.collect.aggregate.rule import EdgeRule, RuleSet
from tallybook.collect.sending.parcel import Waiting
from tallybook.kernel.errors import Forbidden, Invalid, TallybookError, Unavailable
from tallybook.serve.agent.following import RULES_NAME, RuleFollower, kept_rules
from tallybook.serve.agent.intake import SpoolIntake
from tallybook.serve.agent.metrics import metrics_text
from tallybook.serve.agent.reload import SettingsWatch, adopted, fixed_changes
from tallybook.serve.agent.rounds import Rounds
from tallybook.serve.agent.settings import AgentSettings, listen_address
from tallybook.serve.agent.sources.plug import Surroundings
from tallybook.serve.agent.status import AgentStatus, SourceStatus, footprint
from tallybook.serve.agent.voice import Voice


class Pages:
    """A source that gives numbered events."""

    interval_seconds: float | None = None
    can_wait = False
    takes = 0.0

    def __init__(self, name: str, told: object = 0, error: TallybookError | None = None) -> None:
        self.name = name
        self.told = told
        self.error = error
        self.reads = 0
        self.closed = 0

    def read(self, around: Surroundings) -> int:
        self.reads += 1
        time.sleep(self.takes)
        if self.error is not None:
            raise self.error
        piece = f'{{"id":"{self.name}{self.reads}","source":"s","type":"x"}}'.encode()
        return around.intake.take([piece], {self.name: str(self.reads)})

    def close(self) -> None:
        self.closed += 1


def rounds(bytes_max: int = 1 << 30) -> tuple[Rounds, MemoryEventLog, list[int]]:
    log, woken = MemoryEventLog(), [0]

    def wake() -> None:
        woken[0] += 1

    intake = SpoolIntake(log, ZstdPacking(), bytes_max)
    return Rounds(intake, Voice(), Event(), wake), log, woken


def test_every_source_is_read_when_it_is_due() -> None:
    made, log, woken = rounds()
    often, seldom = Pages("often"), Pages("seldom")
    often.interval_seconds = 0.001
    made.adopt([often, seldom])
    for _ in range(3):
        made.read_due(3600)
        made.wait(time.monotonic() + 0.05)
    assert (often.reads, seldom.reads) == (3, 1)
    made.read_due(3600, everything=True)
    assert (often.reads, seldom.reads) == (4, 2)
    made.wake()
    made.wait(None)
    made.read_due(3600)
    assert (often.reads, seldom.reads) == (5, 3)
    assert woken == [8]
    assert log.cursors() == {"often": "5", "seldom": "3"}
    assert [(s.name, s.events) for s in made.sources()] == [("often", 5), ("seldom", 3)]
    assert made.count == 5


def test_what_fails_is_told_and_does_not_hold_up_the_others(
    capsys: pytest.CaptureFixture[str],
) -> None:
    made, _, _ = rounds()
    bad, good = Pages("bad", error=Unavailable("no such file")), Pages("good")
    made.adopt([bad, good])
    made.read_due(0.001)
    assert [s.problem for s in made.sources()] == ["no such file (unavailable)", None]
    assert "bad: no such file" in capsys.readouterr().err
    bad.error = None
    made.read_due(0.001, everything=True)
    assert [s.problem for s in made.sources()] == [None, None]
    assert "bad: works again" in capsys.readouterr().err


def test_a_full_spool_is_not_read_into() -> None:
    made, _, _ = rounds(bytes_max=1)
    source = Pages("a")
    made.adopt([source])
    for _ in range(3):
        made.read_due(0.001, everything=True)
    assert (source.reads, made.may_go_on()) == (1, False)


def test_a_full_spool_is_looked_at_when_something_is_due_and_not_all_the_time() -> None:
    made, _, _ = rounds(bytes_max=1)
    made.adopt([Pages("a"), Pages("b")])
    made.read_due(3600)
    made.wake()
    made.read_due(3600)
    made.wait(time.monotonic())  # takes up the waking
    began = time.monotonic()
    made.wait(began + 0.25)
    assert time.monotonic() - began >= 0.25


def test_files_wait_before_what_cannot_be_read_later() -> None:
    made, log, _ = rounds()
    files, scraped = Pages("files"), Pages("scraped")
    files.can_wait = True
    made.adopt([files, scraped])
    made.read_due(0.001)
    made.intake.bytes_max = int(log.state().stored_bytes / 0.95)
    made.read_due(0.001, everything=True)
    assert (files.reads, scraped.reads, made.may_go_on()) == (1, 2, False)
    made.intake.bytes_max = log.state().stored_bytes
    made.read_due(0.001, everything=True)
    assert (files.reads, scraped.reads) == (1, 2)
    made.intake.bytes_max = 1 << 30
    made.read_due(0.001, everything=True)
    assert (files.reads, scraped.reads) == (2, 3)


def test_a_source_that_fails_slowly_rests_and_does_not_hold_up_the_others() -> None:
    made, _, _ = rounds()
    hanging, good = Pages("hanging", error=Unavailable("timed out")), Pages("good")
    hanging.takes = 1.05
    made.adopt([hanging, good])
    for _ in range(4):
        made.read_due(0.001)
        time.sleep(0.002)
    assert (hanging.reads, good.reads) == (1, 4)


def test_a_source_lives_through_a_reload_that_leaves_its_table_equal() -> None:
    made, _, _ = rounds()
    kept, changed, gone = Pages("kept"), Pages("changed", 1), Pages("gone")
    made.adopt([kept, changed, gone])
    made.read_due(3600)
    again, other, new = Pages("kept"), Pages("changed", 2), Pages("new")
    made.adopt([again, other, new])
    assert (kept.closed, changed.closed, gone.closed, again.closed) == (0, 1, 1, 1)
    made.read_due(3600)
    assert (kept.reads, again.reads, other.reads, new.reads) == (1, 0, 1, 1)
    made.adopt([kept])
    assert kept.closed == 0
    made.close()
    assert kept.closed == 1


def test_windows_wait_for_every_source_that_is_read_often() -> None:
    made, log, _ = rounds()
    made.intake.follow(RuleSet(version="1", rules=(EdgeRule(name="r", match="x"),)))
    source, hourly = Pages("a"), Pages("b")
    hourly.interval_seconds = 3600
    made.adopt([source, hourly])
    made.read_due(1)
    made.intake.take([b'{"id":"1","type":"x","time":"2015-05-17T10:00:00Z"}'], {})
    assert made.intake.windows == 1
    made.read_due(1, everything=True)
    assert made.intake.windows == 0
    assert log.state().events_total == 5


def settings(**more: Any) -> AgentSettings:
    return AgentSettings(**more)


def test_settings_are_read_again_when_asked_or_when_the_file_changes(tmp_path: Path) -> None:
    path = tmp_path / "edge.toml"
    path.write_text("")
    loads = [settings(interval_seconds=5), settings(interval_seconds=6)]
    watch = SettingsWatch(path, lambda: loads.pop(0))
    assert watch.changed() is None
    watch.asked.set()
    found = watch.changed()
    assert found is not None
    assert found.interval_seconds == 5
    assert watch.changed() is None
    path.write_text("x = 1")
    found = watch.changed()
    assert found is not None
    assert found.interval_seconds == 6
    assert SettingsWatch(None, settings).changed() is None


def test_a_file_that_is_being_replaced_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "edge.toml"
    path.write_text("a")
    calls = []

    def load() -> AgentSettings:
        calls.append(1)
        if not path.exists():
            raise Invalid("gone")
        return settings()

    watch = SettingsWatch(path, load)
    path.unlink()
    with pytest.raises(Invalid):
        watch.changed()
    assert watch.changed() is None
    path.write_text("b")
    assert watch.changed() == settings()
    assert len(calls) == 2


def test_who_the_agent_is_changes_only_at_the_next_start() -> None:
    before = settings(url="http://a", interval_seconds=5)
    after = settings(url="http://b", interval_seconds=6, edge="new", backfill_share=0.5)
    assert fixed_changes(before, after) == ["url", "edge", "backfill_share"]
    found = adopted(before, after)
    assert (found.url, found.edge, found.interval_seconds) == ("http://a", None, 6)


class Server(Client):
    """A client whose answers are given."""

    def __init__(self, *answers: Answer | TallybookError) -> None:
        super().__init__("http://127.0.0.1:9", "tb_x")
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []

    def raw(self, *_: Any, **more: Any) -> Answer:
        self.asked.append(more)
        answer = self.answers.pop(0)
        if isinstance(answer, TallybookError):
            raise answer
        return answer


RULES = RuleSet(version="3", rules=(EdgeRule(name="r", match="x", value="$.v"),))


def follow(folder: Path, *answers: Answer | TallybookError) -> tuple[RuleFollower, Server]:
    server = Server(*answers)
    follower = RuleFollower(lambda: server, "web-1", folder, Voice())
    follower.start()
    assert follower.asked.wait(5)
    follower.end()
    follower.join(5)
    return follower, server


def told(rules: Any) -> Answer:
    return Answer(200, {}, msgspec.json.encode(rules))


def test_rules_are_fetched_kept_and_asked_for_by_version(tmp_path: Path) -> None:
    follower, server = follow(tmp_path, told(RULES))
    assert follower.newest == RULES == kept_rules(tmp_path)
    assert server.asked[0]["params"] == {"edge": "web-1"}
    assert "If-None-Match" not in server.asked[0]["headers"]
    again, server = follow(tmp_path, Answer(304, {}, b""))
    assert (again.newest, again.known) == (RULES, True)
    assert server.asked[0]["headers"]["If-None-Match"] == '"3"'


@pytest.mark.parametrize(
    "answer",
    [
        Unavailable("away"),
        Forbidden("no"),
        told({"version": 1}),
        told({"version": "4", "rules": [{"name": "r", "match": "x", "value": "no path"}]}),
    ],
)
def test_rules_that_cannot_be_had_leave_those_that_were(
    tmp_path: Path, answer: Answer | TallybookError
) -> None:
    follow(tmp_path, told(RULES))
    assert follow(tmp_path, answer)[0].newest == RULES
    assert kept_rules(tmp_path) == RULES


def test_a_bug_in_an_answer_does_not_end_the_following_of_rules(tmp_path: Path) -> None:
    class Broken(Server):
        def raw(self, *_: Any, **__: Any) -> Answer:
            self.asked.append({})
            raise RuntimeError("closed in the middle of an answer")

    server = Broken()
    follower = RuleFollower(lambda: server, "web-1", tmp_path, Voice())
    follower.start()
    assert follower.asked.wait(5)
    assert follower.is_alive()
    follower.end()
    assert not follower.is_alive()


def test_kept_rules_that_cannot_be_read_are_asked_for_again(tmp_path: Path) -> None:
    (tmp_path / RULES_NAME).write_text("{")
    assert kept_rules(tmp_path) is None
    (tmp_path / RULES_NAME).unlink()
    (tmp_path / "rules.new").mkdir()
    assert follow(tmp_path, told(RULES))[0].newest == RuleSet()


def test_figures_are_those_of_the_status() -> None:
    status = AgentStatus(
        pid=1, url="u", started_us=5_000_000, written_us=0, acked_us=7_000_000, stored=10,
        quarantined=2, parked=1, complaint="x", running=True, rounds=3, windows=4,
        sources=(SourceStatus(name='a"\\\n', events=5, read_us=1, problem="gone"),),
    )  # fmt: skip
    text = metrics_text(
        status, Waiting(batches=2, events=9, bytes=8, oldest_us=1_000_000), 9_000_000
    )
    assert "tallybook_edge_events_stored_total 10\n" in text
    assert "tallybook_edge_spool_oldest_seconds 8.0\n" in text
    assert "tallybook_edge_acknowledged_seconds 2.0\n" in text
    assert 'tallybook_edge_events_read_total{source="a\\"\\\\\\n"} 5\n' in text
    assert 'tallybook_edge_source_failing{source="a\\"\\\\\\n"} 1\n' in text
    assert "tallybook_edge_problem 1\n" in text
    assert "process_start_time_seconds 5.0\n" in text


def test_figures_are_for_this_machine_alone() -> None:
    assert listen_address("127.0.0.1:9464") == ("127.0.0.1", 9464)
    assert listen_address("localhost:0") == ("localhost", 0)
    assert listen_address("[::1]:1") == ("::1", 1)
    for text in ("0.0.0.0:1", "10.0.0.1:1", "web:1", "127.0.0.1", "127.0.0.1:70000", "127.0.0.1:x"):
        with pytest.raises(Invalid):
            listen_address(text)


def test_the_footprint_is_that_of_this_process() -> None:
    rss_bytes, cpu_seconds = footprint()
    assert rss_bytes > 10 << 20
    assert 0 < cpu_seconds <= sum(os.times()[:2]) + 1
