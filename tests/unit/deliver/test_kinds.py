"""The kinds of facts: in the code that writes them, in the table, and in the guide."""

import ast
import re
from pathlib import Path

from tallybook.deliver.kinds import KINDS, NAMES

ROOT = Path(__file__).parents[3]
SOURCE = ROOT / "src" / "tallybook"
GUIDE = ROOT / "docs" / "guides" / "webhooks.md"
FAMILIES = sorted({name.partition(".")[0] for name in NAMES})
WRITERS = ("kernel", "catalog", "admit", "invoice", "settle", "deliver", "adapters", "serve")


def _constants(path: Path) -> set[str]:
    """Return the texts of a module that look like kinds, those of templates and logs left out."""
    tree = ast.parse(path.read_text())
    logged = {
        id(call.args[0])
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr in {"info", "warning", "error", "exception"}
        and call.args
    }
    shape = re.compile(rf"({'|'.join(FAMILIES)})\.[a-z_]+")
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and id(node) not in logged
        and isinstance(node.value, str)
        and shape.fullmatch(node.value)
    }


def written() -> set[str]:
    """Return the kinds of all modules that make facts."""
    found: set[str] = set()
    for room in WRITERS:
        for path in (SOURCE / room).rglob("*.py"):
            text = path.read_text()
            if path.name != "kinds.py" and re.search(r"\b[Ff]acts?\b", text):
                found |= _constants(path)
    return found


def test_what_is_written_can_be_asked_for():
    assert written() == set(NAMES)


def test_the_guide_lists_every_kind_with_its_data():
    rows = re.findall(
        r"^\| `([a-z_]+\.[a-z_]+)` \| (.+?) \| (.+?) \|$", GUIDE.read_text(), re.MULTILINE
    )
    documented = {
        kind: (about, [re.findall(r"`(\w+)`", part) for part in data.split(" or ")])
        for kind, about, data in rows
    }
    assert documented == {
        kind.name: (kind.about, [list(body.__struct_fields__) for body in kind.bodies])
        for kind in KINDS
    }
