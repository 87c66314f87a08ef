"""`tallybook serve`.

The imports at the top are those the server needs, so that the base install hears at once which
package is missing.
"""

import contextlib
import importlib.util
import os
import sys
import threading
from pathlib import Path

import click

from tallybook.serve.cli.common import DONE
from tallybook.serve.supervisor.flow import Opened, opened
from tallybook.serve.supervisor.tree import Tree, signals
from tallybook.settings import load

NEEDED = ("granian", "structlog", "litestar", "sqlalchemy", "duckdb", "deltalake", "jinja2")
FIRST_KEY = "TALLYBOOK_FIRST_KEY"

for _name in NEEDED:
    if importlib.util.find_spec(_name) is None:
        raise ModuleNotFoundError(f"No module named {_name!r}", name=_name)


@click.command()
@click.option("--data", type=click.Path(path_type=Path), help="Data folder.  [./tallybook-data]")
@click.option("--host", help="Address to listen on.  [127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port; 0 is a free one.  [8080]")
@click.option("--tls-port", type=click.IntRange(0, 65535),
              help="Port for edges with certificates (`tallybook ca`).  [none]")  # fmt: skip
@click.option("--config", type=click.Path(path_type=Path), help="Settings.  [./tallybook.toml]")
@click.option("--private", is_flag=True, hidden=True)
def serve(
    data: Path | None,
    host: str | None,
    port: int | None,
    tls_port: int | None,
    config: Path | None,
    *,
    private: bool,
) -> int:
    """Run the API, the console and the workers on one data folder."""
    overrides = {
        "data_dir": data,
        "server.host": host,
        "server.port": port,
        "tls.port": tls_port,
    }
    settings = load(config, overrides=overrides)
    trees: list[Tree] = []

    def stop() -> None:
        if not trees:
            sys.exit(DONE)  # as process 1 it would not be ended by a signal that nobody heeds
        trees[0].ask_stop()

    with signals(stop), opened(settings, _say, key=os.environ.get(FIRST_KEY)) as server:
        trees.append(server.tree)
        if private:
            _follow_parent(server.tree)
        elif server.first_key:
            _show_first_key(server, settings.data_dir)
        if server.tree.wait_ready():
            click.echo(f"Tallybook is ready on {server.tree.url}  (data in {settings.data_dir})")
            if server.tree.tls_url is not None:
                click.echo(f"Edges with certificates: {server.tree.tls_url}")
            server.tree.run()
        _say("stopping")
    return DONE


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # a full disk under the output must not end the server
        click.echo(f"tallybook: {text}", err=True)


def _show_first_key(server: Opened, data: Path) -> None:
    click.echo(
        f"First admin key (shown once, kept in {data / 'first-key'}):\n\n  {server.first_key}\n"
    )
    with contextlib.suppress(OSError):  # a closed pipe must not keep the server from starting
        sys.stdout.flush()


def _follow_parent(tree: Tree) -> None:
    """Stop when standard input ends: the command that wanted this server is gone."""

    def watch() -> None:
        while os.read(0, 4096):  # not sys.stdin: its lock would be held at exit
            pass
        tree.ask_stop()

    threading.Thread(target=watch, daemon=True).start()
