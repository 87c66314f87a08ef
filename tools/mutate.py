"""Change a room in many small ways, one at a time, and see whether its tests notice.

A mutant is one changed operator, number, condition, call or statement. A mutant that every test
passes has survived: either a test is missing, or the change makes no difference. The report names
each survivor with its line.

    make mutate ARGS="rate"                 every mutant of the room
    make mutate ARGS="rate tiers.py"        of one file
    make mutate ARGS="invoice --sample 300" of any 300 places, the same ones every time

A first run of the room's tests notes which of them come by each line; a mutant is then shown to
these alone, in a process of its own that is forked with everything imported but the room.
"""

import argparse
import ast
import os
import random
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import coverage
import msgspec
import pyarrow.parquet
import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src"
ROOMS = {
    "rate": (
        "tests/unit/rate", "tests/unit/invoice/test_rating.py",
        "tests/unit/invoice/test_questions.py", "tests/golden/test_prices_openmeter.py",
        "tests/golden/test_prices_lago.py", "tests/golden/test_prices_killbill.py",
        "tests/golden/test_recurring.py",
    ),
    "invoice": ("tests/unit/invoice", "tests/flow", "tests/golden"),
    "meter": ("tests/unit/meter", "tests/sim/test_reader_matches_oracle.py", "tests/golden"),
}  # fmt: skip
"""Room -> where its tests are."""

SECONDS_MAX = 60
"""A mutant that runs longer is one that goes on for ever: noticed."""

SHARED = (msgspec, pyarrow.parquet)
"""Imported once, so that no fork has to."""

