"""`python -m bench`: measures this machine and writes bench/REPORT.md, REPORT.json and README.

Every section is written as soon as it is measured and replaces its older self alone, so a run that
was stopped goes on with `--resume HOURS`, and what was not measured anew keeps its date.
"""

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import msgspec

from bench.figures.page import page, section_lines, speed_table, with_speed_table
from bench.figures.report import Found, Report, Section
from bench.watch.machine import commit, load, machine, versions

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
TITLES = {
    "scenarios": "Accepting, and the lake that follows",
    "freshness": "Freshness",
    "bursts": "Bursts",
    "growth": "Growth",
    "soak": "A soak",
    "billing": "Billing runs",
    "start": "Start",
    "checks": "Entitlement checks",
    "limits": "Limits at the door",
    "doors": "Front doors",
    "routing": "Routing",
    "agent": "The edge agent",
}
LONG = frozenset({"growth", "soak"})
"""Measured by `all` or by name only: they take an hour."""


class Command(msgspec.Struct, frozen=True):
    """What is measured, by name, with which parameters."""

    name: str
    told: dict[str, Any]


def measure(command: Command) -> Found:
    """Measure one section; what it needs is imported then."""
    return _runner(command.name)(**command.told)


def _runner(name: str) -> Callable[..., Found]:
    if name in {"checks", "limits", "doors", "agent"}:
        from bench.parts.sections import PARTS

        return PARTS[name]
    from importlib import import_module

    where = "parts" if name in {"billing", "routing"} else "runs"
    runner: Callable[..., Found] = import_module(f"bench.{where}.{name}").run
    return runner


def read_report() -> Report:
    """Return the report as it stands; an empty one where there is none."""
    path = HERE / "REPORT.json"
    return msgspec.json.decode(path.read_bytes(), type=Report) if path.exists() else Report()


def write_report(report: Report) -> None:
    """Write report, page and README's table."""
    content = msgspec.json.format(msgspec.json.encode(report), indent=1)
    (HERE / "REPORT.json").write_bytes(content + b"\n")
    (HERE / "REPORT.md").write_text(page(report, list(TITLES)))
    README.write_text(with_speed_table(README.read_text(), speed_table(report, list(TITLES))))


def measured(command: Command, *, quick: bool) -> Section:
    """Measure a section and say where, when and with what; a quick one is not kept."""
    busy, started = load(), time.monotonic()
    begun = datetime.now(UTC)
    found = measure(command)
    section = Section(
        name=command.name,
        title=TITLES[command.name],
        measured_at=f"{begun:%Y-%m-%dT%H:%M:%SZ}",
        took_seconds=round(time.monotonic() - started, 1),
        commit=commit(),
        machine=machine(),
        versions=versions(),
        load=round(busy, 2),
        parameters={name: _shown(value) for name, value in command.told.items()},
        figures=tuple(found.figures),
        verdicts=tuple(found.verdicts),
        tables=tuple(found.tables),
        text=found.text,
    )
    print("\n".join(section_lines(section)), flush=True)
    if not quick:
        write_report(read_report().with_section(section))
    return section


def _shown(value: object) -> str:
    if isinstance(value, list | tuple):
        return " ".join(_shown(one) for one in value) or "all"
    return f"{value:,}" if isinstance(value, int) else str(value)


QUICK: dict[str, dict[str, Any]] = {
    "scenarios": {"rounds": 1, "seconds": 1.5, "bare_seconds": 0.6},
    "freshness": {"seconds": 5.0, "rates": [5_000.0]},
    "bursts": {"seconds": 4.0, "calm_seconds": 2.0},
    "growth": {"marks": [40_000, 120_000], "rounds": 2, "times": 4, "events": 10_000},
    "soak": {"minutes": 0.25, "calibrate_seconds": 3.0},
    "billing": {"customers": 200, "rounds": 1},
    "start": {"times": 2},
    "checks": {"seconds": 4.0},
    "agent": {"seconds_max": 12},
}
"""Seconds instead of minutes: shows that it works, and nothing else."""


def commands(names: list[str], *, quick: bool) -> list[Command]:
    """Return what is measured, with its parameters."""
    return [Command(name, FULL[name] | (QUICK.get(name, {}) if quick else {})) for name in names]


FULL: dict[str, dict[str, Any]] = {
    "scenarios": {"rounds": 3, "seconds": 8.0, "bare_seconds": 3.0},
    "freshness": {"seconds": 30.0, "rates": [50_000.0, 200_000.0, 400_000.0]},
    "bursts": {"seconds": 30.0, "calm_seconds": 10.0},
    "growth": {"marks": [1_000_000, 10_000_000, 100_000_000], "rounds": 3},
    "soak": {"minutes": 30.0, "share": 0.7},
    "billing": {"customers": 10_000, "rounds": 3},
    "start": {"times": 7},
    "checks": {"seconds": 15.0},
    "limits": {},
    "doors": {},
    "routing": {},
    "agent": {"seconds_max": 1_000},
}


