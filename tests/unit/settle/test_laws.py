"""What holds for all grants, usage, resets, top-ups and draws."""

from decimal import Decimal
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tallybook.catalog.entitlement import (
    Grant,
    Interval,
    Metered,
    Overdraft,
    Recurrence,
    Rollover,
    TopUp,
    Wallet,
)
from tallybook.invoice.document.spread import Fund, Payable, spread
from tallybook.kernel.timestamps import HOUR_US
from tallybook.settle.balance import Reset, State, Usage, total
from tallybook.settle.burn import borders
from tallybook.settle.entitlement import facts, state_at
from tallybook.settle.run import Facts, advance, start
from tallybook.settle.wallet import Draw, WalletState, wallet_at

HOURS = st.integers(0, 60).map(lambda hours: hours * HOUR_US)
UNTIL = 50 * HOUR_US
AMOUNTS = st.decimals(min_value=0, max_value=1000, places=3)
POSITIVE = st.decimals(min_value="0.001", max_value=1000, places=3)


@st.composite
def grants(draw: st.DrawFn) -> tuple[Grant, ...]:
    made = []
    for number in range(draw(st.integers(0, 5))):
        least, most = sorted((draw(AMOUNTS), draw(AMOUNTS)))
        begin = draw(HOURS)
        every = draw(st.none() | st.integers(1, 20))
        recurrence = None
        if every is not None:
            step = Interval(exact_us=every * HOUR_US)
            recurrence = Recurrence(interval=step, anchor_us=draw(HOURS))
        made.append(
            Grant(
                key=f"g{number}",
                amount=draw(POSITIVE),
                effective_us=begin,
                expires_us=draw(st.none() | st.just(begin + 30 * HOUR_US) | HOURS),
                voided_us=draw(st.none() | HOURS),
                priority=draw(st.integers(0, 2)),
                recurrence=recurrence,
                rollover=draw(st.sampled_from((Rollover(), Rollover(least, most)))),
            )
        )
    return tuple(made)


def usage(amounts: st.SearchStrategy[Decimal]) -> st.SearchStrategy[tuple[Usage, ...]]:
    return st.lists(st.builds(Usage, HOURS, amounts), max_size=12).map(tuple)


RESETS = st.lists(st.builds(Reset, HOURS, st.booleans()), max_size=4).map(tuple)
FALLING = st.decimals(min_value=-500, max_value=1000, places=3)


def made_of(amounts: st.SearchStrategy[Decimal]) -> st.SearchStrategy[Facts]:
    return st.builds(Facts, grants=grants(), usage=usage(amounts), resets=RESETS)


def balances(of: Facts, until_us: int = UNTIL) -> State:
    return advance(start(0), of, until_us).state


@given(made_of(FALLING), st.randoms(use_true_random=False))
def test_the_order_of_facts_does_not_matter(of, random):
    shuffled = Facts(
        **{
            name: tuple(random.sample(getattr(of, name), len(getattr(of, name))))
            for name in ("grants", "usage", "resets")
        }
    )
    one, two = advance(start(0), of, UNTIL), advance(start(0), shuffled, UNTIL)
    assert one == two


@given(made_of(AMOUNTS), st.integers(2, 5))
def test_splitting_usage_changes_nothing(of, parts):
    split = [Usage(used.at_us, used.amount / 1000) for used in of.usage for _ in range(parts)]
    rest = [Usage(u.at_us, u.amount - parts * (u.amount / 1000)) for u in of.usage]
    other = Facts(grants=of.grants, usage=(*split, *rest), resets=of.resets)
    assert balances(other) == balances(of)


@given(made_of(FALLING), HOURS, HOURS)
def test_a_state_may_be_kept_and_continued(of, one, two):
    first, second = sorted((min(one, UNTIL), min(two, UNTIL)))
    whole = advance(start(0), of, UNTIL)
    state = advance(start(0), of, first)
    later = advance(state.state, of, second)
    last = advance(later.state, of, UNTIL)
    assert last.state == whole.state
    used = [total(s.usage for s in run) for run in (whole.history, state.history)]
    more = [total(s.usage for s in run) for run in (later.history, last.history)]
    assert used[0] == total((used[1], *more))


@given(made_of(AMOUNTS))
def test_one_amount_a_span_is_enough(of):
    cuts = borders(of.grants, of.resets, 0, UNTIL)
    spans = [
        Usage(begin, total(u.amount for u in of.usage if begin <= u.at_us < end))
        for begin, end in pairwise(cuts)
    ]
    assert balances(Facts(grants=of.grants, usage=tuple(spans), resets=of.resets)) == balances(of)


@given(made_of(AMOUNTS))
def test_nothing_is_lost_and_nothing_is_made(of):
    outcome = advance(start(0), of, UNTIL)
    state = outcome.state
    for pot in state.pots.values():
        assert pot.granted == pot.burnt + pot.lapsed + pot.left
        assert min(pot.granted, pot.burnt, pot.lapsed, pot.left) >= 0
        assert pot.in_force or pot.left == 0
    burnt = total(pot.burnt for pot in state.pots.values())
    used = total(used.amount for used in of.usage if used.at_us < UNTIL)
    assert used == burnt + state.overage + state.waived
    assert used == total(segment.usage for segment in outcome.history)
    assert state.overage == 0 or state.balance == 0


