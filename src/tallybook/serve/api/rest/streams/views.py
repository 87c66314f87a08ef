"""What routing looks like on the wire."""

from typing import Annotated

import msgspec
from litestar.params import Parameter

from tallybook.kernel.timestamps import format_us
from tallybook.route.ports import DeadLetter
from tallybook.route.replay import Replay
from tallybook.route.rule import Rule
from tallybook.route.sharing import Group
from tallybook.route.stream import Stream, StreamRecord

GroupName = Annotated[str, Parameter(query="group", description="The group of consumers.")]


class RuleView(msgspec.Struct, frozen=True, kw_only=True):
    """A rule, in one of its versions.

    Attributes:
        pattern: what an event must be to match.
        targets: outbound streams that get it.
        state: enabled or paused; parked where it cannot be used, `reason` says why.
        effective_from_commit: the first lake commit that this version routes.
        delivered: records that the rule has put on streams, in all its versions.
    """

    key: str
    version: int
    pattern: msgspec.Raw
    targets: tuple[str, ...]
    state: str
    description: str
    effective_from_commit: int
    made_time: str
    made_by: str
    delivered: int = 0
    reason: str = ""


def rule_view(rule: Rule, delivered: int = 0, broken: tuple[int, str] | None = None) -> RuleView:
    """Return a rule as the API shows it."""
    parked = broken is not None and broken[0] == rule.version and rule.state == "enabled"
    return RuleView(
        key=rule.key,
        version=rule.version,
        pattern=msgspec.Raw(rule.pattern.encode()),
        targets=rule.targets,
        state="parked" if parked else rule.state,
        description=rule.description,
        effective_from_commit=rule.since_seq,
        made_time=format_us(rule.made_us),
        made_by=rule.made_by,
        delivered=delivered,
        reason=broken[1] if parked and broken is not None else "",
    )


class ReplayView(msgspec.Struct, frozen=True, kw_only=True):
    """A replay of a rule.

    Attributes:
        version: of the rule that is run again.
        from_commit, upto_commit: the lake commits it covers, both included.
        from_time: events received before are left out; null leaves none out.
        at_commit: how far it has come.
        delivered: records it put on streams; what was there already is left out.
        done_time: when it ended, null while it runs. reason: why it ended early.
    """

    id: str
    rule: str
    version: int
    from_commit: int
    upto_commit: int
    from_time: str | None
    at_commit: int
    delivered: int
    asked_by: str
    asked_time: str
    done_time: str | None
    reason: str


def replay_view(replay: Replay) -> ReplayView:
    """Return a replay as the API shows it."""
    return ReplayView(
        id=replay.id,
        rule=replay.rule,
        version=replay.version,
        from_commit=replay.from_seq,
        upto_commit=replay.upto_seq,
        from_time=None if replay.from_us is None else format_us(replay.from_us),
        at_commit=replay.place.commit_seq,
        delivered=replay.delivered,
        asked_by=replay.asked_by,
        asked_time=format_us(replay.asked_us),
        done_time=None if replay.done_us is None else format_us(replay.done_us),
        reason=replay.reason,
    )


class StreamView(msgspec.Struct, frozen=True, kw_only=True):
    """An outbound stream.

    Attributes:
        first_offset: the oldest record kept. next_offset: what the next record gets.
        records, bytes: what is kept.
        keep_hours, keep_mb: retention; what comes first counts.
        groups: how many consume it. lag: of the group that is furthest behind.
    """

    name: str
    first_offset: int
    next_offset: int
    records: int
    bytes: int
    keep_hours: int
    keep_mb: int
    groups: int = 0
    lag: int = 0
    dead_letters: int = 0


def stream_view(stream: Stream, groups: list[Group]) -> StreamView:
    """Return a stream as the API shows it."""
    mine = [group for group in groups if group.stream == stream.name]
    return StreamView(
        name=stream.name,
        first_offset=stream.first_offset,
        next_offset=stream.next_offset,
        records=stream.records,
        bytes=stream.bytes,
        keep_hours=stream.keep.keep_hours,
        keep_mb=stream.keep.keep_mb,
        groups=len(mine),
        lag=max((group.lag for group in mine), default=0),
        dead_letters=sum(group.dead for group in mine),
    )


class GroupView(msgspec.Struct, frozen=True, kw_only=True):
    """A group of consumers.

    Attributes:
        next_offset: the first record that was never handed out.
        lag: records not acknowledged yet. pending: those of them that were handed out.
        acknowledged: since the group was made. lost: dropped by retention, unread.
        dead_letters: that wait for somebody.
    """

    stream: str
    name: str
    next_offset: int
    lag: int
    pending: int
    acknowledged: int
    lost: int
    dead_letters: int
    lease_seconds: int
    attempts_max: int
    ordered: bool
    created_time: str


def group_view(group: Group) -> GroupView:
    """Return a group as the API shows it."""
    return GroupView(
        stream=group.stream,
        name=group.name,
        next_offset=group.next_offset,
        lag=group.lag,
        pending=group.pending,
        acknowledged=group.acknowledged,
        lost=group.lost,
        dead_letters=group.dead,
        lease_seconds=group.terms.lease_seconds,
        attempts_max=group.terms.attempts_max,
        ordered=group.terms.ordered,
        created_time=format_us(group.created_us),
    )


class RecordView(msgspec.Struct, frozen=True, kw_only=True):
    """A record of a stream.

    Attributes:
        id: its offset; what an acknowledgement names.
        rule, version: which rule put it here; '' and 0 on `unmatched`.
        commit: the lake commit that brought the event.
        routed_time: when it was put on the stream.
        replay: the replay that put it here, '' for none.
        attempts: how often the group failed on it alone.
        event: the CloudEvent.
    """

    id: int
    rule: str
    version: int
    commit: int
    routed_time: str
    replay: str
    attempts: int
    event: msgspec.Raw


def record_view(record: StreamRecord, attempts: int = 0) -> RecordView:
    """Return a record as the API shows it."""
    return RecordView(
        id=record.offset,
        rule=record.rule,
        version=record.version,
        commit=record.commit_seq,
        routed_time=format_us(record.appended_us),
        replay=record.replay,
        attempts=attempts,
        event=msgspec.Raw(record.envelope),
    )


class DeadLetterView(msgspec.Struct, frozen=True, kw_only=True):
    """A record that a group could not process.

    Attributes:
        reason: what its member said last.
        dead_time: when it was given up.
    """

    record: RecordView
    reason: str
    dead_time: str


def letter_view(letter: DeadLetter) -> DeadLetterView:
    """Return a dead letter as the API shows it."""
    return DeadLetterView(
        record=record_view(letter.record, letter.attempts),
        reason=letter.reason,
        dead_time=format_us(letter.dead_us),
    )
