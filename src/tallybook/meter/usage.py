"""The question a meter is asked, and the answer.

Source: CONTRACTS §3, §4; DECISIONS 13, 19.
"""

from decimal import Decimal

import msgspec

from tallybook.catalog.meter import Meter
from tallybook.meter.each import Bands, EachEvent
from tallybook.meter.level import Level, LevelTerms


class Ownership(msgspec.Struct, frozen=True):
    """From `start_us` to before `end_us`, events of `subject` belong to `owner`.

    Attributes:
        subject: as in the event.
        owner: a customer's key.
        start_us: microseconds UTC, or None for "since ever".
        end_us: microseconds UTC, or None for "for good".
    """

    subject: str
    owner: str
    start_us: int | None = None
    end_us: int | None = None


class UsageQuery(msgspec.Struct, frozen=True, kw_only=True):
    """What to aggregate.

    Attributes:
        tenant: whose events.
        meter: the version to count with.
        bounds: window borders, microseconds UTC, strictly growing, at least two; window i is
            bounds[i] <= time < bounds[i + 1].
        cut: snapshot; only events with commit_seq <= cut count (DECISIONS 13).
        group_by: dimension names of the meter to split by.
        by_subject: split by subject too.
        owners: where given, only owned events count, and the answer is split by owner; the
            aggregate is over the union of an owner's events (DECISIONS 19).
        subjects: only these subjects, where given.
        where: dimension name -> allowed texts (None is a missing value), where given.
        each: terms under which single values are counted besides, within each row of the answer;
            for meters whose value is a number.
        level: terms under which the meter's level is followed besides, from nothing at the first
            border on.
    """

    tenant: str
    meter: Meter
    bounds: tuple[int, ...]
    cut: int
    group_by: tuple[str, ...] = ()
    by_subject: bool = False
    owners: tuple[Ownership, ...] | None = None
    subjects: tuple[str, ...] | None = None
    where: dict[str, tuple[str | None, ...]] = {}
    each: EachEvent | None = None
    level: LevelTerms | None = None

    @property
    def of_everybody(self) -> bool:
        """Whether it makes no difference whose an event is."""
        return self.subjects is None and self.owners is None and not self.by_subject


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the answer; windows and groups without events have none.

    Attributes:
        start_us: window start, microseconds UTC.
        end_us: window end.
        owner: customer key, where owners were given.
        subject: where asked by subject.
        group: values of `group_by` in its order; None is a missing value, never ''.
        value: exact, at most 12 decimals; None where no event had a usable value.
        events: events in scope, whether or not their value was usable.
        problems: events in scope whose value the meter left out (DECISIONS 7).
        digest: sum of the row hashes of the events in scope; equal sets have equal digests.
        bands: the single values under the terms asked for; None where none were.
        level: what the window's events do to the level; None where it was not asked for.
    """

    start_us: int
    end_us: int
    value: Decimal | None
    events: int
    problems: int
    digest: int
    owner: str | None = None
    subject: str | None = None
    group: tuple[str | None, ...] = ()
    bands: Bands | None = None
    level: Level | None = None


class StoredEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event as the lake keeps it.

    Attributes:
        time_us: event time; received_us: receipt time; both microseconds UTC.
        commit_seq: the lake commit that brought it.
        data: the JSON text as received.
        ext: JSON text of the other attributes, None where there are none.
        problem: why it is in quarantine; None for an accepted event.
        row_hash: 63-bit hash of the whole row, the summand of `Usage.digest`.
    """

    id: str
    source: str
    type: str
    subject: str | None
    time_us: int
    received_us: int
    commit_seq: int
    data: str
    ext: str | None
    problem: str | None
    row_hash: int


class PieceFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which pieces of the quarantine are meant; None asks nothing.

    Attributes:
        code: why they are there.
        type: of the event, as it was sent.
        from_us, to_us: when they were received, half-open, microseconds UTC.
    """

    code: str | None = None
    source: str | None = None
    type: str | None = None
    from_us: int | None = None
    to_us: int | None = None


Kind = tuple[str, str]
"""Tenant, and type of events."""


class Touched(msgspec.Struct, frozen=True):
    """A subject of which new events came, and the time of the earliest of them."""

    subject: str
    first_us: int


class Counters(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the events of acknowledged requests.

    received = accepted + duplicate + quarantined (guarantee 7).

    Attributes:
        received: events that a log acknowledged and the lake has read.
        accepted: stored in the lake as new.
        duplicate: their identity was stored before.
        quarantined: stored, with a problem, outside every meter.
        id_conflict: those of `duplicate` whose content differed from the first.
    """

    received: int = 0
    accepted: int = 0
    duplicate: int = 0
    quarantined: int = 0
    id_conflict: int = 0
