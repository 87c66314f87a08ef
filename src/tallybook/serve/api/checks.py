"""Answers "may it be used?" from balances kept in this process, never waiting for the lake.

A thread follows the lake's commits: the balances whose subjects have new events are worked out
again, all others are as good at the new snapshot as at the one before. Every answer says as of
which snapshot it is. Grants and resets by hand count at once: each check asks the control database
whether there are new ones. After a restart nothing is kept: the first check of a tenant lets the
thread work out all of the tenant's balances, and until one is there its check reads the lake.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from decimal import Decimal
from time import monotonic, sleep
from typing import Protocol

import msgspec
import structlog

from tallybook.adapters.sql.catalog import SqlCatalog
from tallybook.catalog.catalog import Catalog
from tallybook.catalog.entitlement import Entitlement
from tallybook.compose import World
from tallybook.kernel.errors import Missing, TallybookError
from tallybook.kernel.ports import Clock
from tallybook.meter.usage import Touched
from tallybook.rate.ports import UsageReader
from tallybook.serve.api.common.rounds import Rounds
from tallybook.settle.access.flow import Wanted, terms_of, work_out
from tallybook.settle.access.kept import Kept, answer, onward
from tallybook.settle.balance import NOTHING
from tallybook.settle.entitlement import Value
from tallybook.settle.flow import Question, check
from tallybook.settle.ports import ChangeReader, EntitlementFacts, EntitlementStore

FOLLOW_SECONDS = 0.25
STALE_SECONDS_MAX = 30.0
"""Where the lake could not be followed for so long, checks ask it themselves."""
KEPT_MAX = 200_000
"""Balances that are kept; the one asked for longest ago makes room."""
AT_ONCE = 1_000
"""Balances worked out in one step of following, so that checks come in between."""


class Reader(UsageReader, ChangeReader, Protocol):
    """The lake: usage, and whose is new."""


class Parts(msgspec.Struct, frozen=True):
    """What checks are made of; opened when the first check comes."""

    catalog: SqlCatalog
    store: EntitlementStore
    reader: Callable[[], Reader]
    clock: Clock


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """An answer, and as of when.

    Attributes:
        at_us: the instant it is for.
        cut: snapshot of the events; None where none count.
    """

    value: Value
    at_us: int
    cut: int | None = None


class _Place:
    """One entitlement's kept balance, and how new its grants are known to be."""

    __slots__ = ("changed", "kept", "version")

    def __init__(self, kept: Kept, changed: int, version: int) -> None:
        self.kept = kept
        self.changed = changed
        self.version = version


