"""`tallybook demo`: the whole road in half a minute, on what this machine really does.

A server on an empty folder, a sample catalog, the real agent on this host and on the server's own
access log, an invoice with its proof. Exits with 1 where anything disagrees.
"""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import click
import msgspec

from tallybook.adapters.http.client import Client
from tallybook.kernel.errors import Refused, Unavailable
from tallybook.serve.cli.billing import run_billing
from tallybook.serve.cli.catalog import send_catalog
from tallybook.serve.cli.common import (
    DONE,
    REFUSED,
    console,
    grouped,
    grouped_money,
    progress,
    show_json,
    table,
)
from tallybook.serve.supervisor.folder import read_info
from tallybook.serve.supervisor.tree import answers

FOLDER = Path("tallybook-demo")
HOST_NAME = "this-machine"
START_SECONDS_MAX = 60
CATCH_UP_SECONDS_MAX = 60
WALLET, GIFT = "example-prepaid", "5.00"
"""A wallet of the sample catalog, and what the demo puts into it, free of charge."""
METERS = ("requests", "bytes-served", "cpu-seconds", "memory", "network-bytes", "disk-bytes")
_PATHS = (
    "/api/v1/meters",
    "/login",
    "/api/v1/meters/requests/query?windowSize=MINUTE",
    "/api/v1/events?limit=20",
    "/no/such/page",
    "/api/v1/customers",
    "/metrics",
    "/health/live",
)


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What the demo found.

    Attributes:
        wrong: everything that disagrees; empty where all is well.
    """

    url: str
    data: str
    cut_off: str
    usage: dict[str, Any]
    invoice: dict[str, Any]
    counters: dict[str, int]
    pdf: str
    wrong: list[str]


@click.command()
@click.option("--data", type=click.Path(path_type=Path, file_okay=False),
              help=f"New folder.  [default: ./{FOLDER}, or its next number]")  # fmt: skip
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535),
              help="A free one is taken where this is in use.")  # fmt: skip
@click.option("--seconds", default=30, show_default=True, type=click.IntRange(3, 3600),
              help="How long to measure.")  # fmt: skip
@click.option("--once", is_flag=True, help="End after the invoice instead of serving on.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
def demo(data: Path | None, port: int, seconds: int, *, once: bool, as_json: bool) -> int:
    """Measure this machine for half a minute and bill it."""
    folder = _empty(data)
    said = console(error=as_json)
    with ExitStack() as ends:
        url, key = ends.enter_context(_server(folder, port))
        client = ends.enter_context(Client(url, key))
        said.print(f"Server ready on {url}, data in {folder}")
        changes = send_catalog(client, "apply", sample_catalog(_today()))
        said.print(f"Applied the sample catalog: {len(changes.changes)} things")
        client.post(f"/api/v1/wallets/{WALLET}/top-ups", {"amount": GIFT, "free": True})
        said.print(f"Measuring this machine and the server's own requests for {seconds} s …")
        wrong = _measure(client, url, folder, seconds)
        outcome = _settle(client, url, folder, wrong)
        if as_json:
            show_json(outcome)
        else:
            _show(outcome, key, once=once)
        if not once:
            _serve_on()
    return REFUSED if outcome.wrong else DONE


def sample_catalog(today: datetime) -> bytes:
    """Return the bundled catalog, its subscription starting with this month."""
    text = files("tallybook.serve.cli").joinpath("sample_catalog.toml").read_text()
    return text.replace("start = 2026-01-01", f"start = {today:%Y-%m}-01").encode()


def _today() -> datetime:
    return datetime.now(UTC)


def _empty(data: Path | None) -> Path:
    if data is not None:
        if data.exists() and any(data.iterdir()):
            raise Refused(f"{data} is not empty; name a new folder", code="folder-not-empty")
        return data
    number = 1
    while (found := FOLDER if number == 1 else Path(f"{FOLDER}-{number}")).exists():
        number += 1
    return found


@contextmanager
def _server(folder: Path, port: int) -> Iterator[tuple[str, str]]:
    """Start a server that ends with this process; yield its address and first key."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "server.log"
    with log.open("ab") as output:
        process = _spawn(folder, port, output)
        try:
            url = _ready(process, folder)
            if url is None and port:
                process = _spawn(folder, 0, output)
                url = _ready(process, folder)
            if url is None:
                said = log.read_text(errors="replace").strip().splitlines()[-3:]
                raise Unavailable("the server does not start: " + " ".join(said), code="no-server")
            yield url, (folder / "first-key").read_text().strip()
        finally:
            process.terminate()
            process.wait(30)


