"""The commands of README and guides, run in their order on a real server."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.server import KEY, Server

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
EMBEDDED = ROOT / "docs" / "guides" / "embedded.md"
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
    environment = os.environ | {"TALLYBOOK_URL": server.url, "TALLYBOOK_KEY": KEY}
    for words in commands(page):
        asks = words[0] == "apply" and "--diff" not in words
        done = subprocess.run(
            [sys.executable, "-m", "tallybook", *words, *(["--yes"] if asks else [])],
            cwd=work, env=environment, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"tallybook {shlex.join(words)}: {done.stderr}{done.stdout}"
        if words[0] == "ingest":
            server.caught_up()


@pytest.mark.parametrize("page", [README, EMBEDDED], ids=lambda page: page.stem)
def test_the_commands_work_in_the_order_of_the_page(tmp_path, page):
    work = tmp_path / "work"
    work.mkdir()
    (work / "catalog.toml").write_text(fences(EMBEDDED, "toml")[0])
    (work / "access.log").write_text("".join(LINE.format(i % 5, i, i * 7) for i in range(40)))
    with Server(work / "tallybook-data") as server:
        run_all(server, work, page)
        assert server.get("/api/v1/meters/requests/query")["data"][0]["value"] == 40
        assert len(server.get("/api/v1/invoices")["items"]) == 5


def test_from_plan_to_paid_invoice(tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    (work / "catalog.toml").write_text(fences(BILLING, "toml")[0])
    (work / "events.ndjson").write_text(fences(BILLING, "json")[0])
    with Server(work / "tallybook-data") as server:
        run_all(server, work, BILLING)
        items = server.get("/api/v1/invoices")["items"]
        assert [item["number"] for item in items] == ["INV-000001", "INV-000002"]
        assert items[0]["state"] == "finalized"
