"""The road of many events with a few odd ones among them.

One event of a thousand that has an escape, an extension attribute or a problem would have all of
them looked at one by one, at several times the cost. Those that are as usual go the road of many
(`transport.alike`), the others as if they had come alone (`transport.accept`), and then all stand
in their order again.
"""

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from itertools import compress

import msgspec
import pyarrow as pa

from tallybook.kernel.timestamps import SECOND_US
from tallybook.transport.accept import AcceptLimits, Refusal, accept, events_of
from tallybook.transport.alike import EVENTS_MIN, Alike, Split, alike, split, usual
from tallybook.transport.columns import ColumnSet
from tallybook.transport.rows import Rows


def accept_many(
    tenant: str,
    body: bytes,
    now_us: int,
    columns: ColumnSet,
    limits: AcceptLimits,
    subjects: AbstractSet[str] | None = None,
) -> tuple[Rows | Alike, list[Refusal]]:
    """Return the same rows and refusals as `accept`, of large requests as columns, and sooner.

    Arguments and errors are those of `accept`, but that a value nested nearly as deep as the
    interpreter allows (some 900) may be refused by one and not by the other.
    """
    if subjects is None and body.count(b"specversion") >= EVENTS_MIN:
        found = _sifted(tenant, body, now_us, columns, limits)
        if found is not None:
            return found
    return accept(tenant, body, now_us, columns, limits, subjects)


def _sifted(
    tenant: str, body: bytes, now_us: int, columns: ColumnSet, limits: AcceptLimits
) -> tuple[Alike, list[Refusal]] | None:
    """Return the events and what is refused of them; None where too few can go as columns."""
    if columns.find is None or len(body) > limits.request_bytes_max:
        return None
    events = events_of(body, limits)
    kept = [columns.find.takes(event, limits.event_bytes_max) for event in events]
    part = _part(events, kept, columns, limits)
    if part is None:
        return None
    held = usual(part, now_us + limits.future_seconds_max * SECOND_US)
    if not held.all():
        of_kept = iter(held.tolist())
        kept = [is_ and next(of_kept) for is_ in kept]
        part = _part(events, kept, columns, limits)
    many = None if part is None else alike(tenant, [part], now_us, columns, limits)
    if many is None:
        return None
    if all(kept):
        return many, []
    places = [at for at, is_ in enumerate(kept) if not is_]
    rest = _array(events[at] for at in places)
    rows, refused = accept(tenant, rest, now_us, columns, limits)
    found = [msgspec.structs.replace(one, index=places[one.index]) for one in refused]
    places += compress(range(len(events)), kept)
    return _in_order(rows, many, places), found


def _part(
    events: Sequence[bytes], kept: Sequence[bool], columns: ColumnSet, limits: AcceptLimits
) -> Split | None:
    """Return the events that are kept as a request of their own; None where they are too few."""
    if sum(kept) < EVENTS_MIN:
        return None
    return split(_array(compress(events, kept)), limits, columns)


def _array(events: Iterable[bytes]) -> bytes:
    return b"[" + b",".join(events) + b"]"


def _in_order(rows: Rows, many: Alike, places: Sequence[int]) -> Alike:
    """Return both together, the first of `rows` at `places[0]`, and so on, and `many` behind."""
    order = pa.array(sorted(range(len(places)), key=places.__getitem__), pa.int64())
    both = pa.Table.from_batches([rows.to_batch(), many.to_batch()]).take(order)
    (batch,) = both.combine_chunks().to_batches()
    return Alike(batch, rows.data_bytes + many.data_bytes)
