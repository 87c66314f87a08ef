"""Invoices composed in processes of their own: the same bytes, whatever becomes of these."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence

import pytest

from tallybook.adapters.processes.crew import Crew
from tallybook.invoice.due import BillRequest
from tallybook.invoice.flow import bill
from tallybook.invoice.ports import BillingRun, Books, StoredDraft
from tallybook.invoice.run.batch.prepared import Compose, Outcome, compose_here
from tallybook.invoice.run.batch.task import Scope, Task
from tests.support.billing_world import TENANT, World, at

CATALOG = """
[[meters]]
key = "calls"
event_type = "t"
aggregation = "SUM"
value = "$.n"
group_by = { region = "$.region" }

[[taxes]]
key = "vat"
name = "VAT"
rate = 19

[seller]
name = "Seller"
taxes = ["vat"]

[[plans]]
key = "web"
currency = "USD"
minimum = { amount = 9 }
[[plans.charges]]
key = "base"
price = { type = "flat", amount = "4.99" }
timing = "advance"
[[plans.charges]]
key = "calls"
meter = "calls"
split_by = ["region"]
price = { type = "graduated", tiers = [
  { up_to = 3, unit_amount = "0.333" }, { unit_amount = "0.1" } ] }

[[plans]]
key = "dear"
currency = "USD"
[[plans.charges]]
key = "calls"
meter = "calls"
price = { type = "unit", unit_amount = "1e15" }

[[customer_rules]]
key = "all"
event_type = "t"
plan = "web"
currency = "USD"
"""
CUSTOMERS = 1_040


OTHERS = """
[[customers]]
key = "waits"
name = "Waits"
currency = "USD"
grace_days = 3
subjects = ["waits"]

[[subscriptions]]
key = "waits"
customer = "waits"
plan = "web"
start = "2026-10-01"

[[customers]]
key = "parked"
name = "Parked"
currency = "USD"
subjects = ["parked"]

[[subscriptions]]
key = "parked"
customer = "parked"
plan = "dear"
start = "2026-10-01"
"""


def world() -> World:
    """Return a world with three batches of customers, one of whom waits and one is parked."""
    made = World()
    made.apply(CATALOG + OTHERS)
    for subject in ("waits", "parked", *(f"s{n:04d}" for n in range(CUSTOMERS))):
        n = made.seq
        region = ', "region": "eu"' if n % 3 else ""
        made.event(f"2026-10-{n % 28 + 1:02d}", subject, f'{{"n": {n % 11 + 1}{region}}}')
    made.clock.now = at("2026-11-02")
    return made


Stored = tuple[dict[str, str], list[StoredDraft], list[BillingRun], Books]


def billed(made: World, compose: Compose) -> Stored:
    """Return all that two runs leave behind; before the second one late usage came in."""
    runs = [bill(made.billing, BillRequest(period="2026-10"), compose=compose)]
    made.event("2026-10-05", "s0003", '{"n": 7}')
    made.clock.now = at("2026-12-02")
    runs.append(bill(made.billing, BillRequest(period="2026-11"), compose=compose))
    drafts = made.kept.drafts.drafts(TENANT, limit=10)
    return made.bodies(), drafts, runs, made.kept.books(TENANT)


@pytest.fixture(scope="module")
def alone() -> Stored:
    """What is left behind where everything is composed by the run itself."""
    return billed(world(), compose_here)


@pytest.fixture
def crew() -> Iterator[Crew]:
    """Return two processes."""
    with Crew(2, alone_max=500) as crew:
        yield crew


def test_what_is_composed_side_by_side_is_the_same_to_the_byte(alone: Stored, crew: Crew) -> None:
    assert billed(world(), crew) == alone
    assert (len(crew.pids), crew.lost) == (2, 0)
    _, drafts, runs, _ = alone
    assert [draft.customer for draft in drafts] == ["waits", "waits"]
    assert [one.code for one in runs[0].parked] == ["invalid"]


@pytest.mark.parametrize("killed", [1, 2])
def test_a_killed_process_is_done_without(alone: Stored, crew: Crew, killed: int) -> None:
    def compose(scope: Scope, batches: Iterable[Sequence[Task]]) -> Iterator[Sequence[Outcome]]:
        for outcomes in crew(scope, batches):
            for pid in crew.pids[:killed]:
                if crew.lost < killed:
                    os.kill(pid, signal.SIGKILL)
            yield outcomes

    assert billed(world(), compose) == alone
    assert crew.lost == killed
    assert len(crew.pids) == 2 - killed


def test_processes_that_cannot_be_started_are_done_without(
    alone: Stored, crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert billed(world(), crew) == alone
    assert (crew.pids, crew.lost) == ([], 2)


def test_few_customers_start_no_process(crew: Crew) -> None:
    made = World()
    made.apply(CATALOG + OTHERS)
    made.event("2026-10-05", "waits", '{"n": 1}')
    made.clock.now = at("2026-11-02")
    bill(made.billing, BillRequest(period="2026-10"), compose=crew)
    assert crew.pids == []


def test_nothing_is_left_of_a_process_when_its_crew_is_gone() -> None:
    with Crew(2, alone_max=500) as crew:
        billed(world(), crew)
        pids = crew.pids
        assert len(pids) == 2
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_process_ends_with_the_run_that_it_works_for() -> None:
    command = [sys.executable, "-m", "tallybook.adapters.processes.child"]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None
    child.stdin.close()
    assert child.wait(timeout=30) == 0
    assert child.stdout is not None
    assert child.stdout.read() == b""
    child.stdout.close()
