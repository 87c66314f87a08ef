"""What was sent against what the server has, to the event."""

from decimal import Decimal

import pytest

from bench.figures.totals import Mismatch, Totals, check, differences
from bench.generator.plan import Sent

SENT = Sent(
    events=100, duplicates=10, bad=1, counts={"bytes": 60, "tokens": 29},
    sums={"bytes": 6000, "tokens": 77},
)  # fmt: skip
BEFORE = Totals(
    received=5, accepted=4, duplicate=1, meters={"bytes": Decimal(7), "requests": Decimal(4)}
)


def after(**more: int) -> Totals:
    meters = {
        "bytes": Decimal(more.pop("bytes", 6007)),
        "tokens": Decimal(77),
        "requests": Decimal(more.pop("requests", 64)),
    }
    counts = {"received": 105, "accepted": 93, "duplicate": 11, "quarantined": 1} | more
    return Totals(**counts, meters=meters)


def test_what_agrees_has_no_difference() -> None:
    assert differences(SENT, BEFORE, after()) == []
    check(SENT, BEFORE, after())


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"accepted": 92}, ["accepted: 88 more, 89 were sent", "not the sum of its parts"]),
        ({"accepted": 94, "duplicate": 10}, ["accepted: 90 more", "duplicate: 9 more"]),
        ({"quarantined": 0, "accepted": 94}, ["quarantined: 0 more", "accepted: 90 more"]),
        ({"received": 104}, ["received: 99 more", "not the sum of its parts"]),
        ({"bytes": 6008}, ["meter bytes: 6,001 more, 6,000 were sent"]),
        ({"requests": 63}, ["meter requests: 59 more, 60 were sent"]),
    ],
)
def test_one_event_too_many_or_too_few_is_told(wrong, told) -> None:
    found = differences(SENT, BEFORE, after(**wrong))
    for text in told:
        assert any(text in line for line in found), found
    with pytest.raises(Mismatch, match=told[0].split(":")[0]):
        check(SENT, BEFORE, after(**wrong))


def test_what_was_sent_twice_may_be_a_duplicate_and_nothing_else() -> None:
    twice = after(received=115, duplicate=21)
    assert differences(SENT, BEFORE, twice)
    assert differences(SENT, BEFORE, twice, resent=True) == []
    counted_twice = after(received=115, accepted=103)
    assert any("accepted" in line for line in differences(SENT, BEFORE, counted_twice, resent=True))
    lost = after(received=104, accepted=92)
    assert any("accepted" in line for line in differences(SENT, BEFORE, lost, resent=True))


def test_a_meter_that_measured_nothing_is_missed() -> None:
    none = Totals(received=105, accepted=93, duplicate=11, quarantined=1)
    assert len(differences(SENT, BEFORE, none)) == 3


def test_two_plans_add_up() -> None:
    both = SENT + Sent(events=1, counts={"bytes": 1}, sums={"bytes": 3})
    assert both.events == 101
    assert both.new == 90
    assert both.sums == {"bytes": 6003, "tokens": 77}
