"""Pace of the backlog, and the circuit breaker."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallybook.collect.sending.breaker import OPEN_AFTER, Breaker
from tallybook.collect.sending.lanes import LIVE_SECONDS, Pace, live_from_us

FRACTION = st.floats(0, 0.999)


@given(st.floats(0, 100), st.integers(0, 1000), st.floats(0.01, 1))
def test_backlog_gets_its_share_of_the_time(took: float, events: int, share: float) -> None:
    rest = Pace(share=share).rest_seconds(took, events)
    assert rest >= 0
    assert took <= (took + rest) * share + 1e-6


@given(st.floats(0, 10), st.integers(1, 1000), st.integers(1, 10_000))
def test_backlog_keeps_to_its_rate(took: float, events: int, rate: int) -> None:
    rest = Pace(share=1, events_per_second=rate).rest_seconds(took, events)
    assert events <= (took + rest) * rate + 1e-6


def test_a_minute_is_live() -> None:
    assert live_from_us(100_000_000) == 100_000_000 - LIVE_SECONDS * 1_000_000


@given(st.lists(FRACTION, min_size=1, max_size=40))
def test_the_circuit_opens_after_failures_and_closes_after_one_success(
    draws: list[float],
) -> None:
    breaker, now = Breaker(), 100.0
    for at, fraction in enumerate(draws, 1):
        breaker = breaker.failed(now, fraction)
        wait = breaker.wait_seconds(now)
        assert wait <= 60
        if at < OPEN_AFTER:
            assert breaker.circuit(now) == "closed"
        else:
            assert breaker.circuit(now) == ("open" if wait else "half-open")
        now += breaker.wait_seconds(now) + 0.001
        assert breaker.circuit(now) in {"closed", "half-open"}
    assert Breaker().circuit(now) == "closed"
    assert Breaker().wait_seconds(now) == 0


def test_the_server_is_never_asked_earlier_than_it_wants() -> None:
    breaker = Breaker().failed(0, 0.0, retry_after_seconds=120)
    assert breaker.wait_seconds(0) == 120
    assert breaker.hurried(0, 3).wait_seconds(0) == 3


@pytest.mark.parametrize(("failures", "at", "state"), [
    (2, 0, "closed"), (3, 0, "open"), (3, 99, "half-open"), (30, 0, "open"),
])  # fmt: skip
def test_states(failures: int, at: float, state: str) -> None:
    assert Breaker(failures, 50).circuit(at) == state
