"""How a group shares a stream: who has which records, and what becomes of a batch that fails.

A batch is what was handed out together. When it fails it is handed out again in halves, until the
record that cannot be processed stands alone; after its last attempt that one is a dead letter.
A batch whose lease ends twice (its member died, or took too long) counts as failed.
"""

from collections.abc import Sequence

import msgspec

from tallybook.kernel.errors import Conflict, Invalid

LEASE_SECONDS_DEFAULT, LEASE_SECONDS_MAX = 60, 12 * 3600
ATTEMPTS_DEFAULT, ATTEMPTS_MAX = 3, 100
EXPIRIES_MAX = 2
BACKOFF_US_MAX = 60_000_000
PENDING_MAX = 50_000
"""Records of one group that are handed out and not yet acknowledged."""
REASON_CHARS_MAX = 1_000


class GroupTerms(msgspec.Struct, frozen=True, kw_only=True):
    """How a group works.

    Attributes:
        lease_seconds: how long a member has for a batch before others get it.
        attempts_max: how often a record may fail alone before it is a dead letter.
        ordered: hand out one batch at a time, so that order holds for the whole group.
    """

    lease_seconds: int = LEASE_SECONDS_DEFAULT
    attempts_max: int = ATTEMPTS_DEFAULT
    ordered: bool = False


def checked_terms(terms: GroupTerms) -> GroupTerms:
    """Return terms within bounds; raises Invalid."""
    if not 1 <= terms.lease_seconds <= LEASE_SECONDS_MAX:
        raise Invalid(f"lease_seconds must be 1 to {LEASE_SECONDS_MAX}", field="lease_seconds")
    if not 1 <= terms.attempts_max <= ATTEMPTS_MAX:
        raise Invalid(f"attempts_max must be 1 to {ATTEMPTS_MAX}", field="attempts_max")
    return terms


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """A group of consumers and where it stands.

    Attributes:
        next_offset: the first record that was never handed out.
        pending: handed out, not acknowledged.
        lag: records that are not acknowledged, pending ones included.
        acknowledged, lost: since the group was made; lost are those retention dropped unread.
        dead: dead letters that wait for somebody.
    """

    tenant: str
    stream: str
    name: str
    next_offset: int
    terms: GroupTerms = GroupTerms()
    created_us: int = 0
    acknowledged: int = 0
    lost: int = 0
    pending: int = 0
    dead: int = 0
    lag: int = 0

    @property
    def tag(self) -> str:
        """Names where it stands: another one where a member or somebody else moved it."""
        return f'"{self.created_us}-{self.next_offset}-{self.acknowledged}-{self.lost}"'


class Pending(msgspec.Struct, frozen=True, kw_only=True):
    """A record that a group was handed and has not acknowledged.

    Attributes:
        batch: what was handed out together has one number.
        lease: who has it now; '' for nobody.
        until_us: when others may have it; the past where it is free.
        attempts: how often it failed alone.
        expiries: leases of its batch that ended without an answer.
        reason: what was said of its last failure.
    """

    offset: int
    batch: int
    lease: str = ""
    until_us: int = 0
    attempts: int = 0
    expiries: int = 0
    reason: str = ""


class Decided(msgspec.Struct, frozen=True):
    """What becomes of records: kept to be handed out again, or dead letters."""

    kept: tuple[Pending, ...]
    dead: tuple[Pending, ...] = ()


def failed(
    rows: Sequence[Pending], reason: str, terms: GroupTerms, now_us: int, next_batch: int
) -> Decided:
    """Return what becomes of a failed batch: halves, or another attempt, or a dead letter.

    Args:
        rows: of one batch, by offset; at least one.
        reason: what the member said.
        terms: of the group.
        now_us: the present, microseconds UTC.
        next_batch: a number no batch has; the one after it is free too.
    """
    free = [
        msgspec.structs.replace(row, lease="", until_us=0, expiries=0, reason=reason)
        for row in rows
    ]
    if len(free) > 1:
        middle = (len(free) + 1) // 2
        return Decided(
            tuple(
                msgspec.structs.replace(row, batch=next_batch + (at >= middle))
                for at, row in enumerate(free)
            )
        )
    return _alone(free[0], terms, now_us, next_batch)


def _alone(row: Pending, terms: GroupTerms, now_us: int, batch: int) -> Decided:
    attempts = row.attempts + 1
    again = msgspec.structs.replace(row, attempts=attempts, batch=batch)
    if attempts >= terms.attempts_max:
        return Decided((), (again,))
    pause = min(1_000_000 * 2 ** min(attempts - 1, 30), BACKOFF_US_MAX)
    return Decided((msgspec.structs.replace(again, until_us=now_us + pause),))


def singled_out(
    rows: Sequence[Pending], reason: str, terms: GroupTerms, now_us: int, next_batch: int
) -> Decided:
    """Return what becomes of records that a member named as the ones that failed."""
    decided = [failed([row], reason, terms, now_us, next_batch + at) for at, row in enumerate(rows)]
    return Decided(
        tuple(row for each in decided for row in each.kept),
        tuple(row for each in decided for row in each.dead),
    )


def ended(rows: Sequence[Pending], terms: GroupTerms, now_us: int, next_batch: int) -> Decided:
    """Return what becomes of a batch whose lease ended without an answer."""
    expiries = max(row.expiries for row in rows) + 1
    if expiries >= EXPIRIES_MAX:
        reason = f"its lease ended {expiries} times without an answer"
        return failed(rows, reason, terms, now_us, next_batch)
    return Decided(
        tuple(msgspec.structs.replace(row, lease="", until_us=0, expiries=expiries) for row in rows)
    )


def lease_lost() -> Conflict:
    """Return the refusal of an answer that came too late."""
    message = "the lease ended, and another member has these records now; drop your work"
    return Conflict(message, code="lease-lost", field="lease")
