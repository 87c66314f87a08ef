"""The control database's schema over time: made whole where it is new, changed step by step after.

`versions/NNNN_why.py` are the steps, in order. A release that changes a table brings a step, made
by `python tools/revision.py "why"`; a test compares what they make with the tables of the code.
"""

from pathlib import Path

FOLDER = Path(__file__).parent / "versions"
VERSION_TABLE = "schema_version"


def numbers(folder: Path = FOLDER) -> list[str]:
    """Return the numbers of the steps that this version of the product knows, oldest first."""
    return sorted(path.name[:4] for path in folder.glob("[0-9][0-9][0-9][0-9]_*.py"))


def newest(folder: Path = FOLDER) -> str:
    """Return the number of the newest step."""
    return numbers(folder)[-1]
