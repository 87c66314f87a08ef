"""The control database's schema at the start.

An embedded one is brought up to date; a shared one is only looked at, because other servers may
work on it.
"""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from tallybook.adapters.sql.schema import VERSION_TABLE, newest
from tallybook.kernel.errors import Corrupt, Unavailable
from tallybook.settings import Settings

Say = Callable[[str], None]


def bring_up(settings: Settings, say: Say) -> None:
    """See to it that the control database is of this version.

    Args:
        settings: of a folder that is locked.
        say: prints a line for people.

    Raises:
        Conflict: it is of another version and may not be changed here.
        Corrupt: it is no database.
        Unavailable: it cannot be read, or the copy made before a change cannot be written.
    """
    if settings.control.url:
        from tallybook.compose import open_control

        open_control(settings).dispose()
        return
    path = settings.control_db
    found = _version(path) if path.exists() else newest()
    if found == newest():
        return
    from tallybook.adapters.sql.database import sqlite_url, upgrade_database

    kept = _copied(path) if found is not None and found < newest() else None
    taken = upgrade_database(sqlite_url(path))
    if taken:
        say(f"the control database has schema {taken[-1]} now; as it was before it is in {kept}")


def _version(path: Path) -> str | None:
    """Return the newest step the database has taken; without the server's heavy libraries."""
    question = f"SELECT version_num FROM {VERSION_TABLE}"  # noqa: S608 - a constant
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as db:
            row = db.execute(question).fetchone()
    except sqlite3.OperationalError:
        return None  # no such table: `upgrade_database` says what that means
    except sqlite3.DatabaseError as error:
        raise Corrupt(f"{path}: {error}") from error
    return str(row[0]) if row else None


def _copied(path: Path) -> Path:
    """Return a copy of the database, made before its schema is changed."""
    kept = path.with_name(f"{path.name}.before-{newest()}")
    try:
        with closing(sqlite3.connect(path)) as db, closing(sqlite3.connect(kept)) as copy:
            db.backup(copy)
    except sqlite3.Error as error:
        raise Unavailable(f"{path} cannot be copied to {kept}: {error}") from error
    kept.chmod(0o600)
    return kept
