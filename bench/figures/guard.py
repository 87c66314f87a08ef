"""Whether a ratio has moved: bounds in a file, the best of several rounds, words for who must act.

A ratio is processor time of ours over processor time of a bare step, taken in turn on one machine,
so it hardly depends on which machine that is or what else it does.
"""

import statistics
import tomllib
from collections.abc import Mapping, Sequence

import msgspec

SLACK = 1.6
"""A bound is so many medians: twice the noise of a busy machine, half of a real regression."""
HEAD = """\
# Bounds of `make bench-guard`: processor time of ours over that of a bare step, of the same run.
#
# A ratio above its bound in every round fails CI. Where one has moved for a good reason, set new
# bounds on purpose, on a machine with nothing else to do, and say in the commit what was bought:
#
#     python -m bench guard --set            all of them
#     python -m bench guard --set accept     one
#
# A bound is 1.6 times the median that was measured when it was set.
"""


class Limit(msgspec.Struct, frozen=True):
    """What a ratio was, and what it may be."""

    median: float
    bound: float


class Watched(msgspec.Struct, frozen=True, kw_only=True):
    """A ratio that is watched.

    Attributes:
        name: its key in the file.
        over: the two things divided, in words.
    """

    name: str
    over: str

    @property
    def look(self) -> str:
        """The command that shows where the time goes."""
        return f"python -m bench profile {self.name}"


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one ratio; `best` is None where it was not measured."""

    watched: Watched
    best: float | None
    limit: Limit | None

    @property
    def held(self) -> bool:
        """Whether it is within its bound; one without a bound or a measurement is not."""
        return self.best is not None and self.limit is not None and self.best <= self.limit.bound

    def line(self) -> str:
        """Return the line that is printed in any case."""
        best = "not measured" if self.best is None else f"{self.best:.2f}"
        limit = self.limit
        bound = "no bound" if limit is None else f"bound {limit.bound:g}, was {limit.median:g}"
        return f"{'ok  ' if self.held else 'FAIL'} {self.watched.name:<10} {best} ({bound})"

    def advice(self) -> str:
        """Return what happened and what to do about it."""
        name = self.watched.name
        if self.best is None or self.limit is None:
            return f"{name} has no bound in bench/guard.toml: python -m bench guard --set {name}"
        times = self.best / self.limit.median
        return (
            f"{name}: {self.watched.over} is {self.best:.2f} in the best of all rounds; it was"
            f" {self.limit.median:g} when its bound of {self.limit.bound:g} was set, so it has"
            f" become {times:.1f} times as dear.\n"
            f"  look:  {self.watched.look}\n"
            f"  again: python -m bench guard {name}\n"
            f"  if it is meant to be: python -m bench guard --set {name}, and say in the commit why"
        )


def judge(
    watched: Sequence[Watched],
    measured: Mapping[str, Sequence[float]],
    limits: Mapping[str, Limit],
) -> list[Judgement]:
    """Return what became of every ratio: its best round against its bound."""
    return [
        Judgement(
            watched=one,
            best=min(measured.get(one.name, ()), default=None),
            limit=limits.get(one.name),
        )
        for one in watched
    ]


def limit_of(values: Sequence[float], slack: float = SLACK) -> Limit:
    """Return the bound that follows from several rounds."""
    median = statistics.median(values)
    return Limit(median=_short(median), bound=_short(median * slack))


def read_limits(text: str) -> dict[str, Limit]:
    """Return the limits of a file."""
    return msgspec.convert(tomllib.loads(text), dict[str, Limit])


def written_limits(limits: Mapping[str, Limit]) -> str:
    """Return a file of limits."""
    parts = [
        f"\n[{name}]\nmedian = {limit.median}\nbound = {limit.bound}\n"
        for name, limit in limits.items()
    ]
    return HEAD + "".join(parts)


def _short(value: float) -> float:
    return float(f"{value:.3g}")
