"""Whatever comes in between, a check says what the lake says at the snapshot that it names."""

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import closing
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tallybook.adapters.memory.catalog import MemoryCatalog
from tallybook.adapters.memory.entitlements import MemoryEntitlements
from tallybook.adapters.memory.usage_reader import MemoryUsageReader
from tallybook.adapters.sql.prepaid.versions import Versions
from tallybook.admit.key import READ
from tallybook.admit.key import Grant as Key
from tallybook.catalog.catalog import Catalog
from tallybook.catalog.entitlement import Grant
from tallybook.kernel.errors import Unavailable
from tallybook.kernel.timestamps import HOUR_US, format_us
from tallybook.meter.usage import Kind, Touched, Usage, UsageQuery
from tallybook.serve.api.checks import Asked, Checked, Checks, Parts, keeping
from tallybook.serve.api.checks.keeping import Elsewhere
from tallybook.settle.entitlement import HandReset
from tallybook.settle.flow import Question, check
from tests.support.billing_world import TENANT, World, at

METERS = """
[[meters]]
key = "sum"
event_type = "t"
aggregation = "SUM"
value = "$.v"

[[meters]]
key = "count"
event_type = "t"
aggregation = "COUNT"

[[meters]]
key = "other"
event_type = "u"
aggregation = "MAX"
value = "$.v"
"""
CUSTOMERS = """
[[customers]]
key = "acme"
currency = "USD"
subjects = [{acme}]

[[customers]]
key = "bolt"
currency = "USD"
subjects = [{bolt}]
"""
ENTITLEMENT = """
[[entitlements]]
customer = "{customer}"
feature = "{meter}"
type = "metered"
meter = "{meter}"
period = "PT7H"
included = {included}
start = 2026-01-01
"""
KEYS = [f"{customer}:{meter}" for customer in ("acme", "bolt") for meter in ("sum", "count")]
KEYS.append("acme:other")
START = at("2026-01-01")
GRANT = Key(TENANT, "key", frozenset({READ}))


class Catalogs(MemoryCatalog):
    """A catalog that remembers what was loaded last."""

    def __init__(self) -> None:
        super().__init__()
        self._last: Catalog | None = None

    def load(self, tenant: str) -> Catalog:
        self._last = super().load(tenant)
        return self._last

    def loaded(self, tenant: str, version: int) -> Catalog | None:
        return self._last if self._last is not None and self._last.version == version else None


