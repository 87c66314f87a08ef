"""Sources of the agent against real servers: nginx, Apache, node_exporter, StatsD, files."""

import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.edge_programs import (
    agent,
    answers,
    events,
    free_port,
    get,
    needed,
    program,
    total,
    until,
)
from tests.support.edge_server import EdgeServer

NGINX_FORMAT = (
    """log_format usage '$remote_addr - $remote_user [$time_local] "$request" $status """
    """$body_bytes_sent "$http_referer" "$http_user_agent" rt=$request_time """
    """len=$request_length tenant="$http_x_tenant"';"""
)
APACHE_FORMAT = (
    r'LogFormat "%a %l %u %t \"%r\" %>s %B \"%{Referer}i\" \"%{User-Agent}i\" %D'
    r' \"%{X-Tenant}i\"" usage'
)


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
            until(lambda: answers(tcp) and Path(path).exists())  # the last one that is opened
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
    ("rotations", "pause"), [(12, 0.02), pytest.param(100, 0.05, marks=pytest.mark.slow(60))]
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
