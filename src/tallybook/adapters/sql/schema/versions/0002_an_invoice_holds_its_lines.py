"""An invoice holds its lines: they are written once and read with it, never without it."""

import json
from itertools import groupby
from operator import itemgetter

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

INVOICES_AT_ONCE = 500
_invoice = sa.table(
    "invoice",
    sa.column("tenant", sa.String),
    sa.column("id", sa.String),
    sa.column("line_records", sa.Text),
)
_line = sa.table(
    "invoice_line",
    sa.column("tenant", sa.String),
    sa.column("invoice", sa.String),
    sa.column("number", sa.Integer),
    sa.column("id", sa.String),
    sa.column("subscription", sa.String),
    sa.column("charge", sa.String),
    sa.column("period_start_us", sa.BigInteger),
    sa.column("dimensions", sa.Text),
    sa.column("meter", sa.String),
    sa.column("meter_version", sa.Integer),
    sa.column("quantity", sa.Text),
    sa.column("amount_minor", sa.BigInteger),
    sa.column("events", sa.BigInteger),
    sa.column("adjustment", sa.Boolean),
)


def upgrade() -> None:
    """Take the step; also where it was stopped halfway, for MySQL changes tables at once."""
    connection = op.get_bind()
    there = sa.inspect(connection)
    if not there.has_table("invoice_line"):
        return
    if "line_records" not in {column["name"] for column in there.get_columns("invoice")}:
        with op.batch_alter_table("invoice", schema=None) as batch_op:
            batch_op.add_column(sa.Column("line_records", sa.Text(), nullable=True))
    for tenant in connection.execute(sa.select(_invoice.c.tenant).distinct()).scalars().all():
        _move(connection, tenant)
    with op.batch_alter_table("invoice", schema=None) as batch_op:
        batch_op.alter_column("line_records", existing_type=sa.Text(), nullable=False)
    op.drop_table("invoice_line")


def _move(connection: sa.Connection, tenant: str) -> None:
    """Put a tenant's lines into their invoices, some at a time."""
    after = ""
    while True:
        place = (_invoice.c.tenant == tenant) & (_invoice.c.id > after)
        some = sa.select(_invoice.c.id).where(place).order_by(_invoice.c.id)
        names = connection.execute(some.limit(INVOICES_AT_ONCE)).scalars().all()
        if not names:
            return
        lines = sa.select(_line).where(_line.c.tenant == tenant, _line.c.invoice.in_(names))
        ordered = connection.execute(lines.order_by(_line.c.invoice, _line.c.number)).mappings()
        by_invoice = groupby(ordered.all(), key=itemgetter("invoice"))
        told = {name: [_told(line) for line in own] for name, own in by_invoice}
        for name in names:
            one = (_invoice.c.tenant == tenant) & (_invoice.c.id == name)
            text = json.dumps(told.get(name, []), ensure_ascii=False, separators=(",", ":"))
            connection.execute(_invoice.update().where(one).values(line_records=text))
        after = names[-1]


def _told(line: sa.RowMapping) -> dict[str, object]:
    """Return a line as its invoice holds it."""
    return {
        "id": line["id"],
        "number": line["number"],
        "position": {
            "subscription": line["subscription"],
            "charge": line["charge"],
            "start_us": line["period_start_us"],
        },
        "group": line["dimensions"],
        "meter": line["meter"],
        "meter_version": line["meter_version"],
        "quantity": line["quantity"],
        "amount_minor": line["amount_minor"],
        "events": line["events"],
        "adjustment": bool(line["adjustment"]),
    }
