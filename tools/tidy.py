"""Keep the house tidy: the rules of style that no linter knows.

Every rule is a function from the tree to offences. `tools/tidy_allow.txt` lists the offences that
are accepted, one a line with its reason; an entry that is no longer needed is itself an offence
and `ALLOWED_MAX` bounds their number, so the list can only shrink.

Run by `make check`, and as a test.
"""

import ast
import re
import sys
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

FILE_LINES_MAX = 600
TEST_LINES_MAX = 900
FUNCTION_LINES_MAX = 60
FOLDER_MODULES_MAX = 13
ALLOWED_MAX = 0
"""Lower this whenever the allow-list gets shorter; never raise it."""

EXACT_ROOMS = ("kernel", "catalog", "meter", "rate", "invoice", "settle")
ASYNC_FOLDERS = (
    "src/tallybook/serve/api/", "src/tallybook/serve/console/", "src/tallybook/middleware/",
)  # fmt: skip
TOP_FOLDERS = ("src", "tests", "docs", "tools", "bench", "infra", ".ci")
SKIPPED = {"build", "dist", "__pycache__", "node_modules"}
TEXT_SUFFIXES = {".py", ".md", ".toml", ".txt", ".html", ".css", ".js", ".typ", ".svg", ".json", ""}
STEPS = "src/tallybook/adapters/sql/schema/versions/"
"""Steps of the schema, which a tool writes and nobody changes again: as long as their tables."""
README_WORDS = ("in", "out", "invariant", "limit", "guarantee")
VAGUE_ENDINGS = ("Manager", "Service", "Helper", "Helpers", "Utils", "Base", "Impl")


class Offence(NamedTuple):
    """One broken rule: which, where (a path from the root), and what to do about it."""

    rule: str
    path: str
    message: str

    def __str__(self) -> str:
        """Return the line that is printed."""
        return f"{self.path}: {self.rule}: {self.message}"


class File:
    """A text file of the tree, read and parsed once."""

    def __init__(self, root: Path, path: Path) -> None:
        self.absolute = path
        self.path = path.relative_to(root).as_posix()

    @cached_property
    def text(self) -> str:
        """The content; '' where it is not text."""
        return self.absolute.read_text(encoding="utf-8", errors="replace")

    @cached_property
    def tree(self) -> ast.Module:
        """The syntax tree of a Python file."""
        return ast.parse(self.text, self.path)

    @property
    def is_python(self) -> bool:
        """Whether it is Python source."""
        return self.path.endswith(".py")

    @property
    def is_test(self) -> bool:
        """Whether it is a test, or helps tests."""
        return self.path.startswith("tests/")

    @property
    def is_source(self) -> bool:
        """Whether it is part of the package."""
        return self.is_python and self.path.startswith("src/tallybook/")

    @property
    def room(self) -> str:
        """The room it lies in; '' outside the rooms."""
        parts = self.path.split("/")
        return parts[2] if self.is_source and len(parts) > 3 else ""


