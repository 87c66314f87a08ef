"""`tallybook usage` and `tallybook reconcile`: what was measured, and that nothing is missing."""

from collections.abc import Sequence
from typing import Any

import click

from tallybook.adapters.http.client import decoded
from tallybook.kernel.errors import Invalid
from tallybook.serve.cli.common import DONE, REFUSED, Target, grouped, moment, server_options, table

TIMEOUT_SECONDS = 3600
"""A reconciliation reads everything; it may take its time."""
WINDOWS = ("minute", "hour", "day", "month")


@click.command()
@click.argument("meter")
@click.option("--from", "start", help="Date, RFC 3339 time, or age such as 24h.")
@click.option("--to", "end", help="The same; exclusive.")
@click.option("--window", type=click.Choice(WINDOWS), help="One row a window.")
@click.option("--zone", default="UTC", show_default=True, help="IANA zone of the windows.")
@click.option("--group-by", multiple=True, help="Dimension, or subject; may be repeated.")
@click.option("--subject", multiple=True, help="Only this subject; may be repeated.")
@click.option("--filter", "filters", multiple=True, metavar="DIM=A,B", help="Only these values.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@server_options
def usage(
    target: Target,
    meter: str,
    start: str | None,
    end: str | None,
    window: str | None,
    zone: str,
    group_by: Sequence[str],
    subject: Sequence[str],
    filters: Sequence[str],
    *,
    as_csv: bool,
) -> None:
    """Show what a meter measured."""
    params: dict[str, str | int | list[str] | None] = {
        "from": moment(start, "--from"),
        "to": moment(end, "--to"),
        "windowSize": window.upper() if window else None,
        "windowTimeZone": zone,
        "groupBy": list(group_by) or None,
        "subject": list(subject) or None,
    }
    for text in filters:
        name, equals, values = text.partition("=")
        if not equals:
            raise Invalid(f"--filter '{text}' is not like status=200,404", field="--filter")
        params[f"filterGroupBy[{name}]"] = values
    path = f"/api/v1/meters/{meter}/query"
    with target.client() as client:
        if as_csv:
            answer = client.raw("GET", path, params=params, headers={"Accept": "text/csv"})
            click.echo(answer.content.decode(), nl=False)
            return
        found = client.get(path, params)
    target.show(found, lambda: usage_table(found))


def usage_table(found: Any) -> object:
    """Return the answer to a query as a table."""
    rows = found.get("data", [])
    if not rows:
        return "No usage."
    dimensions = list(rows[0]["groupBy"])
    subjects = any(row["subject"] is not None for row in rows)
    columns = ["from", "to", *(["subject"] if subjects else []), *dimensions, "value"]
    shown = [
        [
            row["windowStart"],
            row["windowEnd"],
            *([row["subject"]] if subjects else []),
            *(row["groupBy"][name] for name in dimensions),
            grouped(row["value"]),
        ]
        for row in rows
    ]
    return table(columns, shown, numbers=("value",))


@click.command()
@server_options
def reconcile(target: Target) -> int:
    """Prove that every event, and all money, is accounted for; name what differs."""
    from tallybook.serve.cli.settlement.ledger import audit_of, audited

    with target.client() as client:
        content = client.raw("GET", "/api/v1/reconcile", timeout_seconds=TIMEOUT_SECONDS).content
        found, money = decoded(content), audit_of(client)
    target.show({**found, "money": money}, lambda: _reconciled(found, audited(money)))
    return DONE if found["ok"] and money["ok"] else REFUSED


def _reconciled(found: Any, money: str) -> object:
    from rich.console import Group

    names = ("in_scope", "billed", "not_yet_billed", "unmapped", "not_charged")
    rows = [[one["meter"], *(one[name]["events"] for name in names)] for one in found["meters"]]
    columns = ("meter", "in scope", "billed", "not yet billed", "unmapped", "not charged")
    parts = ("accepted", "duplicate", "quarantined")
    events = " + ".join(f"{found[name]:,} {name}" for name in parts)
    verdict = "Everything is accounted for." if found["ok"] else "Something differs:"
    return Group(
        f"{found['received']:,} events received = {events}",
        table(columns, rows, numbers=columns[1:]),
        "\n".join([verdict, *(f"  {text}" for text in found["differences"])]),
        money,
    )
