"""This machine, read for real."""

from tallybook.adapters.host.reader import PsutilHostReader
from tallybook.collect.host import host_round


def test_this_machine_has_cpu_memory_and_a_boot() -> None:
    sample = PsutilHostReader("web-1").read()
    metrics = {reading.metric for reading in sample.readings}
    assert {"system.cpu.time", "system.memory.usage"} <= metrics
    assert sample.host == "web-1"
    assert sample.boot_id
    assert sample.uptime_us > 0
    assert len({reading.counter_name() for reading in sample.readings}) == len(sample.readings)
    assert all(reading.value >= 0 for reading in sample.readings)


def test_cpu_seconds_are_whole_ticks() -> None:
    cpu = [r for r in PsutilHostReader().read().readings if r.metric == "system.cpu.time"]
    assert {reading.labels["mode"] for reading in cpu} >= {"user", "system", "idle"}
    assert all(reading.value == round(reading.value, 2) for reading in cpu)


def test_two_readings_measure_the_time_between() -> None:
    reader = PsutilHostReader()
    first = host_round(reader.read(), None, 10**9)
    sum(range(3_000_000))  # some work
    second = host_round(reader.read(), first.state, 10**9)
    assert any(event.type == "system.memory.usage" for event in second.events)
    assert not {e.id for e in first.events} & {e.id for e in second.events}
