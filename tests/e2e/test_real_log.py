"""Ten thousand real requests of a web site: every line is counted or in quarantine with its reason.

The sums are compared with a script of ten lines that knows nothing of this package.
"""

import json
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.server import KEY, Server

LINES = 10_000
ADDRESSES = 1_753
FROM_TO = "from=2015-05-17T00:00:00Z&to=2015-05-21T00:00:00Z"
CATALOG = """
[seller]
name = "Semicomplete Hosting"

[[meters]]
key = "requests"
event_type = "http.server.request"
aggregation = "COUNT"
group_by = { status = "$.status" }

[[meters]]
key = "bytes"
event_type = "http.server.request"
aggregation = "SUM"
value = "$.bytes"
unit = "By"
group_by = { status = "$.status" }

[[plans]]
key = "web"
currency = "USD"

[[plans.charges]]
key = "requests"
meter = "requests"
[plans.charges.price]
type = "graduated"
tiers = [
  { up_to = "10", unit_amount = "0.05", flat_amount = "1" },
  { up_to = "100", unit_amount = "0.02" },
  { unit_amount = "0.01" },
]

[[plans.charges]]
key = "bytes"
meter = "bytes"
[plans.charges.price]
type = "graduated"
tiers = [{ up_to = "1000000", unit_amount = "0" }, { unit_amount = "0.0000001" }]

[[customer_rules]]
key = "visitors"
event_type = "http.server.request"
plan = "web"
currency = "USD"
"""


def independent(path: Path) -> tuple[Counter[str], Counter[str], Counter[str], int]:
    """Return requests by day, by status, bytes by day, and how many lines are whole."""
    text = r'"(?:[^"\\]|\\.)*"'
    pattern = re.compile(
        rf"\S+ \S+ \S+ \[(\d\d)/May/2015[^]]*\] {text} (\d{{3}}) (\d+|-) {text} {text}$"
    )
    days, statuses, sizes, whole = Counter[str](), Counter[str](), Counter[str](), 0
    for line in path.read_text().splitlines():
        if found := pattern.match(line):
            day, status, size = found.groups()
            whole += 1
            days[f"2015-05-{day}"] += 1
            statuses[status] += 1
            sizes[f"2015-05-{day}"] += 0 if size == "-" else int(size)
    return days, statuses, sizes, whole


def tallybook(server: Server, *arguments: str) -> dict[str, Any]:
    """Run a command against the server and return what it prints as JSON."""
    command = [
        sys.executable,
        "-m",
        "tallybook",
        *arguments,
        "--url",
        server.url,
        "--key",
        KEY,
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def total(server: Server) -> Any:
    """Return everything a later ingestion must not change."""
    server.caught_up()
    return (
        server.get(f"/api/v1/meters/requests/query?{FROM_TO}&windowSize=DAY")["data"],
        server.get(f"/api/v1/meters/bytes/query?{FROM_TO}&groupBy=status")["data"],
        server.get("/api/v1/status")["counters"]["quarantined"],
    )


@pytest.fixture(scope="module")
def log_file(shared_dir: Path) -> Path:
    """The real log."""
    return shared_dir / "data" / "access-2015-05.log"


def test_the_whole_road_on_a_real_log(tmp_path: Path, log_file: Path) -> None:
    """Ingest, compare, ingest again, bill each address, verify."""
    days, statuses, sizes, whole = independent(log_file)
    with Server(tmp_path / "data") as server:
        server.post("/api/v1/catalog/apply", CATALOG, kind="application/toml")
        tallybook(server, "ingest", str(log_file), "--format", "combined")
        server.caught_up()
        by_day = server.get(f"/api/v1/meters/requests/query?{FROM_TO}&windowSize=DAY")["data"]
        assert {row["windowStart"][:10]: row["value"] for row in by_day} == dict(days)
        by_status = server.get(f"/api/v1/meters/requests/query?{FROM_TO}&groupBy=status")["data"]
        assert {row["groupBy"]["status"]: row["value"] for row in by_status} == dict(statuses)
        traffic = server.get(f"/api/v1/meters/bytes/query?{FROM_TO}&windowSize=DAY")["data"]
        assert {row["windowStart"][:10]: row["value"] for row in traffic} == dict(sizes)
        counters = server.get("/api/v1/status")["counters"]
        assert (counters["accepted"], counters["quarantined"]) == (whole, LINES - whole)
        assert whole + counters["quarantined"] == LINES
        for item in server.get("/api/v1/quarantine")["items"]:
            assert item["code"], item
            assert item["message"], item

        before = total(server)
        tallybook(server, "ingest", str(log_file), "--format", "combined")
        half_after_a_kill(server, log_file, tmp_path)
        assert total(server) == before

        billed_per_address(server, whole)


def half_after_a_kill(server: Server, log_file: Path, folder: Path) -> None:
    """Ingest half of the file from another place, killed in the middle, and then again."""
    half = folder / "half.log"
    half.write_text("".join(log_file.read_text().splitlines(keepends=True)[: LINES // 2]))
    command = [sys.executable, "-m", "tallybook", "ingest", str(half), "--format", "combined"]
    process = subprocess.Popen(
        [*command, "--url", server.url, "--key", KEY],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    before = server.get("/api/v1/status")["counters"]["received"]
    while process.poll() is None and not arriving(server, before):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    tallybook(server, "ingest", str(half), "--format", "combined")


def arriving(server: Server, before: int) -> bool:
    """Whether the server has more than it had received before, in its log or in the lake."""
    status = server.get("/api/v1/status")
    behind = sum(part["events_behind"] for part in status["partitions"])
    return bool(status["counters"]["received"] + behind > before)


def billed_per_address(server: Server, whole: int) -> None:
    """Bill each address for May 2015; the invoices' quantities add up to the meter."""
    tallybook(server, "bill", "--period", "2015-05")
    quantities: Counter[str] = Counter()
    invoices, cursor = [], ""
    while True:
        page = server.get(f"/api/v1/invoices?limit=500{cursor}")
        invoices += page["items"]
        if not page.get("next_cursor"):
            break
        cursor = f"&cursor={page['next_cursor']}"
    with server.client() as client:
        for invoice in invoices:
            for line in client.get(f"/api/v1/invoices/{invoice['id']}")["lines"]:
                quantities[line["meter"]["key"]] += Decimal(line["quantity"])
    meter = server.get(f"/api/v1/meters/requests/query?{FROM_TO}")["data"][0]["value"]
    traffic = server.get(f"/api/v1/meters/bytes/query?{FROM_TO}")["data"][0]["value"]
    assert len(invoices) == ADDRESSES
    assert quantities["requests"] == meter == whole
    assert quantities["bytes"] == traffic
    for invoice in invoices[:: ADDRESSES // 5]:
        assert server.get(f"/api/v1/invoices/{invoice['id']}/verify")["ok"]
    assert server.get("/api/v1/reconcile")["ok"]


def test_repeated_lines_are_counted(log_file: Path) -> None:
    """The file really repeats 19 lines: the test above counts each of them."""
    lines = log_file.read_text().splitlines()
    assert len(lines) == LINES
    assert len(lines) - len(set(lines)) == 19
    assert len({line.split(" ", 1)[0] for line in lines}) == ADDRESSES
