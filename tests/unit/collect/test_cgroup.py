"""Control groups and processes, as the kernel spells them."""

from decimal import Decimal

import pytest

from tallybook.collect.cgroup import (
    container_at,
    cpu_seconds_v1,
    cpu_seconds_v2,
    disk_bytes_v1,
    disk_bytes_v2,
    network_bytes,
)
from tallybook.collect.process import (
    ProcessName,
    checked_names,
    disk_bytes,
    name_of,
    process_stat,
)
from tallybook.kernel.errors import Invalid

ID = "ab" * 32


@pytest.mark.parametrize(
    ("path", "runtime", "name"),
    [
        (f"docker/{ID}", "docker", ID),
        (f"system.slice/docker-{ID}.scope", "docker", ID),
        (f"kubepods.slice/kubepods-besteffort.slice/cri-containerd-{ID}.scope", "containerd", ID),
        (f"kubepods.slice/kubepods-pod1.slice/crio-{ID}.scope", "cri-o", ID),
        (f"machine.slice/libpod-{ID}.scope", "podman", ID),
        (f"kubepods/burstable/pod-77/{ID}", "kubernetes", ID),
        ("lxc/web", "lxc", "web"),
        ("lxc.payload.web", "lxc", "web"),
        ("machine.slice/machine-build.scope", "nspawn", "build"),
    ],
)
def test_containers_are_known_by_the_path_of_their_group(
    path: str, runtime: str, name: str
) -> None:
    found = container_at(path)
    assert found is not None
    assert (found.runtime, found.id, found.path) == (runtime, name, path)


@pytest.mark.parametrize(
    "path", ["system.slice/nginx.service", "docker", "", f"docker/{ID}/init.scope", "user.slice"]
)
def test_other_groups_are_none(path: str) -> None:
    assert container_at(path) is None


def test_cpu_time_is_exact_in_both_versions() -> None:
    text = "usage_usec 5000001\nuser_usec 4000001\nsystem_usec 1000000\nnr_periods 0\n"
    assert cpu_seconds_v2(text) == {"user": Decimal("4.000001"), "system": Decimal(1)}
    assert cpu_seconds_v2("") == {}
    both = cpu_seconds_v1("3000000001", "2000000001", "1000000000")
    assert both == {"user": Decimal("2.000000001"), "system": Decimal(1)}
    assert cpu_seconds_v1("3000000001", "", "") == {"total": Decimal("3.000000001")}
    assert cpu_seconds_v1("", "", "") == {}


def test_disk_bytes_by_device_and_direction() -> None:
    text = "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n8:16 rbytes=5\n7:0\n"
    assert disk_bytes_v2(text) == {
        ("8:0", "read"): 10,
        ("8:0", "write"): 20,
        ("8:16", "read"): 5,
    }
    old = "8:0 Read 10\n8:0 Write 20\n8:0 Sync 1\n8:0 Total 30\nTotal 30\n"
    assert disk_bytes_v1(old) == {("8:0", "read"): 10, ("8:0", "write"): 20}


def test_network_bytes_without_loopback() -> None:
    text = (
        "Inter-|   Receive                    |  Transmit\n"
        " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets\n"
        "    lo:    100       1    0    0    0     0          0         0      100       1\n"
        "  eth0:   7000      70    0    0    0     0          0         0     3000      30 0 0\n"
    )
    assert network_bytes(text) == {("eth0", "receive"): 7000, ("eth0", "transmit"): 3000}


def stat_line(command: str) -> str:
    figures = "S 1 1 1 0 -1 4194560 1 2 3 4 250 125 7 8 20 0 1 0 4242 1000000 300 1 2 3"
    return f"77 ({command}) {figures}"


@pytest.mark.parametrize("command", ["nginx", "a b", "we) (ird", ""])
def test_a_process_is_read_whatever_it_is_called(command: str) -> None:
    found = process_stat(stat_line(command))
    assert found is not None
    assert (found.pid, found.command) == (77, command)
    assert (found.user_ticks, found.system_ticks) == (250, 125)
    assert (found.start_ticks, found.rss_pages) == (4242, 300)
    assert found.seconds(found.user_ticks, 100) == Decimal("2.5")
    assert found.born_us(100) == 42_420_000


@pytest.mark.parametrize("text", ["", "77 nginx S 1", "77 (x) S 1 1"])
def test_what_is_no_process_is_none(text: str) -> None:
    assert process_stat(text) is None


def test_a_process_goes_under_the_first_name_that_fits() -> None:
    names = (
        ProcessName(name="web", match=("nginx*", "httpd")),
        ProcessName(name="db", match=("*/postgres",)),
        ProcessName(name="rest", match=("*",)),
    )
    assert checked_names(names) is names
    assert name_of(names, "nginx: worker", "") == "web"
    assert name_of(names, "x", "/usr/lib/postgresql/15/bin/postgres") == "db"
    assert name_of(names, "postgres", "") == "rest"
    assert name_of(names[:2], "postgres", "") is None


def test_disk_bytes_of_a_process() -> None:
    text = "rchar: 1\nwchar: 2\nread_bytes: 4096\nwrite_bytes: 8192\ncancelled_write_bytes: 0\n"
    assert disk_bytes(text) == {"read": 4096, "write": 8192}
    assert disk_bytes("") == {}


@pytest.mark.parametrize(
    "names",
    [
        [ProcessName(name="", match=("x",))],
        [ProcessName(name="a b", match=("x",))],
        [ProcessName(name="a", match=())],
        [ProcessName(name="a", match=("",))],
        [ProcessName(name="a", match=("x",)), ProcessName(name="a", match=("y",))],
        [ProcessName(name=f"n{n}", match=("x",)) for n in range(101)],
    ],
)
def test_names_that_cannot_be_are_refused(names: list[ProcessName]) -> None:
    with pytest.raises(Invalid):
        checked_names(names)
