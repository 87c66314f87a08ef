"""A finding: what was looked at, how it is, and what to do."""

from collections.abc import Callable, Iterable
from typing import Literal

import msgspec

from tallybook.kernel.errors import TallybookError

Level = Literal["good", "note", "warning", "error"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at.

    Attributes:
        level: good; note, worth knowing; warning, will become an error; error, does not work.
        about: what was looked at.
        text: how it is.
        advice: what to do; '' where nothing is to be done.
    """

    level: Level
    about: str
    text: str
    advice: str = ""


def good(about: str, text: str) -> Finding:
    """Return that something is as it should be."""
    return Finding(level="good", about=about, text=text)


def note(about: str, text: str, advice: str = "") -> Finding:
    """Return something worth knowing."""
    return Finding(level="note", about=about, text=text, advice=advice)


def warning(about: str, text: str, advice: str) -> Finding:
    """Return something that will become an error."""
    return Finding(level="warning", about=about, text=text, advice=advice)


def error(about: str, text: str, advice: str) -> Finding:
    """Return something that does not work."""
    return Finding(level="error", about=about, text=text, advice=advice)


def guarded(about: str, look: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """Return what a look finds; a look that fails is a finding itself."""
    try:
        return list(look())
    except TallybookError as failure:
        return [
            error(about, failure.message, "read the message; the other findings may explain it")
        ]
    except OSError as failure:
        text = f"{failure.filename or ''} {failure.strerror or failure}".strip()
        return [error(about, text, "check that this user may read the folder and its files")]
