"""Answers "may it be used?" from balances kept in this process, never waiting for the lake.

A thread follows the lake's commits: the balances whose subjects have new events are worked out
again, all others are as good at the new snapshot as at the one before. Every answer says as of
which snapshot it is. Grants and resets by hand count at once: each check asks the control database
whether there are new ones. After a restart nothing is kept: the first check of a tenant lets the
thread work out all of the tenant's balances, and until one is there its check reads the lake.
"""

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from decimal import Decimal
from enum import Enum
from time import monotonic, perf_counter, sleep
from typing import Protocol

import msgspec
import structlog

from tallybook.adapters.sql.prepaid.versions import SqlVersions, Versions
from tallybook.admit.key import Grant
from tallybook.catalog.catalog import Catalog
from tallybook.catalog.entitlement import Entitlement, Metered
from tallybook.compose import World
from tallybook.kernel.errors import Missing, TallybookError
from tallybook.kernel.ports import Clock
from tallybook.meter.usage import Touched
from tallybook.rate.ports import UsageReader
from tallybook.serve.api.bounds import is_own
from tallybook.serve.api.checks.places import Place, Places
from tallybook.serve.api.common.rounds import Rounds
from tallybook.settle.access.flow import Wanted, terms_of, work_out
from tallybook.settle.access.kept import Kept, answer, onward
from tallybook.settle.balance import NOTHING
from tallybook.settle.entitlement import Value, value
from tallybook.settle.flow import Question, check
from tallybook.settle.ports import ChangeReader, EntitlementFacts, EntitlementStore

FOLLOW_SECONDS = 0.25
STALE_SECONDS_MAX = 30.0
"""Where the lake could not be followed for so long, checks ask it themselves. A round that takes
longer follows it, as long as it gets on."""
KEPT_MAX = 200_000
"""Balances that are kept; the one asked for longest ago makes room. At about 2.2 KiB each they take
no more memory than a process's queries may have by default, half a GiB."""
AT_ONCE = 1_000
"""Balances worked out in one step of following, so that checks come in between."""
WORK_SECONDS = 0.0002
REST_SECONDS = 0.0002
"""How long working balances out keeps the interpreter, about, and rests then: a request takes the
interpreter half a dozen times, and may have to wait for it each time."""
ASKED_SECONDS = 0.05
"""How long after a check another one is expected; where none is, working out does not rest."""


class Reader(UsageReader, ChangeReader, Protocol):
    """The lake: usage, and whose is new."""


class Catalogs(Protocol):
    """Keeps catalogs."""

    def load(self, tenant: str) -> Catalog:
        """Return a tenant's catalog as it is now."""
        ...

    def loaded(self, tenant: str, version: int) -> Catalog | None:
        """Return a tenant's catalog of a version where that was loaded; reads nothing."""
        ...


class Parts(msgspec.Struct, frozen=True):
    """What checks are made of; opened when the first check comes.

    Attributes:
        versions: of catalog and grants, for each of some tenants, in one read.
    """

    catalog: Catalogs
    store: EntitlementStore
    versions: Callable[[Collection[str]], Mapping[str, Versions]]
    reader: Callable[[], Reader]
    clock: Clock


class Asked(msgspec.Struct, frozen=True):
    """A check, as somebody asks for it.

    Attributes:
        grant: of whoever asks.
        key: of an entitlement.
        wanted: how much; zero asks whether anything is left.
    """

    grant: Grant
    key: str
    wanted: Decimal = NOTHING

    @property
    def place(self) -> tuple[str, str]:
        """Tenant and entitlement."""
        return self.grant.tenant, self.key


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """An answer, and as of when.

    Attributes:
        at_us: the instant it is for.
        cut: snapshot of the events; None where none count: what is not metered.
    """

    value: Value
    at_us: int
    cut: int | None = None


class Elsewhere(Enum):
    """Who knows the answer to a check that is not in memory."""

    CONTROL_DATABASE = "a catalog or grants have to be read first"
    ROUTE = "the lake has to be asked, or a refusal told"


