"""The road of many events with a few odd ones among them.

One event of a thousand that has an escape, an extension attribute or a problem would have all of
them looked at one by one, at several times the cost. Those that the compiled pass takes by
themselves go the road of many (`transport.alike`), the others as if they had come alone
(`transport.accept`), and then all stand in their order again.
"""

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from itertools import compress

import msgspec
import pyarrow as pa

from tallybook.kernel.event import UNPARSED_TYPE
from tallybook.kernel.timestamps import SECOND_US
from tallybook.transport.accept import AcceptLimits, Refusal, accept, events_of, instants_singly
from tallybook.transport.alike import EVENTS_MIN, Alike, alike, split
from tallybook.transport.columns import ColumnSet
from tallybook.transport.rows import Rows


class _Told(msgspec.Struct, gc=False):
    """What may be unusual of an event that the compiled pass takes."""

    type: str
    time: str | None = None


_TOLD = msgspec.json.Decoder(_Told)


def accept_many(
    tenant: str,
    body: bytes,
    now_us: int,
    columns: ColumnSet,
    limits: AcceptLimits,
    subjects: AbstractSet[str] | None = None,
) -> tuple[Rows | Alike, list[Refusal]]:
    """Return what `accept` does, of large requests sooner; arguments and errors are its own."""
    if subjects is None and body.count(b"specversion") >= EVENTS_MIN:
        found = _sifted(tenant, body, now_us, columns, limits)
        if found is not None:
            return found
    return accept(tenant, body, now_us, columns, limits, subjects)


def _sifted(
    tenant: str, body: bytes, now_us: int, columns: ColumnSet, limits: AcceptLimits
) -> tuple[Alike, list[Refusal]] | None:
    """Return the events and what is refused of them; None where too few are as usual."""
    if columns.find is None or len(body) > limits.request_bytes_max:
        return None
    many = _many(tenant, body, now_us, columns, limits)
    if many is not None:
        return many, []
    events = events_of(body, limits)
    usual = [columns.find.takes(event, limits.event_bytes_max) for event in events]
    many = _many(tenant, _array(compress(events, usual)), now_us, columns, limits)
    if many is None:
        latest_us = now_us + limits.future_seconds_max * SECOND_US
        pairs = zip(usual, events, strict=True)
        usual = [is_ and _in_time(event, latest_us) for is_, event in pairs]
        many = _many(tenant, _array(compress(events, usual)), now_us, columns, limits)
    if many is None:
        return None
    places = [at for at, is_ in enumerate(usual) if not is_]
    if not places:
        return many, []
    rest = _array(events[at] for at in places)
    rows, refused = accept(tenant, rest, now_us, columns, limits)
    places += compress(range(len(events)), usual)
    both = pa.Table.from_batches([rows.to_batch(), many.to_batch()]).take(_order(places))
    (batch,) = both.combine_chunks().to_batches()
    found = [msgspec.structs.replace(one, index=places[one.index]) for one in refused]
    return Alike(batch, rows.data_bytes + many.data_bytes), found


def _many(
    tenant: str, body: bytes, now_us: int, columns: ColumnSet, limits: AcceptLimits
) -> Alike | None:
    part = split(body, limits, columns)
    if part is None or part.events < EVENTS_MIN:
        return None
    return alike(tenant, [part], now_us, columns, limits)


def _array(events: Iterable[bytes]) -> bytes:
    return b"[" + b",".join(events) + b"]"


def _in_time(event: bytes, latest_us: int) -> bool:
    """Whether an event's time can be read and is not too late, and it reports no other's fault."""
    told = _TOLD.decode(event)
    times = instants_singly([told.time])
    return times is not None and times[0] <= latest_us and told.type != UNPARSED_TYPE


def _order(places: Sequence[int]) -> "pa.Array[pa.Int64Scalar]":
    """Return which event stands at each place, where each one's place is given."""
    return pa.array(sorted(range(len(places)), key=places.__getitem__), pa.int64())
