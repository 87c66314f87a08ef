"""What routing needs of the outside, in its own words."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

import msgspec

from tallybook.route.record import Place, Record
from tallybook.route.replay import Replay
from tallybook.route.rule import Rule
from tallybook.route.sharing import Group, GroupTerms
from tallybook.route.stream import Delivery, KeepChange, Moved, Stream, StreamRecord

Seen = TypeVar("Seen")
Check = Callable[[Seen | None], None] | None
"""Looks at a thing within the transaction that is about to change it, and raises Conflict where it
is not what the change was decided from; None where nothing is there."""


class RuleStore(Protocol):
    """Keeps every version of every rule."""

    def version(self) -> int:
        """Return a number that grows with every change of any tenant; cheap to poll."""
        ...

    def rules(self, tenant: str) -> list[Rule]:
        """Return the newest version of every rule of a tenant that is not deleted, by key."""
        ...

    def history(self, tenant: str, key: str) -> list[Rule]:
        """Return all versions of a rule, oldest first; none for an unknown one."""
        ...

    def all_versions(self) -> list[Rule]:
        """Return every version of every rule of every tenant, by tenant, key and version."""
        ...

    def add(self, *rules: Rule) -> None:
        """Store versions, all or none; raises Conflict where one of a number is there already."""
        ...


class Slice(msgspec.Struct, frozen=True):
    """Some records in order, and the place after them."""

    records: Sequence[Record]
    after: Place


class CommittedRecords(Protocol):
    """The accepted events of the lake, in the order they are routed."""

    def head(self) -> int:
        """Return the newest commit's number."""
        ...

    def read(self, after: Place, upto_seq: int, tenants: Sequence[str]) -> Iterator[Slice]:
        """Yield what came after a place, up to and including a commit.

        Args:
            after: where to begin.
            upto_seq: the last commit.
            tenants: whose records; others only move the place.

        A commit that was begun and not finished is begun anew: its order may have changed since.
        """
        ...


class StreamWriter(Protocol):
    """The router's side of the streams; one process writes."""

    def cursor(self, name: str) -> Place | None:
        """Return how far a reader of the lake has come; None for an unknown one."""
        ...

    def append(
        self, found: Sequence[tuple[str, Sequence[Delivery]]], now_us: int, moved: Moved
    ) -> int:
        """Put records on their streams and move the cursor, in one durable transaction.

        Streams are made on demand. What a stream has already of the same record and rule is left
        out. Returns how many were put.

        Args:
            found: deliveries of each tenant.
            now_us: microseconds UTC.
            moved: the cursor that moves with them.
        """
        ...

    def trim(self, now_us: int) -> int:
        """Drop what is beyond its stream's retention, some of it; return how many records."""
        ...

    def tell_broken(self, tenant: str, rule: str, version: int, reason: str) -> None:
        """Note why a rule version is parked; '' takes the note back."""
        ...

    def broken(self, tenant: str) -> dict[str, tuple[int, str]]:
        """Return version and reason of every parked rule of a tenant, by key."""
        ...


class Replays(Protocol):
    """What was asked to be routed again."""

    def ask(self, replay: Replay) -> None:
        """Store a new replay."""
        ...

    def replays(self, tenant: str, rule: str) -> list[Replay]:
        """Return the replays of a rule, newest first."""
        ...

    def running(self) -> list[Replay]:
        """Return the replays of all tenants that have not ended, oldest first."""
        ...

    def end(self, tenant: str, id: str, now_us: int, reason: str) -> None:
        """Note that a replay has ended, early where there is a reason."""
        ...


class StreamReader(Protocol):
    """Streams, and records by offset."""

    def streams(self, tenant: str) -> list[Stream]:
        """Return the streams of a tenant, by name."""
        ...

    def stream(self, tenant: str, name: str) -> Stream:
        """Return one stream; raises Missing."""
        ...

    def read(self, tenant: str, name: str, after: int, limit: int) -> list[StreamRecord]:
        """Return the records after an offset that are still kept."""
        ...

    def set_keep(
        self, tenant: str, name: str, change: KeepChange, now_us: int, check: Check[Stream] = None
    ) -> Stream:
        """Change how long a stream keeps records; makes the stream where it is not there.

        What a new stream's change leaves out is as the server's settings have it.
        """
        ...

    def delivered(self, tenant: str) -> dict[str, int]:
        """Return how many records each rule has put on streams, by key; '' is `unmatched`."""
        ...


