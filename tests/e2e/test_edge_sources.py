"""Sources of the agent against the real servers: nginx, Apache, Mosquitto, node_exporter."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.edge_server import EdgeServer

DEADLINE_SECONDS = 60
ENV = {k: v for k, v in os.environ.items() if not k.startswith("TALLYBOOK_")}
NGINX_FORMAT = (
    """log_format usage '$remote_addr - $remote_user [$time_local] "$request" $status """
    """$body_bytes_sent "$http_referer" "$http_user_agent" rt=$request_time """
    """len=$request_length tenant="$http_x_tenant"';"""
)
APACHE_FORMAT = (
    r'LogFormat "%a %l %u %t \"%r\" %>s %B \"%{Referer}i\" \"%{User-Agent}i\" %D'
    r' \"%{X-Tenant}i\"" usage'
)


def needed(program: str) -> str:
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    if found is None:
        assert not os.environ.get("CI"), f"{program} is not installed; make engines"
        pytest.skip(f"{program} is not installed; make engines")
    return found


def free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


def until(what: Callable[[], Any], why: str = "it did not happen in time") -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not what():
        assert time.monotonic() < deadline, why
        time.sleep(0.05)


@contextmanager
def program(*command: object, port: int | None = None) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([str(part) for part in command], env=ENV)
    try:
        if port is not None:
            until(lambda: answers(port), f"{command[0]} does not answer")
        yield process
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()


def answers(port: int) -> bool:
    with socket.socket() as made:
        made.settimeout(1)
        return made.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def agent(server: EdgeServer, folder: Path, config: str, interval: str = "0.2") -> Iterator[None]:
    (folder / "edge.toml").write_text("host = false\n" + config)
    command = [
        sys.executable, "-m", "tallybook", "edge", "run", "--url", server.url, "--key", "tb_k",
        "--state", str(folder / "state"), "--config", str(folder / "edge.toml"),
        "--interval", interval,
    ]  # fmt: skip
    process = subprocess.Popen(command, env=ENV, stderr=subprocess.PIPE, text=True)
    try:
        yield
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=DEADLINE_SECONDS)
        assert process.returncode == 0, said
    finally:
        process.kill()
        process.wait()


def get(url: str, **headers: str) -> bytes:
    asked = urllib.request.Request(url, headers=headers)
    with urllib.request.build_opener().open(asked, timeout=10) as answer:
        return bytes(answer.read())


def events(server: EdgeServer, kind: str) -> list[dict[str, Any]]:
    with server.lock:
        return [event for event in server.stored.values() if event["type"] == kind]


def total(server: EdgeServer, kind: str) -> float:
    return sum(event["data"]["value"] for event in events(server, kind))


def state_of(folder: Path) -> str:
    path = folder / "state" / "spool.db"
    if not path.exists():
        return ""
    command = [sys.executable, "-m", "tallybook", "edge", "status", "--json", "--state",
               str(folder / "state")]  # fmt: skip
    return subprocess.run(command, env=ENV, capture_output=True, text=True, check=False).stdout


def nginx_site(tmp_path: Path, site: Path, port: int) -> None:
    (tmp_path / "nginx.conf").write_text(f"""
        user root; daemon off; worker_processes 1; pid {tmp_path}/nginx.pid;
        error_log {tmp_path}/error.log; events {{}}
        http {{
          {NGINX_FORMAT}
          access_log {tmp_path}/access.log usage;
          client_body_temp_path {tmp_path}/t1; proxy_temp_path {tmp_path}/t2;
          fastcgi_temp_path {tmp_path}/t3; uwsgi_temp_path {tmp_path}/t4;
          scgi_temp_path {tmp_path}/t5;
          server {{
            listen 127.0.0.1:{port};
            root {site};
            location = /status {{ stub_status; access_log off; }}
          }}
        }}
    """)  # fmt: skip