class Interrupted(MemoryUsageReader):
    """A lake in which something happens while it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile: Callable[[], None] = lambda: None
        self.behind = 0

    def head(self) -> int:
        """Return the newest snapshot, or one of before: to whom began to ask then."""
        return max(0, super().head() - self.behind)

    def news(self, *asked: Any) -> dict[Kind, list[Touched]]:
        self.meanwhile()
        return super().news(*asked)

    def usage(self, query: UsageQuery) -> list[Usage]:
        self.meanwhile()
        return super().usage(query)


class Process:
    """The checks of a process, whose thread works when it is told to."""

    def __init__(self) -> None:
        self.catalog = Catalogs()
        self.of = World(self.catalog)
        self.lake = self.of.usage = Interrupted()
        self.store = MemoryEntitlements()
        self.clock = self.of.clock
        self.clock.now = START
        self.checks = Checks(
            Parts(self.catalog, self.store, self.versions, lambda: self.lake, self.clock)
        )
        self.to_come: list[tuple[Any, ...]] = []
        self.named = dict.fromkeys(KEYS, 0)
        self.apply(("s", "r"), 10)

    def versions(self, tenants: Collection[str]) -> dict[str, Versions]:
        catalog = self.catalog.version()
        return {tenant: Versions(catalog, self.store.changed(tenant)) for tenant in tenants}

    def apply(self, subjects: tuple[str, str], included: int) -> None:
        """Give customers their subjects and all of them what they may use."""
        entitlements = (
            ENTITLEMENT.format(customer=customer, meter=meter, included=included)
            for customer, _, meter in (key.partition(":") for key in KEYS)
        )
        acme, bolt = (f'"{subject}"' for subject in subjects)
        named = CUSTOMERS.format(acme=acme, bolt=bolt)
        self.of.apply(METERS + named + "".join(entitlements))

    def do(self, steps: Iterable[tuple[Any, ...]]) -> None:
        for kind, *said in steps:
            getattr(self, kind)(*said)

    def use(self, quarters: int, subject: str, said: tuple[str, int]) -> None:
        kind, amount = said
        when = max(START - HOUR_US, self.clock.now + quarters * HOUR_US // 4)
        self.of.event(format_us(when), subject=subject, kind=kind, data=f'{{"v": {amount}}}')

    def wait(self, quarters: int) -> None:
        self.clock.now += quarters * HOUR_US // 4

    def grant(self, number: int, amount: int) -> None:
        key = KEYS[number]
        facts = self.store.facts(TENANT, [key])[key]
        name = f"g{facts.version}"
        made = Grant(key=name, amount=Decimal(amount), effective_us=self.clock.now)
        self.store.add_grant(TENANT, key, made, facts.version)

    def reset(self, number: int) -> None:
        key = KEYS[number]
        facts = self.store.facts(TENANT, [key])[key]
        last = max((one.at_us for one in facts.resets), default=START)
        if self.clock.now > last:
            self.store.add_reset(TENANT, key, HandReset(self.clock.now), facts.version)

    def ask(self, number: int, way: str) -> None:
        """Check, in one of the ways there are, and compare with the lake."""
        asked = Asked(GRANT, KEYS[number], Decimal(1))
        if way in {"route", "begun before"}:
            self.lake.behind = int(way == "begun before")
            told: Checked | Elsewhere = self.checks.value(
                TENANT, *asked.key.split(":"), asked.wanted
            )
            self.lake.behind = 0
        else:
            answers = self.checks.at_once if way == "at once" else self.checks.soon
            (told,) = answers([asked])
        if isinstance(told, Checked):
            self.agree(asked.key, told, in_order=way != "begun before")

    def agree(self, key: str, told: Checked, *, in_order: bool) -> None:
        assert told.cut is not None
        assert told.cut <= self.lake.head(), "a snapshot that was never there"
        if in_order:
            assert self.named[key] <= told.cut, "one that is older than what was told before"
            self.named[key] = told.cut
        facts = self.store.facts(TENANT, [key])[key]
        catalog = self.catalog.load(TENANT)
        question = Question(
            tenant=TENANT,
            entitlement=catalog.entitlements[key],
            grants=facts.grants,
            by_hand=facts.resets,
            cut=told.cut,
        )
        plain = MemoryUsageReader()
        plain._events = self.lake._events
        assert told.value == check(plain, catalog, question, told.at_us, Decimal(1))

    def follow(self, *meanwhile: tuple[tuple[Any, ...], ...]) -> None:
        """Do a round; what happens meanwhile happens a piece each time that the lake is asked."""
        self.interrupted(self.checks.follow, meanwhile)

    def warm(self, *meanwhile: tuple[tuple[Any, ...], ...]) -> None:
        """Work all balances out, likewise."""
        self.interrupted(lambda: self.checks.warm(TENANT), meanwhile)

    def interrupted(
        self, do: Callable[[], object], meanwhile: Iterable[tuple[tuple[Any, ...], ...]]
    ) -> None:
        self.to_come = list(meanwhile)
        self.lake.meanwhile = self.happen
        do()
        self.lake.meanwhile = lambda: None

    def happen(self) -> None:
        if self.to_come:
            steps = self.to_come.pop(0)
            before, self.lake.meanwhile = self.lake.meanwhile, lambda: None
            self.do(steps)
            self.lake.meanwhile = before


NUMBERS = st.integers(0, len(KEYS) - 1)
USE = st.tuples(
    st.just("use"),
    st.sampled_from([0, 0, -1, -3, -20, -60, 1, 8]),
    st.sampled_from(["s", "r", "q"]),
    st.sampled_from([("t", amount) for amount in (1, 3, 20, -2) * 2] + [("u", 1), ("u", 20)]),
)
ASK = st.tuples(
    st.just("ask"), NUMBERS, st.sampled_from(["route", "begun before", "at once", "soon"])
)
WAIT = st.tuples(st.just("wait"), st.integers(0, 20))
CHANGE = st.one_of(
    st.tuples(st.just("grant"), NUMBERS, st.sampled_from([1, 5])),
    st.tuples(st.just("reset"), NUMBERS),
    st.tuples(
        st.just("apply"),
        st.sampled_from([("s", "r"), ("q", "r"), ("r", "s")]),
        st.sampled_from([10, 4]),
    ),
)
STEP = st.one_of(USE, USE, ASK, ASK, WAIT, CHANGE)
PIECE = st.lists(STEP, min_size=1, max_size=5).map(tuple)
ROUND = st.tuples(st.sampled_from(["follow", "follow", "warm"]), st.lists(PIECE, max_size=4)).map(
    lambda said: (said[0], *said[1])
)


@pytest.mark.parametrize("most", [2, 100])
@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(steps=st.lists(st.one_of(STEP, ROUND), min_size=5, max_size=30))
def test_a_check_says_what_the_lake_says(
    monkeypatch: pytest.MonkeyPatch, most: int, steps: list[tuple[Any, ...]]
) -> None:
    monkeypatch.setattr(keeping, "KEPT_MAX", most)
    monkeypatch.setattr(
        keeping, "FOLLOW_SECONDS", 3600
    )  # `follow` is called where a round would be
    process = Process()
    with closing(process.checks):
        process.do([("wait", 50), *(("ask", one, "route") for one in range(len(KEYS)))])
        process.do(steps)
        process.follow()
        process.do(("ask", one, way) for one in range(len(KEYS)) for way in ("at once", "route"))
        assert len(process.checks) <= most


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Iterator[Process]:
    monkeypatch.setattr(keeping, "FOLLOW_SECONDS", 3600)
    made = Process()
    with closing(made.checks):
        made.wait(4)
        yield made


def test_working_all_out_takes_no_newer_balance_back(process: Process) -> None:
    ask = (("ask", 1, "at once"),)
    process.do([("ask", 0, "route")])
    process.warm((("use", 0, "s", ("t", 3)), ("ask", 1, "route")), *[ask] * 12)
    assert process.named[KEYS[1]] == 1


def test_what_is_new_is_one_question_whatever_is_kept(process: Process) -> None:
    asked: list[tuple[list[Kind], int, int]] = []
    news = process.lake.news

    def counted(kinds: Collection[Kind], after: int, cut: int) -> dict[Kind, list[Touched]]:
        asked.append((sorted(kinds), after, cut))
        return news(kinds, after, cut)

    process.lake.news = counted  # type: ignore[method-assign]
    process.do([("ask", number, "route") for number in range(len(KEYS))])
    process.follow()
    asked.clear()
    process.follow()
    assert asked == [], "no commit is new"
    process.use(0, "s", ("t", 3))
    assert process.checks.follow() == 2
    assert asked == [([(TENANT, "t"), (TENANT, "u")], 0, 1)]


class Slow:
    """The checks of a process with four balances of the subjects `s` and `r`, and its clock.

    Each question about usage is slow; a balance is worked out by one, and is a step of its own.
    """

    def __init__(self, process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
        self.process, self.checks = process, process.checks
        self.seconds = 0.0
        self.breaks_at = 0
        self.kept: list[bool] = []
        monkeypatch.setattr(keeping, "monotonic", lambda: self.seconds)
        monkeypatch.setattr(keeping, "AT_ONCE", 1)
        process.do([("ask", number, "route") for number in range(len(KEYS))])
        self.checks.follow()
        process.lake.meanwhile = self.wait

    def is_kept(self) -> bool:
        (told,) = self.checks.at_once([Asked(GRANT, KEYS[0])])
        return isinstance(told, Checked)

    def round(self, breaks_at: int = 0) -> int:
        """Do a round in which all four are touched; one of its questions may fail."""
        for subject in ("s", "r"):
            self.process.use(0, subject, ("t", 1))
        self.breaks_at = breaks_at
        return self.checks.follow()

    def wait(self) -> None:
        self.kept.append(self.is_kept())
        self.seconds += keeping.STALE_SECONDS_MAX * 0.6
        self.breaks_at -= 1
        if self.breaks_at == 0:
            raise Unavailable("away")


def test_a_round_follows_the_lake_as_long_as_it_gets_on(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow(process, monkeypatch)
    assert slow.round() == 4
    assert slow.seconds > 2 * keeping.STALE_SECONDS_MAX
    assert all(slow.kept)
    assert slow.is_kept()


def test_a_round_that_breaks_off_time_and_again_does_not_follow(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Slow(process, monkeypatch)
    for kept in (True, False):
        with pytest.raises(Unavailable):
            slow.round(breaks_at=3)
        assert slow.is_kept() == kept
    assert slow.round() == 4
    assert slow.is_kept()


def test_working_out_rests_while_somebody_asks(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds, rests = 0.0, list[float]()
    monkeypatch.setattr(keeping, "monotonic", lambda: seconds)
    monkeypatch.setattr(keeping, "sleep", rests.append)
    monkeypatch.setattr(keeping, "WORK_SECONDS", 0)
    process.do([("ask", 0, "route")])
    seconds += keeping.ASKED_SECONDS
    process.follow()
    process.use(0, "s", ("t", 3))
    process.follow()
    assert rests == [], "nobody asks"
    process.ask(0, "at once")
    process.use(0, "s", ("t", 3))
    process.follow()
    assert set(rests) == {keeping.REST_SECONDS}
