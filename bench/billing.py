"""The billing run alone: real lake, real control database, no server; with a profile.

    python -m bench.billing [customers]

Expected before it was measured: canonical JSON and digest of an invoice with its manifest cost
about 60 µs, rating and making five lines 150 µs, rows and indexes of the database 150 µs, so about
2,500 invoices a second of one core; 10,000 would need lines made from columns, not from objects.
"""

import cProfile
import gc
import io
import pstats
import sys
import tempfile
import time
from pathlib import Path

from bench.__main__ import CATALOG
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
                "data": {"bytes": 700 * (m + 1), "status": 200, "region": "eu"},
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


def main(customers: int = 10_000) -> None:
    """Bill everybody once, and once more under the profiler."""
    for profiled in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            billing = world(Path(folder), customers)
            profile = cProfile.Profile()
            gc.collect()
            gc.freeze()
            gc.set_threshold(100_000, 20, 100)  # as the jobs process does
            started, used = time.perf_counter(), time.process_time()
            if profiled:
                profile.enable()
            run = bill(billing, BillRequest(period="2026-10"))
            profile.disable()
            spent, used = time.perf_counter() - started, time.process_time() - used
            assert run.invoices == customers, run
            if not profiled:
                print(f"{customers} invoices in {spent:.2f} s: {customers / spent:,.0f} a second")
                print(f"{used:.2f} s of CPU: {customers / used:,.0f} a second of a core")
                continue
            text = io.StringIO()
            pstats.Stats(profile, stream=text).sort_stats("tottime").print_stats(45)
            path = Path(__file__).parent / "profiles" / "billing.txt"
            path.write_text(text.getvalue().replace(f"{Path.cwd()}/", ""))


if __name__ == "__main__":
    main(*(int(text) for text in sys.argv[1:]))
