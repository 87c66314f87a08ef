"""The base install alone, in a fresh environment, runs the agent and the client."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.edge_server import EdgeServer

ROOT = Path(__file__).parents[2]
ENV = {k: v for k, v in os.environ.items() if not k.startswith(("TALLYBOOK_", "PYTHON"))}
LINE = '10.0.0.1 - - [17/May/2015:10:05:03 +0000] "GET /{} HTTP/1.1" 200 7 "-" "x"\n'


def done(*command: object, code: int = 0, cwd: Path | None = None) -> str:
    found = subprocess.run(
        [str(part) for part in command],
        env=ENV, cwd=cwd, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert found.returncode == code, found.stdout + found.stderr
    return found.stdout + found.stderr


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the `tallybook` of an environment that has the base and nothing else."""
    folder = tmp_path_factory.mktemp("base")
    package = folder / "package"
    package.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, package / name)
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "src", package / "src", ignore=ignored)
    done(sys.executable, "-m", "venv", folder / "venv")
    pip = (folder / "venv" / "bin" / "python", "-m", "pip", "--disable-pip-version-check")
    done(*pip, "install", "--quiet", "-c", ROOT / "constraints.txt", package)
    installed = done(*pip, "list", "--format", "freeze").lower()
    for absent in ("pyarrow", "numpy", "sqlalchemy", "duckdb", "litestar", "granian", "xxhash"):
        assert absent not in installed
    return folder / "venv" / "bin" / "tallybook"


@pytest.mark.slow(20)
def test_the_base_install_runs_the_agent(command: Path, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    log.write_text("".join(LINE.format(n) for n in range(100)))
    with EdgeServer() as server:
        done(command, "edge", "run", "--url", server.url, "--key", "tb_k", "--state", "state",
             "--access-log", log, "--interval", "0.5", "--for", "3s", cwd=tmp_path)  # fmt: skip
        types = [event["type"] for event in server.stored.values()]
        assert types.count("http.server.request") == 100
        assert {"system.cpu.time", "system.memory.usage"} <= set(types)
    status = json.loads(done(command, "edge", "status", "--state", "state", "--json", cwd=tmp_path))
    assert status["spooled_events"] == 0


@pytest.mark.slow(20)
def test_the_base_install_ingests_and_says_what_serve_needs(command: Path, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    log.write_text(LINE.format(1))
    with EdgeServer() as server:
        said = done(command, "ingest", log, "--format", "combined", "--url", server.url,
                    "--key", "tb_k")  # fmt: skip
        assert "1 accepted, 0 quarantined" in said
    assert "tallybook[server]" in done(command, "serve", code=1, cwd=tmp_path)
