"""What the engine answers, as values of the meters' own words."""

from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise

from tallybook.kernel.decimals import EXACT
from tallybook.meter.each import Bands
from tallybook.meter.level import Level
from tallybook.meter.partial import FRACTION, Merged, finish, value_columns
from tallybook.meter.sql import final_keys
from tallybook.meter.usage import StoredEvent, Usage, UsageQuery


def usages(
    query: UsageQuery, rows: Sequence[Sequence[object]], *, integrated: bool = False
) -> list[Usage]:
    """Return what the engine found, finished; an integral has neither events nor a digest."""
    keys, ends = final_keys(query), dict(pairwise(query.bounds))
    unfinished = query.meter.aggregation == "TIME_WEIGHTED" and not integrated
    groups = [i for i, key in enumerate(keys) if key.startswith("g")]
    found = []
    for row in rows:
        named, rest = dict(zip(keys, row, strict=False)), row[len(keys) :]
        start = int(str(named["w"]))
        merged = _merged_row(query, rest, integrated=integrated)
        found.append(
            Usage(
                start_us=start,
                end_us=ends[start],
                owner=_text(named.get("owner")),
                subject=_text(named.get("subject")),
                group=tuple(_text(row[i]) for i in groups),
                value=None if unfinished else finish(query.meter, merged),
                events=merged.n,
                problems=merged.n - merged.nv,
                digest=0 if integrated else int(str(rest[2])),
            )
        )
    return found


def _merged_row(query: UsageQuery, rest: Sequence[object], *, integrated: bool) -> Merged:
    if integrated:
        return Merged(n=0, nv=0, whole=int(str(rest[0])), fraction=int(str(rest[1])))
    values = dict(zip(value_columns(query.meter), rest[3:], strict=False))
    latest = values.get("latest")
    unique = query.meter.aggregation == "UNIQUE_COUNT"
    return Merged(
        n=int(str(rest[0])),
        nv=int(str(rest[1])),
        s=_decimal(values.get("s")),
        mn=_decimal(values.get("mn")),
        mx=_decimal(values.get("mx")),
        latest=_decimal(latest["v"]) if isinstance(latest, dict) else None,
        uniques=int(str(rest[3])) if unique else None,
    )


def keys_of(query: UsageQuery, row: Usage) -> tuple[object, ...]:
    """Return the values of `final_keys` that an answer row has."""
    owner = (row.owner,) if query.owners is not None else ()
    subject = (row.subject,) if query.by_subject else ()
    return (row.start_us, *owner, *subject, *row.group)


def bands_of(counts: Sequence[object]) -> Bands:
    """Return the single values of a row: how many in each band, and what is charged."""
    free, low, middle, high = (int(str(count)) for count in counts[:4])
    charged = _decimal(counts[4])
    assert charged is not None, "a sum of decimals is one"
    return Bands(free=free, low=low, middle=middle, high=high, charged=charged)


def level_of(found: Sequence[object]) -> Level:
    """Return what a row does to the level."""
    opened, net, whole, fraction = (int(str(number)) for number in found[:4])
    moment = EXACT.add(Decimal(whole), EXACT.divide(Decimal(fraction), Decimal(FRACTION)))
    first_us = None if found[4] is None else int(str(found[4]))
    return Level(opened=opened, net=net, moment=moment, first_us=first_us)


def _decimal(value: object) -> Decimal | None:
    return value if isinstance(value, Decimal) else None


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def order_of(row: Usage) -> tuple[object, ...]:
    """Return where a row stands in an answer: by window, owner, subject, group, None first."""
    texts = (row.owner, row.subject, *row.group)
    return (row.start_us, *((text is not None, text or "") for text in texts))


def event_of(row: Sequence[object]) -> StoredEvent:
    """Return the event that the columns of `pieces.EVENT` are."""
    event_id, source, kind, subject, time_us, received_us, seq, data, ext, problem, row_hash = row
    return StoredEvent(
        id=str(event_id),
        source=str(source),
        type=str(kind),
        subject=_text(subject),
        time_us=int(str(time_us)),
        received_us=int(str(received_us)),
        commit_seq=int(str(seq)),
        data=str(data),
        ext=_text(ext),
        problem=_text(problem),
        row_hash=int(str(row_hash)),
    )
