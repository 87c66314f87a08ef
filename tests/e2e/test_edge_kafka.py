"""An agent that sends straight to a real broker, and a server that reads the topic."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.e2e.edge_programs import until
from tests.e2e.server import Server
from tests.support.door_clients import lake_events
from tests.support.kafka_broker import make_topic, records

LINE = '10.0.0.{} - - [17/May/2015:10:05:03 +0000] "GET /{} HTTP/1.1" 200 {} "-" "x"\n'
ENV = {k: v for k, v in os.environ.items() if not k.startswith("TALLYBOOK_")}
LINES = 600


def started(config: Path, *more: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tallybook", "edge", "run", "--config", str(config), *more]
    return subprocess.Popen(command, env=ENV, stderr=subprocess.PIPE, text=True)


def configured(folder: Path, address: str, topic: str, *, development: bool) -> Path:
    config = folder / "edge.toml"
    config.write_text(
        f'state = "{folder / "state"}"\nhost = false\ninterval_seconds = 0.1\n'
        f'[[access_log]]\npath = "{folder / "access.log"}"\n'
        f'[kafka]\nbootstrap = "{address}"\ntopic = "{topic}"\n'
        f"development = {str(development).lower()}\n"
    )
    return config


def test_every_line_is_counted_once_through_a_topic_and_a_kill(kafka, tmp_path):
    make_topic(kafka, "edge", 3)
    log = tmp_path / "access.log"
    log.write_text("".join(LINE.format(n % 7, n, n) for n in range(LINES // 2)))
    config = configured(tmp_path, kafka, "edge", development=True)
    first = started(config)
    until(lambda: records(kafka, "edge", 3), "nothing was sent")
    with log.open("a") as file:
        file.writelines(LINE.format(n % 7, n, n) for n in range(LINES // 2, LINES))
    first.send_signal(signal.SIGKILL)
    first.communicate()
    _, said = (last := started(config, "--for", "0", "--drain", "30s")).communicate(timeout=60)
    assert last.returncode == 0, said
    settings = {
        "TALLYBOOK__KAFKA__SERVERS": kafka,
        "TALLYBOOK__KAFKA__TOPICS": "edge",
        "TALLYBOOK__KAFKA__GROUP": "edge",
    }
    with Server(tmp_path / "data", settings) as server:
        until(lambda: len(lake_events(tmp_path / "data")) >= LINES)
        time.sleep(1)  # more would come now
        assert len(lake_events(tmp_path / "data")) == LINES
        # The fleet knows the edge by the notes behind its batches, which are no usage.
        (edge,) = server.get("/api/v1/edges")["items"]
        (life,) = edge["sequences"]
        assert (edge["missing_batches"], edge["waiting"]["batches"]) == (0, 0)
        assert life["highest"] >= 2
        assert edge["clock_offset_seconds"] is None
        (door,) = [d for d in server.get("/api/v1/doors")["items"] if d["door"] == "kafka"]
        assert door["counts"]["note"] >= life["highest"]
        assert door["counts"]["bad"] == 0 if "bad" in door["counts"] else True


def test_a_topic_with_one_copy_is_refused_and_nothing_is_lost(kafka, tmp_path):
    make_topic(kafka, "thin", 1)
    (tmp_path / "access.log").write_text(LINE.format(1, 1, 1))
    config = configured(tmp_path, kafka, "thin", development=False)
    _, said = (agent := started(config, "--for", "0", "--drain", "3s")).communicate(timeout=60)
    assert agent.returncode == 3
    assert "keeps 1 copies" in said
    assert "1 wait" in said
