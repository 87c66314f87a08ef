"""Write the next step of the control database's schema: what the code has and the steps have not.

`python tools/revision.py "why"` makes a database by the steps, compares it with the tables of the
code, and writes the difference as `versions/NNNN_why.py`. Read it before you commit it: a column
that was renamed looks like one dropped and one added, and rows may need to be changed, too.
"""

import re
import sys
import tempfile
from pathlib import Path

from alembic.autogenerate import produce_migrations, render_python_code
from alembic.runtime.migration import MigrationContext

from tallybook.adapters.sql.database import engine_of, sqlite_url, write
from tallybook.adapters.sql.schema import FOLDER, VERSION_TABLE, newest
from tallybook.adapters.sql.schema.steps import take_steps
from tallybook.adapters.sql.schema.tables import every_table

HEAD = '''"""{why}."""

import sqlalchemy as sa
from alembic import op

revision = "{number}"
down_revision = {before}


def upgrade() -> None:
    """Take the step."""
    {body}
'''


def difference(folder: Path) -> str:
    """Return the body of the step that leads from the steps so far to the tables of the code."""
    engine = engine_of(sqlite_url(folder / "control.db"))
    with write(engine) as connection:
        take_steps(connection)
        options = {"version_table": VERSION_TABLE, "render_as_batch": True}
        context = MigrationContext.configure(connection, opts=options)
        found = produce_migrations(context, every_table())
        assert found.upgrade_ops is not None
        return render_python_code(found.upgrade_ops, render_as_batch=True)


def main() -> None:
    """Write the step."""
    why = " ".join(sys.argv[1:]).strip()
    if not why:
        sys.exit("say why: python tools/revision.py 'invoices know their channel'")
    numbers = sorted(FOLDER.glob("[0-9]*.py"))
    before = newest() if numbers else None
    with tempfile.TemporaryDirectory() as folder:
        body = difference(Path(folder))
    number = f"{int(before or 0) + 1:04d}"
    slug = re.sub(r"[^a-z0-9]+", "_", why.lower()).strip("_")[:40]
    path = FOLDER / f"{number}_{slug}.py"
    known = f'"{before}"' if before else None
    path.write_text(
        HEAD.format(why=why[:1].upper() + why[1:], number=number, before=known, body=body)
    )
    print(f"{path}: read it, then run `make fmt`")


if __name__ == "__main__":
    main()