OPTIONS = ("-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "--no-header")


class Mutant(NamedTuple):
    """One change: of which file and line, and what becomes of what."""

    path: Path
    line: int
    number: int
    change: str


_COMPARED: dict[type[ast.cmpop], ast.cmpop] = {
    ast.Lt: ast.LtE(), ast.LtE: ast.Lt(), ast.Gt: ast.GtE(), ast.GtE: ast.Gt(),
    ast.Eq: ast.NotEq(), ast.NotEq: ast.Eq(), ast.Is: ast.IsNot(), ast.IsNot: ast.Is(),
    ast.In: ast.NotIn(), ast.NotIn: ast.In(),
}  # fmt: skip
_COMPUTED: dict[type[ast.operator], ast.operator] = {
    ast.Add: ast.Sub(), ast.Sub: ast.Add(), ast.Mult: ast.FloorDiv(), ast.FloorDiv: ast.Mult(),
    ast.Mod: ast.FloorDiv(), ast.Div: ast.Mult(), ast.BitOr: ast.BitAnd(), ast.Pow: ast.Mult(),
}  # fmt: skip
_CALLED = {
    "add": "subtract", "subtract": "add", "multiply": "divide", "divide": "multiply",
    "min": "max", "max": "min", "any": "all", "all": "any", "floor": "ceil", "ceil": "floor",
}  # fmt: skip

_LEFT_OUT = (ast.Assign, ast.AugAssign, ast.Raise, ast.Continue, ast.Break)


class _Mutator(ast.NodeTransformer):
    """Counts the places where a module can be changed, and changes one of them.

    Args:
        wanted: number of the place to change; None to list them all.
    """

    def __init__(self, wanted: int | None) -> None:
        """Start at the first place."""
        self.wanted = wanted
        self.found: list[tuple[int, str]] = []

    def _here(self, node: ast.AST, change: str) -> bool:
        self.found.append((getattr(node, "lineno", 0), change))
        return self.wanted == len(self.found) - 1

    def visit(self, node: ast.AST) -> ast.AST:
        """Pass over what decides nothing: types, decorators, assertions, documentation."""
        if isinstance(node, ast.Assert | ast.Import | ast.ImportFrom):
            return node
        if isinstance(node, ast.FunctionDef):
            node.args.defaults = [self.visit(d) for d in node.args.defaults]  # type: ignore[misc]
            node.body = self._body(node.body)
            return node
        if isinstance(node, ast.ClassDef):
            node.body = self._body(node.body)
            return node
        if isinstance(node, ast.AnnAssign):
            node.value = self.visit(node.value) if node.value is not None else None  # type: ignore[assignment]
            return node
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            return node
        return super().visit(node)  # type: ignore[no-any-return]

    def _body(self, body: list[ast.stmt]) -> list[ast.stmt]:
        return [self._statement(statement) for statement in body]

    def _statement(self, statement: ast.stmt) -> ast.stmt:
        """Leave a statement out, or change what is in it."""
        left_out = isinstance(statement, _LEFT_OUT) or (
            isinstance(statement, ast.Expr) and not isinstance(statement.value, ast.Constant)
        )
        words = ast.unparse(statement).splitlines()[0]
        if left_out and self._here(statement, f"without {words}"):
            return ast.copy_location(ast.Pass(), statement)
        returns = isinstance(statement, ast.Return) and statement.value is not None
        if returns and self._here(statement, "return None"):
            return ast.copy_location(ast.Return(ast.Constant(None)), statement)
        changed = self.visit(statement)
        assert isinstance(changed, ast.stmt), "a statement stays one"
        return changed

    def generic_visit(self, node: ast.AST) -> ast.AST:
        """Go into every statement list as into a function's body."""
        for name, value in ast.iter_fields(node):
            if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
                setattr(node, name, self._body(value))
            elif isinstance(value, list):
                setattr(node, name, [self._kept(item) for item in value])
            elif isinstance(value, ast.AST) and name not in {"annotation", "returns"}:
                setattr(node, name, self.visit(value))
        return node

    def _kept(self, item: object) -> object:
        return self.visit(item) if isinstance(item, ast.AST) else item

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        """Change the first comparison."""
        other = _COMPARED[type(node.ops[0])]
        change = f"{ast.unparse(node)} with {type(other).__name__}"
        if self._here(node, change):
            node.ops[0] = other
            return node
        return self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        """Change an arithmetic operator."""
        other = _COMPUTED.get(type(node.op))
        if other and self._here(node, f"{ast.unparse(node)} with {type(other).__name__}"):
            node.op = other
            return node
        return self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        """Take `or` for `and`, and the other way round."""
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        if self._here(node, f"{ast.unparse(node)} with {type(other).__name__}"):
            node.op = other
            return node
        return self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        """Leave out `not` and minus."""
        if self._here(node, f"{ast.unparse(node)} without {type(node.op).__name__}"):
            return node.operand
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Take another function."""
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        other = _CALLED.get(name)
        if other and self._here(node, f"{ast.unparse(node)} with {other}"):
            if isinstance(node.func, ast.Attribute):
                node.func.attr = other
            else:
                node.func = ast.copy_location(ast.Name(other, ast.Load()), node.func)
            return node
        return self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        """Change a number by one, and a truth value."""
        if isinstance(node.value, bool):
            if self._here(node, f"{not node.value} for {node.value}"):
                return ast.copy_location(ast.Constant(not node.value), node)
        elif isinstance(node.value, int) and self._here(node, f"{node.value + 1} for {node.value}"):
            return ast.copy_location(ast.Constant(node.value + 1), node)
        return node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        """Leave words alone."""
        return node


def mutants(path: Path) -> list[Mutant]:
    """Return every mutant of a file."""
    mutator = _Mutator(None)
    mutator.visit(ast.parse(path.read_text(encoding="utf-8")))
    return [Mutant(path, line, at, change) for at, (line, change) in enumerate(mutator.found)]


class _Changed(MetaPathFinder, Loader):
    """Imports one module as its mutant, and every other one as it is."""

    def __init__(self, mutant: Mutant) -> None:
        """Make the mutant."""
        changed = _Mutator(mutant.number).visit(ast.parse(mutant.path.read_text(encoding="utf-8")))
        assert isinstance(changed, ast.Module), "a module stays one"
        self.code = compile(ast.fix_missing_locations(changed), str(mutant.path), "exec")
        self.name = module_name(mutant.path)

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        """Find the module, when it is asked for."""
        del path, target
        return spec_from_loader(fullname, self) if fullname == self.name else None

    def exec_module(self, module: ModuleType) -> None:
        """Run the mutant as the module."""
        exec(self.code, module.__dict__)


def module_name(path: Path) -> str:
    """Return the import name of a source file."""
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts)


def in_fork(work: Callable[[], int]) -> int:
    """Start a process that ends with what `work` returns; return its id."""
    child = os.fork()
    if child:
        return child
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    try:
        os._exit(work())
    finally:
        os._exit(3)


def which_tests(folder: Path, tests: Sequence[str]) -> dict[tuple[str, int], set[str]]:
    """Run the tests once; return which of them come by each line, by file and line.

    Lines that run at import are come by from '' alone.
    """
    with tempfile.TemporaryDirectory() as temporary:
        file = str(Path(temporary) / "coverage")

        def watched() -> int:
            cover = coverage.Coverage(data_file=file, source=[str(folder)], config_file=False)
            cover.set_option("run:dynamic_context", "test_function")
            cover.start()
            code = pytest.main([*OPTIONS, *tests])
            cover.stop()
            cover.save()
            return int(code)

        _, status = os.waitpid(in_fork(watched), 0)
        if status:
            sys.exit("the tests fail without any mutant")
        data = coverage.CoverageData(file)
        data.read()
        return {
            (name, line): {test_id(context) for context in contexts if context}
            for name in data.measured_files()
            for line, contexts in data.contexts_by_lineno(name).items()
        }


def test_id(context: str) -> str:
    """Return what pytest calls a test that coverage calls 'tests.unit.rate.test_x.test_y'."""
    module, _, function = context.rpartition(".")
    return f"{module.replace('.', '/')}.py::{function}"


def noticed(mutant: Mutant, tests: Sequence[str]) -> int:
    """Show a mutant to tests, in this process; return 0 where they all pass."""
    signal.alarm(SECONDS_MAX)
    sys.meta_path.insert(0, _Changed(mutant))
    return int(pytest.main([*OPTIONS, *tests]))


def judged(
    wanted: Sequence[Mutant], seen: dict[tuple[str, int], set[str]], tests: Sequence[str], jobs: int
) -> Iterator[tuple[Mutant, bool]]:
    """Yield each mutant and whether a test noticed it, `jobs` processes at a time."""
    running: dict[int, Mutant] = {}
    waiting = list(reversed(wanted))
    while waiting or running:
        while waiting and len(running) < jobs:
            mutant = waiting.pop()
            by = sorted(seen.get((str(mutant.path), mutant.line), set())) or list(tests)
            running[in_fork(lambda m=mutant, t=by: noticed(m, t))] = mutant  # type: ignore[misc]
        child, status = os.wait()
        if child in running:
            yield running.pop(child), status != 0


def main() -> int:
    """Run, and print the survivors; 1 where there are any."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("room", choices=sorted(ROOMS))
    parser.add_argument("files", nargs="*", help="names of files; all of the room where none")
    parser.add_argument("--sample", type=int, help="only so many mutants, by a fixed choice")
    parser.add_argument("--jobs", type=int, default=2)
    asked = parser.parse_args()
    os.chdir(ROOT)
    os.environ.setdefault("HYPOTHESIS_PROFILE", "mutants")
    sys.path[:0] = [str(SOURCE), str(ROOT)]
    folder, tests = SOURCE / "tallybook" / asked.room, ROOMS[asked.room]
    paths = [p for p in sorted(folder.rglob("*.py")) if not asked.files or p.name in asked.files]
    wanted = [mutant for path in paths for mutant in mutants(path)]
    if asked.sample and asked.sample < len(wanted):
        wanted = sorted(random.Random(0).sample(wanted, asked.sample))
    seen = which_tests(folder, tests)
    survivors: list[Mutant] = []
    for done, (mutant, killed) in enumerate(judged(wanted, seen, tests, asked.jobs), 1):
        if not killed:
            survivors.append(mutant)
            print(f"\r{mutant.path.name} {mutant.line}: {mutant.change}", file=sys.stderr)
        if sys.stderr.isatty():
            print(f"\r{done} of {len(wanted)}, {len(survivors)} alive", end="", file=sys.stderr)
    report(wanted, sorted(survivors))
    return 1 if survivors else 0


def report(wanted: Sequence[Mutant], survivors: Sequence[Mutant]) -> None:
    """Print how many were noticed, by file, and every survivor."""
    for path in sorted({mutant.path for mutant in wanted}):
        count = sum(mutant.path == path for mutant in wanted)
        alive = [mutant for mutant in survivors if mutant.path == path]
        print(f"{path.relative_to(ROOT)}: {count - len(alive)} of {count} noticed")
        for mutant in alive:
            print(f"  line {mutant.line}: {mutant.change}")
    print(f"{len(wanted) - len(survivors)} of {len(wanted)} mutants noticed")


if __name__ == "__main__":
    sys.exit(main())
