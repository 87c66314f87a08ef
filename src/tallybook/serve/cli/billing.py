"""`tallybook bill` and `tallybook invoice`: make invoices, look at them, prove them."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import msgspec

from tallybook.adapters.http.client import Client
from tallybook.kernel.errors import Invalid, Refused, Unavailable
from tallybook.serve.cli.common import (
    DONE,
    REFUSED,
    Target,
    grouped,
    grouped_money,
    moment,
    progress,
    server_options,
    table,
)

POLL_SECONDS = 0.2
WAIT_SECONDS_MAX = 3600


@click.command()
@click.option("--period", help="A month: bill every period that ends in it, such as 2026-11.")
@click.option("--until", help="Bill what is open so far: 'now', a date, or RFC 3339.")
@server_options
def bill(target: Target, period: str | None, until: str | None) -> int:
    """Make invoices for a month, or for what is open until now."""
    if (period is None) == (until is None):
        raise click.UsageError("name either --period 2026-11 or --until now")
    request = {"period": period, "until": until_text(until)}
    with target.client() as client:
        run = run_billing(client, request, quiet=target.json)
        made = list(client.pages("/api/v1/invoices", {"run": run["id"], "limit": 1000}))
    target.show({**run, "invoices": made}, lambda: described_run(run, made))
    return REFUSED if run["result"]["parked"] else DONE


def until_text(until: str | None) -> str | None:
    """Return the cut-off for the server; 'now' is the server's own clock."""
    return until if until in {None, "now"} else moment(until, "--until")


def run_billing(client: Client, request: Mapping[str, str | None], *, quiet: bool) -> Any:
    """Start a billing run and watch it to its end.

    Raises:
        Refused: the run failed; says why.
    """
    run = client.post("/api/v1/billing-runs", request)
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    with progress(quiet=quiet) as bar:
        task = bar.add_task("billing customers", total=None)
        while run["state"] in {"queued", "running"}:
            if time.monotonic() > deadline:
                raise Unavailable(f"billing run {run['id']} goes on; look at it later")
            time.sleep(POLL_SECONDS)
            run = client.get(f"/api/v1/billing-runs/{run['id']}")
            bar.update(task, completed=run["finished"], total=run["total"])
    if run["state"] == "failed":
        raise Refused(run["error"]["message"], code=run["error"]["code"])
    return run


def described_run(run: Any, invoices: list[Any]) -> object:
    """Return a run for people."""
    from rich.console import Group

    result, request = run["result"], run["request"]
    what = request.get("period") or f"until {request.get('until')}"
    parts: list[Any] = [
        f"Billed {what}: {result['invoices']} invoices for {result['customers']} customers.",
    ]
    if result["drafts"]:
        parts.append(f"{result['drafts']} wait as drafts: tallybook invoice list --state draft")
    if result["waiting"]:
        parts.append(f"{result['waiting']} periods have not ended yet; bill them again later.")
    parts += [f"Not billed: {p['customer']}: {p['message']}" for p in result["parked"]]
    if invoices:
        parts.append(invoices_table(invoices[:50]))
    if len(invoices) > 50:
        parts.append(f"… and {len(invoices) - 50} more: tallybook invoice list --run {run['id']}")
    return Group(*parts)


def invoices_table(invoices: list[Any]) -> object:
    """Return invoices as a table; a draft is named by its id."""
    rows = [
        [i["id"] if i["state"] == "draft" else i["number"], i["customer_name"], i["state"],
         i["issued"][:10], i["due"][:10], i["currency"], grouped_money(i["total"])]
        for i in invoices
    ]  # fmt: skip
    columns = ("number", "customer", "state", "issued", "due", "currency", "total")
    return table(columns, rows, numbers=("total",))


@click.group()
def invoice() -> None:
    """List, explain and verify invoices; pay, void, reissue them; bill one-off charges."""


