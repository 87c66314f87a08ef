"""The commands of the migration guide, run in their order on a real server."""

import os
import re
import subprocess
from pathlib import Path

import pytest

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "migration.md"


@pytest.fixture(scope="module")
def server(shared_server):
    return shared_server.tenant("move")


def blocks(kind):
    text = GUIDE.read_text()
    return re.findall(rf"^```{kind}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_every_command_of_the_guide_works(server):
    for catalog in blocks("toml"):
        server.raw("POST", "/api/v1/catalog/apply", catalog, "application/toml")
    environment = os.environ | {"TALLYBOOK_URL": server.url, "TALLYBOOK_KEY": server.key}
    for block in blocks("sh"):
        done = subprocess.run(
            ["bash", "-euc", block], env=environment, capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (block, done.stdout, done.stderr)
    server.caught_up()
    wanted = {
        "tokens_total/query?": 42,
        "api-requests/query?filterCustomerId=acme": 25,
        "storage/query?filterCustomerId=lago-acme": 2,
    }
    for question, value in wanted.items():
        rows = server.get(f"/api/v1/meters/{question}")["data"]
        assert [row["value"] for row in rows] == [value], question
