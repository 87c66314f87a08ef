"""Write the codes of docs/errors.md into the API's description: `python tools/problem_codes.py`.

A test fails while the two differ.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "errors.md"
MODULE = ROOT / "src" / "tallybook" / "serve" / "api" / "document" / "codes.py"
HEAD = '''"""Every code of docs/errors.md, written by `tools/problem_codes.py`."""

CODES = (
'''


def codes() -> list[str]:
    """Return the codes that the page lists."""
    found = re.findall(r"^\| `([a-z0-9-]+)`", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return sorted(set(found))


def written() -> str:
    """Return the module as it should be."""
    return HEAD + "".join(f'    "{code}",\n' for code in codes()) + ")\n"


if __name__ == "__main__":
    MODULE.write_text(written(), encoding="utf-8")
    sys.exit(0)
