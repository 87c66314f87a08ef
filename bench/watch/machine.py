"""On what machine and with which versions a figure was measured."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import psutil

LIBRARIES = ("granian", "msgspec", "pyarrow", "duckdb", "deltalake", "sqlalchemy")
ROOT = Path(__file__).resolve().parents[2]


def machine() -> str:
    """Return cores, processor, memory and system in one line."""
    memory = psutil.virtual_memory().total / 2**30
    cores = f"{os.cpu_count()} cores {_processor()}".rstrip()
    return f"{cores}, {memory:.0f} GiB, {platform.platform()}"


def versions() -> str:
    """Return the versions of Python and of what does the heavy work, in one line."""
    parts = [f"Python {platform.python_version()}"]
    return ", ".join(parts + [f"{name} {version(name)}" for name in LIBRARIES])


def commit() -> str:
    """Return the commit measured, with a + where the tree differs from it; '' outside git."""
    command = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return found.stdout.strip()


def load() -> float:
    """Return how many processes want a core, of late: above the number of cores, beware."""
    return os.getloadavg()[0]


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"of {names[0]}" if names else ""