class NewGroup(msgspec.Struct, frozen=True, kw_only=True):
    """A group to be made; it begins at an offset, or after what was routed before an instant."""

    tenant: str
    stream: str
    name: str
    terms: GroupTerms
    at: "Start"
    now_us: int


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """Where a group begins to read.

    Attributes:
        to: the first record kept, the next one to come, the first one routed at or after
            `time_us`, an `offset`, or after what retention dropped unread.
    """

    to: str
    time_us: int = 0
    offset: int = 0


class Groups(Protocol):
    """Groups of consumers."""

    def create(self, new: NewGroup) -> Group:
        """Make a group; raises Missing without the stream, Conflict where it is there."""
        ...

    def groups(self, tenant: str, stream: str) -> list[Group]:
        """Return the groups of a stream, by name; of all streams where it is ''."""
        ...

    def group(self, tenant: str, stream: str, name: str) -> Group:
        """Return one group; raises Missing."""
        ...

    def seek(
        self, tenant: str, stream: str, name: str, at: Start, check: Check[Group] = None
    ) -> Group:
        """Move a group; what it was handed and had not acknowledged is forgotten.

        After a loss only what is gone is forgotten.
        """
        ...

    def delete(self, tenant: str, stream: str, name: str, check: Check[Group] = None) -> None:
        """Take a group away with everything it had; raises Missing."""
        ...


class Handed(msgspec.Struct, frozen=True, kw_only=True):
    """Records handed out together.

    Attributes:
        until_us: when others may have what is not acknowledged by then.
        attempts: how often these failed alone before, by offset, where they did.
    """

    lease: str
    until_us: int
    records: list[StreamRecord]
    attempts: dict[int, int] = {}


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """What came of an answer to a lease.

    Attributes:
        done: offsets acknowledged by this answer, or set aside by it.
        lost: offsets that somebody else has by now.
        dead: offsets that became dead letters.
    """

    done: list[int]
    lost: list[int] = []
    dead: list[int] = []


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A member's answer to a lease: about these offsets, all up to one, or the whole lease.

    Attributes:
        release: give the rest of the lease back, so that others may have it at once.
    """

    lease: str
    offsets: tuple[int, ...] | None = None
    up_to: int | None = None
    reason: str = ""
    release: bool = False


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A record that a group could not process."""

    record: StreamRecord
    reason: str
    attempts: int
    dead_us: int


class GroupAt(msgspec.Struct, frozen=True):
    """A group's name: tenant, stream, group."""

    tenant: str
    stream: str
    group: str


class Shares(Protocol):
    """Hands out records of a stream among the members of a group."""

    def lease(self, at: GroupAt, lease: str, limit: int, now_us: int) -> Handed | None:
        """Hand out one batch; None where nothing is there now.

        Raises:
            Missing: no such group.
            Conflict: 'records-expired': retention dropped records the group had not read.
        """
        ...

    def acknowledge(self, at: GroupAt, answer: Answer, now_us: int) -> Answered:
        """Take records off the group's list; what is off already is left alone."""
        ...

    def fail(self, at: GroupAt, answer: Answer, now_us: int) -> Answered:
        """Set a batch, or some of its records, aside to be tried again in smaller parts."""
        ...

    def extend(self, at: GroupAt, lease: str, now_us: int) -> int:
        """Give a lease its whole time again; return until when, microseconds UTC.

        Raises:
            Conflict: 'lease-lost': it has no records, because others have them or all are answered.
        """
        ...


class DeadLetters(Protocol):
    """What groups could not process."""

    def dead_letters(self, at: GroupAt, after: int, limit: int) -> list[DeadLetter]:
        """Return dead letters by offset."""
        ...

    def redrive(self, at: GroupAt, offsets: Sequence[int] | None, now_us: int) -> int:
        """Hand dead letters out again, each alone; return how many."""
        ...
