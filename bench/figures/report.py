"""The report as values: sections that are measured each for itself, and kept with their dates."""

import msgspec

from bench.figures.numbers import Spread


class Bound(msgspec.Struct, frozen=True, kw_only=True):
    """The bare minimum beside a figure, measured in the same run on the same machine.

    Attributes:
        name: what was done and nothing else.
        value: in the figure's unit.
    """

    name: str
    value: float


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the report.

    Attributes:
        name: what was measured.
        spread: median, least and greatest of the rounds.
        unit: of the figure and its bounds.
        target: as CONTRACTS §7 puts it; '' where none is set.
        reached: whether it is reached; None without a target, or where this run cannot tell.
        bounds: the bare minima.
        less_is_better: as for times; rates are better where they are more.
        note: how, in a few words.
        headline: whether it stands in README.
    """

    name: str
    spread: Spread
    unit: str
    target: str = ""
    reached: bool | None = None
    bounds: tuple[Bound, ...] = ()
    less_is_better: bool = False
    note: str = ""
    headline: bool = False

    def ratio(self, bound: Bound) -> float:
        """Return how many times better the bare minimum is."""
        mine = self.spread.median
        above, below = (mine, bound.value) if self.less_is_better else (bound.value, mine)
        return above / below if below else 0.0


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """A demand that was put to the test."""

    demand: str
    held: bool
    found: str


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """Details under a section."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class Section(msgspec.Struct, kw_only=True):
    """What one command measured, at one time.

    Attributes:
        name: the command. title: of the section.
        measured_at: RFC 3339. took_seconds: from its start to its end.
        commit, machine, versions: of what and where.
        load: processes that wanted a core before it began; above the cores, beware.
        parameters: everything that it was told.
        text: more to say, paragraphs.
    """

    name: str
    title: str
    measured_at: str
    took_seconds: float = 0.0
    commit: str = ""
    machine: str = ""
    versions: str = ""
    load: float = 0.0
    parameters: dict[str, str] = {}
    figures: tuple[Figure, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    tables: tuple[Table, ...] = ()
    text: str = ""

    @property
    def failed(self) -> list[Verdict]:
        """The demands that were not met."""
        return [verdict for verdict in self.verdicts if not verdict.held]


class Report(msgspec.Struct, kw_only=True):
    """All sections, by name; a new measurement of one replaces that one alone."""

    sections: dict[str, Section] = {}

    def with_section(self, section: Section) -> "Report":
        """Return the report with a section in the place of its older self."""
        return Report(sections={**self.sections, section.name: section})


class Found(msgspec.Struct, kw_only=True):
    """What a run hands back; where, when and with what is added by who called it."""

    figures: list[Figure] = []
    verdicts: list[Verdict] = []
    tables: list[Table] = []
    text: str = ""