@invoice.command("list")
@click.option("--customer", help="Only this customer's.")
@click.option("--run", "run_id", help="Only those of this billing run.")
@click.option("--state", help="draft, finalized, overdue, paid, void or uncollectible.")
@server_options
def list_(target: Target, customer: str | None, run_id: str | None, state: str | None) -> None:
    """List invoices in the order of their numbers, then drafts."""
    params = {"customer": customer, "run": run_id, "state": state, "limit": 1000}
    target.show_list("/api/v1/invoices", invoices_table, "No invoices.", params)


@invoice.command("preview")
@click.argument("customer")
@click.option("--period", help="A month, one to come too, such as 2026-11.")
@click.option("--until", default=None, help="'now' (the default), a date, or RFC 3339.")
@server_options
def preview_(target: Target, customer: str, period: str | None, until: str | None) -> None:
    """Show the invoice that a run would make for a customer; nothing is stored."""
    instant = None if period else until_text(until or "now")
    request = {"customer": customer, "period": period, "until": instant}
    with target.client() as client:
        found = client.post("/api/v1/invoices/preview", request)
    made = found["invoice"]
    target.show(found, lambda: _shown(made) if made else "Nothing to bill.")


def _draft_command(target: Target, name: str, command: str) -> Any:
    with target.client() as client:
        return client.post(f"/api/v1/invoices/{name}/{command}", {})


@invoice.command("finalize")
@click.argument("name")
@server_options
def finalize_(target: Target, name: str) -> None:
    """Make an invoice of a draft now: composed anew, numbered, posted."""
    made = _draft_command(target, name, "finalize")
    amount = f"{made['currency']} {grouped_money(made['total'])}"
    target.show(made, lambda: f"{made['number']}  {made['customer_name']}  {amount}")


@invoice.command("refresh")
@click.argument("name")
@server_options
def refresh_(target: Target, name: str) -> None:
    """Compose a draft anew from what is stored now."""
    made = _draft_command(target, name, "refresh")
    target.show(made, lambda: f"{made['id']}  {made['currency']} {grouped_money(made['total'])}")


@invoice.command("discard")
@click.argument("name")
@server_options
def discard_(target: Target, name: str) -> None:
    """Throw a draft away; what it would have billed stays open for another run."""
    made = _draft_command(target, name, "discard")
    target.show(made, lambda: f"Discarded {made['id']}")


@invoice.command()
@click.argument("name")
@server_options
def show(target: Target, name: str) -> None:
    """Show an invoice with its lines."""
    with target.client() as client:
        content = client.raw("GET", f"/api/v1/invoices/{name}").content
    found = msgspec.json.decode(content)
    target.show(msgspec.Raw(content), lambda: _shown(found))


def _shown(found: Any) -> object:
    from rich.console import Group

    rows = [
        [line["position"], line["name"] + _dimensions(line), grouped(line["quantity"]),
         line["unit"], grouped_money(line["amount"])]
        for line in found["lines"]
    ]  # fmt: skip
    lines = table(("#", "line", "quantity", "unit", "amount"), rows, numbers=("quantity", "amount"))
    return Group(
        f"{found['number']}  {found['customer']['name']}",
        f"{found['period_start']} – {found['period_end']}, due {found['due'][:10]}",
        lines,
        f"Total {found['currency']} {grouped_money(found['total'])}",
    )


def _dimensions(line: Any) -> str:
    parts = [f"{name} {value or '–'}" for name, value in line["dimensions"].items()]
    return f" ({', '.join(parts)})" if parts else ""


@invoice.command()
@click.argument("name")
@click.option("--output", "-o", type=click.Path(path_type=Path, dir_okay=False),
              help="File to write; <number>.pdf where not given.")  # fmt: skip
@click.option("--credit-note", is_flag=True, help="NAME is a credit note.")
@server_options
def pdf(target: Target, name: str, output: Path | None, *, credit_note: bool) -> None:
    """Write an invoice as PDF, with the e-invoice inside where it can be said."""
    with target.client() as client:
        content = client.raw("GET", f"{_documents(credit_note=credit_note)}/{name}.pdf").content
    _write(target, output or Path(f"{name}.pdf"), content)


