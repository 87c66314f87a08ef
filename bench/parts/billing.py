"""Billing runs: real lake, real control database, no server; `python -m bench billing`.

Expected before it was measured: canonical JSON and digest of an invoice with its manifest cost
about 60 µs, rating and making five lines 150 µs, rows and indexes of the database 150 µs, so about
2,500 invoices a second of one core; with half of it in processes of their own, 4,000 on two cores;
10,000 would need 200 µs of both cores together, so lines made from columns, not from objects.

Every customer has another usage, so that no two invoices have the same figures.
"""

import gc
import resource
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import msgspec

from bench.bare.steps import sqlite_insert
from bench.catalog import BILLED
from bench.figures.numbers import spread
from bench.figures.report import Bound, Figure, Found
from tallybook.adapters.processes.crew import Crew
from tallybook.adapters.sql.accounts import SqlAccounts
from tallybook.adapters.sql.catalog import SqlCatalog
from tallybook.adapters.sql.database import open_database, sqlite_url
from tallybook.adapters.sql.invoices import SqlInvoices
from tallybook.catalog.customer import Customer, SubjectSpan
from tallybook.catalog.document import parse_document
from tallybook.catalog.flow import apply
from tallybook.catalog.subscription import Subscription
from tallybook.invoice.due import BillRequest
from tallybook.invoice.flow import bill
from tallybook.invoice.ports import Billing
from tests.sim.road import Road
from tests.support.billing_world import TENANT, CountingIds, SetClock, at

EVENTS_A_REQUEST = 5_000
TARGET = 10_000
DOCUMENTS = 200
MONTHS = ("2026-10", "2026-11", "2026-12", "2027-01", "2027-02", "2027-03", "2027-04")


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One billing run as it was measured.

    Attributes:
        workers: processes beside the run.
        seconds: from its start to its end, starting the processes included.
        cpu_seconds: of the run and its processes.
    """

    customers: int
    workers: int
    seconds: float
    cpu_seconds: float


def world(folder: Path, customers: int) -> Billing:
    """Return a world with so many customers, two events each."""
    road = Road(folder)
    engine = open_database(sqlite_url(folder / "control.db"))
    catalog = SqlCatalog(engine)
    apply(catalog, TENANT, parse_document(BILLED))
    road.meters = catalog.load(TENANT).live_meters()
    entries: list[Customer | Subscription] = []
    events = []
    start_us = at("2026-10-01")
    for n in range(customers):
        key = f"c{n:06d}"
        entries.append(
            Customer(key=key, name=f"Customer {n}", currency="USD", subjects=(SubjectSpan(key),))
        )
        entries.append(Subscription(key=key, customer=key, plan="bench", start_us=start_us))
        events += [
            {
                "specversion": "1.0",
                "id": f"{key}-{m}",
                "source": "/bench",
                "type": "http.server.request",
                "subject": key,
                "time": "2026-10-17T10:00:00Z",
                "data": {"bytes": 700 * (m + 1) + n, "status": 200, "region": "eu"},
            }
            for m in range(2)
        ]
    catalog.write(TENANT, entries)
    for first in range(0, len(events), EVENTS_A_REQUEST):
        road.send(events[first : first + EVENTS_A_REQUEST])
    while road.pump() is not None:
        pass
    return Billing(
        tenant=TENANT,
        catalog=catalog,
        invoices=SqlInvoices(engine),
        accounts=SqlAccounts(engine),
        usage=road.reader,
        clock=SetClock(at("2026-11-02")),
        ids=CountingIds(),
        tz="2026.1",
    )


def measured(customers: int, workers: int) -> Run:
    """Bill everybody once."""
    with tempfile.TemporaryDirectory() as folder:
        billing = world(Path(folder), customers)
        _settle()
        started, used = time.perf_counter(), _cpu()
        with Crew(workers) as crew:
            run = bill(billing, BillRequest(period=MONTHS[0]), compose=crew)
            seconds = time.perf_counter() - started
        assert run.invoices == customers, run
        assert not crew.lost, "a process was lost"
    gc.unfreeze()
    return Run(customers=customers, workers=workers, seconds=seconds, cpu_seconds=_cpu() - used)


def history(customers: int) -> list[float]:
    """Return what each of several months' runs costs a customer, in microseconds of CPU."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        billing = world(Path(folder), customers)
        for month, following in pairwise(MONTHS):
            clock = clock_at(f"{following}-02")
            _settle()
            used = _cpu()
            bill(msgspec.structs.replace(billing, clock=clock), BillRequest(period=month))
            found.append((_cpu() - used) / customers * 1e6)
            gc.unfreeze()
    return found


def _settle() -> None:
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)  # as the jobs process does


def _cpu() -> float:
    """Return the CPU seconds of this process and of the children that have ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime


def clock_at(day: str) -> SetClock:
    """Return the clock of a run on a day."""
    return SetClock(at(day))


def documents(customers: int) -> list[bytes]:
    """Return the canonical JSON of so many invoices, as the database keeps it."""
    with tempfile.TemporaryDirectory() as folder:
        billing = world(Path(folder), customers)
        bill(billing, BillRequest(period=MONTHS[0]))
        heads = billing.invoices.invoices(TENANT, limit=customers)
        return [billing.invoices.invoice(TENANT, head.id).body.encode() for head in heads]


def run(customers: int = 10_000, rounds: int = 3) -> Found:
    """Measure runs alone and with two processes beside them, and six months in a row."""
    runs = [measured(customers, workers) for _ in range(rounds) for workers in (0, 2)]
    months = history(max(customers // 5, 1))
    with tempfile.TemporaryDirectory() as name:
        bare = sqlite_insert(documents(min(customers, DOCUMENTS)), Path(name))
    bound = Bound(name="SQLite insert of the same JSON", value=bare.rate)
    cost = Bound(name="SQLite insert of the same JSON", value=bare.cpu_us)
    figures = [_rate(runs, workers, bound) for workers in (0, 2)]
    figures += [_cost(runs, workers, cost) for workers in (0, 2)]
    text = ", ".join(f"{one:.0f}" for one in months)
    return Found(
        figures=figures,
        text=f"The run of each of six months, one with usage and none late after it, µs of CPU a"
        f" customer: {text}. Where the time goes: [profiles](profiles/billing.txt).",
    )


def _of(runs: Sequence[Run], workers: int) -> list[Run]:
    return [run for run in runs if run.workers == workers]


def _title(workers: int) -> str:
    return f"{workers} processes beside the run" if workers else "one process"


def _rate(runs: Sequence[Run], workers: int, bound: Bound) -> Figure:
    values = spread([run.customers / run.seconds for run in _of(runs, workers)])
    return Figure(
        name=f"invoice run of 5 lines, without documents, {_title(workers)}",
        spread=values,
        unit="invoices/s",
        target=f"{TARGET:,} invoices/s",
        reached=values.median >= TARGET,
        bounds=(bound,),
        note=f"{runs[0].customers:,} customers; stored, posted and told, each number in order",
        headline=True,
    )


def _cost(runs: Sequence[Run], workers: int, bound: Bound) -> Figure:
    values = [run.cpu_seconds / run.customers * 1e6 for run in _of(runs, workers)]
    return Figure(
        name=f"the same, {_title(workers)}: CPU",
        spread=spread(values),
        unit="µs an invoice",
        bounds=(bound,),
        less_is_better=True,
    )
