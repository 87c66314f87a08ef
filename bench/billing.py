"""Billing runs: real lake, real control database, no server; figures, a section, a profile.

    python -m bench.billing [customers [rounds]]

Expected before it was measured: canonical JSON and digest of an invoice with its manifest cost
about 60 µs, rating and making five lines 150 µs, rows and indexes of the database 150 µs, so about
2,500 invoices a second of one core; with half of it in processes of their own, 4,000 on two cores;
10,000 would need 200 µs of both cores together, so lines made from columns, not from objects.

Every customer has another usage, so that no two invoices have the same figures.
"""

import cProfile
import gc
import io
import json
import pstats
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import msgspec

from bench.__main__ import CATALOG
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

HERE = Path(__file__).parent
EVENTS_A_REQUEST = 5_000
HEADING = "## Billing runs"
WHERE = """\
Where an invoice's time goes, one process, about 440 µs of CPU (before: 540 in the same minutes):
what is due 16 (before: 75, because what is decided for one holds for all who differ in their names
alone), asking 29 (35), lines and document 120, canonical JSON and entries 80 (together 233), books
and accounts read 14, the database 160, everything else 20. With one process beside the run the two
halves are even: 220 µs there, 260 here, 23 of them for what goes in between. So two cores that have
nothing else to do would make 3,800 a second by these figures, and more than two bring nothing.

Of the database's 160 µs: the invoice with its 9 KB of JSON 40, five line rows 18, five figures 15,
ledger 10, outbox, period and remembered run 15, numbers and digests 20, rows as tuples 15, the
rest of the commits 27. Tried, measured and left out, because nothing came of it: tables without
row ids, pages of 8 and 16 KiB, compressed JSON, 1,000 or 2,500 invoices a transaction, values that
the garbage collector does not follow, other settings of the memory allocator.

The next factor of 1.5 costs a stencil of the JSON for each plan version and period, into which
figures are filled (200 to about 90), and lines and figures as JSON in the rows of invoice and
period (160 to about 110): about 290 µs, 6,000 a second on two cores. The stencil is a second way to
write an invoice, which must stay equal to the first byte for byte. 10,000 needs 200 µs: rating, ids
and rows in columns or in compiled code, because each of an invoice's 5 lines costs 6 µs to rate
with its steps in words, 4 for its id, and 5 to be made and finished.
"""
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
    apply(catalog, TENANT, parse_document(CATALOG))
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
    return Run(customers=customers, workers=workers, seconds=seconds, cpu_seconds=_cpu() - used)


def history(customers: int) -> list[float]:
    """Return what each of several months' runs costs a customer, in microseconds of CPU."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        billing = world(Path(folder), customers)
        for month, following in pairwise(MONTHS):
            clock = SetClock(at(f"{following}-02"))
            _settle()
            used = _cpu()
            bill(msgspec.structs.replace(billing, clock=clock), BillRequest(period=month))
            found.append((_cpu() - used) / customers * 1e6)
    return found


def profile(customers: int) -> str:
    """Return the profile of a run that composes by itself, in seconds of CPU."""
    with tempfile.TemporaryDirectory() as folder:
        billing = world(Path(folder), customers)
        _settle()
        profiler = cProfile.Profile(time.process_time)
        profiler.enable()
        bill(billing, BillRequest(period=MONTHS[0]))
        profiler.disable()
    text = io.StringIO()
    pstats.Stats(profiler, stream=text).sort_stats("tottime").print_stats(45)
    return text.getvalue().replace(f"{Path.cwd()}/", "")


def section(runs: list[Run], months: list[float]) -> Iterator[str]:
    """Yield the lines of the report."""
    yield HEADING
    yield ""
    yield (
        f"{runs[0].customers:,} invoices of 5 lines, stored, posted and told, each number taken in"
        f" order; {len(runs) // len({run.workers for run in runs})} runs each. Target: 10,000 a"
        " second. `bench/profiles/billing.txt` is where the time goes."
    )
    yield ""
    yield "| processes beside the run | best | median | CPU an invoice, best |"
    yield "|---|---|---|---|"
    for workers in sorted({run.workers for run in runs}):
        same = [run for run in runs if run.workers == workers]
        rates = [run.customers / run.seconds for run in same]
        cpu = min(run.cpu_seconds / run.customers for run in same) * 1e6
        best, median = max(rates), statistics.median(rates)
        yield f"| {workers} | {best:,.0f}/s | {median:,.0f}/s | {cpu:.0f} µs |"
    yield ""
    yield (
        "The run of each of six months, one month with usage and no late events after it, µs of CPU"
        f" a customer: {', '.join(f'{one:.0f}' for one in months)}."
    )
    yield ""
    yield WHERE


def _settle() -> None:
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)  # as the jobs process does


def _cpu() -> float:
    """Return the CPU seconds of this process and of the children that have ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime


def main(customers: int = 10_000, rounds: int = 3) -> None:
    """Measure, and write section, figures and profile."""
    runs = [measured(customers, workers) for _ in range(rounds) for workers in (0, 2)]
    months = history(max(customers // 5, 1))
    text = "\n".join(section(runs, months))
    print(text)
    (HERE / "BILLING.json").write_text(
        json.dumps({"runs": msgspec.to_builtins(runs), "months_us": months}, indent=1)
    )
    report = HERE / "REPORT.md"
    before = report.read_text().partition(HEADING)[0].rstrip() if report.exists() else ""
    report.write_text(f"{before}\n\n{text}")
    (HERE / "profiles" / "billing.txt").write_text(f"{WHERE}\n{profile(customers)}")


if __name__ == "__main__":
    main(*(int(text) for text in sys.argv[1:]))
