"""The agent reads a real Mosquitto: restarts, certificates, kills before the acknowledgement."""

import contextlib
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.e2e.edge_programs import (
    ENV,
    agent,
    events,
    free_port,
    needed,
    program,
    total,
    until,
)
from tests.support.edge_server import EdgeServer


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
        client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(60)
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
