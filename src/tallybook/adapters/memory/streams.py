"""Streams, replays and groups in memory: the same words, for tests."""

from collections.abc import Iterator, Sequence

import msgspec

from tallybook.kernel.errors import Conflict, Invalid, Missing
from tallybook.route.ports import (
    Answer,
    Answered,
    Check,
    DeadLetter,
    GroupAt,
    Handed,
    NewGroup,
    Slice,
    Start,
)
from tallybook.route.record import DONE, Place, Record
from tallybook.route.replay import Replay
from tallybook.route.rule import Rule
from tallybook.route.sharing import (
    PENDING_MAX,
    Decided,
    Group,
    Pending,
    ended,
    failed,
    lease_lost,
    singled_out,
)
from tallybook.route.stream import (
    HOUR_US,
    LIVE,
    MB,
    Delivery,
    Keep,
    KeepChange,
    Moved,
    Stream,
    StreamRecord,
    expired,
)


class MemoryRules:
    """`RuleStore` in memory."""

    def __init__(self) -> None:
        """Begin without rules."""
        self._stored: dict[tuple[str, str, int], Rule] = {}

    def version(self) -> int:
        """Return how many versions there are."""
        return len(self._stored)

    def rules(self, tenant: str) -> list[Rule]:
        """Return the newest version of every rule that is not deleted, by key."""
        newest = {rule.key: rule for rule in self.all_versions() if rule.tenant == tenant}
        return [rule for rule in newest.values() if rule.state != "deleted"]

    def history(self, tenant: str, key: str) -> list[Rule]:
        """Return all versions of a rule, oldest first."""
        return [r for r in self.all_versions() if (r.tenant, r.key) == (tenant, key)]

    def all_versions(self) -> list[Rule]:
        """Return every version of every rule, by tenant, key and version."""
        return [self._stored[at] for at in sorted(self._stored)]

    def add(self, *rules: Rule) -> None:
        """Store versions, all or none; raises Conflict where one is there."""
        new = {(rule.tenant, rule.key, rule.version): rule for rule in rules}
        if new.keys() & self._stored.keys():
            raise Conflict("this version is there already")
        self._stored |= new


class MemoryRecords:
    """`CommittedRecords` over a list of commits, for tests."""

    def __init__(self, slice_rows: int = 20_000) -> None:
        """Begin with an empty lake."""
        self.commits: list[list[Record]] = []
        self._slice_rows = slice_rows

    def head(self) -> int:
        """Return the newest commit's number."""
        return len(self.commits)

    def read(self, after: Place, upto_seq: int, tenants: Sequence[str]) -> Iterator[Slice]:
        """Yield what came after a place, up to and including a commit."""
        first = after.commit_seq + 1 if after.row >= DONE else max(after.commit_seq, 1)
        for seq in range(first, min(upto_seq, self.head()) + 1):
            rows = list(enumerate(self.commits[seq - 1], 1))
            skip = after.row if seq == after.commit_seq else 0
            wanted = [(n, r) for n, r in rows if n > skip and r.tenant in tenants]
            for start in range(0, len(wanted), self._slice_rows):
                part = wanted[start : start + self._slice_rows]
                yield Slice([r for _, r in part], Place(seq, part[-1][0]))
        yield Slice((), Place(upto_seq, DONE))


class _Log:
    def __init__(self, tenant: str, name: str, now_us: int) -> None:
        self.stream = Stream(tenant=tenant, name=name, created_us=now_us)
        self.records: dict[int, StreamRecord] = {}
        self.once: dict[tuple[str, int, bytes], int] = {}
        self.groups: dict[str, _Group] = {}


class _Group:
    def __init__(self, new: NewGroup, next_offset: int) -> None:
        self.new = new
        self.next_offset = next_offset
        self.next_batch = 1
        self.acknowledged = self.lost = 0
        self.pending: dict[int, Pending] = {}
        self.dead: dict[int, DeadLetter] = {}
        self.redriven: dict[int, DeadLetter] = {}

    def batches(self, count: int) -> int:
        first = self.next_batch
        self.next_batch += count
        return first