def test_nginx_logs_and_status_page_through_rotation_and_restart(tmp_path: Path) -> None:
    nginx = needed("nginx")
    port = free_port()
    site = tmp_path / "site"
    site.mkdir()
    (site / "a.txt").write_text("x" * 1000)
    tmp_path.chmod(0o755)
    nginx_site(tmp_path, site, port)
    config = f"""
[[access_log]]
path = "{tmp_path}/access.log"
format = "nginx"
pattern = '''{NGINX_FORMAT}'''
subject = "http_x_tenant"

[[status_page]]
kind = "nginx"
url = "http://127.0.0.1:{port}/status"
pid_file = "{tmp_path}/nginx.pid"
"""
    start = [nginx, "-c", tmp_path / "nginx.conf", "-e", tmp_path / "error.log"]
    url = f"http://127.0.0.1:{port}/a.txt"
    with EdgeServer() as server:
        with agent(server, tmp_path, config):
            with program(*start, port=port) as running:
                until(lambda: events(server, "nginx.connections_current"))
                for _ in range(20):
                    get(url, X_Tenant="ignored", **{"X-Tenant": "acme"})
                until(lambda: total(server, "nginx.requests") >= 20)
                (tmp_path / "access.log").rename(tmp_path / "access.log.1")
                for _ in range(5):
                    get(url, **{"X-Tenant": "late"})  # into the renamed file, still open
                running.send_signal(signal.SIGUSR1)
                until((tmp_path / "access.log").exists)
                for _ in range(7):
                    get(url, **{"X-Tenant": "beta", "User-Agent": 'q"\\q'})
                until(lambda: total(server, "nginx.requests") >= 32)
            with program(*start, port=port):
                before = total(server, "nginx.requests")
                for _ in range(4):
                    get(url)
                until(lambda: total(server, "nginx.requests") >= before + 4)
            until(lambda: len(events(server, "http.server.request")) == 36)
        found = events(server, "http.server.request")
        assert not events(server, "io.tallybook.unparsed")
        assert not events(server, "io.tallybook.edge.counter-fell")
        subjects = [event.get("subject") for event in found]
        assert [subjects.count(n) for n in ("acme", "late", "beta", None)] == [20, 5, 7, 4]
        assert {event["data"]["bytes"] for event in found} == {1000}
        assert all(event["data"]["request_length"] > 50 for event in found)


@pytest.fixture
def open_path() -> Iterator[Path]:
    """Return a folder that a server's own user may enter."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_apache_logs_and_server_status(open_path: Path) -> None:
    tmp_path = open_path
    apache = needed("apache2")
    port = free_port()
    site = tmp_path / "site"
    site.mkdir()
    (site / "a.txt").write_text("x" * 2048)
    modules = "/usr/lib/apache2/modules"
    (tmp_path / "apache.conf").write_text(f"""
        ServerRoot {tmp_path}
        ServerName localhost
        PidFile {tmp_path}/apache.pid
        Listen 127.0.0.1:{port}
        LoadModule mpm_event_module {modules}/mod_mpm_event.so
        LoadModule authz_core_module {modules}/mod_authz_core.so
        LoadModule status_module {modules}/mod_status.so
        User #65534
        Group #65534
        ErrorLog {tmp_path}/error.log
        ExtendedStatus On
        DocumentRoot {site}
        {APACHE_FORMAT}
        CustomLog {tmp_path}/access.log usage
        <Location /status>
          SetHandler server-status
        </Location>
    """)
    config = f"""
[[access_log]]
path = "{tmp_path}/access.log"
format = "apache"
pattern = '''{APACHE_FORMAT}'''
subject = "http_x_tenant"

[[status_page]]
kind = "apache"
url = "http://127.0.0.1:{port}/status?auto"
"""
    start = [apache, "-f", tmp_path / "apache.conf", "-DFOREGROUND"]
    with EdgeServer() as server, agent(server, tmp_path, config):
        with program(*start, port=port):
            until(lambda: events(server, "apache.workers"))
            for _ in range(30):
                get(f"http://127.0.0.1:{port}/a.txt", **{"X-Tenant": 'ac"me'})
            until(lambda: total(server, "apache.requests") >= 30)
            until(lambda: total(server, "apache.traffic") >= 30 * 2048)
        found = [e for e in events(server, "http.server.request") if e.get("subject")]
        assert len(found) == 30
        assert {event["subject"] for event in found} == {'ac"me'}
        assert {event["data"]["bytes"] for event in found} == {2048}
        assert not events(server, "io.tallybook.unparsed")


def test_a_scraped_exporter_adds_up_to_its_own_counters(tmp_path: Path) -> None:
    exporter = needed("prometheus-node-exporter")
    port = free_port()
    config = f"""
