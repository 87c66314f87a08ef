"""`tallybook doctor`: what is wrong with a data folder, and what to do."""

from collections.abc import Iterator
from pathlib import Path

import click

from tallybook.serve.cli.common import DATA_DEFAULT, DONE, REFUSED, console, show_json
from tallybook.serve.doctor import folder
from tallybook.serve.doctor.finding import Finding, guarded
from tallybook.settings import Settings, load

_MARKS = {
    "good": ("✓", "green"),
    "note": ("·", "dim"),
    "warning": ("!", "yellow"),
    "error": ("✗", "red"),
}


@click.command()
@click.option("--data", type=click.Path(path_type=Path), help=f"Data folder.  [./{DATA_DEFAULT}]")
@click.option("--config", type=click.Path(path_type=Path), help="Settings.  [./tallybook.toml]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(data: Path | None, config: Path | None, *, as_json: bool) -> int:
    """Say what is wrong with a data folder and what to do.

    Reads only. Works with and without a server on the folder; ends with 1 where something is
    wrong.
    """
    settings = load(config, overrides={"data_dir": data})
    findings = list(examined(settings))
    wrong = [one for one in findings if one.level == "error"]
    if as_json:
        show_json({"ok": not wrong, "findings": findings})
    else:
        _show(findings, len(wrong))
    return REFUSED if wrong else DONE


def examined(settings: Settings) -> Iterator[Finding]:
    """Yield what is found, the folder first; nothing is opened that cannot be."""
    data = settings.data_dir
    found = guarded("folder", lambda: folder.rights(data))
    yield from found
    if any(one.level == "error" for one in found):
        return
    yield from guarded("disk", lambda: folder.room(data))
    yield from guarded("server", lambda: folder.server(data))
    yield from guarded("keys", lambda: folder.secrets(data))
    yield from _stored(settings)


def _stored(settings: Settings) -> Iterator[Finding]:
    from tallybook.compose import World
    from tallybook.serve.doctor import fleet, stored

    yield from guarded("installation", stored.installation)
    yield from guarded("control database", lambda: stored.control(settings))
    yield from guarded("log", lambda: stored.log(settings))
    has_lake = (settings.lake_dir / "events" / "_delta_log").exists()
    has_control = bool(settings.control.url) or settings.control_db.exists()
    if not has_lake or not has_control:
        return
    world = World(settings)
    yield from guarded("pipeline", lambda: stored.pipeline(world))
    yield from guarded("lake", lambda: stored.lake(world))
    yield from guarded("quarantine", lambda: stored.quarantine(world))
    yield from guarded("edges", lambda: fleet.edges(world))
    yield from guarded("certificates", lambda: fleet.certificates(world))
    yield from guarded("front doors", lambda: fleet.series(world))


def _show(findings: list[Finding], wrong: int) -> None:
    said = console()
    for one in findings:
        mark, style = _MARKS[one.level]
        said.print(f"{mark} {one.about}: {one.text}", style=style, markup=False, soft_wrap=True)
        if one.advice:
            said.print(f"    {one.advice}", markup=False, soft_wrap=True)
    verdict = (
        "Nothing is wrong." if not wrong else f"{wrong} of {len(findings)} findings are errors."
    )
    said.print(verdict)
