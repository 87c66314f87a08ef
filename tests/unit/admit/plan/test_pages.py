"""Every row of docs/algorithms/limits.md is recomputed."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tallybook.admit.plan.bucket import take
from tallybook.admit.plan.decide import FRESH, NEVER, decide
from tallybook.admit.plan.limit import Quota, Rate
from tallybook.admit.plan.window import window
from tallybook.kernel.timestamps import format_us, parse_rfc3339
from tests.unit.admit.plan.sample import NOON_NS, bound_to

PAGE = Path(__file__).resolve().parents[4] / "docs" / "algorithms" / "limits.md"


def table(first: str) -> Iterator[list[str]]:
    inside = False
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line[1:-1].split("|")]
        if not line.startswith("|"):
            inside = False
        elif cells[0] == first:
            inside = True
        elif inside and not cells[0].startswith("---"):
            yield cells


@pytest.mark.parametrize("row", list(table("rate")), ids=str)
def test_buckets(row: list[str]) -> None:
    rate, seconds, burst, asked, left, wait = row
    limit = Rate(key="r", rate=int(rate), seconds=int(seconds), burst=int(burst))
    full = (0, 0)
    found_left, found_wait = [], []
    for at, tokens in re.findall(r"`(\d+)×(\d+)`", asked):
        taken = take(limit, *full, NOON_NS + int(at), int(tokens))
        full = (taken.full_ns, taken.full_part)
        found_left.append(str(taken.left))
        found_wait.append("never" if taken.wait_ns == NEVER else str(taken.wait_ns))
    assert (", ".join(found_left), ", ".join(found_wait)) == (left, wait)


@pytest.mark.parametrize("row", list(table("window")), ids=str)
def test_windows(row: list[str]) -> None:
    kind, hour, day, zone, at, start, end, hours = row
    quota = Quota(key="q", limit=1, window=kind, hour=int(hour), day=int(day))  # type: ignore[arg-type]
    at_us = parse_rfc3339(at)
    assert at_us is not None
    found = window(quota, zone, at_us)
    assert (format_us(found.start_us), format_us(found.end_us)) == (start, end)
    assert (found.end_us - found.start_us) // 3_600_000_000 == int(hours)
    for inside in (found.start_us, found.end_us - 1):
        assert window(quota, zone, inside) == found
    assert window(quota, zone, found.end_us).start_us == found.end_us
    assert window(quota, zone, found.start_us - 1).end_us == found.start_us


def test_a_quota() -> None:
    bound = bound_to(Quota(key="q", limit=10, window="day", warn=(80, 95)))
    held = [FRESH]
    rows = list(table("asked"))
    assert rows
    for asked, through, left, warning in rows:
        decision = decide([bound], held, NOON_NS, int(asked))
        held = decision.held or held
        (standing,) = decision.standings
        stop = decision.stop
        said = "yes" if stop is None else "never" if stop.wait_ns == NEVER else "no"
        found = (said, str(standing.left), str(standing.percent or ""))
        assert found == (through, left, warning)
