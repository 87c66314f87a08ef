"""Paths into an event's data: names and indexes only (`$.a.b[0]`), never SQL text.

DECISIONS 11: one typed column for each path that any meter uses, named after the path.
"""

import re
from collections.abc import Sequence
from typing import NewType

from tallybook.kernel.errors import Invalid
from tallybook.kernel.limits import NAME_CHARS_MAX, PATH_STEPS_MAX

Path = NewType("Path", str)
"""A path in canonical spelling, parsed once by `parse_path`."""

Step = str | int

_STEP = re.compile(
    r"""\.([^.\[\]'"\s*?()]+)|\['((?:[^'\\]|\\.)*)'\]|\["((?:[^"\\]|\\.)*)"\]|\[([0-9]+)\]"""
)
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*\Z")


def steps(path: str) -> tuple[Step, ...]:
    """Return the names and indexes of a path, outermost first; `$` alone is ().

    Raises:
        Invalid: not a path of names and indexes, or too long.
    """
    if not path.startswith("$") or len(path) > NAME_CHARS_MAX:
        raise Invalid(f"'{path}' is not a path such as $.bytes or $.size['total'][0]", field="path")
    found: list[Step] = []
    at = 1
    while at < len(path):
        match = _STEP.match(path, at)
        if match is None or len(found) >= PATH_STEPS_MAX:
            message = f"'{path}': only names and indexes are allowed, at most {PATH_STEPS_MAX} deep"
            raise Invalid(message, field="path")
        found.append(_step(match))
        at = match.end()
    return tuple(found)


def _step(match: "re.Match[str]") -> Step:
    name, single, double, index = match.groups()
    if index is not None:
        return int(index)
    if name is not None:
        return str(name)
    return re.sub(r"\\(.)", r"\1", single if single is not None else double)


def spell(parts: Sequence[Step]) -> Path:
    """Return the canonical spelling of a path."""
    return Path("$" + "".join(_spell_step(part) for part in parts))


def _spell_step(part: Step) -> str:
    if isinstance(part, int):
        return f"[{part}]"
    if _PLAIN.match(part):
        return f".{part}"
    escaped = part.replace("\\", "\\\\").replace("'", "\\'")
    return f"['{escaped}']"


def parse_path(text: str) -> Path:
    """Return the canonical path for `text`; raises Invalid."""
    canonical = spell(steps(text))
    steps(canonical)  # its spelling may be longer than the one given
    return canonical


def column_name(path: Path, twin: str) -> str:
    """Return the lake column of a path: `n_bytes` (number) or `t_region` (text).

    Every character outside [a-z0-9] is spelled as `_x2e_`, an index as `_0` and an empty name as
    `_e`, so that two paths never share a column and no engine has to quote or fold case.

    Args:
        path: canonical.
        twin: 'n' for the numeric twin, 't' for the text twin.
    """
    assert twin in {"n", "t"}, twin
    body = "__".join(_column_part(part) for part in steps(path)) or "_root"
    return f"{twin}_{body}"


def _column_part(part: Step) -> str:
    if isinstance(part, int):
        return f"_{part}"
    spelled = (c if "a" <= c <= "z" or "0" <= c <= "9" else f"_x{ord(c):x}_" for c in part)
    return "".join(spelled) or "_e"


_COLUMN_PART = re.compile(
    r"_([0-9]+)|_e(?=__|\Z)|((?:[a-z0-9]|_x[0-9a-f]{1,5}_|_x10[0-9a-f]{4}_)+)"
)
_CODED = re.compile(r"_x([0-9a-f]+)_")


def column_path(name: str) -> Path:
    """Return the path that a typed column is named after: the inverse of `column_name`.

    Raises:
        Invalid: no typed column has such a name.
    """
    twin, body = name[:1], name[2:]
    path = spell(_column_steps(body)) if body != "_root" else Path("$")
    if twin not in {"n", "t"} or column_name(path, twin) != name:
        raise Invalid(f"'{name}' is not a typed column", field="column")
    return path


def _column_steps(body: str) -> list[Step]:
    found: list[Step] = []
    at = 0
    while (match := _COLUMN_PART.match(body, at)) is not None:
        index, text = match.groups()
        coded = "" if text is None else _CODED.sub(lambda m: chr(int(m[1], 16)), text)
        found.append(int(index) if index is not None else coded)
        at = match.end() + 2  # the `__` between two parts
    return found