class Tree:
    """Every text file under a root that a person would edit."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @cached_property
    def files(self) -> list[File]:
        """All of them, sorted by path."""
        return [File(self.root, path) for path in sorted(_walk(self.root))]

    @cached_property
    def python(self) -> list[File]:
        """The Python files."""
        return [file for file in self.files if file.is_python]


def _walk(folder: Path) -> Iterator[Path]:
    for entry in folder.iterdir():
        hidden = entry.name.startswith(".") and entry.name not in {".ci", ".gitignore"}
        data = entry.name.startswith("tallybook-") or entry.name.endswith(".egg-info")
        if hidden or data or entry.name in SKIPPED:
            continue
        if entry.is_dir():
            yield from _walk(entry)
        elif entry.suffix in TEXT_SUFFIXES:
            yield entry


Rule = Callable[[Tree], Iterator[Offence]]


def file_lines(tree: Tree) -> Iterator[Offence]:
    """No file is longer than one sitting."""
    for file in tree.python:
        lines, most = file.text.count("\n"), TEST_LINES_MAX if file.is_test else FILE_LINES_MAX
        if lines > most and not file.path.startswith(STEPS):
            yield Offence("file-lines", file.path, f"{lines} lines, at most {most}; split it")


def function_lines(tree: Tree) -> Iterator[Offence]:
    """No function is longer than one screen, its docstring not counted."""
    for file in tree.python:
        if file.path.startswith(STEPS):
            continue
        for node in ast.walk(file.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = _body_lines(node)
                if lines > FUNCTION_LINES_MAX:
                    message = f"{node.name}: {lines} lines, at most {FUNCTION_LINES_MAX}; split it"
                    yield Offence("function-lines", file.path, message)


def _body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
    return ((body[-1].end_lineno or 0) - body[0].lineno + 1) if body else 0


def folder_modules(tree: Tree) -> Iterator[Offence]:
    """No folder holds more modules than a person remembers."""
    folders: dict[str, int] = {}
    for file in tree.python:
        folder, _, name = file.path.rpartition("/")
        if file.is_source and name != "__init__.py":
            folders[folder] = folders.get(folder, 0) + 1
    for folder, modules in sorted(folders.items()):
        if modules > FOLDER_MODULES_MAX:
            message = f"{modules} modules, at most {FOLDER_MODULES_MAX}; split the folder"
            yield Offence("folder-modules", folder, message)


def module_docstrings(tree: Tree) -> Iterator[Offence]:
    """Every module says what it is, tests too."""
    for file in tree.python:
        if file.text.strip() and ast.get_docstring(file.tree) is None:
            yield Offence("module-docstring", file.path, "say in one sentence what this module is")


def exact_numbers(tree: Tree) -> Iterator[Offence]:
    """No float where money or usage is decided."""
    for file in tree.python:
        if file.room not in EXACT_ROOMS:
            continue
        for node in ast.walk(file.tree):
            named = isinstance(node, ast.Name) and node.id == "float"
            literal = isinstance(node, ast.Constant) and isinstance(node.value, float)
            if named or literal:
                message = f"line {getattr(node, 'lineno', 0)}: float; use Decimal or int"
                yield Offence("float", file.path, message)


def one_colour(tree: Tree) -> Iterator[Offence]:
    """Only where the web server needs it is anything async."""
    for file in tree.python:
        if not file.is_source or file.path.startswith(ASYNC_FOLDERS):
            continue
        for node in ast.walk(file.tree):
            if isinstance(node, ast.AsyncFunctionDef):
                yield Offence("async", file.path, f"{node.name} is async; make it synchronous")


def honest_fakes(tree: Tree) -> Iterator[Offence]:
    """No mocks: the memory adapters are the fakes."""
    banned = "unittest" + ".mock"
    for file in tree.python:
        if re.search(rf"^\s*(import|from) {re.escape(banned)}", file.text, re.MULTILINE):
            yield Offence("mock", file.path, f"{banned}; use a memory adapter")


def plain_names(tree: Tree) -> Iterator[Offence]:
    """No class name that says nothing."""
    for file in tree.python:
        for node in ast.walk(file.tree):
            if isinstance(node, ast.ClassDef) and node.name.endswith(VAGUE_ENDINGS):
                yield Offence("vague-name", file.path, f"{node.name}: name what it is or does")


_UNFINISHED = re.compile(r"\b(" + "TO" + "DO|FIX" + "ME)\\b")


def finished(tree: Tree) -> Iterator[Offence]:
    """Nothing in the tree is a promise to finish it later."""
    for file in tree.files:
        for number, line in enumerate(file.text.splitlines(), 1):
            if _UNFINISHED.search(line):
                yield Offence("unfinished", file.path, f"line {number}: do it or leave it out")


_INDEX = re.compile(
    "|".join(["pypi" + r"\.org", "python" + "hosted", "index" + "-url", "/sim" + "ple/"])
)
_MACHINE = re.compile(r"(?<![\w.:}])/(?:home|root|Users|work)/\w")


def no_addresses(tree: Tree) -> Iterator[Offence]:
    """No package index and no path of one machine in any file."""
    for file in tree.files:
        for number, line in enumerate(file.text.splitlines(), 1):
            if _INDEX.search(line):
                yield Offence("index-address", file.path, f"line {number}: names a package index")
            if _MACHINE.search(line):
                yield Offence("machine-path", file.path, f"line {number}: a path of one machine")


_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
_QUOTED = re.compile(r"`([\w.][\w./-]*/[\w.-]+\.(?:py|md|toml|txt|svg|png|json|sh))`")
_DOC_IN_CODE = re.compile(r"\bdocs/[\w/-]+\.(?:md|svg|png)\b")


def named_files_exist(tree: Tree) -> Iterator[Offence]:
    """What documents and docstrings name is there."""
    for file in tree.files:
        for name in sorted(set(_named_files(file))):
            if not _exists(tree.root, file, name):
                yield Offence("dead-reference", file.path, f"names {name}, which does not exist")


def _named_files(file: File) -> Iterator[str]:
    if file.path.endswith(".md"):
        links = (target for target in _LINK.findall(file.text) if "://" not in target)
        yield from (target for target in links if not target.startswith("mailto:"))
        quoted = _QUOTED.findall(file.text)
        yield from (name for name in quoted if name.split("/")[0] in TOP_FOLDERS)
    elif file.is_python and not file.is_test:
        yield from _DOC_IN_CODE.findall(file.text)


def _exists(root: Path, file: File, name: str) -> bool:
    return (file.absolute.parent / name).exists() or (root / name.lstrip("/")).exists()


def room_pages(tree: Tree) -> Iterator[Offence]:
    """Every room has a page: what comes in, what goes out, and what holds."""
    package = tree.root / "src" / "tallybook"
    rooms = sorted(p.parent for p in package.glob("*/__init__.py"))
    for room in rooms:
        page = room / "README.md"
        path = page.relative_to(tree.root).as_posix()
        if not page.exists():
            yield Offence("room-page", path, f"write one: {' '.join(README_WORDS)}")
            continue
        text = page.read_text(encoding="utf-8").lower()
        missing = [word for word in README_WORDS if not re.search(rf"\b{word}", text)]
        if missing:
            yield Offence("room-page", path, f"says nothing of: {', '.join(missing)}")


def error_codes(tree: Tree) -> Iterator[Offence]:
    """Every error code of the source is in docs/errors.md, and every code there is in use."""
    page = tree.root / "docs" / "errors.md"
    listed = set(re.findall(r"^\| `([a-z0-9-]+)`", page.read_text(encoding="utf-8"), re.MULTILINE))
    used = codes_in_source(tree)
    for code, path in sorted(used.items()):
        if code not in listed:
            yield Offence("error-code", path, f"'{code}' is not in docs/errors.md")
    for code in sorted(listed - set(used)):
        yield Offence("error-code", "docs/errors.md", f"'{code}' is not used anywhere")


def codes_in_source(tree: Tree) -> dict[str, str]:
    """Return every error code written in the package, with one file that uses it."""
    found: dict[str, str] = {}
    for file in tree.python:
        if file.is_source:
            for node in ast.walk(file.tree):
                found.update(dict.fromkeys(_codes(node), file.path))
    return found


def _codes(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.keyword(arg="code", value=ast.expr() as value):
            yield from _words(value)
        case ast.Assign(targets=[ast.Name(id="code")], value=value):
            yield from _words(value)
        case ast.Call(func=ast.Name(id="_Bad"), args=[value, *_]):
            yield from _words(value)
        case _:
            return


_CODE = r"[a-z][a-z0-9]*(-[a-z0-9]+)*"


def _words(value: ast.expr) -> Iterator[str]:
    if isinstance(value, ast.IfExp):
        yield from _words(value.body)
        yield from _words(value.orelse)
    elif isinstance(value, ast.Constant) and re.fullmatch(_CODE, str(value.value)):
        yield str(value.value)


RULES: tuple[Rule, ...] = (
    file_lines,
    function_lines,
    folder_modules,
    module_docstrings,
    exact_numbers,
    one_colour,
    honest_fakes,
    plain_names,
    finished,
    no_addresses,
    named_files_exist,
    room_pages,
    error_codes,
)


def offences(root: Path) -> list[Offence]:
    """Return everything wrong with a tree that its allow-list does not accept."""
    tree = Tree(root)
    found = [offence for rule in RULES for offence in rule(tree)]
    allowed = _allowed(root / "tools" / "tidy_allow.txt")
    left = [o for o in found if (o.rule, o.path) not in allowed]
    stale = allowed - {(o.rule, o.path) for o in found}
    left += [Offence("allow-list", path, f"{rule} holds now; remove it") for rule, path in stale]
    if len(allowed) > ALLOWED_MAX:
        message = f"{len(allowed)} entries, at most {ALLOWED_MAX}; mend instead"
        left.append(Offence("allow-list", "tools/tidy_allow.txt", message))
    return left


def _allowed(path: Path) -> set[tuple[str, str]]:
    """Return (rule, path) of every entry: `rule path reason`, `#` starts a comment."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    entries = [line.split(None, 2) for line in lines if line.strip() and not line.startswith("#")]
    for entry in entries:
        if len(entry) < 3:
            raise SystemExit(f"{path}: an entry needs rule, path and reason: {' '.join(entry)}")
    return {(rule, where) for rule, where, _ in entries}


def main() -> int:
    """Print every offence; 1 when there is one."""
    found = offences(Path(__file__).resolve().parent.parent)
    for offence in found:
        print(offence)
    print(f"tidy: {len(found)} offences" if found else "tidy: clean")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
