"""The router is killed before or after any write: each (record, rule, target) is there once."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tallybook.adapters.memory.streams import MemoryRecords, MemoryRules
from tallybook.adapters.sqlite.streams import (
    SqliteReplays,
    SqliteStreamReader,
    SqliteStreamWriter,
    StreamsFile,
)
from tallybook.route.flow import Routing, replay_once, route_once
from tallybook.route.record import Record
from tallybook.route.replay import Replay
from tallybook.route.rule import Rule

KINDS = ("a", "b", "c")


class Killed(BaseException):
    """The process is gone."""


class Mortal:
    """A writer whose process dies before or after some of its transactions."""

    def __init__(self, writer: SqliteStreamWriter, chance: random.Random) -> None:
        """Wrap a writer."""
        self._writer = writer
        self._chance = chance

    def append(self, *args: Any) -> int:
        """Append, or die before or after it."""
        fate = self._chance.random()
        if fate < 0.15:
            raise Killed
        put = self._writer.append(*args)
        if fate > 0.85:
            raise Killed
        return put

    def __getattr__(self, name: str) -> Any:
        """Leave everything else alone."""
        return getattr(self._writer, name)


class Clock:
    """Stands still."""

    def now_us(self) -> int:
        """Return zero."""
        return 0


def rule(key: str, kinds: tuple[str, ...], targets: tuple[str, ...], **more: Any) -> Rule:
    wanted = ", ".join(f'"{kind}"' for kind in kinds)
    return Rule(
        tenant="t", key=key, version=more.pop("version", 1), targets=targets,
        pattern=more.pop("pattern", f'{{"type": [{wanted}]}}'), **more,
    )  # fmt: skip


def commit(seq: int, chance: random.Random) -> list[Record]:
    return [
        Record(
            tenant=chance.choice(["t", "t", "other"]), id=f"{seq}/{n}", source="s",
            type=chance.choice(KINDS), subject=None, time_us=n, received_us=seq, ext=None,
            data="{}", commit_seq=seq, key=(seq * 1000 + n).to_bytes(16, "big"),
        )
        for n in range(chance.randrange(12))
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(30))
def test_each_record_rule_and_target_is_there_once(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    lake, rules = MemoryRecords(slice_rows=3), MemoryRules()
    rules.add(rule("r1", ("a",), ("x", "y")))
    rules.add(rule("r2", ("a", "b"), ("x",), since_seq=4))
    rules.add(rule("r2", ("b",), ("x", "z"), since_seq=9, version=2))
    rules.add(rule("broken", (), ("x",), pattern='{"type": "a"}'))
    rules.add(rule("r3", ("c",), ("late",), since_seq=1_000))
    asked = False
    while lake.head() < 15 or not _settled(tmp_path, lake):
        if lake.head() < 15:
            lake.commits.append(commit(lake.head() + 1, chance))
        file = StreamsFile(tmp_path / "streams.db")
        mortal: Any = Mortal(SqliteStreamWriter(file), chance)
        routing = Routing(
            rules=rules, records=lake, streams=mortal, replays=SqliteReplays(file), clock=Clock()
        )
        try:
            if not asked and lake.head() == 15:
                asked = True
                routing.replays.ask(
                    Replay(tenant="t", id="p", rule="r3", version=1, from_seq=1, upto_seq=15,
                           asked_by="k", asked_us=0)
                )  # fmt: skip
            route_once(routing)
            replay_once(routing)
        except Killed:
            pass
        finally:
            file.close()
    _check(tmp_path, lake)


def _settled(folder: Path, lake: MemoryRecords) -> bool:
    file = StreamsFile(folder / "streams.db")
    place = SqliteStreamWriter(file).cursor("live")
    running = SqliteReplays(file).running()
    asked = SqliteReplays(file).replays("t", "r3")
    file.close()
    return place is not None and place.commit_seq == lake.head() and bool(asked) and not running


def _check(folder: Path, lake: MemoryRecords) -> None:
    wanted: Counter[tuple[str, str, int, int]] = Counter()
    for record in (r for rows in lake.commits for r in rows if r.tenant == "t"):
        for stream, key, version in _targets(record):
            wanted[stream, key, version, int.from_bytes(record.key, "big")] += 1
    file = StreamsFile(folder / "streams.db")
    reader = SqliteStreamReader(file)
    found: Counter[tuple[str, str, int, int]] = Counter()
    for stream in reader.streams("t"):
        records = reader.read("t", stream.name, 0, 10_000)
        assert [r.offset for r in records] == list(range(1, stream.next_offset))
        for r in records:
            seq, _, n = r.envelope.partition(b'"id":"')[2].partition(b'"')[0].partition(b"/")
            found[stream.name, r.rule, r.version, int(seq) * 1000 + int(n)] += 1
    assert reader.streams("other") == []
    assert SqliteStreamWriter(file).broken("t")["broken"][0] == 1
    file.close()
    assert found == wanted


def _targets(record: Record) -> list[tuple[str, str, int]]:
    live = [("x", "r1", 1), ("y", "r1", 1)] if record.type == "a" else []
    if 4 <= record.commit_seq < 9 and record.type in {"a", "b"}:
        live.append(("x", "r2", 1))
    if record.commit_seq >= 9 and record.type == "b":
        live += [("x", "r2", 2), ("z", "r2", 2)]
    replayed = [("late", "r3", 1)] if record.type == "c" else []
    return (live or [("unmatched", "", 0)]) + replayed
