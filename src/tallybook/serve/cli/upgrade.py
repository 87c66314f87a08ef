"""`tallybook upgrade`: bring a control database that servers share to this version's schema."""

from pathlib import Path

import click

from tallybook.adapters.sql.database import upgrade_database
from tallybook.adapters.sql.schema import newest
from tallybook.compose import control_address
from tallybook.kernel.errors import Conflict
from tallybook.serve.cli.common import DATA_DEFAULT, DONE, show_json
from tallybook.serve.supervisor.folder import is_locked
from tallybook.settings import load


@click.command()
@click.option("--data", type=click.Path(path_type=Path), help=f"Data folder.  [./{DATA_DEFAULT}]")
@click.option("--config", type=click.Path(path_type=Path), help="Settings.  [./tallybook.toml]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def upgrade(data: Path | None, config: Path | None, *, as_json: bool) -> int:
    """Bring the control database to this version's schema.

    Stop every server that uses it first, and have a backup. `serve` does this by itself where the
    database is in its own data folder.
    """
    settings = load(config, overrides={"data_dir": data})
    if is_locked(settings.data_dir):
        message = f"a server works on {settings.data_dir}; stop it first"
        raise Conflict(message, code="folder-locked")
    taken = upgrade_database(control_address(settings))
    if as_json:
        show_json({"schema": newest(), "steps": taken})
    elif taken:
        click.echo(f"The control database has schema {newest()} now: took {', '.join(taken)}.")
    else:
        click.echo(f"The control database has schema {newest()}: nothing to do.")
    return DONE