def _spawn(folder: Path, port: int, output: Any) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "tallybook", "serve", "--private"]
    command += ["--data", str(folder), "--host", "127.0.0.1", "--port", str(port)]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=output, stderr=output, start_new_session=True
    )


def _ready(process: "subprocess.Popen[bytes]", folder: Path) -> str | None:
    """Return the address once the server answers, None where it ended."""
    deadline = time.monotonic() + START_SECONDS_MAX
    while process.poll() is None and time.monotonic() < deadline:
        info = read_info(folder)
        if info is not None and info.pid == process.pid and answers(info.url):
            return info.url
        time.sleep(0.05)
    return None


def _measure(client: Client, url: str, folder: Path, seconds: int) -> list[str]:
    """Run the agent, and make requests for it to find; return what went wrong."""
    command = [sys.executable, "-m", "tallybook", "edge", "run", "--url", url]
    command += ["--key-file", str(folder / "first-key"), "--state", str(folder / "edge")]
    command += ["--host-name", HOST_NAME, "--interval", "2s", "--for", f"{seconds}s"]
    command += ["--access-log", f"{folder / 'access.log'}:combined"]
    with (folder / "agent.log").open("ab") as output:
        agent = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
        try:
            _visit(client, agent, seconds)
            code = agent.wait(seconds + 90)
        finally:
            if agent.poll() is None:
                agent.terminate()
                agent.wait(30)
    return [] if code == 0 else [f"the agent ended with {code}; see {folder / 'agent.log'}"]


def _visit(client: Client, agent: "subprocess.Popen[bytes]", seconds: int) -> None:
    """Make real requests while the agent collects; refusals are part of what it sees."""
    started, made = time.monotonic(), 0
    with progress() as bar:
        task = bar.add_task("seconds measured", total=seconds)
        while agent.poll() is None and (spent := time.monotonic() - started) < seconds:
            try:
                client.raw("GET", _PATHS[made % len(_PATHS)])
            except Refused:
                made += 1  # the missing page, which the access log shows too
                continue
            made += 1
            bar.update(task, completed=int(spent))
            time.sleep(0.2)


def _settle(client: Client, url: str, folder: Path, wrong: list[str]) -> Outcome:
    """Wait for the lake, bill, prove, and gather what to show."""
    wrong = [*wrong, *_catch_up(client)]
    run = run_billing(client, {"until": "now"}, quiet=False)
    wrong += [f"not billed: {p['customer']}: {p['message']}" for p in run["result"]["parked"]]
    heads = list(client.pages("/api/v1/invoices"))
    if not heads:
        raise Refused("nothing was billed; the agent's log says more", code="no-invoice")
    number = heads[0]["number"]
    wrong += _proved(client, [head["number"] for head in heads])
    counters = client.get("/api/v1/status")["counters"]
    parts = counters["accepted"] + counters["duplicate"] + counters["quarantined"]
    if counters["received"] != parts:
        wrong.append(f"received {counters['received']} is not the sum of its parts, {parts}")
    pdf = folder / f"{number}.pdf"
    pdf.write_bytes(client.raw("GET", f"/api/v1/invoices/{number}.pdf").content)
    return Outcome(
        url=url,
        data=str(folder),
        cut_off=run["request"]["until"],
        usage={meter: _total(client, meter, run["request"]["until"]) for meter in METERS},
        invoice=client.get(f"/api/v1/invoices/{number}"),
        counters=counters,
        pdf=str(pdf),
        wrong=wrong,
    )