class MemoryStreams:
    """`StreamWriter`, `Replays`, `StreamReader`, `Groups`, `Shares` and `DeadLetters` in memory."""

    def __init__(self) -> None:
        """Begin without streams."""
        self._logs: dict[tuple[str, str], _Log] = {}
        self._cursors: dict[str, Place] = {}
        self._replays: dict[tuple[str, str], Replay] = {}
        self._broken: dict[tuple[str, str], tuple[int, str]] = {}
        self._delivered: dict[tuple[str, str], int] = {}

    def cursor(self, name: str) -> Place | None:
        """Return how far a reader of the lake has come."""
        return self._cursors.get(name)

    def append(
        self, found: Sequence[tuple[str, Sequence[Delivery]]], now_us: int, moved: Moved
    ) -> int:
        """Put records on their streams and move the cursor."""
        replay = "" if moved.name == LIVE else moved.name
        put = sum(
            self._append(tenant, each, now_us, replay)
            for tenant, deliveries in found
            for each in deliveries
        )
        self._cursors[moved.name] = moved.place
        for at, stored in self._replays.items():
            if stored.id == moved.name:
                count = stored.delivered + put
                self._replays[at] = msgspec.structs.replace(
                    stored, delivered=count, place=moved.place
                )
        return put

    def _append(self, tenant: str, each: Delivery, now_us: int, replay: str) -> int:
        log = self._made(tenant, each.stream, now_us)
        once = each.rule, each.record.commit_seq, each.record.key
        if once in log.once:
            return 0
        offset = log.stream.next_offset
        log.once[once] = offset
        log.records[offset] = StreamRecord(
            offset=offset,
            rule=each.rule,
            version=each.version,
            commit_seq=each.record.commit_seq,
            appended_us=now_us,
            replay=replay,
            envelope=each.envelope,
        )
        size = log.stream.bytes + len(each.envelope)
        log.stream = msgspec.structs.replace(log.stream, next_offset=offset + 1, bytes=size)
        at = tenant, each.rule
        self._delivered[at] = self._delivered.get(at, 0) + 1
        return 1

    def _made(self, tenant: str, name: str, now_us: int) -> _Log:
        return self._logs.setdefault((tenant, name), _Log(tenant, name, now_us))

    def trim(self, now_us: int) -> int:
        """Drop what is beyond its stream's retention; return how many records."""
        return sum(self._trim(log, now_us) for log in self._logs.values())

    def _trim(self, log: _Log, now_us: int) -> int:
        gone = 0
        while log.records:
            stream, first = log.stream, log.records[log.stream.first_offset]
            oldest_us = now_us - stream.keep.keep_hours * HOUR_US
            if first.appended_us >= oldest_us and stream.bytes <= stream.keep.keep_mb * MB:
                break
            del log.records[first.offset]
            log.once = {once: o for once, o in log.once.items() if o != first.offset}
            size = stream.bytes - len(first.envelope)
            log.stream = msgspec.structs.replace(stream, first_offset=first.offset + 1, bytes=size)
            gone += 1
        return gone

    def tell_broken(self, tenant: str, rule: str, version: int, reason: str) -> None:
        """Note why a rule version is parked; '' takes the note back."""
        self._broken.pop((tenant, rule), None)
        if reason:
            self._broken[tenant, rule] = version, reason

    def broken(self, tenant: str) -> dict[str, tuple[int, str]]:
        """Return version and reason of every parked rule of a tenant, by key."""
        return {rule: told for (whose, rule), told in self._broken.items() if whose == tenant}

    def ask(self, replay: Replay) -> None:
        """Store a new replay."""
        self._replays[replay.tenant, replay.id] = replay

    def replays(self, tenant: str, rule: str) -> list[Replay]:
        """Return the replays of a rule, newest first."""
        mine = [r for r in self._replays.values() if (r.tenant, r.rule) == (tenant, rule)]
        return sorted(mine, key=lambda r: (r.asked_us, r.id), reverse=True)

    def running(self) -> list[Replay]:
        """Return the replays that have not ended, oldest first."""
        open_ = [r for r in self._replays.values() if r.done_us is None]
        return sorted(open_, key=lambda r: (r.asked_us, r.id))

    def end(self, tenant: str, id: str, now_us: int, reason: str) -> None:
        """Note that a replay has ended."""
        stored = self._replays[tenant, id]
        self._replays[tenant, id] = msgspec.structs.replace(stored, done_us=now_us, reason=reason)

    def streams(self, tenant: str) -> list[Stream]:
        """Return the streams of a tenant, by name."""
        return [self._logs[at].stream for at in sorted(self._logs) if at[0] == tenant]

    def stream(self, tenant: str, name: str) -> Stream:
        """Return one stream; raises Missing."""
        return self._log(tenant, name).stream

    def _log(self, tenant: str, name: str) -> _Log:
        if (tenant, name) not in self._logs:
            raise Missing(f"there is no stream '{name}'", field="stream")
        return self._logs[tenant, name]

    def read(self, tenant: str, name: str, after: int, limit: int) -> list[StreamRecord]:
        """Return the records after an offset that are still kept."""
        records = self._log(tenant, name).records
        return [records[offset] for offset in sorted(records) if offset > after][:limit]

    def set_keep(
        self, tenant: str, name: str, change: KeepChange, now_us: int, check: Check[Stream] = None
    ) -> Stream:
        """Change how long a stream keeps records; makes the stream where it is not there."""
        stored = self._logs.get((tenant, name))
        if check is not None:
            check(None if stored is None else stored.stream)
        keep = change.of(Keep() if stored is None else stored.stream.keep)
        log = self._made(tenant, name, now_us)
        log.stream = msgspec.structs.replace(log.stream, keep=keep)
        return log.stream

    def delivered(self, tenant: str) -> dict[str, int]:
        """Return how many records each rule has put on streams, by key."""
        return {rule: n for (whose, rule), n in self._delivered.items() if whose == tenant}

    def create(self, new: NewGroup) -> Group:
        """Make a group."""
        log = self._log(new.tenant, new.stream)
        if new.name in log.groups:
            raise Conflict(f"group '{new.name}' is there already", code="group-exists")
        log.groups[new.name] = _Group(new, _offset(log, new.at))
        return _group(log, log.groups[new.name])

    def groups(self, tenant: str, stream: str) -> list[Group]:
        """Return the groups of a stream, by name; of all streams where it is ''."""
        logs = [self._logs[at] for at in sorted(self._logs) if at[0] == tenant]
        return [
            _group(log, log.groups[name])
            for log in logs
            if stream in {"", log.stream.name}
            for name in sorted(log.groups)
        ]

    def group(self, tenant: str, stream: str, name: str) -> Group:
        """Return one group; raises Missing."""
        return _group(*self._open(GroupAt(tenant, stream, name)))

    def _open(self, at: GroupAt) -> tuple[_Log, _Group]:
        log = self._log(at.tenant, at.stream)
        if at.group not in log.groups:
            message = f"there is no group '{at.group}' on this stream; create it first"
            raise Missing(message, field="group")
        return log, log.groups[at.group]

    def seek(
        self, tenant: str, stream: str, name: str, at: Start, check: Check[Group] = None
    ) -> Group:
        """Move a group; what it was handed and had not acknowledged is forgotten."""
        log, group = self._open(GroupAt(tenant, stream, name))
        if check is not None:
            check(self.group(tenant, stream, name))
        if at.to == "after-loss":
            first = log.stream.first_offset
            gone = [o for o in group.pending if o < first and o not in group.redriven]
            group.lost += len(gone) + max(0, first - group.next_offset)
            group.next_offset = max(group.next_offset, first)
            for offset in gone:
                del group.pending[offset]
        else:
            group.next_offset = _offset(log, at)
            group.pending = {}
            group.dead |= group.redriven
            group.redriven = {}
        return _group(log, group)

    def delete(self, tenant: str, stream: str, name: str, check: Check[Group] = None) -> None:
        """Take a group away; raises Missing."""
        log, _ = self._open(GroupAt(tenant, stream, name))
        if check is not None:
            check(self.group(tenant, stream, name))
        del log.groups[name]

    def lease(self, at: GroupAt, lease: str, limit: int, now_us: int) -> Handed | None:
        """Hand out one batch; None where nothing is there now."""
        log, group = self._open(at)
        first = log.stream.first_offset
        known = [o for o in group.pending if o not in group.redriven]
        if (lost := min([group.next_offset, *known])) < first:
            raise expired(at.stream, lost, first - 1)
        terms = group.new.terms
        while (batch := _free_batch(group, now_us)) and batch[0].lease:
            self._decide(log, group, batch, ended(batch, terms, now_us, group.batches(2)), now_us)
        if terms.ordered and any(row.until_us > now_us for row in group.pending.values()):
            return None
        rows = batch[:limit] if batch else _fresh(log, group, limit)
        if not rows:
            return None
        until_us, number = now_us + terms.lease_seconds * 1_000_000, group.batches(1)
        for row in rows:
            group.pending[row.offset] = msgspec.structs.replace(
                row, lease=lease, until_us=until_us, batch=number
            )
        records = [_record(log, group, row.offset) for row in rows]
        attempts = {row.offset: row.attempts for row in rows if row.attempts}
        return Handed(lease=lease, until_us=until_us, records=records, attempts=attempts)

    def acknowledge(self, at: GroupAt, answer: Answer, now_us: int) -> Answered:
        """Take records off the group's list; what is off already is left alone."""
        del now_us
        _, group = self._open(at)
        mine, lost = _answered(group, answer)
        for row in mine:
            del group.pending[row.offset]
            group.redriven.pop(row.offset, None)
        group.acknowledged += len(mine)
        if answer.release:
            for offset, row in group.pending.items():
                if row.lease == answer.lease:
                    group.pending[offset] = msgspec.structs.replace(row, lease="", until_us=0)
        return Answered(done=[row.offset for row in mine], lost=lost)

    def extend(self, at: GroupAt, lease: str, now_us: int) -> int:
        """Give a lease its whole time again; return until when."""
        _, group = self._open(at)
        until_us = now_us + group.new.terms.lease_seconds * 1_000_000
        mine, _ = _answered(group, Answer(lease=lease))
        if not mine:
            raise lease_lost()
        for row in mine:
            group.pending[row.offset] = msgspec.structs.replace(row, until_us=until_us)
        return until_us

    def fail(self, at: GroupAt, answer: Answer, now_us: int) -> Answered:
        """Set a batch, or some of its records, aside to be tried again in smaller parts."""
        log, group = self._open(at)
        mine, lost = _answered(group, answer)
        if not mine:
            return Answered(done=[], lost=lost)
        decide = failed if answer.offsets is None and answer.up_to is None else singled_out
        batch = group.batches(len(mine) + 2)
        decided = decide(mine, answer.reason, group.new.terms, now_us, batch)
        self._decide(log, group, mine, decided, now_us)
        dead = [row.offset for row in decided.dead]
        return Answered(done=[row.offset for row in mine], lost=lost, dead=dead)

    def _decide(
        self, log: _Log, group: _Group, rows: Sequence[Pending], what: Decided, now_us: int
    ) -> None:
        for row in rows:
            del group.pending[row.offset]
        group.pending |= {row.offset: row for row in what.kept}
        for row in what.dead:
            record = _record(log, group, row.offset)
            group.redriven.pop(row.offset, None)
            group.dead[row.offset] = DeadLetter(
                record=record, reason=row.reason, attempts=row.attempts, dead_us=now_us
            )

    def dead_letters(self, at: GroupAt, after: int, limit: int) -> list[DeadLetter]:
        """Return dead letters by offset."""
        _, group = self._open(at)
        return [group.dead[o] for o in sorted(group.dead) if o > after][:limit]

    def redrive(self, at: GroupAt, offsets: Sequence[int] | None, now_us: int) -> int:
        """Hand dead letters out again, each alone; return how many."""
        del now_us
        _, group = self._open(at)
        wanted = [o for o in sorted(group.dead) if offsets is None or o in offsets]
        for offset in wanted:
            group.pending[offset] = Pending(offset=offset, batch=group.batches(1))
            group.redriven[offset] = group.dead.pop(offset)
        return len(wanted)