[[prometheus]]
url = "http://127.0.0.1:{port}/metrics"
[[prometheus.series]]
match = "promhttp_metric_handler_requests_total"
type = "scrapes"
labels = {{ code = "200" }}
"""
    start = [exporter, f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
    with EdgeServer() as server, agent(server, tmp_path, config):
        with program(*start, port=port):
            until(lambda: total(server, "scrapes") >= 10)
        first = total(server, "scrapes")
        with program(*start, port=port):
            until(lambda: total(server, "scrapes") >= first + 10)
        found = sorted(events(server, "scrapes"), key=lambda event: event["time"])
        # Every scrape counts itself once it is answered, so each adds exactly one.
        assert {event["data"]["value"] for event in found} <= {1, 2}
        assert found[0]["subject"] == f"127.0.0.1:{port}"


class Broker:
    """A Mosquitto that keeps its sessions on disk."""

    def __init__(self, folder: Path, more: str = "") -> None:
        self.folder = folder
        self.port = free_port()
        folder.mkdir(exist_ok=True)
        (folder / "mosquitto.conf").write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence true\n"
            f"persistence_location {folder}/\nuser root\nmax_queued_messages 0\n{more}"
        )

    def running(self) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
        command = [needed("mosquitto"), "-c", self.folder / "mosquitto.conf"]
        return program(*command, port=self.port)


def published(port: int, topic: str, payloads: list[bytes], *, retain: bool = False) -> None:
    import paho.mqtt.client as paho
    from paho.mqtt.enums import CallbackAPIVersion

    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client.connect("127.0.0.1", port)
    client.loop_start()
    for payload in payloads:
        client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(10)
    client.disconnect()
    client.loop_stop()


MQTT = """
[[mqtt]]
host = "127.0.0.1"
port = {port}
version = "{version}"

[[mqtt.rules]]
topic = "pulse/{{meter}}"
type = "pulse"
subject = "{{meter}}"
numbers = {{ value = {{ path = "$.e", hex = true, width = 2, order = "little", scale = "0.01" }} }}

[[mqtt.rules]]
topic = "reading/#"
type = "reading"
subject = "$.device"
time = "$.at"
id = "$.seq"
numbers = {{ value = "$.kwh" }}
"""


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_broker_restarted_in_the_middle_neither_loses_nor_doubles(
    tmp_path: Path, version: str
) -> None:
    broker = Broker(tmp_path / "broker")
    pulse = [b'{"e":"0x6400"}'] * 60  # 0x0064 = 100, one kWh
    reading = [
        json.dumps({"device": "d", "seq": n, "at": 1_790_000_000 + n, "kwh": 0.125}).encode()
        for n in range(10)
    ]
    config = MQTT.format(port=broker.port, version=version)
    with EdgeServer() as server:
        with broker.running():
            published(broker.port, "reading/a", reading[:1], retain=True)
            with agent(server, tmp_path, config):
                until(lambda: len(events(server, "reading")) == 1)
                published(broker.port, "pulse/m1", pulse)
            published(broker.port, "pulse/m1", pulse)  # the agent is away; the session is not
        with agent(server, tmp_path, config):
            time.sleep(1)  # it begins while the broker is away
            with broker.running():
                published(broker.port, "pulse/m1", pulse)
                published(broker.port, "reading/b", [*reading[1:], *reading[1:]])
                published(broker.port, "pulse/m1", [b"nonsense"])
                until(lambda: len(events(server, "pulse")) == 180)
                until(lambda: len(events(server, "reading")) == 10)
                until(lambda: events(server, "io.tallybook.unparsed"))
        assert total(server, "pulse") == 180
        assert {event["subject"] for event in events(server, "pulse")} == {"m1"}
        assert total(server, "reading") == 1.25


TLS_MQTT = """
[[mqtt]]
host = "localhost"
port = {port}
tls = true
ca_file = "{folder}/ca.pem"
{cert}

