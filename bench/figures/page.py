"""The report as Markdown, a function of its values."""

from collections.abc import Iterator, Sequence

from bench.figures.report import Bound, Figure, Report, Section, Table

BEGIN = "<!-- speed: written by `make bench` from bench/REPORT.json; change nothing by hand -->"
END = "<!-- /speed -->"
HEAD = """\
# Benchmark report

`make bench` measures this; [README](README.md) says how, and what each section is. Server and load
generator share the cores of one machine, so rates vary with what else it does: beside each figure
stands its **bound**, the bare minimum measured in the same run, and how many times better that is.
Compare these ratios, not the rates. Where rounds were several, the median stands there, with the
least and the greatest. Targets that are not reached are shown like those that are.
"""


def page(report: Report, order: Sequence[str]) -> str:
    """Return bench/REPORT.md.

    Args:
        report: what was measured.
        order: names of sections; others follow.
    """
    names = [name for name in order if name in report.sections]
    names += [name for name in report.sections if name not in names]
    lines = [HEAD]
    for name in names:
        lines += section_lines(report.sections[name])
    return "\n".join(lines)


def section_lines(section: Section) -> Iterator[str]:
    """Yield the lines of a section."""
    yield f"## {section.title}"
    yield ""
    yield _when(section)
    yield ""
    if section.figures:
        yield from _table(
            Table(
                title="",
                head=("figure", "measured", "bound: bare minimum (ratio)", "target", "how"),
                rows=tuple(_row(figure) for figure in section.figures),
            )
        )
    for verdict in section.verdicts:
        yield f"* {'Held' if verdict.held else '**Not held**'}: {verdict.demand}: {verdict.found}."
    if section.verdicts:
        yield ""
    for table in section.tables:
        yield from _table(table)
    if section.text:
        yield section.text
        yield ""


def speed_table(report: Report, order: Sequence[str]) -> str:
    """Return the table of README, between its two marks: the figures that have targets."""
    sections = sorted(
        report.sections.values(),
        key=lambda one: order.index(one.name) if one.name in order else len(order),
    )
    rows = tuple(
        (*_row(figure)[:4], section.measured_at[:10])
        for section in sections
        for figure in section.figures
        if figure.headline
    )
    head = ("figure", "measured", "bound: bare minimum (ratio)", "target", "when")
    return "\n".join([BEGIN, "", *_table(Table(title="", head=head, rows=rows)), END])


def with_speed_table(readme: str, table: str) -> str:
    """Return README with its table replaced; unchanged where it has no marks."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    return f"{before}{table}{after}" if begin and end else readme


def number(value: float) -> str:
    """Return a number with three digits that count, or all before the point."""
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    if size >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if size >= 0.1 or not size else f"{value:.3g}"


def _when(section: Section) -> str:
    parts = [f"Measured {section.measured_at[:16].replace('T', ' ')} UTC"]
    if section.took_seconds:
        parts.append(f"in {section.took_seconds:,.0f} s")
    if section.commit:
        parts.append(f"at commit {section.commit}")
    where = f"{', '.join(parts)}. {section.machine}. {section.versions}.".replace(" . .", "")
    told = ", ".join(f"{name} {value}" for name, value in section.parameters.items())
    beware = f" Load before it began: {section.load:.1f}." if section.machine else ""
    return f"{where}{beware}{f' Parameters: {told}.' if told else ''}"


def _row(figure: Figure) -> tuple[str, ...]:
    bounds = "; ".join(_bound(figure, bound) for bound in figure.bounds)
    reached = {None: "", True: " (reached)", False: " (not reached)"}[figure.reached]
    return (
        figure.name,
        _measured(figure),
        bounds,
        f"{figure.target}{reached}" if figure.target else "",
        figure.note,
    )


def _measured(figure: Figure) -> str:
    spread = figure.spread
    text = f"{number(spread.median)} {figure.unit}"
    if spread.rounds > 1:
        text += f" ({number(spread.low)} to {number(spread.high)}, {spread.rounds} rounds)"
    return text


def _bound(figure: Figure, bound: Bound) -> str:
    return f"{bound.name} {number(bound.value)} ({figure.ratio(bound):.2g}×)"


def _table(table: Table) -> Iterator[str]:
    if table.title:
        yield f"{table.title}:"
        yield ""
    yield f"| {' | '.join(table.head)} |"
    yield f"|{'---|' * len(table.head)}"
    for row in table.rows:
        yield f"| {' | '.join(row)} |"
    yield ""
