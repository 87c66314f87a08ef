"""A host reading as events."""

from decimal import Decimal

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from tallybook.collect.host import HostRound, HostSample, HostState, Reading, host_round
from tallybook.kernel.timestamps import DAY_US, SECOND_US

GAP_US = 30 * SECOND_US


def cpu(value: str, mode: str = "user", start: str = "") -> Reading:
    labels = {"mode": mode}
    return Reading(
        metric="system.cpu.time", labels=labels, value=Decimal(value), counter=True, start=start
    )


def memory(value: int) -> Reading:
    labels = {"state": "used"}
    return Reading(metric="system.memory.usage", labels=labels, value=Decimal(value), counter=False)


def sample(seconds: float, *readings: Reading, boot: str = "boot-a", step: int = 0) -> HostSample:
    uptime_us = int(seconds * SECOND_US)
    return HostSample(
        host="web-1",
        boot_id=boot,
        time_us=1_700_000_000 * SECOND_US + uptime_us + step * SECOND_US,
        uptime_us=uptime_us,
        readings=readings,
    )


def play(*samples: HostSample) -> list[HostRound]:
    rounds: list[HostRound] = []
    for one in samples:
        rounds.append(host_round(one, rounds[-1].state if rounds else None, GAP_US))
    return rounds


def seen(found: HostRound) -> list[tuple[str, dict[str, object]]]:
    return [(event.type, msgspec.json.decode(event.data)) for event in found.events]


def test_the_first_reading_is_a_baseline_and_levels_count_at_once() -> None:
    (found,) = play(sample(0, cpu("100.25"), memory(7)))
    assert seen(found) == [
        ("io.tallybook.edge.started", {"series": 2}),
        ("system.memory.usage", {"state": "used", "value": 7}),
    ]


def test_growth_is_written_with_exact_digits_and_since_when() -> None:
    _, found = play(sample(0, cpu("100.25")), sample(10, cpu("101.50")))
    (event,) = found.events
    assert b'"value":1.25' in bytes(event.data)
    assert seen(found)[0][1] == {"mode": "user", "value": 1.25, "since": "2023-11-14T22:13:20Z"}
    assert event.subject == "web-1"
    assert event.source == "host:web-1"
    assert event.time == "2023-11-14T22:13:30Z"


def test_no_growth_is_not_sent() -> None:
    _, found = play(sample(0, cpu("100")), sample(10, cpu("100")))
    assert found.events == ()


def test_ids_follow_from_boot_instant_and_series() -> None:
    samples = (sample(0, cpu("1"), cpu("1", "idle")), sample(10, cpu("2"), cpu("3", "idle")))
    once, again = play(*samples), play(*samples)
    assert once == again
    assert len({event.id for found in once for event in found.events}) == 3
    later = play(samples[0], sample(20, cpu("2"), cpu("3", "idle")))
    assert {e.id for e in later[1].events}.isdisjoint(e.id for e in once[1].events)


def test_a_reboot_counts_the_whole_new_value_and_tells_the_gap() -> None:
    found = play(sample(0, cpu("100")), sample(5, cpu("2.5"), boot="boot-b", step=60))[1]
    assert [kind for kind, _ in seen(found)] == ["io.tallybook.edge.gap", "system.cpu.time"]
    assert seen(found)[0][1]["reason"] == "reboot"
    assert seen(found)[1][1]["value"] == 2.5


def test_an_interface_made_anew_starts_at_zero() -> None:
    found = play(sample(0, cpu("100", start="2")), sample(10, cpu("3", start="7")))[1]
    assert [data["value"] for _, data in seen(found)] == [3]


def test_a_long_silence_and_a_clock_step_are_told() -> None:
    silent = play(sample(0, cpu("1")), sample(40, cpu("2")))[1]
    assert seen(silent)[0] == (
        "io.tallybook.edge.gap",
        {
            "reason": "not-read",
            "since": "2023-11-14T22:13:20Z",
            "until": "2023-11-14T22:14:00Z",
        },
    )
    stepped = play(sample(0, cpu("1")), sample(10, cpu("2"), step=-3600))[1]
    assert seen(stepped)[0][1]["microseconds"] == -3600 * SECOND_US
    assert seen(stepped)[1] == ("system.cpu.time", {"mode": "user", "value": 1})


def test_a_deep_fall_is_told() -> None:
    found = play(sample(0, cpu("100")), sample(10, cpu("1")))[1]
    data = {"series": "system.cpu.time/user", "value": "1"}
    assert seen(found) == [("io.tallybook.edge.counter-fell", data)]


def test_a_series_that_is_gone_is_forgotten_after_a_day() -> None:
    gone_s = DAY_US // SECOND_US + 11
    rounds = play(
        sample(0, cpu("1"), cpu("1", "idle")), sample(10, cpu("2")), sample(gone_s, cpu("3"))
    )
    assert set(rounds[1].state.baselines) == {"system.cpu.time/user", "system.cpu.time/idle"}
    assert set(rounds[2].state.baselines) == {"system.cpu.time/user"}


def test_the_state_survives_its_text() -> None:
    (found,) = play(sample(0, cpu("0.10"), cpu("1E+2", "idle")))
    text = msgspec.json.encode(found.state)
    assert msgspec.json.decode(text, type=HostState) == found.state


@given(st.lists(st.integers(min_value=0, max_value=10**9), min_size=2, max_size=10).map(sorted))
def test_the_values_sent_add_up_to_the_growth(ticks: list[int]) -> None:
    values = [Decimal(tick) / 100 for tick in ticks]
    rounds = play(*(sample(10 * at, cpu(str(value))) for at, value in enumerate(values)))
    sent = [
        msgspec.json.decode(event.data, type=dict[str, msgspec.Raw])["value"]
        for found in rounds
        for event in found.events
        if event.type == "system.cpu.time"
    ]
    assert sum(Decimal(bytes(value).decode()) for value in sent) == values[-1] - values[0]
