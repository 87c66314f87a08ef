"""One Kafka broker in KRaft mode on the loopback, of its own folder; `make engines` fetches it."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.databases import absent
from tests.support.door_clients import free_port

LIBRARIES = Path(os.environ.get("TALLYBOOK_ENGINES", Path(sys.prefix) / "engines")) / "kafka"
START_SECONDS_MAX = 60
CLUSTER = "MkU3OEVBNTcwNTJENDM2Qg"
_JAVA = ["java", "-Xmx256m", "-Xms128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]


@contextmanager
def broker(folder: Path) -> Iterator[str]:
    """Return the address of a broker; it ends with the block."""
    if shutil.which("java") is None or not any(LIBRARIES.glob("kafka_*.jar")):
        absent("Kafka (with Java 17)")
    port, control = free_port(), free_port()
    properties = folder / "server.properties"
    properties.write_text(
        "\n".join(
            [
                "process.roles=broker,controller",
                "node.id=1",
                f"controller.quorum.voters=1@127.0.0.1:{control}",
                f"listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{control}",
                f"advertised.listeners=PLAINTEXT://127.0.0.1:{port}",
                "controller.listener.names=CONTROLLER",
                "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
                f"log.dirs={folder / 'kafka'}",
                "offsets.topic.replication.factor=1",
                "offsets.topic.num.partitions=1",
                "transaction.state.log.replication.factor=1",
                "transaction.state.log.min.isr=1",
                "transaction.state.log.num.partitions=1",
                "share.coordinator.state.topic.replication.factor=1",
                "share.coordinator.state.topic.min.isr=1",
                "group.initial.rebalance.delay.ms=0",
                "auto.create.topics.enable=false",
            ]
        )
    )
    classes = [*_JAVA, "-cp", str(LIBRARIES / "*")]
    log = folder / "kafka.log"
    with log.open("wb") as out:
        subprocess.run(
            [*classes, "kafka.tools.StorageTool", "format", "-t", CLUSTER, "-c", str(properties)],
            stdout=out,
            stderr=subprocess.STDOUT,
            check=True,
        )
        server = subprocess.Popen(
            [*classes, "kafka.Kafka", str(properties)], stdout=out, stderr=subprocess.STDOUT
        )
    try:
        address = f"127.0.0.1:{port}"
        _await(address, server, log)
        yield address
    finally:
        server.kill()
        server.wait(10)


def _await(address: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline and server.poll() is None:
        try:
            AdminClient({"bootstrap.servers": address, "log_level": 0}).list_topics(timeout=1)
        except KafkaException:
            time.sleep(0.2)
        else:
            return
    raise AssertionError(f"Kafka does not start: {log.read_text()[-3000:]}")


def records(address: str, topic: str, partitions: int) -> int:
    """Return how many records a topic has."""
    from confluent_kafka import Consumer, TopicPartition

    reader = Consumer({"bootstrap.servers": address, "group.id": "counting", "log_level": 0})
    try:
        ends = [
            reader.get_watermark_offsets(TopicPartition(topic, number), timeout=30)
            for number in range(partitions)
        ]
    finally:
        reader.close()
    return sum(high - low for low, high in ends)


def make_topic(address: str, name: str, partitions: int) -> None:
    """Make a topic and wait until it is there."""
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": address, "log_level": 0})
    for future in admin.create_topics([NewTopic(name, partitions, 1)]).values():
        future.result(30)


def drop_topic(address: str, name: str) -> None:
    """Delete a topic and wait until it is gone."""
    from confluent_kafka.admin import AdminClient

    admin = AdminClient({"bootstrap.servers": address, "log_level": 0})
    for future in admin.delete_topics([name]).values():
        future.result(30)
    while name in admin.list_topics(timeout=30).topics:
        time.sleep(0.1)
