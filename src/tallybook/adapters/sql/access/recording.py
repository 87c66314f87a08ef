"""What a request changes, noted in the very transactions that change it.

A request that may change something runs within a `Recording`. Each write transaction that commits
meanwhile carries a note of it: either the rows of the audit log, where a store said what it changed
(`note`), or a row in `audit_pending` that says who asked for what. So there is no change without
its note, whatever ends the process; what is pending is completed when the request ends, or by
`SqlAudit.settle_old`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import msgspec

from tallybook.admit.trail import Change


class Seen(msgspec.Struct, frozen=True):
    """How far a tenant's audit log was when what a change is decided from was compared.

    Attributes:
        seq: its last row.
        pending: ids of requests that were not complete.
    """

    seq: int
    pending: frozenset[str]


class Recording:
    """One request that may change something.

    Attributes:
        id: of the request's note.
        at_us: when it began, microseconds UTC.
        tenant: whose; '' while nobody is known.
        draft: the change as far as it is known; None while nobody is known.
        commits: how many transactions committed a note.
        facts: what stores said was changed, and is in the log.
        seen: of a change that holds only while its thing is what it was; None for all others.
        moved: whether the thing was found to be another one.
    """

    def __init__(self, id: str, at_us: int) -> None:
        """Know nobody yet."""
        self.id = id
        self.at_us = at_us
        self.tenant = ""
        self.draft: Change | None = None
        self.commits = 0
        self.facts: list[Change] = []
        self.staged: list[Change] = []
        self.seen: Seen | None = None
        self.moved = False

    def covers(self, change: Change) -> bool:
        """Whether a store's own words say all that a change says."""
        return any(
            fact.kind == change.kind and change.subject in {"", fact.subject} for fact in self.facts
        )


_RECORDING: ContextVar[Recording | None] = ContextVar("recording", default=None)


def current() -> Recording | None:
    """Return the recording that this code runs in."""
    return _RECORDING.get()


@contextmanager
def within(recording: Recording | None) -> Iterator[None]:
    """Let the block run within a recording; None lets it run outside of any."""
    token = _RECORDING.set(recording)
    try:
        yield
    finally:
        _RECORDING.reset(token)


def note(action: str, kind: str, subject: str, told: Callable[[], tuple[object, object]]) -> None:
    """Say within a write transaction what it changes; nothing happens outside of a recording.

    Args:
        action: such as create, change, archive.
        kind: of the thing.
        subject: its key.
        told: returns the thing before and after; None where it is not there.
    """
    recording = _RECORDING.get()
    if recording is None or recording.draft is None:
        return
    before, after = (
        None if value is None else msgspec.json.encode(value, order="sorted").decode()
        for value in told()
    )
    recording.staged.append(
        msgspec.structs.replace(
            recording.draft,
            action=action,
            kind=kind,
            subject=subject,
            before=before,
            after=after,
            asked=None,
        )
    )
