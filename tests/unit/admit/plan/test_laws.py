"""Laws of limits: the bucket is a bucket, and whoever decides, decides the same."""

from hypothesis import given
from hypothesis import strategies as st

from tallybook.adapters.memory.counts import MemoryCounts, SharedCounts
from tallybook.admit.plan.bucket import SECOND_NS, give_back, take
from tallybook.admit.plan.decide import NEVER
from tallybook.admit.plan.flow import give_back as give_back_all
from tallybook.admit.plan.flow import let_through
from tallybook.admit.plan.limit import Quota, Rate
from tallybook.admit.plan.window import window
from tests.unit.admit.plan.sample import NOON_NS, bound_to

RATES = st.builds(
    Rate,
    key=st.just("r"),
    rate=st.integers(1, 1000),
    seconds=st.integers(1, 100),
    burst=st.integers(0, 50),
)
STEPS = st.lists(st.tuples(st.integers(0, 3 * SECOND_NS), st.integers(1, 60)), max_size=40)


@given(RATES, STEPS)
def test_the_bucket_is_a_bucket_of_whole_drops(limit: Rate, steps: list[tuple[int, int]]) -> None:
    """A naive bucket: `rate` drops come each nanosecond, a token is so many drops."""
    token = limit.seconds * SECOND_NS
    level = limit.size * token
    full, now = (0, 0), NOON_NS
    for pause, tokens in steps:
        now += pause
        level = min(level + pause * limit.rate, limit.size * token)
        fits = tokens * token <= level
        taken = take(limit, *full, now, tokens)
        assert (taken.wait_ns == 0) == fits
        level -= tokens * token * fits
        assert taken.left == level // token
        full = (taken.full_ns, taken.full_part)
        if taken.wait_ns > 0:
            missing = tokens * token - level
            assert taken.wait_ns == -(-missing // limit.rate)
            assert take(limit, *full, now + taken.wait_ns, tokens).wait_ns == 0
            assert take(limit, *full, now + taken.wait_ns - 1, tokens).wait_ns > 0
        assert (taken.wait_ns == NEVER) == (tokens > limit.size)


@given(RATES, st.integers(0, 10**9), st.integers(1, 50))
def test_what_is_given_back_was_never_taken(limit: Rate, pause: int, tokens: int) -> None:
    first = take(limit, 0, 0, NOON_NS, 1)
    at = NOON_NS + pause
    second = take(limit, first.full_ns, first.full_part, at, tokens)
    if second.wait_ns == 0:
        back = give_back(limit, second.full_ns, second.full_part, tokens)
        for later in (0, 1, 10**9):
            for wanted in (1, 2, 50):
                one = take(limit, first.full_ns, first.full_part, at + later, wanted)
                other = take(limit, *back, at + later, wanted)
                assert (one.left, one.wait_ns) == (other.left, other.wait_ns)


@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, 2 * 10**9), st.integers(1, 4)), max_size=60
    )
)
def test_two_workers_let_through_exactly_what_one_would(asked: list[tuple[int, int, int]]) -> None:
    bounds = [
        bound_to(Rate(key="r", rate=3, seconds=2, burst=5, warn=(50,))),
        bound_to(Quota(key="q", limit=25, window="day", warn=(80, 95))),
    ]
    shared = SharedCounts()
    two = [MemoryCounts(shared), MemoryCounts(shared)]
    one = MemoryCounts(SharedCounts())
    now = NOON_NS
    for worker, pause, amount in asked:
        now += pause
        expected = let_through(one, bounds, now, amount)
        assert let_through(two[worker], bounds, now, amount) == expected
    places = [bound.place for bound in bounds]
    assert two[0].read(places) == two[1].read(places) == one.read(places)


@given(st.lists(st.integers(1, 6), max_size=30))
def test_a_quota_lets_through_what_it_says_and_no_more(amounts: list[int]) -> None:
    bounds = [bound_to(Quota(key="q", limit=20, window="week"))]
    counts = MemoryCounts(SharedCounts())
    through = 0
    for amount in amounts:
        stop = let_through(counts, bounds, NOON_NS, amount).stop
        assert (stop is None) == (through + amount <= 20)
        if stop is None:
            through += amount
            if amount == 1:
                give_back_all(counts, bounds, NOON_NS, amount)
                through -= amount
        assert counts.read([bounds[0].place])[0][1] == through or not through


ZONES = ("UTC", "Europe/Berlin", "America/St_Johns", "Pacific/Chatham", "Africa/Casablanca")


@given(
    st.sampled_from(("day", "week", "month")),
    st.integers(0, 23),
    st.integers(1, 31),
    st.sampled_from(ZONES),
    st.integers(0, 4_102_444_800_000_000),
)
def test_windows_follow_one_another_without_gap(
    kind: str, hour: int, day: int, zone: str, at_us: int
) -> None:
    most = {"day": 1, "week": 7, "month": 31}[kind]
    quota = Quota(key="q", limit=1, window=kind, hour=hour, day=min(day, most))  # type: ignore[arg-type]
    found = window(quota, zone, at_us)
    assert found.start_us <= at_us < found.end_us
    assert window(quota, zone, found.end_us).start_us == found.end_us
    assert window(quota, zone, found.start_us - 1).end_us == found.start_us
