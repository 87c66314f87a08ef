"""Containers and processes from the kernel's files: trees made here, and this machine's own."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import pytest

from tallybook.adapters.host.containers import ContainerReader
from tallybook.adapters.host.processes import ProcessReader
from tallybook.adapters.host.reader import PsutilHostReader, cpu_ticks
from tallybook.collect.host import Reading, host_round
from tallybook.collect.process import ProcessName

ID, OTHER = "ab" * 32, "cd" * 32
NETWORK = "eth0: {} 1 0 0 0 0 0 0 {} 1 0 0\n"


def write(path: Path, text: str | int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(str(text))


def namespace(proc: Path, pid: str, number: Path) -> None:
    (proc / pid / "ns").mkdir(parents=True, exist_ok=True)
    os.link(number, proc / pid / "ns" / "net")


@pytest.fixture
def world(tmp_path: Path) -> Path:
    for name in ("ours", "theirs"):
        write(tmp_path / name, "")
    namespace(tmp_path / "proc", "self", tmp_path / "ours")
    namespace(tmp_path / "proc", "7", tmp_path / "theirs")
    namespace(tmp_path / "proc", "8", tmp_path / "theirs")
    write(tmp_path / "proc" / "7" / "net" / "dev", NETWORK.format(700, 300))
    write(tmp_path / "proc" / "8" / "net" / "dev", NETWORK.format(700, 300))
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "8:0").symlink_to("../../devices/sda")
    (tmp_path / "dev" / "252:0").symlink_to("../../devices/dm-0")
    return tmp_path


def reader(world: Path, *groups: str, subject: bool = False) -> ContainerReader:
    return ContainerReader(
        groups,
        subject=subject,
        root=world / "cgroup",
        proc=world / "proc",
        devices=world / "dev",
    )


def version_2(world: Path, container: str = ID, seconds: int = 3, process: str = "7") -> Path:
    root = world / "cgroup"
    write(root / "cgroup.controllers", "cpu io memory")
    group = root / "system.slice" / f"docker-{container}.scope"
    write(group / "cpu.stat", f"user_usec {seconds}000000\nsystem_usec 500000\n")
    write(group / "memory.current", 4096)
    write(group / "io.stat", "8:0 rbytes=10 wbytes=20\n252:0 rbytes=10 wbytes=20\n")
    write(group / "cgroup.procs", "")
    write(group / "init.scope" / "cgroup.procs", f"{process}\n")
    return group


def shown(readings: list[Reading]) -> dict[str, Decimal]:
    return {r.series().replace(ID, "ID").replace(OTHER, "OTHER"): r.value for r in readings}


def test_a_container_in_version_2(world: Path) -> None:
    version_2(world)
    readings = reader(world, subject=True).read(1)
    assert shown(readings) == {
        "container.cpu.time/ID/docker/user": Decimal(3),
        "container.cpu.time/ID/docker/system": Decimal("0.5"),
        "container.memory.usage/ID/docker": Decimal(4096),
        "container.disk.io/ID/docker/sda/read": Decimal(10),
        "container.disk.io/ID/docker/sda/write": Decimal(20),
        "container.network.io/ID/docker/eth0/receive": Decimal(700),
        "container.network.io/ID/docker/eth0/transmit": Decimal(300),
    }
    assert {r.subject for r in readings} == {ID}
    assert {r.born_us for r in readings} == {None}


def test_a_container_in_version_1(world: Path) -> None:
    root = world / "cgroup"
    for path, text in {
        f"cpuacct/docker/{ID}/cpuacct.usage": "3000000000",
        f"cpuacct/docker/{ID}/cgroup.procs": "9",
        f"memory/docker/{ID}/memory.usage_in_bytes": "4096",
        f"blkio/docker/{ID}/blkio.throttle.io_service_bytes": "8:0 Read 10\n9:9 Write 2\n",
    }.items():
        write(root / path, text)
    readings = reader(world).read(1)
    assert shown(readings) == {
        "container.cpu.time/ID/docker/total": Decimal(3),
        "container.memory.usage/ID/docker": Decimal(4096),
        "container.disk.io/ID/docker/sda/read": Decimal(10),
        "container.disk.io/ID/docker/9:9/write": Decimal(2),
    }
    assert {r.subject for r in readings} == {None}


def test_containers_of_one_network_count_it_once(world: Path) -> None:
    version_2(world)
    version_2(world, OTHER, process="8")
    readings = reader(world).read(1)
    assert sum(r.metric == "container.network.io" for r in readings) == 2
    assert sum(r.metric == "container.memory.usage" for r in readings) == 2


def test_a_container_that_was_not_there_before_has_counted_from_zero(world: Path) -> None:
    version_2(world)
    found = reader(world)
    assert {r.born_us for r in found.read(1)} == {None}
    version_2(world, OTHER, process="8")
    births = {(r.labels["container"], r.born_us) for r in found.read(5) if r.counter}
    assert births == {(ID, None), (OTHER, 5)}
    assert {r.born_us for r in found.read(9)} == {None}


def test_a_group_is_as_old_as_its_oldest_process(world: Path) -> None:
    group = version_2(world)
    write(group / "cgroup.procs", "9\n8\n")
    tick = os.sysconf("SC_CLK_TCK")
    for pid, seconds in (("7", 30), ("8", 20)):
        stat = f"{pid} (a b) S " + "0 " * 18 + f"{seconds * tick} " + "0 " * 10
        write(world / "proc" / pid / "stat", stat)
    found = reader(world, "a.slice")
    assert {r.born_us for r in found.read(50_000_000) if r.counter} == {20_000_000}
    assert {r.born_us for r in found.read(60_000_000)} == {None}
    assert found.listing == "containers\na.slice"


def test_other_groups_are_counted_where_they_are_asked_for(world: Path) -> None:
    version_2(world)
    write(world / "cgroup/system.slice/nginx.service/cpu.stat", "user_usec 1\n")
    write(world / "cgroup/system.slice/nginx.service/memory.current", "")
    names = {r.labels["container"] for r in reader(world, "system.slice/*.service").read(1)}
    assert names == {ID, "system.slice/nginx.service"}
    assert reader(world / "nothing").read(1) == []


@contextmanager
def own_group() -> Iterator[Path]:
    """A real control group of this machine, where that is allowed."""
    root = Path("/sys/fs/cgroup")
    tree = root if (root / "cgroup.controllers").exists() else root / "cpuacct"
    group = tree / f"tallybook-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    if not (group / "cgroup.procs").exists():
        group.rmdir()
        pytest.skip("control groups are not mounted here")
    try:
        yield group
    finally:
        group.rmdir()


def test_cpu_time_of_a_real_control_group() -> None:
    burn = (
        "import time\nbegin = time.process_time()\nwhile time.process_time() < begin + 0.5: pass\n"
        "print('done', flush=True)\ninput()"
    )
    with own_group() as group:
        containers = ContainerReader((group.name,))
        assert [r.labels["container"] for r in containers.read(1)] != []
        command = [sys.executable, "-c", f"input()\n{burn}"]
        with subprocess.Popen(command, stdin=-1, stdout=-1, text=True) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            (group / "cgroup.procs").write_text(str(process.pid))
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "done\n"
            cpu = [r for r in containers.read(2) if r.metric == "container.cpu.time"]
            process.stdin.write("\n")
            process.stdin.close()
            process.wait(10)
    assert Decimal("0.3") < sum(r.value for r in cpu) < Decimal("1.5")


def test_a_process_of_this_machine_counts_from_its_birth() -> None:
    names = [ProcessName(name="burner", match=("*/python3*",)), ProcessName(name="z", match=("y",))]
    host = PsutilHostReader("h", whole=False, more=[ProcessReader(names)])
    state = host_round(host.read(), None, 10**9).state
    burn = "import time\nwhile time.process_time() < 0.3: pass\nprint('done', flush=True)\ninput()"
    with subprocess.Popen([sys.executable, "-c", burn], stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "done\n"
        time.sleep(0.05)
        sample = host.read()
        mine = [r for r in sample.readings if r.member.startswith(f"{process.pid}:")]
        process.stdin.close()
    assert {r.labels["process"] for r in mine} == {"burner"}
    spent = sum(r.value for r in mine if r.metric == "process.cpu.time")
    assert Decimal("0.2") <= spent < Decimal(3)
    found = host_round(sample, state, 10**9)
    total = sum(
        Decimal(str(json.loads(bytes(e.data))["value"]))
        for e in found.events
        if e.type == "process.cpu.time"
    )
    assert total >= spent


def test_every_cpu_has_its_own_counters() -> None:
    text = "cpu 9 9 9 9 9 9 9 9 9 9\ncpu0 1 2 3 4 5 6 7 8 9 9\ncpu3 1 2 3 4\nintr 5\n"
    found = cpu_ticks(text)
    assert set(found) == {"cpu0", "cpu3"}
    assert found["cpu0"]["steal"] == 8
    assert found["cpu3"] == {"user": 1, "nice": 2, "system": 3, "idle": 4}