def _catch_up(client: Client) -> list[str]:
    deadline = time.monotonic() + CATCH_UP_SECONDS_MAX
    while time.monotonic() < deadline:
        if client.get("/api/v1/status")["caught_up"]:
            return []
        time.sleep(0.2)
    return [f"the lake did not catch up within {CATCH_UP_SECONDS_MAX} s"]


def _proved(client: Client, numbers: list[str]) -> list[str]:
    wrong = []
    for number in numbers:
        found = client.get(f"/api/v1/invoices/{number}/verify")
        if not found["ok"]:
            wrong.append(f"invoice {number} does not verify: {'; '.join(found['differences'])}")
    reconciled = client.get("/api/v1/reconcile")
    if not reconciled["ok"]:
        wrong.append(f"reconcile: {'; '.join(map(str, reconciled['differences']))}")
    audited = client.get("/api/v1/ledger/audit")
    if not audited["ok"]:
        wrong.append(f"ledger: {'; '.join(audited['differences'])}")
    return wrong


def _total(client: Client, meter: str, until: str) -> dict[str, Any]:
    """Return what a meter measured up to the cut-off, and its unit."""
    rows = client.get(f"/api/v1/meters/{meter}/query", {"to": until})["data"]
    found = client.get(f"/api/v1/meters/{meter}")
    hours = "·h" if found["aggregation"] == "TIME_WEIGHTED" else ""
    return {"value": rows[0]["value"] if rows else 0, "unit": found["unit"] + hours}


def _show(outcome: Outcome, key: str, *, once: bool) -> None:
    said = console()
    invoice, counters = outcome.invoice, outcome.counters
    said.print(f"\nUsage until {outcome.cut_off} (the cut-off of the bill)")
    usage = [[key, grouped(one["value"]), one["unit"]] for key, one in outcome.usage.items()]
    said.print(table(("meter", "quantity", "unit"), usage, numbers=("quantity",)))
    lines = [
        [line["name"] + _split(line), grouped(line["quantity"]), grouped_money(line["amount"])]
        for line in invoice["lines"]
    ]
    said.print(f"Invoice {invoice['number']} for {invoice['customer']['name']}")
    said.print(table(("charge", "quantity", "amount"), lines, numbers=("quantity", "amount")))
    said.print(table(("", "amount"), _sums(invoice), numbers=("amount",)))
    parts = " + ".join(f"{counters[n]} {n}" for n in ("accepted", "duplicate", "quarantined"))
    said.print(f"Events: {counters['received']} received = {parts}")
    for text in outcome.wrong:
        said.print(f"WRONG: {text}", style="red")
    if not outcome.wrong:
        said.print("Every event is accounted for; the invoice was recomputed to the same bytes.")
    said.print(f"\nInvoice as PDF: {outcome.pdf}")
    said.print(f"Page to open:   {outcome.url}/invoices/{invoice['number']}")
    said.print(f"Sign in with:   {key}")
    if not once:
        said.print("\nServing on; Ctrl-C ends it.")


def _sums(invoice: dict[str, Any]) -> list[list[str]]:
    """Return what stands below the lines: taxes, the total, and what was prepaid of it."""
    taxes = [[f"{one['name']} {one['rate']} %", one["amount"]] for one in invoice["taxes"]]
    prepaid = [[f"Prepaid from {one['wallet']}", f"-{one['amount']}"] for one in invoice["prepaid"]]
    code = invoice["currency"]
    rows = [["Subtotal", invoice["subtotal"]], *taxes, [f"Total {code}", invoice["total"]]]
    rows += [*prepaid, [f"Payable {code}", invoice["payable"]]]
    return [[label, grouped_money(amount)] for label, amount in rows]


def _split(line: Any) -> str:
    values = [str(value) for value in line["dimensions"].values()]
    return f" ({', '.join(values)})" if values else ""


def _serve_on() -> None:
    """Wait for Ctrl-C or a polite kill."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        while True:
            signal.pause()
    except KeyboardInterrupt:
        console(error=True).print("\nstopping")
