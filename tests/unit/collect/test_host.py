"""A host reading as events."""

from decimal import Decimal

import msgspec
import pytest
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


def one_cpu(name: str, value: str) -> Reading:
    return msgspec.structs.replace(cpu(value), member=name)


def test_a_cpu_that_is_unplugged_takes_nothing_back_and_comes_again() -> None:
    rounds = play(
        sample(0, one_cpu("cpu0", "100"), one_cpu("cpu1", "200")),
        sample(10, one_cpu("cpu0", "101")),
        sample(20, one_cpu("cpu0", "102.5"), one_cpu("cpu1", "203")),
        sample(30, one_cpu("cpu0", "103"), one_cpu("cpu1", "203"), one_cpu("cpu2", "50")),
        sample(40, one_cpu("cpu0", "104"), one_cpu("cpu1", "203"), one_cpu("cpu2", "51")),
    )
    assert [[data["value"] for _, data in seen(found)] for found in rounds[1:]] == [
        [1],
        [4.5],
        [0.5],
        [2],
    ]


def test_several_levels_of_one_series_are_their_sum() -> None:
    _, found = play(sample(0, memory(1)), sample(10, memory(2), memory(3)))
    assert [data["value"] for _, data in seen(found)] == [5]


def born(value: str, at: float, member: str = "9:1") -> Reading:
    made = cpu(value)
    return msgspec.structs.replace(made, member=member, born_us=int(at * SECOND_US))


def test_a_process_counts_from_its_birth_where_that_is_after_the_reading_before() -> None:
    rounds = play(
        sample(100, born("5", 50)),
        sample(110, born("6", 50), born("2", 104, "10:1")),
        sample(120, born("3", 104, "10:1"), born("7", 60, "11:1")),
    )
    assert [[data["value"] for _, data in seen(found)] for found in rounds[1:]] == [[3], [1]]


def test_a_birth_is_told_in_ticks_rounded_down() -> None:
    rounds = play(sample(100, born("5", 50)), sample(110, born("5", 50), born("2", 99.995, "10:1")))
    assert [data["value"] for _, data in seen(rounds[1])] == [2]


def test_after_a_boot_everything_that_was_born_counts() -> None:
    found = play(sample(100, cpu("1")), sample(5, born("2", 3), boot="boot-b"))[1]
    assert seen(found)[1][1]["value"] == 2


def test_members_are_forgotten_sooner_but_never_between_two_readings() -> None:
    rounds = play(
        sample(0, born("1", 0), born("1", 0, "8:1")),
        sample(5000, born("2", 0)),
        sample(5601, born("3", 0)),
        sample(9000, born("4", 0)),
    )
    assert [len(found.state.baselines) for found in rounds] == [2, 2, 1, 1]
    assert [seen(found)[-1][1]["value"] for found in rounds[1:]] == [1, 1, 1]


def test_sleep_is_told_as_such() -> None:
    before = msgspec.structs.replace(sample(0, cpu("1")), awake_us=0)
    after = msgspec.structs.replace(sample(1000, cpu("2")), awake_us=10 * SECOND_US)
    report = seen(play(before, after)[1])[0]
    assert report[0] == "io.tallybook.edge.gap"
    assert (report[1]["reason"], report[1]["microseconds"]) == ("slept", 990 * SECOND_US)


def container(name: str, value: str, inode: int) -> Reading:
    return Reading(
        metric="container.cpu.time",
        labels={"container": name, "mode": "user"},
        value=Decimal(value),
        counter=True,
        member=str(inode),
        subject=name,
    )


def test_a_container_that_ended_or_began_anew_is_told() -> None:
    rounds = play(
        sample(0, container("a", "5", 1), container("b", "5", 2)),
        sample(10, container("a", "6", 1), container("b", "2", 3)),
        sample(20, container("b", "3", 3)),
        sample(30, container("b", "3", 3)),
    )
    told = [[(kind, data.get("container")) for kind, data in seen(r)] for r in rounds[1:]]
    assert told == [
        [
            ("io.tallybook.edge.container-restarted", "b"),
            ("io.tallybook.edge.container-found", "b"),  # nobody said when it began
            ("container.cpu.time", "a"),
        ],
        [("io.tallybook.edge.container-ended", "a"), ("container.cpu.time", "b")],
        [],
    ]
    assert {event.subject for event in rounds[1].events} == {"web-1", "a"}


def begun(name: str, inode: int, born: float | None, value: str = "7") -> Reading:
    born_us = None if born is None else int(born * SECOND_US)
    return msgspec.structs.replace(container(name, value, inode), born_us=born_us)


def counted(*samples: HostSample) -> list[tuple[str, object]]:
    """Return what the last reading says, and how much it counts."""
    return [(kind, data.get("value")) for kind, data in seen(play(*samples)[-1])]


FOUND = ("io.tallybook.edge.container-found", None)


@pytest.mark.parametrize(
    ("known", "now", "boot", "told"),
    [
        ((), begun("b", 2, 15), "boot-a", [("container.cpu.time", 7)]),
        ((), begun("b", 2, 5), "boot-a", [FOUND]),
        ((), begun("b", 2, None), "boot-a", [FOUND]),
        # The same group under another name of a counter is no new group.
        ((container("b", "5", 2),), begun("c", 2, 15), "boot-a", [
            ("io.tallybook.edge.container-ended", None)]),
        ((container("b", "5", 2),), begun("c", 2, 5), "boot-b", [
            ("io.tallybook.edge.gap", None), ("container.cpu.time", 7)]),
    ],
)  # fmt: skip
def test_what_began_while_the_agent_was_down_counts_from_zero_by_evidence(
    known: tuple[Reading, ...], now: Reading, boot: str, told: list[tuple[str, object]]
) -> None:
    assert counted(sample(10, *known), sample(20, now, boot=boot)) == told


def test_what_was_not_looked_for_before_may_be_older_than_its_processes() -> None:
    now = msgspec.structs.replace(sample(20, begun("b", 2, 15)), listed="containers")
    assert counted(sample(10), now) == []
    before = msgspec.structs.replace(sample(10), listed="containers")
    assert counted(before, now) == [("container.cpu.time", 7)]