class Checks:
    """Checks of one process; safe for threads. `close` ends the thread that follows the lake.

    Args:
        parts: catalog, grants, lake and clock.
    """

    def __init__(self, parts: Parts) -> None:
        """Keep nothing yet."""
        self._parts = parts
        self._lock = threading.Lock()
        self._places = Places(KEPT_MAX)
        self._cold: set[str] = set()
        self._warm: set[str] = set()
        self._rounds = Rounds(self._round, FOLLOW_SECONDS, "check-follower")
        self._following = threading.Lock()
        self._followed = True
        self._fresh = self._asked = monotonic()

    def __len__(self) -> int:
        """Return how many balances are kept."""
        return len(self._places)

    def close(self) -> None:
        """Follow the lake no more."""
        self._rounds.close()

    def value(self, tenant: str, customer: str, feature: str, wanted: Decimal = NOTHING) -> Checked:
        """Return whether a feature may be used now; raises Missing for an unknown one."""
        catalog = self._catalog(tenant, self._versions(tenant).catalog)
        return self.of(tenant, catalog, found(catalog, f"{customer}:{feature}"), wanted)

    def of(
        self, tenant: str, catalog: Catalog, entitlement: Entitlement, wanted: Decimal = NOTHING
    ) -> Checked:
        """Return whether an entitlement of the catalog may be used now."""
        if not isinstance(entitlement.access, Metered):
            return _unmetered(entitlement, self._parts.clock.now_us())
        changed = self._versions(tenant).grants
        key = (tenant, entitlement.key)
        facts = self._facts(*key) if self._is_old(key, changed) else None
        known = self._known(key, catalog, entitlement, changed, facts, wanted)
        return known or self._anew(tenant, catalog, entitlement, wanted, changed)

    def at_once(self, asked: Sequence[Asked]) -> list[Checked | Elsewhere]:
        """Answer checks of which everything is in memory.

        All that is read are versions, in one statement after the checks were asked: whatever was
        granted or changed before is counted.

        Raises:
            Unavailable: the control database cannot be reached.
        """
        versions = self._parts.versions({one.grant.tenant for one in asked})
        catalogs = {
            tenant: self._parts.catalog.loaded(tenant, now.catalog)
            for tenant, now in versions.items()
        }
        return [
            self._told(one, catalogs[one.grant.tenant], versions[one.grant.tenant].grants, {})
            for one in asked
        ]

    def soon(self, asked: Sequence[Asked]) -> list[Checked | Elsewhere]:
        """Answer checks from memory, as `at_once`, with what the control database says.

        What is new there is read once for all of them.
        """
        told: dict[Asked, Checked | Elsewhere] = {}
        for tenant, now in self._parts.versions({one.grant.tenant for one in asked}).items():
            theirs = [one for one in asked if one.grant.tenant == tenant]
            catalog = self._catalog(tenant, now.catalog)
            old = {one.key for one in theirs if self._is_old(one.place, now.grants)}
            facts = self._parts.store.facts(tenant, sorted(old)) if old else {}
            told |= {one: self._told(one, catalog, now.grants, facts) for one in theirs}
        return [told[one] for one in asked]

    def at(
        self, tenant: str, catalog: Catalog, entitlement: Entitlement, at_us: int, wanted: Decimal
    ) -> Checked:
        """Return whether an entitlement could be used at any instant; the lake is read."""
        if not isinstance(entitlement.access, Metered):
            return _unmetered(entitlement, at_us)
        facts = self._facts(tenant, entitlement.key)
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

    def _told(
        self,
        asked: Asked,
        catalog: Catalog | None,
        changed: int,
        facts: Mapping[str, EntitlementFacts],
    ) -> Checked | Elsewhere:
        """Return an answer to somebody who may have it; all refusals are the route's."""
        if catalog is None:
            return Elsewhere.CONTROL_DATABASE
        if not catalog.live("entitlement", asked.key):
            return Elsewhere.ROUTE
        entitlement = catalog.entitlements[asked.key]
        if not is_own(asked.grant, entitlement.customer):
            return Elsewhere.ROUTE
        if not isinstance(entitlement.access, Metered):
            return _unmetered(entitlement, self._parts.clock.now_us())
        new = facts.get(asked.key)
        if new is None and self._is_old(asked.place, changed):
            return Elsewhere.CONTROL_DATABASE
        try:
            known = self._known(asked.place, catalog, entitlement, changed, new, asked.wanted)
        except Missing:
            return Elsewhere.ROUTE
        return known or Elsewhere.ROUTE

    def _known(
        self,
        key: tuple[str, str],
        catalog: Catalog,
        entitlement: Entitlement,
        changed: int,
        facts: EntitlementFacts | None,
        wanted: Decimal,
    ) -> Checked | None:
        """Return an answer from a kept balance; None where none is fit.

        Args:
            key: of the place.
            catalog: as it is now.
            entitlement: of the catalog.
            changed: the tenant's version of grants.
            facts: what was granted as of that version, or later; None where that was not read.
            wanted: how much.
        """
        now_us, self._asked = self._parts.clock.now_us(), monotonic()
        place, cut = self._places.get(key)
        if place is None or self._asked - self._fresh >= STALE_SECONDS_MAX:
            return None
        if not _same(catalog, entitlement, place, changed, facts):
            return None
        kept = place.kept
        at_us = max(now_us, kept.at_us)
        if not kept.holds(at_us):
            return None
        moved = onward(kept, at_us)
        if moved is not kept:
            self._places.replace(place, kept, moved)
        return Checked(value=answer(moved, at_us, wanted), at_us=at_us, cut=max(cut, kept.cut))

    def _is_old(self, key: tuple[str, str], changed: int) -> bool:
        """Whether there is a balance, of which a newer grant may not be known."""
        place, _ = self._places.get(key)
        return place is not None and place.changed != changed

    def _versions(self, tenant: str) -> Versions:
        return self._parts.versions([tenant])[tenant]

    def _catalog(self, tenant: str, version: int) -> Catalog:
        return self._parts.catalog.loaded(tenant, version) or self._parts.catalog.load(tenant)

    def _facts(self, tenant: str, key: str) -> EntitlementFacts:
        return self._parts.store.facts(tenant, [key])[key]

    def _anew(
        self,
        tenant: str,
        catalog: Catalog,
        entitlement: Entitlement,
        wanted: Decimal,
        changed: int,
    ) -> Checked:
        """Answer from the lake, and keep the balance where one can be kept."""
        terms = terms_of(catalog, entitlement, self._facts(tenant, entitlement.key))
        now_us = self._parts.clock.now_us()
        if terms is None:
            return self.at(tenant, catalog, entitlement, now_us, wanted)
        reader = self._parts.reader()
        cut = reader.head()
        (kept,) = work_out(reader, tenant, [Wanted(terms=terms)], now_us, cut)
        if kept is None:
            return self.at(tenant, catalog, entitlement, now_us, wanted)
        self._places.put((tenant, entitlement.key), Place(kept, changed, catalog.version))
        self._wake(tenant)
        return Checked(value=answer(kept, now_us, wanted), at_us=now_us, cut=cut)

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
        """Work out every balance of a tenant that can be kept; return how many there are.

        What is kept is followed after each step.
        """
        with self._lock:
            self._cold.discard(tenant)
            self._warm.add(tenant)
        changed, catalog = self._versions(tenant).grants, self._parts.catalog.load(tenant)
        live = [
            one for key, one in catalog.entitlements.items() if catalog.live("entitlement", key)
        ]
        facts = self._parts.store.facts(tenant, [one.key for one in live[:KEPT_MAX]])
        all_terms = [terms_of(catalog, one, facts[one.key]) for one in live[:KEPT_MAX]]
        wanted = [Wanted(terms=terms) for terms in all_terms if terms is not None]
        reader = self._parts.reader()
        for start in range(0, len(wanted), AT_ONCE):
            if self._rounds.ended:
                break
            part, now_us, cut = (
                wanted[start : start + AT_ONCE],
                self._parts.clock.now_us(),
                reader.head(),
            )
            for kept in work_out(reader, tenant, part, now_us, cut, self._giving_way()):
                if kept is not None:
                    key = (tenant, kept.terms.entitlement.key)
                    self._places.put(key, Place(kept, changed, catalog.version))
            self._catch_up(reader)
        return len(wanted)

    def follow(self) -> int:
        """Bring what is kept to the newest snapshot; return how many were worked out again.

        Balances change first, then the snapshot that answers name.

        Cost: what is touched, whatever is kept.
        """
        for tenant in sorted(self._cold):
            self.warm(tenant)
        return self._catch_up(self._parts.reader())

    def _catch_up(self, reader: Reader) -> int:
        """Do what `follow` does for what is kept already.

        It gets on with each step, unless the round before broke off: what breaks off again after
        some steps does not get on.
        """
        with self._following:
            getting_on, self._followed = self._followed, False
            head = reader.head()
            before, kinds = self._places.begin()
            news = reader.news(kinds, before, head) if kinds and head > before else {}
            worked = 0
            for (tenant, type_), new in news.items():
                touched = {one.subject: one for one in new}
                stale = self._places.touched((tenant, type_), list(touched), head)
                for start in range(0, len(stale), AT_ONCE):
                    if self._rounds.ended:
                        return worked
                    self._again(reader, tenant, stale[start : start + AT_ONCE], touched, head)
                    if getting_on:
                        self._fresh = monotonic()
                worked += len(stale)
            if head > before:
                self._places.publish(head)
            self._fresh, self._followed = monotonic(), True
            return worked

    def _again(
        self,
        reader: Reader,
        tenant: str,
        places: Sequence[Place],
        touched: Mapping[str, Touched],
        head: int,
    ) -> None:
        """Work balances out again, each from where it was settled unless usage is older."""
        known = [place.kept for place in places]
        wanted = [
            Wanted(terms=kept.terms, known=None if _late(kept, touched) else kept) for kept in known
        ]
        latest = max([self._parts.clock.now_us(), *(kept.settled.until_us for kept in known)])
        found_again = work_out(reader, tenant, wanted, latest, head, self._giving_way())
        for place, kept in zip(places, found_again, strict=True):
            assert kept is not None, "measuring had begun"
            self._places.renew(place, kept)

    def _giving_way(self) -> Callable[[], None]:
        """Return what lets whoever waits for the interpreter go first, every so often.

        The rest is a real one: a thread that only lets go takes the interpreter again before
        another one has woken up, and each such moment makes that one's patience begin anew.
        """
        begun = perf_counter()

        def give_way() -> None:
            nonlocal begun
            if perf_counter() - begun >= WORK_SECONDS:
                if monotonic() - self._asked < ASKED_SECONDS:
                    sleep(REST_SECONDS)
                begun = perf_counter()

        return give_way