[[mqtt.rules]]
topic = "meters/{{site}}"
type = "energy"
each = "$.readings"
subject = "$.meter"
time = "$.at"
numbers = {{ kwh = "$.kwh", volt = "$.u" }}

[mqtt.rules.counters]
kwh = {{ restart = "$.boots", wraps_at = "10000" }}
"""
CERT = """cert_file = "{folder}/edge.pem"
key_file = "{folder}/edge.key"
"""


def authority(folder: Path, now_us: int) -> None:
    """Found an authority, with a certificate for a broker and for an edge."""
    from tallybook.adapters.x509 import authority as x509
    from tallybook.adapters.x509.request import key_pem, new_key

    founded = x509.found(folder, "test", now_us)
    for name in ("server", "edge"):
        key = new_key()
        if name == "server":
            issued = founded.issue_server(["localhost"], key.public_key(), now_us, 30)
        else:
            issued = founded.issue_edge("t", "web-1", key.public_key(), now_us, 30)
        x509.write_closed(folder / f"{name}.key", key_pem(key))
        x509.write_open(folder / f"{name}.pem", issued.cert)


def readings(first: int, last: int, *, boots: int = 1, base: int = 0) -> bytes:
    """Return a message of a device: its register at so many seconds."""
    found = [
        {"meter": "m1", "at": 1_790_000_000 + n, "kwh": (base + 10 * n) % 10_000, "u": 230,
         "boots": boots}
        for n in range(first, last + 1)
    ]  # fmt: skip
    return json.dumps({"readings": found}).encode()


def test_running_totals_in_lists_over_tls_with_certificates(tmp_path: Path) -> None:
    """A broker that asks for certificates; a register that wraps, and restarts."""
    folder = tmp_path / "broker"
    authority(folder, time.time_ns() // 1000)
    secured = (
        f"cafile {folder}/ca.pem\ncertfile {folder}/server.pem\nkeyfile {folder}/server.key\n"
        "require_certificate true\nuse_identity_as_username false\n"
    )
    plain = free_port()
    broker = Broker(folder, f"{secured}listener {plain} 127.0.0.1\nallow_anonymous true\n")
    config = TLS_MQTT.format(port=broker.port, folder=folder, cert=CERT.format(folder=folder))
    with EdgeServer() as server, broker.running():
        with agent(server, tmp_path, config):
            until(lambda: problem(tmp_path) is None)  # subscribed: the session exists
            published(plain, "meters/a", [readings(0, 4), readings(3, 6)])  # two are repeated
            until(lambda: len(events(server, "energy")) == 7)
        published(plain, "meters/a", [readings(7, 9), readings(7, 9)])  # the agent is away
        with agent(server, tmp_path, config):
            published(plain, "meters/a", [b"nonsense", readings(995, 1004)])  # over the end
            published(plain, "meters/a", [readings(1010, 1011, boots=2, base=-10_050)])
            until(lambda: len(events(server, "energy")) == 22)
            until(lambda: events(server, "io.tallybook.unparsed"))
        grown = sum(event["data"]["kwh"] for event in events(server, "energy"))
        assert grown == 10_040 + 60  # to the end and on; then from 0 to 60 after the restart
        assert {event["subject"] for event in events(server, "energy")} == {"m1"}
        assert {event["data"]["volt"] for event in events(server, "energy")} == {230}


def problem(folder: Path) -> str | None:
    """Return why the agent's first source cannot be read, None where it can."""
    status = folder / "state" / "status.json"
    sources = json.loads(status.read_text())["sources"] if status.exists() else []
    return sources[0]["problem"] if sources and sources[0]["read_us"] else "not read yet"


@pytest.mark.parametrize(
    ("case", "wanted"),
    [("no certificate", "is lost"), ("another authority", "certificate verify failed")],
)
def test_a_broker_that_does_not_trust_us_or_we_not_it_is_told(
    tmp_path: Path, case: str, wanted: str
) -> None:
    folder, other = tmp_path / "broker", tmp_path / "other"
    now_us = time.time_ns() // 1000
    authority(folder, now_us)
    authority(other, now_us)
    broker = Broker(
        folder,
        f"cafile {folder}/ca.pem\ncertfile {folder}/server.pem\nkeyfile {folder}/server.key\n"
        "require_certificate true\n",
    )
    trusted, cert = (
        (folder, "") if case == "no certificate" else (other, CERT.format(folder=folder))
    )
    config = TLS_MQTT.format(port=broker.port, folder=trusted, cert=cert)
    with EdgeServer() as server, broker.running():
        with agent(server, tmp_path, config):
            until(lambda: wanted in (problem(tmp_path) or ""))
        assert not events(server, "energy")