@given(made_of(FALLING), HOURS)
def test_more_usage_never_leaves_more(of, at_us):
    more = Facts(grants=of.grants, usage=(*of.usage, Usage(at_us, Decimal(7))), resets=of.resets)
    plain = Facts(grants=of.grants, resets=of.resets)
    assert balances(more).balance <= balances(plain).balance


@given(st.lists(st.tuples(HOURS, AMOUNTS), max_size=8), st.integers(2, 4), st.integers(2, 9))
def test_units_are_the_same_however_usage_is_split(points, parts, factor):
    of = Metered(
        meter="m",
        period=Recurrence(interval=Interval(exact_us=20 * HOUR_US), anchor_us=0),
        measure_from_us=0,
        factor=Decimal(factor),
        included=Decimal(50),
    )
    whole = [Usage(at_us, amount * parts) for at_us, amount in points]
    split = [Usage(at_us, amount) for at_us, amount in points for _ in range(parts)]
    one, two = (facts(of, [], given, [], UNTIL) for given in (whole, split))
    assert state_at(of, one, UNTIL) == state_at(of, two, UNTIL)


@st.composite
def top_ups(draw: st.DrawFn) -> list[TopUp]:
    return [
        TopUp(
            key=f"t{number}",
            amount=draw(POSITIVE),
            at_us=draw(HOURS),
            expires_us=draw(st.none() | HOURS),
            voided_us=draw(st.none() | HOURS),
            priority=draw(st.integers(0, 2)),
            free=draw(st.booleans()),
        )
        for number in range(draw(st.integers(0, 5)))
    ]


@st.composite
def draws(draw: st.DrawFn) -> list[Draw]:
    found = []
    for number in range(draw(st.integers(0, 6))):
        at_us, amount = draw(HOURS), draw(POSITIVE)
        found.append(Draw(at_us, f"d{number}", amount))
        if draw(st.booleans()):
            later = at_us + draw(st.integers(0, 9)) * HOUR_US
            found.append(Draw(later, f"d{number}", -min(amount, draw(POSITIVE))))
    return found


def wallet(overdraft: Overdraft, ups: list[TopUp], drawn: list[Draw]) -> WalletState:
    of = Wallet(key="w", customer="c", currency="USD", overdraft=overdraft)
    return wallet_at(of, ups, drawn, UNTIL)


OVERDRAFTS = st.sampled_from(("none", "repay"))


@given(OVERDRAFTS, top_ups(), draws())
def test_wallets_lose_and_make_nothing(overdraft, ups, drawn):
    state = wallet(overdraft, ups, drawn)
    put = total(up.amount for up in ups if up.key in state.pots)
    taken = {key: total(part.amount for part in parts) for key, parts in state.taken.items()}
    assert put == total(taken.values()) + state.lapsed + state.balance
    for pot in state.pots.values():
        assert min(pot.burnt, pot.lapsed, pot.left) >= 0
    assert all(part.amount > 0 for parts in state.taken.values() for part in parts)
    for key, owed in state.unpaid.items():
        asked = total(d.amount for d in drawn if d.key == key and d.at_us < UNTIL)
        assert owed >= 0
        if overdraft == "repay":
            assert owed + taken.get(key, 0) == asked
    assert overdraft == "none" or not state.open or not state.balance


@given(OVERDRAFTS, top_ups(), draws(), st.randoms(use_true_random=False))
def test_the_order_of_top_ups_and_draws_does_not_matter(overdraft, ups, drawn, random):
    shuffled = random.sample(ups, len(ups)), random.sample(drawn, len(drawn))
    assert wallet(overdraft, *shuffled) == wallet(overdraft, ups, drawn)


FUNDS = st.lists(
    st.tuples(st.integers(0, 500), st.integers(0, 2), st.sampled_from(((), ("fee",)))), max_size=5
)
LINES = st.lists(st.tuples(st.sampled_from(("fee", "usage")), st.integers(-100, 500)), max_size=6)


@given(FUNDS, LINES)
def test_no_fund_and_no_line_is_overspent(funds, lines):
    holding = [
        Fund(key=f"f{n}", available_minor=amount, priority=priority, only=only)
        for n, (amount, priority, only) in enumerate(funds)
    ]
    paying = [Payable(f"l{n}", kind, due) for n, (kind, due) in enumerate(lines)]
    parts = spread(holding, paying)
    for fund in holding:
        spent = sum(part.amount_minor for part in parts if part.fund == fund.key)
        assert spent <= fund.available_minor
        open_minor = sum(
            max(0, line.due_minor)
            - sum(part.amount_minor for part in parts if part.line == line.key)
            for line in paying
            if fund.pays(line)
        )
        assert spent == fund.available_minor or open_minor == 0
    for line in paying:
        paid = sum(part.amount_minor for part in parts if part.line == line.key)
        assert 0 <= paid <= max(0, line.due_minor)
