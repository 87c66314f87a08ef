"""`tallybook audit`: who changed what, and whether the log of it hangs together."""

from collections.abc import Iterator
from typing import Any

import click

from tallybook.adapters.http.client import Client
from tallybook.serve.cli.common import DONE, REFUSED, Target, server_options, table

PATH = "/api/v1/audit"
PAGE = 1000


@click.command()
@click.option("--kind", help="Only changes of this kind of thing, such as meter or key.")
@click.option("--subject", help="Only changes of the thing with this key or id.")
@click.option("--actor", help="Only changes by key:ID, user:TENANT/NAME, cli:NAME or server.")
@click.option("--action", help="Only this, such as create, change or finalize.")
@click.option("--from", "start", metavar="TIME", help="RFC 3339, inclusive.")
@click.option("--to", "end", metavar="TIME", help="RFC 3339, exclusive.")
@click.option("--limit", type=int, default=50, show_default=True, help="Newest so many; 0 for all.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV with what was before and after.")
@click.option("--verify", is_flag=True, help="Tell whether anybody tampered with the log.")
@click.option("--kept", metavar="ROW:DIGEST", help="Of --verify: the log must have this row too.")
@server_options
def audit(
    target: Target, *, verify: bool, kept: str | None, as_csv: bool, limit: int, **asked: Any
) -> int:
    """Show who changed what, newest first."""
    if verify or kept:
        return _verify(target, kept)
    params = {
        "kind": asked["kind"],
        "subject": asked["subject"],
        "actor": asked["actor"],
        "action": asked["action"],
        "from": asked["start"],
        "to": asked["end"],
    }
    with target.client() as client:
        if as_csv:
            for page in _csv(client, params, limit):
                click.echo(page.decode(), nl=False)
            return DONE
        found = client.pages(PATH, params)
        some = [one for _, one in zip(range(limit), found, strict=False)] if limit else list(found)
    target.show(some, lambda: _table(some) if some else "Nothing was changed.")
    return DONE


def _verify(target: Target, kept: str | None) -> int:
    with target.client() as client:
        verdict = client.get(f"{PATH}/verify", {"kept": kept} if kept else None)
    whole = f"The log is whole: {verdict['rows']} rows hang together."
    if verdict["kept"]:
        whole += f"\nKeep this elsewhere, to compare one day: --kept {verdict['kept']}"
    target.show(verdict, lambda: whole if verdict["whole"] else f"Tampered: {verdict['reason']}.")
    return DONE if verdict["whole"] else REFUSED


def _csv(client: Client, params: dict[str, str | None], limit: int) -> Iterator[bytes]:
    """Yield pages of CSV; the header line stands on the first only."""
    cursor, left, first = None, limit, True
    while True:
        size = min(PAGE, left) if limit else PAGE
        asked = {**params, "limit": str(size), "cursor": cursor}
        answer = client.raw("GET", PATH, params=asked, headers={"Accept": "text/csv"})
        head, _, rest = answer.content.partition(b"\r\n")
        yield head + b"\r\n" + rest if first else rest
        cursor, first, left = answer.headers.get("next-cursor"), False, left - size
        if cursor is None or (limit and left <= 0):
            return


def _table(found: list[Any]) -> object:
    columns = ("seq", "time", "who", "did", "kind", "subject", "outcome")
    rows = [
        [
            one["seq"],
            one["time"][:19],
            one["actor"],
            one["action"],
            one["kind"],
            one["subject"],
            one["outcome"],
        ]
        for one in found
    ]
    return table(columns, rows, numbers=("seq",))
