"""Finds the worked cases beside the repository; says loudly when they are absent."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

SHARED = os.environ.get("TALLYBOOK_SHARED", Path(__file__).resolve().parents[3] / "shared")
FOLDER = Path(SHARED) / "vectors"
Case = dict[str, Any]


def cases(system: str, *areas: str) -> list[Case]:
    """Return a system's cases of these areas, all without any, at collection; [] where absent."""
    path = FOLDER / f"{system}.json"
    if not path.exists():
        return []
    found: list[Case] = json.loads(path.read_text(encoding="utf-8"))
    return [case for case in found if not areas or case["area"] in areas]


def identity(case: Case) -> str:
    """Return the name of a case, for test ids."""
    return str(case["id"])


def require() -> None:
    """Skip with a reason where the cases are absent; in CI that is a failure."""
    if not FOLDER.exists():
        message = f"worked cases are absent: {FOLDER} does not exist"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