def test_a_kill_before_the_acknowledgement_reaches_the_broker_changes_nothing(
    tmp_path: Path,
) -> None:
    broker = Broker(tmp_path / "broker")
    config = MQTT.format(port=broker.port, version="5")
    (tmp_path / "edge.toml").write_text("host = false\n" + config)
    with EdgeServer() as server, broker.running():
        command = [
            sys.executable, "-m", "tallybook", "edge", "run", "--url", server.url, "--key", "tb_k",
            "--state", str(tmp_path / "state"), "--config", str(tmp_path / "edge.toml"),
        ]  # fmt: skip
        first = subprocess.Popen(command, env=ENV, stderr=subprocess.DEVNULL)
        published(
            broker.port, "reading/a", [b'{"device":"d","seq":"s","at":1,"kwh":1}'], retain=True
        )
        until(lambda: events(server, "reading"))
        sent = 0
        for _ in range(4):
            sending = threading.Thread(
                target=published, args=(broker.port, "pulse/m", [b'{"e":"6400"}'] * 50)
            )
            sending.start()
            sent += 50
            time.sleep(0.15)
            first.kill()
            first.wait()
            sending.join()
            first = subprocess.Popen(command, env=ENV, stderr=subprocess.DEVNULL)
        try:
            until(lambda: len(events(server, "pulse")) >= sent)
            time.sleep(0.5)
        finally:
            first.kill()
            first.wait()
        assert len(events(server, "pulse")) == sent
        assert len(events(server, "reading")) == 1


def test_statsd_over_udp_tcp_and_unix(tmp_path: Path) -> None:
    udp, tcp = free_port(), free_port()
    path = f"/tmp/tb-statsd-{os.getpid()}.sock"
    config = f"""
[[statsd]]
listen = ["udp://127.0.0.1:{udp}", "tcp://127.0.0.1:{tcp}", "unix://{path}"]
subject_tag = "customer"
interval_seconds = 0.2
"""
    with EdgeServer() as server:
        with agent(server, tmp_path, config):
            until(lambda: answers(tcp))
            with socket.create_connection(("127.0.0.1", tcp)) as stream:
                for _ in range(100):
                    stream.sendall(b"jobs:1|c|#customer:acme\njobs:2|c|@0.5|#cust")
                    stream.sendall(b"omer:beta\n")
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
                for _ in range(50):
                    made.sendto(b"jobs:1|c\nbad", ("127.0.0.1", udp))
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
                made.sendto(b"latency:1.5:2.5|ms", path)
            until(lambda: events(server, "statsd.latency"))
            until(lambda: total(server, "statsd.jobs") >= 550)
        found = events(server, "statsd.jobs")
        by_subject = {
            name: sum(e["data"]["value"] for e in found if e.get("subject") == name)
            for name in ("acme", "beta", None)
        }
        assert by_subject == {"acme": 100, "beta": 400, None: 50}
        assert all(e["data"].get("estimated") for e in found if e.get("subject") == "beta")
        (latency,) = events(server, "statsd.latency")
        assert latency["data"] == {"count": 2, "sum": 4, "transport": "unix"}
        assert events(server, "io.tallybook.unparsed")


LINE = '10.0.{}.{} - - [17/May/2015:10:05:03 +0000] "GET /{} HTTP/1.1" 200 7 "-" "x"\n'