def parts_of(world: World) -> Parts:
    """Return what the checks of a process are made of."""
    return Parts(
        catalog=world.catalog,
        store=world.entitlements,
        versions=SqlVersions(world.engine).of,
        reader=lambda: world.usage,
        clock=world.clock,
    )


def checks_of(world: World) -> Checks:
    """Return the checks of a process; whoever made them closes them."""
    return Checks(parts_of(world))


def found(catalog: Catalog, key: str) -> Entitlement:
    """Return an entitlement in use; raises Missing."""
    if not catalog.live("entitlement", key):
        raise Missing(f"there is no entitlement '{key}'", field="key")
    return catalog.entitlements[key]


def _unmetered(entitlement: Entitlement, at_us: int) -> Checked:
    """Return the answer of an entitlement that no event changes."""
    return Checked(value=value(entitlement, None, at_us), at_us=at_us)


def _same(
    catalog: Catalog,
    entitlement: Entitlement,
    place: Place,
    changed: int,
    facts: EntitlementFacts | None,
) -> bool:
    """Whether a kept balance is still of these terms, as far as that is known."""
    if place.changed == changed and place.version == catalog.version:
        return True
    terms = place.kept.terms
    if facts is None:
        if place.changed != changed:
            return False
        facts = terms.facts
    if terms_of(catalog, entitlement, facts) != terms:
        return False
    place.changed, place.version = changed, catalog.version
    return True


def _late(kept: Kept, touched: Mapping[str, Touched]) -> bool:
    """Whether new usage lies in what was settled."""
    since = kept.settled.until_us
    news = (touched.get(owned.subject) for owned in kept.terms.owners)
    return any(one is not None and one.first_us < since for one in news)
