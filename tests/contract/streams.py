"""One suite for the streams' ports: each test tries to break a sentence of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tallybook.adapters.memory.streams import MemoryStreams
from tallybook.adapters.sqlite.streams import (
    SqliteGroups,
    SqliteReplays,
    SqliteShares,
    SqliteStreamReader,
    SqliteStreamWriter,
    StreamsFile,
)
from tallybook.kernel.errors import Conflict, Invalid, Missing
from tallybook.route.ports import (
    Answer,
    DeadLetters,
    GroupAt,
    Groups,
    NewGroup,
    Replays,
    Shares,
    Start,
    StreamReader,
    StreamWriter,
)
from tallybook.route.record import DONE, Place, Record, envelope
from tallybook.route.replay import Replay
from tallybook.route.sharing import GroupTerms
from tallybook.route.stream import LIVE, Delivery, Keep, KeepChange, Moved

T, S = "acme", "errors"
AT = GroupAt(T, S, "g")
SECOND = 1_000_000


@dataclass
class Ports:
    """The ports, on one store."""

    writer: StreamWriter
    reader: StreamReader
    replays: Replays
    groups: Groups
    shares: Shares
    letters: DeadLetters


@pytest.fixture(params=["memory", "sqlite"])
def ports(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ports]:
    if request.param == "memory":
        store = MemoryStreams()
        yield Ports(store, store, store, store, store, store)
        return
    file = StreamsFile(tmp_path / "streams.db")
    yield Ports(
        SqliteStreamWriter(file),
        SqliteStreamReader(file),
        SqliteReplays(file),
        SqliteGroups(file),
        SqliteShares(file),
        SqliteShares(file),
    )
    file.close()


def record(number: int, tenant: str = T, seq: int = 1) -> Record:
    return Record(
        tenant=tenant, id=f"e{number}", source="s", type="t", subject=None, time_us=number,
        received_us=number, ext=None, data="{}", commit_seq=seq, key=number.to_bytes(16, "big"),
    )  # fmt: skip


def put(
    ports: Ports, numbers: range | list[int], now_us: int = 0, stream: str = S, **more: Any
) -> int:
    rule, name, seq = more.get("rule", "r"), more.get("cursor", LIVE), more.get("seq", 1)
    tenant = more.get("tenant", T)
    found = [
        Delivery(stream=stream, rule=rule, version=1, record=r, envelope=envelope(r))
        for r in (record(n, tenant, seq) for n in numbers)
    ]
    return ports.writer.append([(tenant, found)], now_us, Moved(name=name, place=Place(seq, DONE)))


def group(ports: Ports, to: str = "earliest", **terms: Any) -> None:
    new = NewGroup(
        tenant=T, stream=S, name="g", terms=GroupTerms(**terms), at=Start(to=to), now_us=0
    )
    ports.groups.create(new)


def lease(ports: Ports, name: str, limit: int = 100, now_us: int = 0) -> list[int]:
    handed = ports.shares.lease(AT, name, limit, now_us)
    return [] if handed is None else [r.offset for r in handed.records]


def test_offsets_begin_at_one_without_holes_for_each_stream_and_tenant(ports: Ports) -> None:
    put(ports, range(3))
    put(ports, range(2), stream="other")
    put(ports, range(4), tenant="umbrella")
    put(ports, range(3, 5))
    assert [r.offset for r in ports.reader.read(T, S, 0, 100)] == [1, 2, 3, 4, 5]
    assert [s.next_offset for s in ports.reader.streams(T)] == [6, 3]
    assert ports.reader.stream("umbrella", S).records == 4
    assert [r.offset for r in ports.reader.read(T, S, 3, 1)] == [4]
    with pytest.raises(Missing):
        ports.reader.stream("umbrella", "other")


def test_a_record_is_on_a_stream_once_for_each_rule(ports: Ports) -> None:
    assert put(ports, range(3)) == 3
    assert put(ports, range(5)) == 2
    assert put(ports, range(5), rule="second") == 5
    assert put(ports, range(5), seq=2) == 5  # another record of the same key in a later commit
    assert ports.reader.delivered(T) == {"r": 10, "second": 5}


def test_a_cursor_moves_with_what_it_delivered(ports: Ports) -> None:
    assert ports.writer.cursor(LIVE) is None
    put(ports, range(3), seq=7)
    assert ports.writer.cursor(LIVE) == Place(7, DONE)


def test_a_replay_is_recorded_with_its_place_and_count(ports: Ports) -> None:
    put(ports, range(2))
    asked = Replay(
        tenant=T, id="rpl_1", rule="r", version=3, from_seq=1, upto_seq=9, asked_by="k", asked_us=5
    )
    ports.replays.ask(asked)
    assert ports.replays.running() == [asked]
    put(ports, range(4), cursor="rpl_1")
    (running,) = ports.replays.running()
    assert (running.delivered, running.place) == (2, Place(1, DONE))
    assert [r.replay for r in ports.reader.read(T, S, 0, 9)] == ["", "", "rpl_1", "rpl_1"]
    ports.replays.end(T, "rpl_1", 8, "stopped")
    assert ports.replays.running() == []
    (ended,) = ports.replays.replays(T, "r")
    assert (ended.done_us, ended.reason) == (8, "stopped")


def test_a_broken_rule_is_told_and_taken_back(ports: Ports) -> None:
    ports.writer.tell_broken(T, "r", 2, "why")
    ports.writer.tell_broken(T, "r", 3, "why not")
    assert ports.writer.broken(T) == {"r": (3, "why not")}
    assert ports.writer.broken("other") == {}
    ports.writer.tell_broken(T, "r", 0, "")
    assert ports.writer.broken(T) == {}


def test_retention_by_age_and_by_size_drops_the_oldest(ports: Ports) -> None:
    put(ports, range(3), now_us=0)
    put(ports, range(3, 5), now_us=3600 * SECOND)
    ports.reader.set_keep(T, S, KeepChange(keep_hours=1), 0)
    assert ports.writer.trim(3600 * SECOND) == 0
    assert ports.writer.trim(3600 * SECOND + 1) == 3
    stream = ports.reader.stream(T, S)
    assert (stream.first_offset, stream.next_offset, stream.records) == (4, 6, 2)
    assert stream.bytes == sum(len(r.envelope) for r in ports.reader.read(T, S, 0, 9))
    assert ports.writer.trim(8000 * SECOND) == 2
    assert put(ports, [9], now_us=8000 * SECOND) == 1
    assert [r.offset for r in ports.reader.read(T, S, 0, 9)] == [6]


def test_what_a_change_of_retention_leaves_out_stays(ports: Ports) -> None:
    made = ports.reader.set_keep(T, S, KeepChange(), 0)
    assert made.keep == Keep()
    assert ports.reader.set_keep(T, S, KeepChange(keep_hours=1), 0).keep.keep_mb == Keep().keep_mb
    kept = ports.reader.set_keep(T, S, KeepChange(keep_mb=9), 0)
    assert kept.keep == Keep(keep_hours=1, keep_mb=9)
    assert kept.tag != made.tag
    with pytest.raises(Invalid):
        ports.reader.set_keep(T, S, KeepChange(keep_hours=0), 0)
    assert ports.reader.stream(T, S).keep == kept.keep


def test_what_is_not_what_was_seen_is_not_changed(ports: Ports) -> None:
    seen: list[object] = []

    def check(found: object) -> None:
        seen.append(found)
        raise Conflict("moved")

    with pytest.raises(Conflict):
        ports.reader.set_keep(T, "other", KeepChange(), 0, check)
    with pytest.raises(Missing):
        ports.reader.stream(T, "other")
    put(ports, range(2))
    stream = ports.reader.stream(T, S)
    group(ports)
    stand = ports.groups.group(T, S, "g")
    for change in (
        lambda: ports.reader.set_keep(T, S, KeepChange(keep_hours=1), 0, check),
        lambda: ports.groups.seek(T, S, "g", Start(to="latest"), check),
        lambda: ports.groups.delete(T, S, "g", check),
    ):
        with pytest.raises(Conflict):
            change()
    assert seen == [None, stream, stand, stand]
    assert (ports.reader.stream(T, S), ports.groups.group(T, S, "g")) == (stream, stand)
    assert ports.groups.seek(T, S, "g", Start(to="latest")).tag != stand.tag


def test_retention_by_size(ports: Ports) -> None:
    big = msgspec.structs.replace(record(1), data='"' + "x" * 700_000 + '"')
    found = [
        Delivery(stream=S, rule=str(n), version=1, record=big, envelope=envelope(big))
        for n in range(3)
    ]
    ports.writer.append([(T, found)], 0, Moved(name=LIVE, place=Place(1, DONE)))
    ports.reader.set_keep(T, S, KeepChange(keep_mb=1), 0)
    assert ports.writer.trim(0) == 2
    assert [r.rule for r in ports.reader.read(T, S, 0, 9)] == ["2"]


@pytest.mark.parametrize(
    ("start", "first"),
    [
        (Start(to="earliest"), 1),
        (Start(to="latest"), 7),
        (Start(to="time", time_us=10), 3),
        (Start(to="time", time_us=11), 5),
        (Start(to="time", time_us=99), 7),
        (Start(to="offset", offset=4), 4),
    ],
)
def test_a_group_begins_where_it_is_asked_to(ports: Ports, start: Start, first: int) -> None:
    for at_us in (0, 10, 20):
        put(ports, [at_us, at_us + 1], now_us=at_us)
    new = NewGroup(tenant=T, stream=S, name="g", terms=GroupTerms(), at=start, now_us=0)
    assert ports.groups.create(new).next_offset == first
    with pytest.raises(Conflict):
        ports.groups.create(new)
    assert lease(ports, "a") == list(range(first, 7))


def test_a_group_must_be_there_and_begin_within_the_stream(ports: Ports) -> None:
    put(ports, range(2))
    new = NewGroup(tenant=T, stream=S, name="g", terms=GroupTerms(), at=Start(to="x"), now_us=0)
    for start in (Start(to="x"), Start(to="offset", offset=9), Start(to="after-loss")):
        with pytest.raises(Invalid):
            ports.groups.create(msgspec.structs.replace(new, at=start))
    with pytest.raises(Missing):
        ports.groups.create(msgspec.structs.replace(new, stream="none", at=Start(to="latest")))
    for call in (
        lambda: ports.groups.group(T, S, "g"),
        lambda: ports.groups.delete(T, S, "g"),
        lambda: ports.groups.seek(T, S, "g", Start(to="latest")),
        lambda: ports.shares.lease(AT, "a", 1, 0),
        lambda: ports.shares.acknowledge(AT, Answer(lease="a"), 0),
        lambda: ports.shares.fail(AT, Answer(lease="a"), 0),
        lambda: ports.letters.dead_letters(AT, 0, 1),
        lambda: ports.letters.redrive(AT, None, 0),
    ):
        with pytest.raises(Missing):
            call()


def test_members_share_a_stream_and_none_gets_what_another_has(ports: Ports) -> None:
    put(ports, range(10))
    group(ports)
    assert lease(ports, "a", 4) == [1, 2, 3, 4]
    assert lease(ports, "b", 4) == [5, 6, 7, 8]
    assert lease(ports, "c", 4) == [9, 10]
    assert lease(ports, "d", 4) == []
    stand = ports.groups.group(T, S, "g")
    assert (stand.lag, stand.pending, stand.acknowledged) == (10, 10, 0)


def test_an_acknowledgement_takes_ids_all_up_to_one_or_the_whole_lease(ports: Ports) -> None:
    put(ports, range(9))
    group(ports)
    lease(ports, "a", 6)
    lease(ports, "b", 3)
    ack = ports.shares.acknowledge
    assert ack(AT, Answer(lease="a", offsets=(1, 3)), 0).done == [1, 3]
    assert ack(AT, Answer(lease="a", offsets=(1, 7)), 0).lost == [7]  # 7 is another member's
    assert ack(AT, Answer(lease="a", up_to=4), 0).done == [2, 4]
    assert ack(AT, Answer(lease="a"), 0).done == [5, 6]
    assert ack(AT, Answer(lease="a"), 0).done == []
    stand = ports.groups.group(T, S, "g")
    assert (stand.lag, stand.pending, stand.acknowledged) == (3, 3, 6)


def test_a_member_may_give_back_what_it_did_not_get(ports: Ports) -> None:
    put(ports, range(4))
    group(ports)
    lease(ports, "a")
    ports.shares.acknowledge(AT, Answer(lease="a", up_to=1, release=True), 0)
    assert lease(ports, "b") == [2, 3, 4]


def test_a_member_that_dies_loses_its_records_to_others(ports: Ports) -> None:
    put(ports, range(3))
    group(ports, lease_seconds=10)
    assert lease(ports, "a", now_us=0) == [1, 2, 3]
    assert lease(ports, "b", now_us=9 * SECOND) == []
    assert lease(ports, "b", now_us=10 * SECOND) == [1, 2, 3]
    late = ports.shares.acknowledge(AT, Answer(lease="a", offsets=(1,)), 11 * SECOND)
    assert (late.done, late.lost) == ([], [1])


def test_a_lease_is_extended_while_its_member_is_at_work(ports: Ports) -> None:
    put(ports, range(3))
    group(ports, lease_seconds=10)
    lease(ports, "a", now_us=0)
    assert ports.shares.extend(AT, "a", 9 * SECOND) == 19 * SECOND
    assert lease(ports, "b", now_us=18 * SECOND) == []
    assert ports.shares.extend(AT, "a", 25 * SECOND) == 35 * SECOND  # late, and nobody had them
    assert lease(ports, "b", now_us=35 * SECOND) == [1, 2, 3]
    for gone in ("a", "", "unknown"):
        with pytest.raises(Conflict, match="another member") as refused:
            ports.shares.extend(AT, gone, 36 * SECOND)
        assert refused.value.code == "lease-lost"


def test_an_answer_without_a_lease_touches_nothing(ports: Ports) -> None:
    put(ports, range(4))
    group(ports)
    lease(ports, "a")
    ports.shares.fail(AT, Answer(lease="a", reason="down"), 0)
    assert ports.shares.acknowledge(AT, Answer(lease=""), 0).done == []
    assert ports.shares.fail(AT, Answer(lease="", reason="?"), 0).done == []
    assert lease(ports, "b") == [1, 2]


def test_an_answer_after_the_lease_counts_while_nobody_else_has_the_records(ports: Ports) -> None:
    put(ports, range(3))
    group(ports, lease_seconds=10)
    lease(ports, "a", now_us=0)
    assert ports.shares.acknowledge(AT, Answer(lease="a"), 60 * SECOND).done == [1, 2, 3]


def test_a_batch_that_kills_its_members_is_taken_apart_too(ports: Ports) -> None:
    put(ports, range(4))
    group(ports, lease_seconds=10)
    assert lease(ports, "a", now_us=0) == [1, 2, 3, 4]
    assert lease(ports, "b", now_us=10 * SECOND) == [1, 2, 3, 4]
    assert lease(ports, "c", now_us=20 * SECOND) == [1, 2]
    assert lease(ports, "d", now_us=20 * SECOND) == [3, 4]


def test_a_failed_batch_is_halved_until_the_poison_stands_alone(ports: Ports) -> None:
    poison = 6
    put(ports, range(10))
    group(ports, attempts_max=3)
    seen, now, done = [], 0, set()
    for turn in range(100):
        batch = lease(ports, f"m{turn}", now_us=now)
        if not batch:
            now += SECOND
            continue
        seen.append(batch)
        if poison in batch:
            ports.shares.fail(AT, Answer(lease=f"m{turn}", reason="cannot"), now)
        else:
            ports.shares.acknowledge(AT, Answer(lease=f"m{turn}"), now)
            done |= set(batch)
    assert seen[:4] == [list(range(1, 11)), [1, 2, 3, 4, 5], [6, 7, 8, 9, 10], [6, 7, 8]]
    assert done == set(range(1, 11)) - {poison}
    assert [b for b in seen if b == [poison]] == [[poison]] * 3
    (letter,) = ports.letters.dead_letters(AT, 0, 10)
    assert (letter.record.offset, letter.reason, letter.attempts) == (poison, "cannot", 3)
    stand = ports.groups.group(T, S, "g")
    assert (stand.lag, stand.dead, stand.acknowledged) == (0, 1, 9)


def test_a_member_may_name_the_records_that_failed(ports: Ports) -> None:
    put(ports, range(4))
    group(ports, attempts_max=1)
    lease(ports, "a")
    answered = ports.shares.fail(AT, Answer(lease="a", offsets=(2,), reason="no"), 0)
    assert (answered.done, answered.dead) == ([2], [2])
    assert ports.shares.acknowledge(AT, Answer(lease="a"), 0).done == [1, 3, 4]


def test_a_dead_letter_outlives_retention_and_is_redriven_alone(ports: Ports) -> None:
    put(ports, range(3))
    group(ports, attempts_max=1)
    lease(ports, "a")
    ports.shares.fail(AT, Answer(lease="a", offsets=(1, 2), reason="no"), 0)
    ports.shares.acknowledge(AT, Answer(lease="a"), 0)
    ports.reader.set_keep(T, S, KeepChange(keep_hours=1), 0)
    later = 9000 * SECOND
    assert ports.writer.trim(later) == 3
    assert ports.letters.redrive(AT, [1], later) == 1
    assert ports.letters.redrive(AT, [1], later) == 0
    assert [d.record.offset for d in ports.letters.dead_letters(AT, 0, 9)] == [2]
    handed = ports.shares.lease(AT, "b", 10, later)
    assert handed is not None
    assert [r.envelope for r in handed.records] == [envelope(record(0))]
    ports.shares.fail(AT, Answer(lease="b", reason="again"), later)
    assert [d.reason for d in ports.letters.dead_letters(AT, 0, 9)] == ["again", "no"]
    assert ports.letters.redrive(AT, None, later) == 2
    assert lease(ports, "c", now_us=later) == [1]
    assert lease(ports, "d", now_us=later) == [2]
    ports.shares.acknowledge(AT, Answer(lease="c"), later)
    ports.shares.acknowledge(AT, Answer(lease="d"), later)
    stand = ports.groups.group(T, S, "g")
    assert (stand.lag, stand.dead) == (0, 0)


def test_an_ordered_group_has_one_batch_out_at_a_time(ports: Ports) -> None:
    put(ports, range(4))
    group(ports, ordered=True, attempts_max=2)
    assert lease(ports, "a", 2) == [1, 2]
    assert lease(ports, "b", 2) == []
    ports.shares.fail(AT, Answer(lease="a", reason="x"), 0)
    assert lease(ports, "b", 2) == [1]
    ports.shares.fail(AT, Answer(lease="b", reason="x"), 0)
    assert lease(ports, "c", 2) == []  # 1 waits for its next attempt, and 2 waits for 1
    assert lease(ports, "c", 2, now_us=SECOND) == [1]


def test_a_group_that_retention_overtook_is_told_what_it_lost(ports: Ports) -> None:
    put(ports, range(5))
    group(ports)
    lease(ports, "a", 2)
    ports.shares.acknowledge(AT, Answer(lease="a", offsets=(1,)), 0)
    ports.reader.set_keep(T, S, KeepChange(keep_hours=1), 0)
    put(ports, [9], now_us=9000 * SECOND)
    assert ports.writer.trim(9000 * SECOND) == 5
    with pytest.raises(Conflict, match="offsets 2 to 5") as refused:
        lease(ports, "b", now_us=9000 * SECOND)
    assert refused.value.code == "records-expired"
    stand = ports.groups.seek(T, S, "g", Start(to="after-loss"))
    assert (stand.lost, stand.lag, stand.pending) == (4, 1, 0)
    assert lease(ports, "b", now_us=9000 * SECOND) == [6]


def test_a_group_can_be_moved_and_taken_away(ports: Ports) -> None:
    put(ports, range(5))
    group(ports)
    lease(ports, "a")
    assert ports.groups.seek(T, S, "g", Start(to="earliest")).lag == 5
    assert lease(ports, "b", 2) == [1, 2]
    assert [g.name for g in ports.groups.groups(T, S)] == ["g"]
    assert [g.name for g in ports.groups.groups(T, "")] == ["g"]
    assert ports.groups.groups("other", "") == []
    ports.groups.delete(T, S, "g")
    assert ports.groups.groups(T, S) == []