class Writer(threading.Thread):
    """Writes numbered lines as fast as asked, to whatever file it is told."""

    def __init__(self, path: Path, pause_seconds: float) -> None:
        super().__init__(daemon=True)
        self.path = path
        self.pause_seconds = pause_seconds
        self.lock = threading.Lock()
        self.file = path.open("a")
        self.written = 0
        self.ended = False

    def run(self) -> None:
        while not self.ended:
            with self.lock:
                for _ in range(20):
                    number = self.written
                    line = LINE.format(number // 250 % 250, number % 250, number)
                    half = number % 40
                    self.file.write(line[:half])
                    self.file.flush()
                    self.file.write(line[half:])
                    self.written += 1
                self.file.flush()
            time.sleep(self.pause_seconds)

    def rotate(self, how: str, number: int) -> None:
        """Do what logrotate does: rename, compress, or copy and truncate."""
        name = self.path.with_name(f"{self.path.name}.{number:04d}")
        with self.lock:  # copytruncate loses what is written between the copy and the truncation
            if how == "copytruncate":
                shutil.copy2(self.path, name)
                self.file.close()
                self.file = self.path.open("w")
            else:
                self.path.rename(name)
                if how != "rename-late":
                    self.file.close()
                    self.file = self.path.open("a")
        if how == "rename-late":  # the old file is written for a while yet
            time.sleep(self.pause_seconds * 3)
            with self.lock:
                self.file.close()
                self.file = self.path.open("a")
        if how in {"gzip", "zstd"}:
            packed(name, how)

    def stop(self) -> int:
        self.ended = True
        self.join()
        self.file.close()
        return self.written


def packed(path: Path, how: str) -> None:
    import gzip

    import zstandard

    stat = path.stat()
    content = path.read_bytes()
    if how == "gzip":
        target = path.with_name(path.name + ".gz")
        target.write_bytes(gzip.compress(content))
    else:
        target = path.with_name(path.name + ".zst")
        target.write_bytes(zstandard.compress(content))
    os.utime(target, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    path.unlink()


@pytest.mark.parametrize(
    ("rotations", "pause"), [(12, 0.02), pytest.param(100, 0.05, marks=pytest.mark.slow)]
)
def test_rotations_of_every_kind_under_load_lose_and_double_nothing(
    tmp_path: Path, rotations: int, pause: float
) -> None:
    log = tmp_path / "logs" / "access.log"
    log.parent.mkdir()
    kinds = ("rename", "gzip", "rename-late", "copytruncate", "zstd")
    config = f'[[access_log]]\npath = "{log}"\n'
    with EdgeServer() as server:
        writer = Writer(log, pause)
        with agent(server, tmp_path, config, interval="0.1"):
            writer.start()
            until(lambda: events(server, "http.server.request"))
            for number in range(rotations):
                time.sleep(pause * 6)
                writer.rotate(kinds[number % len(kinds)], number)
            written = writer.stop()
            until(lambda: len(events(server, "http.server.request")) >= written)
        paths = [int(e["data"]["path"][1:]) for e in events(server, "http.server.request")]
        assert sorted(paths) == list(range(written))
        assert not events(server, "io.tallybook.unparsed")


def test_files_of_meters_that_arrive_count_once(tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    day = ",".join(["0.125"] * 48)
    text = (
        "100,NEM12,200405011135,MDA1,Ret1\n200,NMI1,E1,1,E1,N1,M1,kWh,30,\n"
        f"300,20261101,{day},A,,,20261102000000,\n300,20261102,{day},E,,,20261102000000,\n"
    )
    config = f"""
[[interval_file]]
path = "{inbox}/*.nem"
rest_seconds = 0.1
[[interval_file]]
path = "{inbox}/*.csv"
name = "csv"
format = "csv"
rest_seconds = 0.1
[interval_file.columns]
meter = "id"
time = "at"
values = {{ kwh = "kWh" }}
"""
    with EdgeServer() as server:
        with agent(server, tmp_path, config):
            (inbox / "a.nem").write_text(text)  # cut off: it has no end
            (inbox / "x.csv").write_text("id,at,kwh\nm,2026-11-01T00:00:00,1.5\n")
            until(lambda: len(events(server, "meter.interval")) == 1)
            (inbox / "a.nem").write_text(text + "900\n")
            (inbox / "copy.nem").write_text(text + "900\n")
            until(lambda: len(events(server, "meter.interval")) == 49)
        found = events(server, "meter.interval")
        assert total(server, "meter.interval") == 48 * 0.125 + 1.5
        assert {event["subject"] for event in found} == {"NMI1", "m"}