@click.group(invoke_without_command=True)
@click.option("--quick", is_flag=True, help="Seconds instead of minutes; nothing is written.")
@click.option("--resume", type=float, default=0.0, help="Leave out what is so many hours young.")
@click.pass_context
def main(context: click.Context, quick: bool, resume: float) -> None:  # noqa: FBT001 - click's way
    """Measure this machine: every section but the long ones, growth and soak."""
    if context.invoked_subcommand is None:
        _run([name for name in TITLES if name not in LONG], quick=quick, resume=resume)


def _run(names: list[str], *, quick: bool, resume: float) -> None:
    young = _young(resume)
    failed = []
    for command in commands([name for name in names if name not in young], quick=quick):
        print(f"== {command.name}", flush=True)
        failed += measured(command, quick=quick).failed
    for verdict in failed:
        print(f"NOT HELD: {verdict.demand}: {verdict.found}")
    sys.exit(1 if failed else 0)


def _young(hours: float) -> set[str]:
    """Return the sections that were measured within so many hours."""
    since = datetime.now(UTC) - timedelta(hours=hours)
    return {
        name
        for name, section in read_report().sections.items()
        if hours and datetime.fromisoformat(section.measured_at) > since
    }


@main.command("all")
@click.option("--quick", is_flag=True)
@click.option("--resume", type=float, default=0.0, help="Leave out what is so many hours young.")
def everything(quick: bool, resume: float) -> None:  # noqa: FBT001 - click's way
    """Every section, growth to 100 M events and the soak of 30 minutes among them."""
    _run(list(TITLES), quick=quick, resume=resume)


def _command(name: str) -> click.Command:
    """Return the command of a section: its parameters are its options."""
    told = FULL[name]

    def run(quick: bool, **given: Any) -> None:  # noqa: FBT001 - click's way
        parameters = told | (QUICK.get(name, {}) if quick else {})
        parameters |= {
            key: _given(value) for key, value in given.items() if value not in {None, ()}
        }
        section = measured(Command(name, parameters), quick=quick)
        sys.exit(1 if section.failed else 0)

    options: list[click.Parameter] = [click.Option(["--quick"], is_flag=True)]
    options += [_option(key, value) for key, value in (told | EXTRA.get(name, {})).items()]
    return click.Command(name, callback=run, params=options, help=TITLES[name])


EXTRA: dict[str, dict[str, Any]] = {
    "scenarios": {"only": [""]},
    "bursts": {"base": 0.0},
    "growth": {"events": 0, "times": 0},
}
"""Parameters without a default worth telling."""


def _given(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _option(key: str, default: Any) -> click.Option:
    many = isinstance(default, list)
    kind = type(default[0] if many else default)
    return click.Option([f"--{key.replace('_', '-')}"], type=kind, multiple=many)


for _name in TITLES:
    main.add_command(_command(_name))


@main.command()
@click.argument("names", nargs=-1)
@click.option("--set", "setting", is_flag=True, help="Write new bounds into bench/guard.toml.")
@click.option("--rounds", type=int, default=0, help="At most; of --set, exactly.")
def guard(names: tuple[str, ...], setting: bool, rounds: int) -> None:  # noqa: FBT001 - click's way
    """Compare ratios with their bounds in bench/guard.toml, as CI does; NAMES are some of them."""
    from bench.runs import guard as guarding

    if setting:
        for name, limit in guarding.set_limits(names, rounds or 3).items():
            print(f"{name:<10} {limit.median:g}, bound {limit.bound:g}")
        return
    judged = guarding.run(names, rounds or guarding.ROUNDS_MAX)
    print("\n".join(one.line() for one in judged))
    failed = [one for one in judged if not one.held]
    print("".join(f"\n{one.advice()}\n" for one in failed), end="")
    sys.exit(1 if failed else 0)


@main.command()
@click.argument("names", nargs=-1)
@click.option("--seconds", type=float, default=20.0, help="Of samples, at most.")
def profile(names: tuple[str, ...], seconds: float) -> None:
    """Show where time and memory go, as text in bench/profiles; NAMES are some of the profiles."""
    from bench.profiling.take import NAMES, take

    for name in names or NAMES:
        print(take(name, seconds))


@main.command()
def render() -> None:
    """Write REPORT.md and README's table anew from REPORT.json."""
    write_report(read_report())


if __name__ == "__main__":
    main(prog_name="python -m bench")
