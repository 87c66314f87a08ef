"""Database servers of their own for a test session: started in a new folder, gone afterwards.

`make engines` installs them. Without them a test that needs one is skipped with the reason; in CI
that is a failure.
"""

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.exc import OperationalError

from tallybook.adapters.sql.schema import VERSION_TABLE

SECONDS_MAX = 60
KINDS = ("sqlite", "postgresql", "mariadb")


def absent(what: str) -> None:
    """Skip, or fail in CI: what is not installed was not tested."""
    message = f"{what} is not installed; 'make engines' installs it"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def _program(name: str, *folders: str) -> str:
    for folder in folders:
        for found in sorted(Path("/").glob(f"{folder.strip('/')}/{name}"), reverse=True):
            return str(found)
    found_on_path = shutil.which(name)
    if found_on_path is None:
        absent(name)
    return found_on_path or name


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def _running(command: list[str], log: Path, ready: str) -> Iterator[None]:
    """Run a server until the block ends; the block begins when it answers."""
    with log.open("wb") as out:
        server = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        try:
            _await(ready, server, log)
            yield
        finally:
            server.terminate()
            server.wait(SECONDS_MAX)


def _await(url: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + SECONDS_MAX
    engine = create_engine(url)
    while True:
        try:
            with engine.connect():
                return
        except OperationalError:
            if server.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the server did not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.1)
        finally:
            engine.dispose()


def _as_user(name: str, folder: Path) -> list[str]:
    """Return how to run as somebody who is not root, who owns the folder then."""
    if os.geteuid() != 0:
        return []
    shutil.chown(folder, name, name)
    return ["setpriv", f"--reuid={name}", f"--regid={name}", "--clear-groups"]


def _made(command: Sequence[str]) -> None:
    """Run what makes a database's folder; what it says is shown where it fails."""
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    assert ended.returncode == 0, f"{' '.join(command)}: {ended.stdout}{ended.stderr}"


@contextmanager
def postgresql() -> Iterator[str]:
    """Run PostgreSQL; yield its address without a database."""
    places = "/usr/lib/postgresql/*/bin", "/usr/local/pgsql/bin"
    initdb, postgres = _program("initdb", *places), _program("postgres", *places)
    port = _free_port()
    with tempfile.TemporaryDirectory(prefix="tallybook-pg-") as name:
        folder = Path(name)
        user = _as_user("postgres", folder)
        data = str(folder / "data")
        make = [*user, initdb, "-D", data, "-U", "postgres", "--auth=trust", "-N", "-E", "UTF8"]
        # Texts in the order of a dictionary, as on most servers, and farther yet from their bytes.
        make += ["--locale-provider=icu", "--icu-locale=en-US-u-ka-shifted"]
        _made(make)
        command = [*user, postgres, "-D", data, "-p", str(port), "-c", "fsync=off"]
        command += ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
        address = f"postgresql+psycopg://postgres@127.0.0.1:{port}/"
        with _running(command, folder / "log", f"{address}postgres"):
            yield address


@contextmanager
def mariadb() -> Iterator[str]:
    """Run MariaDB; yield its address without a database."""
    install, server = _program("mariadb-install-db"), _program("mariadbd", "/usr/sbin")
    port = _free_port()
    with tempfile.TemporaryDirectory(prefix="tallybook-my-") as name:
        folder = Path(name)
        user = _as_user("mysql", folder)
        data = f"--datadir={folder / 'data'}"
        make = [install, "--no-defaults", data, "--auth-root-authentication-method=normal"]
        _made([*user, *make])
        command = [*user, server, "--no-defaults", data, f"--port={port}"]
        command += ["--bind-address=127.0.0.1", f"--socket={folder / 's'}"]
        command += [f"--pid-file={folder / 'pid'}", "--innodb-flush-log-at-trx-commit=0"]
        address = f"mysql+pymysql://root@127.0.0.1:{port}/"
        with _running(command, folder / "log", f"{address}mysql"):
            yield address


SERVERS: dict[str, Callable[[], AbstractContextManager[str]]] = {
    "postgresql": postgresql,
    "mariadb": mariadb,
}


def emptied(url: str) -> str:
    """Delete every row of a database; return its address."""
    engine = create_engine(url)
    with engine.begin() as connection:
        for table in set(inspect(connection).get_table_names()) - {VERSION_TABLE}:
            connection.execute(
                text(f"DELETE FROM {engine.dialect.identifier_preparer.quote(table)}")
            )
    engine.dispose()
    return url


def new_database(address: str) -> str:
    """Make an empty database on a server; return its address."""
    name = f"t{secrets.token_hex(6)}"
    mysql = address.startswith("mysql")
    admin = create_engine(f"{address}{'mysql' if mysql else 'postgres'}")
    with admin.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    admin.dispose()
    return f"{address}{name}{'?charset=utf8mb4' if mysql else ''}"
