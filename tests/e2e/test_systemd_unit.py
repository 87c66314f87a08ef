"""The systemd unit is one that systemd takes, and keeps the agent in bounds."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

UNIT = Path(__file__).parents[2] / "infra" / "systemd" / "tallybook-edge.service"
EXPOSURE_MAX = 2.5
"""Of 10, as `systemd-analyze security` counts; below 2.5 is good."""


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    found = shutil.which("systemd-analyze")
    if found is None:
        pytest.skip("systemd-analyze is not installed")
    command = [found, *map(str, arguments)]
    environment = {**os.environ, "SYSTEMD_COLORS": "0"}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


def test_systemd_takes_the_unit() -> None:
    done = analyze("verify", "--man=no", UNIT)
    assert done.returncode == 0, done.stderr
    assert "tallybook-edge" not in done.stderr, done.stderr


def test_the_agent_may_do_little() -> None:
    done = analyze("security", "--offline=true", "--no-pager", UNIT)
    if done.returncode and "offline" in done.stderr:
        pytest.skip("this systemd-analyze does not judge files")
    exposure = re.search(r"exposure level for \S+: ([0-9.]+)", done.stdout)
    assert exposure is not None, done.stdout + done.stderr
    assert float(exposure[1]) <= EXPOSURE_MAX


def test_what_the_unit_runs_is_a_command_with_these_options() -> None:
    text = UNIT.read_text()
    command = re.search(r"^ExecStart=/usr/bin/env tallybook (.*)$", text, re.MULTILINE)
    assert command is not None
    assert re.findall(r"--[a-z-]+", command[1]) == ["--config", "--state", "--key-file"]
    assert "ExecReload=/bin/kill -HUP $MAINPID" in text
