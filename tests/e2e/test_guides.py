"""The commands of README and guides, run in their order on a real server."""

import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from tallybook.serve.supervisor.folder import read_info
from tests.e2e.server import KEY, Server
from tests.support.databases import absent

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
SECURITY = ROOT / "docs" / "guides" / "security.md"
EMBEDDED = ROOT / "docs" / "guides" / "embedded.md"
DOORS = ROOT / "docs" / "guides" / "front-doors.md"
BILLING = ROOT / "docs" / "guides" / "billing.md"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINE = '10.0.0.{} - - [17/May/2015:10:05:03 +0000] "GET /{} HTTP/1.1" 200 {} "-" "x"\n'


def fences(page: Path, kind: str) -> list[str]:
    return [body for found, body in FENCE.findall(page.read_text()) if found == kind]


def commands(page: Path) -> list[list[str]]:
    """Return the page's `tallybook` lines but those that start a server."""
    lines = "\n".join(fences(page, "")).replace("\\\n", " ").splitlines()
    split = [shlex.split(line)[1:] for line in lines if line.startswith("tallybook ")]
    return [words for words in split if words[0] != "serve"]


def run_all(server: Server, work: Path, page: Path) -> None:
    """Run the commands of a page in their order; each of them ends well."""
    for words in commands(page):
        asks = words[0] == "apply" and "--diff" not in words
        with contextlib.chdir(work):
            server.tallybook(*words, *(["--yes"] if asks else []))
        if words[0] == "ingest":
            server.caught_up()


def first_steps(server: Server, work: Path, page: Path) -> None:
    work.mkdir(exist_ok=True)
    (work / "catalog.toml").write_text(fences(EMBEDDED, "toml")[0])
    (work / "access.log").write_text("".join(LINE.format(i % 5, i, i * 7) for i in range(40)))
    run_all(server, work, page)
    assert server.get("/api/v1/meters/requests/query")["data"][0]["value"] == 40
    assert len(server.get("/api/v1/invoices")["items"]) == 5


def test_the_commands_of_the_readme_work_in_their_order(tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    with Server(work / "tallybook-data") as server:  # `doctor` looks for that folder
        first_steps(server, work, README)


def test_the_commands_of_the_embedded_guide_work_in_their_order(shared_server, tmp_path):
    first_steps(shared_server.tenant("embedded"), tmp_path, EMBEDDED)


def test_from_plan_to_paid_invoice(shared_server, tmp_path):
    server = shared_server.tenant("paid")
    (tmp_path / "catalog.toml").write_text(fences(BILLING, "toml")[0])
    (tmp_path / "events.ndjson").write_text(fences(BILLING, "json")[0])
    run_all(server, tmp_path, BILLING)
    items = server.get("/api/v1/invoices")["items"]
    assert [item["number"] for item in items] == ["INV-000001", "INV-000002"]
    assert items[0]["state"] == "finalized"


def test_an_edge_gets_a_certificate_and_loses_it(tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    begin, *rest = [words for words in commands(SECURITY) if words[0] in {"ca", "edge", "edges"}]
    assert begin[:2] == ["ca", "init"]
    with Server(work / "tallybook-data"):
        pass  # a folder that was used before has an authority like a fresh one
    done = tallybook(work, begin)
    assert done.returncode == 0, done.stderr
    with Server(work / "tallybook-data", {"TALLYBOOK__TLS__PORT": "0"}) as server:
        info = read_info(server.folder)
        config = next(c for c in fences(SECURITY, "toml") if "cert_key_file" in c)
        (work / "web-1.toml").write_text(re.sub(r'"https://.*?"', f'"{info.tls_url}"', config))
        (work / "edge.key.txt").write_text(KEY)
        for words in rest:
            if words[0] == "edge":
                done = tallybook(work, words)
                assert done.returncode == 0, f"tallybook {shlex.join(words)}: {done.stderr}"
            else:
                with contextlib.chdir(work):
                    server.tallybook(*words)
            if words[:2] == ["edge", "run"]:
                deadline = time.monotonic() + 60
                while not any(e["certified"] for e in server.get("/api/v1/edges")["items"]):
                    assert time.monotonic() < deadline, "the fleet is not told of it"
                    time.sleep(0.1)
        edge = server.get("/api/v1/edges/web-1")
        assert edge["certified"] is True
        assert edge["certificate"]["reason"] == "disk sold"
        assert edge["missing_batches"] == 0


def tallybook(work, words):
    """Run a command in the folder of a reader of the guide."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TALLYBOOK_")}
    return subprocess.run(
        [sys.executable, "-m", "tallybook", *words],
        cwd=work, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_the_rules_of_front_doors_are_set_and_reset(shared_server, tmp_path):
    server = shared_server.tenant("doors")
    rules_of_the_page = next(f for f in fences(DOORS, "toml") if "[[series]]" in f)
    (tmp_path / "rules.toml").write_text(rules_of_the_page)
    run_all(server, tmp_path, DOORS)
    (rules,) = [json.loads(f) for f in fences(DOORS, "json") if '"unmatched"' in f]
    with server.client() as client:
        told = client.put("/api/v1/doors/influx", rules)
    assert told["rules"]["series"][0]["type"] == "api.requests"
    assert server.get("/api/v1/doors/prometheus")["rules_version"] == 0


def test_prometheus_takes_the_configuration_of_the_guide(tmp_path):
    program = shutil.which("promtool")
    if program is None:
        absent("prometheus")
    config = tmp_path / "prometheus.yml"
    told = fences(DOORS, "yaml")[0].replace("/etc/prometheus/tallybook.key", str(config))
    config.write_text(told)
    subprocess.run([str(program), "check", "config", str(config)], check=True, capture_output=True)