@invoice.command()
@click.argument("name")
@click.option("--format", "format_", type=click.Choice(["cii", "ubl"]), default="cii",
              show_default=True, help="CII as in Factur-X, or UBL for Peppol.")  # fmt: skip
@click.option("--output", "-o", type=click.Path(path_type=Path, dir_okay=False),
              help="File to write; <number>.xml where not given.")  # fmt: skip
@click.option("--credit-note", is_flag=True, help="NAME is a credit note.")
@server_options
def xml(target: Target, name: str, format_: str, output: Path | None, *, credit_note: bool) -> None:
    """Write an invoice as an EN 16931 e-invoice."""
    path = f"{_documents(credit_note=credit_note)}/{name}.xml"
    with target.client() as client:
        content = client.raw("GET", path, params={"format": format_}).content
    _write(target, output or Path(f"{name}.xml"), content)


def _documents(*, credit_note: bool) -> str:
    return "/api/v1/credit-notes" if credit_note else "/api/v1/invoices"


def _write(target: Target, path: Path, content: bytes) -> None:
    try:
        path.write_bytes(content)
    except OSError as error:
        raise Invalid(f"{path} cannot be written: {error.strerror}", field="--output") from error
    target.show({"file": str(path), "bytes": len(content)}, lambda: f"Wrote {path}")


@invoice.command("explain")
@click.argument("name")
@click.option("--line", default="1", show_default=True, help="Position or id of the line.")
@click.option("--limit", default=20, show_default=True, help="Events to list.")
@server_options
def explain_(target: Target, name: str, line: str, limit: int) -> int:
    """Show how a line came about, down to the very events."""
    with target.client() as client:
        path = f"/api/v1/invoices/{name}/explain"
        found = client.get(path, {"line": line, "limit": limit})
    target.show(found, lambda: _explained(found))
    return DONE if found["ok"] else REFUSED


def _explained(found: Any) -> object:
    from rich.console import Group

    line = found["line"]
    events = [item["event"] for item in found["items"]]
    rows = [[event[name] for name in ("time", "source", "id", "subject")] for event in events]
    agree = "as billed" if found["ok"] else "NOT as billed"
    steps = [f"  {step['text']}" if "text" in step else f"  {step}" for step in line["steps"]]
    return Group(
        f"{line['name']}{_dimensions(line)}: {grouped(line['quantity'])} {line['unit']}"
        f" = {grouped_money(line['amount'])}",
        *steps,
        f"{found['count']} events, {agree}; digest {found['digest']}",
        table(("time", "source", "id", "subject"), rows),
    )


@invoice.command("verify")
@click.argument("names", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Verify every invoice.")
@server_options
def verify_(target: Target, names: tuple[str, ...], *, everything: bool) -> int:
    """Recompute invoices from the stored events and compare them byte by byte.

    A draft can be named too: it is recomputed as it was composed last, and is not final.
    """
    if bool(names) == everything:
        raise click.UsageError("name invoices, or --all")
    with target.client() as client:
        if everything:
            pages = client.pages("/api/v1/invoices", {"limit": 1000})
            names = tuple(one["number"] for one in pages if one["state"] != "draft")
        with progress(quiet=target.json) as bar:
            tracked = bar.track(names, description="verifying")
            found = [client.get(f"/api/v1/invoices/{name}/verify") for name in tracked]
    target.show(found, lambda: "\n".join(_verdict(one) for one in found) or "No invoices.")
    return DONE if all(one["ok"] for one in found) else REFUSED


def _verdict(one: Any) -> str:
    draft = "" if one["final"] else "  a draft, not final: it is composed anew when it is finalized"
    if one["ok"]:
        return f"{one['number']}  verified  sha256 {one['sha256'][:16]}…{draft}"
    told = [f"  {text}" for text in one["differences"]]
    return "\n".join([f"{one['number']}  DIFFERS{draft}", *told])
