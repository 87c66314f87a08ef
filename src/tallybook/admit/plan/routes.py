"""Groups of routes: a method and a path, with `*` for any run of characters."""

import re
from functools import lru_cache

from tallybook.kernel.errors import Invalid

PATTERN_CHARS_MAX = 200
_PATTERN = re.compile(r"\*|(?:[A-Z]+|\*) (?:\*|/[!-~]*)", re.ASCII)


def checked(patterns: tuple[str, ...], field: str) -> tuple[str, ...]:
    """Return patterns of routes; raises Invalid where one is none."""
    for pattern in patterns:
        if len(pattern) > PATTERN_CHARS_MAX or _PATTERN.fullmatch(pattern) is None:
            message = (
                f"'{pattern[:PATTERN_CHARS_MAX]}' is no group of routes; write a method and a path,"
                " such as 'POST /api/v1/events', 'GET /api/v1/*' or '*'"
            )
            raise Invalid(message, field=field)
    if not patterns:
        raise Invalid("name a group of routes, '*' for all", field=field)
    return patterns


def covers(patterns: tuple[str, ...], method: str, path: str) -> bool:
    """Whether a request belongs to one of the groups."""
    return patterns == ("*",) or _compiled(patterns).fullmatch(f"{method} {path}") is not None


@lru_cache(maxsize=4096)
def _compiled(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(_regex(pattern) for pattern in patterns), re.DOTALL)


def _regex(pattern: str) -> str:
    return ".*".join(re.escape(part) for part in re.sub(r"\*+", "*", pattern).split("*"))
