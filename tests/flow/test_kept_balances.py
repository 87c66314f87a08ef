"""A kept balance always says what working it out from nothing says, whatever comes in between."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tallybook.catalog.entitlement import Entitlement, EntitlementSpec, Grant, check_entitlement
from tallybook.catalog.entitlement.recurrence import Recurrence, parse_interval
from tallybook.kernel.timestamps import HOUR_US, format_us
from tallybook.settle.access.flow import Wanted, terms_of, work_out
from tallybook.settle.access.kept import Kept, answer, onward
from tallybook.settle.entitlement import HandReset
from tallybook.settle.flow import Question, check
from tallybook.settle.ports import EntitlementFacts
from tests.support.billing_world import TENANT, World, at

CATALOG = """
[[meters]]
key = "SUM"
event_type = "t"
aggregation = "SUM"
value = "$.v"
group_by = {model = "$.model"}

[[meters]]
key = "COUNT"
event_type = "t"
aggregation = "COUNT"

[[meters]]
key = "MAX"
event_type = "t"
aggregation = "MAX"
value = "$.v"

[[meters]]
key = "UNIQUE_COUNT"
event_type = "t"
aggregation = "UNIQUE_COUNT"
value = "$.v"

[[meters]]
key = "TIME_WEIGHTED"
event_type = "t"
aggregation = "TIME_WEIGHTED"
value = "$.v"

[[customers]]
key = "acme"
currency = "USD"
subjects = ["s", {subject = "r", start = "2026-01-01T06:00:00Z", end = "2026-01-03"}]

[[customers]]
key = "bolt"
currency = "USD"
subjects = ["q", {subject = "r", start = "2026-01-03"}]
"""
START = at("2026-01-01")


def entitlement(**said: Any) -> Entitlement:
    spec = EntitlementSpec(
        **{
            "customer": "acme",
            "feature": "f",
            "type": "metered",
            "meter": "SUM",
            "period": "P1D",
            "start": "2026-01-01",
            "included": Decimal(10),
            **said,
        }
    )
    return check_entitlement(spec, "UTC")


ALL = [
    entitlement(),
    entitlement(feature="g", meter="SUM", filter={"model": ["a"]}, factor=Decimal(3)),
    entitlement(feature="h", meter="COUNT", period="PT7H", keep_overage=True),
    entitlement(feature="i", meter="MAX", measure_from="2026-01-01T03:30:00Z"),
    entitlement(feature="j", meter="UNIQUE_COUNT", period="P1M"),
    entitlement(feature="k", meter="SUM", soft=True, period="P1M"),
    entitlement(customer="bolt"),
]


class Keeper:
    """What a process does: keeps balances, works out again what was touched."""

    def __init__(self) -> None:
        """Start with every entitlement, and nothing kept."""
        self.of = World()
        self.of.apply(CATALOG)
        self.catalog = self.of.billing.catalog.load(TENANT)
        self.facts = {one.key: EntitlementFacts() for one in ALL}
        self.kept: dict[str, Kept] = {}
        self.cut = 0
        self.now = START

    def follow(self) -> None:
        """Work out what was touched since the last time, and what has no balance yet."""
        head = self.of.usage.head()
        touched = {t.subject: t for t in self.of.usage.touched(TENANT, "t", self.cut, head)}
        wanted = []
        for one in ALL:
            terms = terms_of(self.catalog, one, self.facts[one.key])
            assert terms is not None
            known = self.kept.get(one.key)
            theirs = [touched[o.subject] for o in terms.owners if o.subject in touched]
            if known is not None and known.terms == terms and not theirs:
                continue
            late = known is not None and any(t.first_us < known.settled.until_us for t in theirs)
            anew = known is None or late or known.terms != terms
            wanted.append(Wanted(terms=terms, known=None if anew else known))
        found = work_out(self.of.usage, TENANT, wanted, self.now, head)
        for asked, kept in zip(wanted, found, strict=True):
            self.kept.pop(asked.terms.entitlement.key, None)
            if kept is not None:
                self.kept[kept.terms.entitlement.key] = kept
        self.cut = head

    def agree(self) -> None:
        """Compare every kept balance with the lake's answer at the same snapshot."""
        for one in ALL:
            kept = self.kept.get(one.key)
            if kept is None or not kept.holds(self.now):
                continue
            self.kept[one.key] = kept = onward(kept, self.now)
            facts = self.facts[one.key]
            asked = Question(
                tenant=TENANT,
                entitlement=one,
                grants=facts.grants,
                by_hand=facts.resets,
                cut=self.cut,
            )
            told = check(self.of.usage, self.catalog, asked, self.now, Decimal(1))
            assert answer(kept, self.now, Decimal(1)) == told


STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("use"),
            st.integers(-30 * 4, 8),
            st.sampled_from(["s", "r", "q"]),
            st.sampled_from(["a", "b"]),
            st.sampled_from(["1", "2.5", "7", "-2"]),
        ),
        st.tuples(st.just("wait"), st.integers(0, 40)),
        st.tuples(
            st.just("grant"), st.integers(0, 6), st.integers(0, 30), st.sampled_from([None, 5])
        ),
        st.tuples(st.just("reset"), st.integers(0, 6)),
        st.tuples(st.just("follow")),
    ),
    max_size=25,
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
def test_kept_is_what_the_lake_says(steps: list[tuple[Any, ...]]) -> None:
    keeper = Keeper()
    for number, (kind, *said) in enumerate(steps):
        if kind == "use":
            when = max(START - HOUR_US, keeper.now + said[0] * HOUR_US // 4)
            amount = said[3].lstrip("-") if said[1] == "q" else said[3]
            data = f'{{"v": {amount}, "model": "{said[2]}"}}'
            keeper.of.event(format_us(when), subject=said[1], data=data)
        elif kind == "wait":
            keeper.now += said[0] * HOUR_US // 4
            keeper.agree()
        elif kind == "grant":
            change_grant(keeper, ALL[said[0]].key, number, said[1], said[2])
        elif kind == "reset":
            key = ALL[said[0]].key
            facts = keeper.facts[key]
            resets = tuple(sorted({*facts.resets, HandReset(keeper.now)}))
            if keeper.now > START + 4 * HOUR_US:
                keeper.facts[key] = replaced(facts, resets=resets)
        keeper.follow()
        keeper.agree()


def replaced(facts: EntitlementFacts, **said: Any) -> EntitlementFacts:
    return EntitlementFacts(
        version=facts.version + 1,
        grants=said.get("grants", facts.grants),
        resets=said.get("resets", facts.resets),
    )


def change_grant(keeper: Keeper, key: str, number: int, hours: int, every: int | None) -> None:
    steps = None
    if every is not None:
        steps = Recurrence(interval=parse_interval("every", f"PT{every}H"), anchor_us=keeper.now)
    grant = Grant(
        key=f"g{number}",
        amount=Decimal(5),
        effective_us=keeper.now,
        expires_us=keeper.now + hours * HOUR_US + 1,
        recurrence=steps,
    )
    facts = keeper.facts[key]
    keeper.facts[key] = replaced(facts, grants=(*facts.grants, grant))


def test_usage_that_lies_ahead_ends_what_is_kept() -> None:
    keeper = Keeper()
    keeper.now = START + 5 * HOUR_US
    keeper.of.event(format_us(keeper.now + HOUR_US), data='{"v": 4, "model": "a"}')
    keeper.follow()
    kept = keeper.kept["acme:f"]
    assert kept.ahead_us == keeper.now + HOUR_US
    assert kept.holds(keeper.now + HOUR_US)
    assert not kept.holds(keeper.now + HOUR_US + 1)
    assert not kept.holds(keeper.now - 1)
    assert keeper.kept["bolt:f"].ahead_us is None


def test_what_is_settled_moves_on_with_time() -> None:
    keeper = Keeper()
    for hour in range(30):
        keeper.now = START + hour * HOUR_US
        keeper.of.event(format_us(keeper.now), data='{"v": 1, "model": "a"}')
        keeper.follow()
        keeper.agree()
    settled = keeper.kept["acme:f"].settled
    assert settled.until_us == keeper.now - HOUR_US
    assert settled.state.at_us == START + 24 * HOUR_US, "where the present day began"
    assert settled.used == 4
    assert keeper.kept["acme:j"].settled.until_us == START


def test_a_negative_amount_is_netted_with_what_was_settled_before_it() -> None:
    keeper = Keeper()
    keeper.now = START + 10 * HOUR_US
    for hour, value in ((8, 1), (9, -2)):
        at_us = START + hour * HOUR_US + HOUR_US // 2
        keeper.of.event(format_us(at_us), data=f'{{"v": {value}, "model": "a"}}')
    keeper.follow()
    keeper.agree()
    kept = keeper.kept["acme:f"]
    assert (kept.settled.used, kept.state.balance, kept.state.usage) == (1, 10, -1)


def test_a_reset_by_a_clock_that_is_ahead_counts_from_its_instant_on() -> None:
    keeper = Keeper()
    keeper.now = START + 5 * HOUR_US
    keeper.of.event(format_us(keeper.now - 1), data='{"v": 4, "model": "a"}')
    reset = HandReset(keeper.now + 1_000_000)
    keeper.facts["acme:f"] = EntitlementFacts(version=1, resets=(reset,))
    keeper.follow()
    for ahead_us, left in ((999_999, 6), (1_000_000, 10)):
        keeper.now = START + 5 * HOUR_US + ahead_us
        keeper.agree()
        assert keeper.kept["acme:f"].state.balance == left


def test_before_measuring_nothing_is_kept() -> None:
    keeper = Keeper()
    keeper.follow()
    assert "acme:i" not in keeper.kept
    assert "acme:f" in keeper.kept


@pytest.mark.parametrize("meter", ["TIME_WEIGHTED"])
def test_what_grows_by_itself_is_not_kept(meter: str) -> None:
    keeper = Keeper()
    assert terms_of(keeper.catalog, entitlement(meter=meter), EntitlementFacts()) is None
    static = EntitlementSpec(customer="acme", feature="b", type="boolean", start="2026-01-01")
    assert terms_of(keeper.catalog, check_entitlement(static, "UTC"), EntitlementFacts()) is None
