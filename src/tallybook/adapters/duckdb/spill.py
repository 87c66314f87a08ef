"""Where a query's intermediate results go that do not fit into the engine's memory.

Left to itself the engine takes `.tmp` in the working directory: read-only under many service
managers, and the same for every process that works there.
"""

import os
import shutil
from pathlib import Path
from uuid import uuid4

import psutil


def spill_folder(lake: Path) -> Path:
    """Return a folder of this process's own; the engine makes it when it is needed."""
    return lake / f"spill-{os.getpid()}-{uuid4().hex[:8]}"


def sweep(lake: Path) -> int:
    """Delete what killed processes left; return how many folders that were."""
    left = [
        folder
        for folder in lake.glob("spill-*-*")
        if not psutil.pid_exists(int(folder.name.split("-")[1]))
    ]
    for folder in left:
        shutil.rmtree(folder)
    return len(left)
