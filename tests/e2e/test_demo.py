"""The main job, shortened: `tallybook demo --once` ends with a proven invoice."""

import json
import subprocess
import sys
from pathlib import Path

from tallybook.serve.supervisor.folder import is_locked


def test_the_demo_ends_well(tmp_path: Path) -> None:
    data = tmp_path / "demo"
    options = ["--data", str(data), "--port", "0", "--seconds", "4", "--once", "--json"]
    found = subprocess.run(
        [sys.executable, "-m", "tallybook", "demo", *options],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    outcome = json.loads(found.stdout)
    counters = outcome["counters"]
    assert outcome["wrong"] == []
    assert counters["received"] > 0
    parts = counters["accepted"] + counters["duplicate"] + counters["quarantined"]
    assert counters["received"] == parts
    assert Path(outcome["pdf"]).read_bytes()[:5] == b"%PDF-"
    charges = {line["charge"]: line for line in outcome["invoice"]["lines"]}
    assert charges["base"]["amount"] == "29.00"
    assert int(charges["requests"]["quantity"]) == outcome["usage"]["requests"]["value"] > 0
    assert outcome["usage"]["memory"]["value"] > 0
    assert not is_locked(data)


def test_the_demo_wants_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "something").touch()
    found = subprocess.run(
        [sys.executable, "-m", "tallybook", "demo", "--data", str(tmp_path), "--once"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert found.returncode == 1
    assert "is not empty" in found.stderr
