"""This machine, read for real."""

from pathlib import Path

import psutil
import pytest

from tallybook.adapters.host import reader
from tallybook.adapters.host.reader import PsutilHostReader
from tallybook.collect.host import Reading, host_round
from tallybook.kernel.errors import Unavailable


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


def test_swap_is_read_where_there_is_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    swap = psutil.swap_memory()._replace(total=100, used=30, free=70)
    (tmp_path / "vmstat").write_text("nr_free_pages 5\npswpin 7\npswpout 9\n")
    monkeypatch.setattr(psutil, "swap_memory", lambda: swap)
    monkeypatch.setattr(reader, "_VMSTAT", tmp_path / "vmstat")
    found = {r.series(): (int(r.value), r.counter) for r in PsutilHostReader().read().readings}
    assert found["system.paging.usage/used"] == (30, False)
    assert found["system.paging.usage/free"] == (70, False)
    assert found["system.paging.operations/in"] == (7, True)
    assert found["system.paging.operations/out"] == (9, True)
    monkeypatch.setattr(psutil, "swap_memory", lambda: swap._replace(total=0))
    assert not any("paging" in r.metric for r in PsutilHostReader().read().readings)


def test_where_the_kernel_tells_no_cpus_psutil_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "_STAT", tmp_path / "none")
    cpu = [r for r in PsutilHostReader().read().readings if r.metric == "system.cpu.time"]
    assert {r.member for r in cpu} == {""}
    assert {"user", "system", "idle"} <= {r.labels["mode"] for r in cpu}


class Broken:
    def read(self, uptime_us: int) -> list[Reading]:
        raise OSError(f"gone at {uptime_us}")


def test_what_the_system_does_not_tell_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="gone"):
        PsutilHostReader(whole=False, more=[Broken()]).read()