class Checks:
    """Checks of one process; safe for threads. `close` ends the thread that follows the lake.

    Args:
        parts: catalog, grants, lake and clock.
    """

    def __init__(self, parts: Parts) -> None:
        """Keep nothing yet."""
        self._parts = parts
        self._lock = threading.Lock()
        self._places: OrderedDict[tuple[str, str], _Place] = OrderedDict()
        self._cut = 0
        self._cold: set[str] = set()
        self._warm: set[str] = set()
        self._rounds = Rounds(self._round, FOLLOW_SECONDS, "check-follower")
        self._fresh = monotonic()

    def __len__(self) -> int:
        """Return how many balances are kept."""
        return len(self._places)

    def close(self) -> None:
        """Follow the lake no more."""
        self._rounds.close()

    def value(self, tenant: str, customer: str, feature: str, wanted: Decimal = NOTHING) -> Checked:
        """Return whether a feature may be used now; raises Missing for an unknown one."""
        catalog = self._parts.catalog.load(tenant)
        return self.of(tenant, catalog, found(catalog, f"{customer}:{feature}"), wanted)

    def of(
        self, tenant: str, catalog: Catalog, entitlement: Entitlement, wanted: Decimal = NOTHING
    ) -> Checked:
        """Return whether an entitlement of the catalog may be used now."""
        now_us = self._parts.clock.now_us()
        changed = self._parts.store.changed(tenant)
        with self._lock:
            place = self._places.get((tenant, entitlement.key))
            cut = self._cut
        fresh = monotonic() - self._fresh < STALE_SECONDS_MAX
        if place is not None and fresh and self._same(tenant, catalog, entitlement, place, changed):
            kept = place.kept
            at_us = max(now_us, kept.at_us)
            if kept.holds(at_us):
                told = answer(self._onward(place, kept, at_us), at_us, wanted)
                return Checked(value=told, at_us=at_us, cut=max(cut, kept.cut))
        return self._anew(tenant, catalog, entitlement, wanted, changed)

    def at(
        self, tenant: str, catalog: Catalog, entitlement: Entitlement, at_us: int, wanted: Decimal
    ) -> Checked:
        """Return whether an entitlement could be used at any instant; reads the lake."""
        facts = self._facts(tenant, entitlement)
        reader = self._parts.reader()
        cut = reader.head()
        asked = Question(
            tenant=tenant,
            entitlement=entitlement,
            grants=facts.grants,
            by_hand=facts.resets,
            cut=cut,
        )
        told = check(reader, catalog, asked, at_us, wanted)
        return Checked(value=told, at_us=at_us, cut=cut)

    def _onward(self, place: _Place, kept: Kept, at_us: int) -> Kept:
        """Continue a balance in time, and keep it so unless it was worked out anew meanwhile."""
        moved = onward(kept, at_us)
        if moved is not kept:
            with self._lock:
                if place.kept is kept:
                    place.kept = moved
        return moved

    def _facts(self, tenant: str, entitlement: Entitlement) -> EntitlementFacts:
        return self._parts.store.facts(tenant, [entitlement.key])[entitlement.key]

    def _same(
        self, tenant: str, catalog: Catalog, entitlement: Entitlement, place: _Place, changed: int
    ) -> bool:
        """Whether a kept balance is still of these terms."""
        if place.changed == changed and place.version == catalog.version:
            return True
        facts = place.kept.terms.facts
        if place.changed != changed:
            facts = self._facts(tenant, entitlement)
        if terms_of(catalog, entitlement, facts) != place.kept.terms:
            return False
        place.changed, place.version = changed, catalog.version
        return True

    def _anew(
        self,
        tenant: str,
        catalog: Catalog,
        entitlement: Entitlement,
        wanted: Decimal,
        changed: int,
    ) -> Checked:
        """Answer from the lake, and keep the balance where one can be kept."""
        terms = terms_of(catalog, entitlement, self._facts(tenant, entitlement))
        now_us = self._parts.clock.now_us()
        if terms is None:
            return self.at(tenant, catalog, entitlement, now_us, wanted)
        reader = self._parts.reader()
        cut = reader.head()
        (kept,) = work_out(reader, tenant, [Wanted(terms=terms)], now_us, cut)
        if kept is None:
            return self.at(tenant, catalog, entitlement, now_us, wanted)
        self._put((tenant, entitlement.key), _Place(kept, changed, catalog.version))
        self._wake(tenant)
        return Checked(value=answer(kept, now_us, wanted), at_us=now_us, cut=cut)

    def _put(self, key: tuple[str, str], place: _Place) -> None:
        """Keep a balance, unless following is past its snapshot already."""
        with self._lock:
            if not self._places:
                self._cut = place.kept.cut
            if place.kept.cut >= self._cut:
                self._places[key] = place
                self._places.move_to_end(key)
                if len(self._places) > KEPT_MAX:
                    self._places.popitem(last=False)

    def _wake(self, tenant: str) -> None:
        """Let the thread work out all of a tenant's balances, once, and follow the lake."""
        with self._lock:
            if tenant not in self._warm:
                self._cold.add(tenant)
            self._rounds.start()

    def _round(self) -> None:
        """Bring what is kept to the newest snapshot; where that fails, the next round does."""
        log = structlog.get_logger("checks")
        try:
            self.follow()
        except TallybookError as error:
            log.warning("checks.not_followed", code=error.code, error=error.message)

    def warm(self, tenant: str) -> int:
        """Work out every balance of a tenant that can be kept; return how many there are."""
        with self._lock:
            self._cold.discard(tenant)
            self._warm.add(tenant)
        catalog, changed = self._parts.catalog.load(tenant), self._parts.store.changed(tenant)
        live = [
            one for key, one in catalog.entitlements.items() if catalog.live("entitlement", key)
        ]
        facts = self._parts.store.facts(tenant, [one.key for one in live[:KEPT_MAX]])
        all_terms = [terms_of(catalog, one, facts[one.key]) for one in live[:KEPT_MAX]]
        wanted = [Wanted(terms=terms) for terms in all_terms if terms is not None]
        reader = self._parts.reader()
        cut = reader.head()
        for start in range(0, len(wanted), AT_ONCE):
            if self._rounds.ended:
                break
            part, now_us = wanted[start : start + AT_ONCE], self._parts.clock.now_us()
            for kept in work_out(reader, tenant, part, now_us, cut, _give_way):
                if kept is not None:
                    key = (tenant, kept.terms.entitlement.key)
                    self._put(key, _Place(kept, changed, catalog.version))
            self._fresh = monotonic()
        return len(wanted)

    def follow(self) -> int:
        """Bring what is kept to the newest snapshot; return how many were worked out again.

        Balances change first, then the snapshot that answers name.
        """
        for tenant in sorted(self._cold):
            self.warm(tenant)
        reader = self._parts.reader()
        head = reader.head()
        with self._lock:
            before, known = self._cut, dict(self._places)
        if head <= before:
            self._fresh = monotonic()
            return 0
        worked = 0
        for tenant in sorted({tenant for tenant, _ in known}):
            mine = [place for (of, _), place in known.items() if of == tenant]
            touched = self._touched(reader, tenant, mine, before, head)
            stale = [
                place
                for place in mine
                if place.kept.cut < head and _is_touched(place.kept, touched)
            ]
            for start in range(0, len(stale), AT_ONCE):
                if self._rounds.ended:
                    return worked
                self._again(reader, tenant, stale[start : start + AT_ONCE], touched, head)
            worked += len(stale)
        self._publish(known, head)
        return worked

    def _publish(self, known: dict[tuple[str, str], _Place], head: int) -> None:
        """Name a new snapshot; forget what was kept meanwhile, as of an older one."""
        with self._lock:
            older = [
                key
                for key, place in self._places.items()
                if known.get(key) is not place and place.kept.cut < head
            ]
            for key in older:
                del self._places[key]
            self._cut = head
            self._fresh = monotonic()

    def _touched(
        self, reader: Reader, tenant: str, places: Sequence[_Place], before: int, head: int
    ) -> dict[tuple[str, str], Touched]:
        """Return the new events by type and subject."""
        types = sorted({place.kept.terms.meter.event_type for place in places})
        return {
            (type_, touched.subject): touched
            for type_ in types
            for touched in reader.touched(tenant, type_, before, head)
        }

    def _again(
        self,
        reader: Reader,
        tenant: str,
        places: Sequence[_Place],
        touched: dict[tuple[str, str], Touched],
        head: int,
    ) -> None:
        """Work balances out again, each from where it was settled unless usage is older."""
        wanted = [
            Wanted(terms=place.kept.terms, known=None if _late(place.kept, touched) else place.kept)
            for place in places
        ]
        now_us = self._parts.clock.now_us()
        latest = max([now_us, *(place.kept.settled.state.at_us for place in places)])
        found_again = work_out(reader, tenant, wanted, latest, head, _give_way)
        for place, kept in zip(places, found_again, strict=True):
            assert kept is not None, "measuring had begun"
            with self._lock:
                place.kept = kept


def checks_of(world: World) -> Checks:
    """Return the checks of a process; whoever made them closes them."""
    return Checks(Parts(world.catalog, world.entitlements, lambda: world.usage, world.clock))


def found(catalog: Catalog, key: str) -> Entitlement:
    """Return an entitlement in use; raises Missing."""
    if not catalog.live("entitlement", key):
        raise Missing(f"there is no entitlement '{key}'", field="key")
    return catalog.entitlements[key]


def _give_way() -> None:
    """Let a check that waits for the interpreter go first."""
    sleep(0)


def _news(kept: Kept, touched: dict[tuple[str, str], Touched]) -> list[Touched]:
    type_ = kept.terms.meter.event_type
    subjects = {owned.subject for owned in kept.terms.owners}
    return [one for subject in subjects if (one := touched.get((type_, subject))) is not None]


def _is_touched(kept: Kept, touched: dict[tuple[str, str], Touched]) -> bool:
    return bool(_news(kept, touched))


def _late(kept: Kept, touched: dict[tuple[str, str], Touched]) -> bool:
    since = kept.settled.state.at_us
    return any(one.first_us < since for one in _news(kept, touched))
