"""Topic patterns: `+` and `#` as MQTT has them, `{name}` for one level that is kept.

`plant/{line}/meter/+` matches `plant/a/meter/7` and keeps `line` = `a`. A template such as
`meter-{line}` is filled in with what was kept.
"""

import re
from collections.abc import Mapping

from tallybook.kernel.errors import Invalid

TOPIC_CHARS_MAX = 1024
_NAMED = re.compile(r"\{([a-z][a-z0-9_]*)\}")


def subscription(pattern: str) -> str:
    """Return the filter to subscribe with.

    Raises:
        Invalid: it is no topic filter, or names one level twice.
    """
    levels = pattern.split("/")
    names = [match[1] for level in levels if (match := _NAMED.fullmatch(level))]
    plain = [level for level in levels if not _NAMED.fullmatch(level)]
    wrong = any(set("+#{}") & set(level) and level not in {"+", "#"} for level in plain)
    if not pattern or len(pattern) > TOPIC_CHARS_MAX or wrong or "#" in levels[:-1]:
        raise Invalid(f"'{pattern}' is no topic filter such as plant/{{line}}/meter/+",
                      field="topic")  # fmt: skip
    if len(set(names)) != len(names):
        raise Invalid(f"'{pattern}' names one level twice", field="topic")
    return "/".join("+" if _NAMED.fullmatch(level) else level for level in levels)


def matcher(pattern: str) -> "re.Pattern[str]":
    """Return the expression whose groups are the named levels."""
    subscription(pattern)
    parts = []
    for level in pattern.split("/"):
        named = _NAMED.fullmatch(level)
        parts.append(rf"(?P<{named[1]}>[^/]*)" if named else _LEVELS.get(level, re.escape(level)))
    body = "/".join(parts)
    if pattern.rsplit("/", maxsplit=1)[-1] == "#":
        body = body.removesuffix("/#ANY") + r"(?:/.*)?" if body != "#ANY" else r"(?!\$).*"
    return re.compile(body + r"\Z", re.DOTALL)


_LEVELS = {"+": "[^/]*", "#": "#ANY"}


def names(template: str) -> frozenset[str]:
    """Return the levels that a template asks for."""
    return frozenset(_NAMED.findall(template))


def filled(template: str, levels: Mapping[str, str]) -> str:
    """Return a template with the levels in their places."""
    return _NAMED.sub(lambda found: levels[found[1]], template)