def _offset(log: _Log, at: Start) -> int:
    first, end = log.stream.first_offset, log.stream.next_offset
    match at.to:
        case "earliest":
            return first
        case "latest":
            return end
        case "offset":
            if not first <= at.offset <= end:
                raise Invalid(f"the stream keeps offsets {first} to {end - 1}", field="offset")
            return at.offset
        case "time":
            later = (o for o in sorted(log.records) if log.records[o].appended_us >= at.time_us)
            return next(later, end)
        case _:
            raise Invalid("to is one of earliest, latest, time, offset", field="to")


def _group(log: _Log, group: _Group) -> Group:
    return Group(
        tenant=group.new.tenant,
        stream=group.new.stream,
        name=group.new.name,
        next_offset=group.next_offset,
        terms=group.new.terms,
        created_us=group.new.now_us,
        acknowledged=group.acknowledged,
        lost=group.lost,
        pending=len(group.pending),
        dead=len(group.dead),
        lag=len(group.pending) + log.stream.next_offset - group.next_offset,
    )


def _free_batch(group: _Group, now_us: int) -> list[Pending]:
    free = sorted((r for r in group.pending.values() if r.until_us <= now_us), key=_by_offset)
    return [row for row in free if row.batch == free[0].batch]


def _by_offset(row: Pending) -> int:
    return row.offset


def _fresh(log: _Log, group: _Group, limit: int) -> list[Pending]:
    limit = min(limit, PENDING_MAX - len(group.pending))
    offsets = [o for o in sorted(log.records) if o >= group.next_offset][: max(limit, 0)]
    if offsets:
        group.next_offset = offsets[-1] + 1
    return [Pending(offset=offset, batch=group.next_batch) for offset in offsets]


def _answered(group: _Group, answer: Answer) -> tuple[list[Pending], list[int]]:
    rows = group.pending.values() if answer.lease else ()
    mine = sorted((row for row in rows if row.lease == answer.lease), key=_by_offset)
    if answer.up_to is not None:
        return [row for row in mine if row.offset <= answer.up_to], []
    if answer.offsets is None:
        return mine, []
    found = [row for row in mine if row.offset in answer.offsets]
    others = sorted(set(answer.offsets) - {row.offset for row in found})
    return found, [offset for offset in others if offset in group.pending]


def _record(log: _Log, group: _Group, offset: int) -> StreamRecord:
    kept = log.records.get(offset)
    return kept if kept is not None else group.redriven[offset].record
