"""Single values counted by DuckDB are counted as the plain Python says: any terms, any commits."""

import random
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from tallybook.catalog.meter import MeterSpec, check_meter
from tallybook.kernel.timestamps import format_us
from tallybook.meter.each import EachEvent
from tests.sim.road import Road, event
from tests.sim.test_reader_matches_oracle import SPAN_US, START_US, oracle, query

VALUES = ["1", "2.5", "-3.125", "0", "10", "10.000000000001", "99999999999999999999", "x", None]


def terms(rng: random.Random) -> EachEvent:
    """Return any terms."""
    low, high = sorted(Decimal(rng.randrange(-40, 120)) / 10 for _ in range(2))
    return EachEvent(
        free_events=rng.choice([None, None, 0, 1, 3]),
        free_amount=rng.choice([None, None, Decimal("0.5"), Decimal(12)]),
        low=rng.choice([None, low, Decimal("1e20")]),
        high=rng.choice([None, high, Decimal("-1e20")]),
    )


@pytest.mark.parametrize("seed", range(4))
def test_every_answer_equals_the_oracle(tmp_path: Path, seed: int) -> None:
    print("seed", seed)
    rng = random.Random(seed)
    kinds = {"SUM": "$.v", "COUNT": None, "MAX": "$.v"}
    meters = [
        check_meter(
            MeterSpec(
                key=kind.lower(), event_type="t", aggregation=kind, value=value,
                group_by={"region": "$.region", "kind": "$.kind"},
            )
        )
        for kind, value in kinds.items()
    ]  # fmt: skip
    road = Road(tmp_path)
    road.meters = meters if seed % 2 else []
    for part in range(3):
        events = []
        for i in range(40):
            time = START_US + rng.choice([rng.randrange(SPAN_US), 0, 1])
            data = {
                "v": rng.choice(VALUES), "region": rng.choice(["eu", "us", None]),
                "kind": rng.choice(["k", "l"]),
            }  # fmt: skip
            subject = rng.choice(["a", "b", "c", None])
            events.append(event(f"e{part}-{i}", format_us(time), subject, data))
        road.send(events)
        road.pump()
        road.roll(meters[:2], steps=rng.randrange(3))
    plain = oracle(road)
    for _ in range(60):
        cut = rng.choice([road.reader.head(), 1, 2])
        asked = msgspec.structs.replace(query(rng, rng.choice(meters), cut), each=terms(rng))
        assert road.reader.usage(asked) == plain.usage(asked), asked
    road.close()
