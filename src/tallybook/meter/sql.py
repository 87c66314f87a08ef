"""A meter's questions as SQL: the intermediate form, written for one dialect.

In engine SQL there is no JSON function, no time-zone function, no AVG and no division; tenant,
type, texts and instants are bound parameters; identifiers are made by `column_name` or fixed.
Every statement reads a relation `src` of raw rows with the columns of `store.schema`.
"""

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from tallybook.catalog.meter import Meter
from tallybook.kernel.decimals import plain
from tallybook.kernel.jsonpath import column_name
from tallybook.meter.each import EachEvent
from tallybook.meter.partial import FRACTION, value_columns
from tallybook.meter.usage import UsageQuery
from tallybook.meter.window import GRID_US

Param = str | int | list[str] | None
WEEK_US = 7 * 24 * 3_600 * 1_000_000
"""How roll-ups are ordered: by weeks, within one by subject. So a month of one subject and a day of
all are both found in a few places."""


class Sql(msgspec.Struct):
    """A statement under construction and its bound parameters, in order."""

    text: str
    params: list[Param] = []


def dimension_names(meter: Meter) -> tuple[str, ...]:
    """Return a meter's dimensions in the order of its partial columns g0, g1, …."""
    return tuple(sorted(meter.group_by))


_OF_EVENT = {
    "s": "{v} AS s",
    "mn": "{v} AS mn",
    "mx": "{v} AS mx",
    "latest": "CASE WHEN {v} IS NOT NULL THEN"
    " struct_pack(t := time_us, s := source, i := id, v := {v}) END AS latest",
}
_MERGE = {
    "s": "sum(s) AS s",
    "mn": "min(mn) AS mn",
    "mx": "max(mx) AS mx",
    "latest": "max(latest) FILTER (WHERE latest IS NOT NULL) AS latest",
}


def partial_columns(meter: Meter) -> list[str]:
    """Return the columns of a partial row without its time, in order."""
    dims = [f"g{i}" for i in range(len(meter.group_by))]
    unique = ["u"] if meter.aggregation == "UNIQUE_COUNT" else []
    return ["subject", *dims, *unique, "n", "nv", "digest", *value_columns(meter)]


def key_columns(meter: Meter) -> list[str]:
    """Return the columns that partials are grouped by, without time."""
    return [c for c in partial_columns(meter) if c in {"subject", "u"} or c.startswith("g")]


def of_events(meter: Meter) -> str:
    """Return the select list that turns a raw row into a partial, without its subject."""
    dims = [
        f'"{column_name(meter.group_by[name], "t")}" AS g{i}'
        for i, name in enumerate(dimension_names(meter))
    ]
    column = meter.value_column()
    value = f'"{column}"' if column else "NULL"
    unique = [f"{value} AS u"] if meter.aggregation == "UNIQUE_COUNT" else []
    usable = "1" if column is None else f"CASE WHEN {value} IS NULL THEN 0 ELSE 1 END"
    counts = ["1 AS n", f"{usable} AS nv", "CAST(row_hash AS DECIMAL(38,0)) AS digest"]
    values = [_OF_EVENT[name].format(v=value) for name in value_columns(meter)]
    return ", ".join([*dims, *unique, *counts, *values])


def merges(meter: Meter) -> str:
    """Return the select list that merges partials."""
    counts = [
        "CAST(sum(n) AS BIGINT) AS n",
        "CAST(sum(nv) AS BIGINT) AS nv",
        "sum(digest) AS digest",
    ]
    return ", ".join(counts + [_MERGE[name] for name in value_columns(meter)])


def scope(meter: Meter, tenant: str) -> Sql:
    """Return the condition for a meter's accepted events, without time and snapshot."""
    sql = Sql("tenant = ? AND type = ? AND problem IS NULL", [tenant, meter.event_type])
    for f in meter.filter:
        marks = ", ".join("?" * len(f.any_of))
        sql.text += f' AND "{column_name(f.path, "t")}" IN ({marks})'
        sql.params += list(f.any_of)
    return sql


def narrowing(query: UsageQuery) -> Sql:
    """Return the query's own conditions on partial columns: subjects and dimension values."""
    names = dimension_names(query.meter)
    parts: list[Sql] = []
    if query.subjects is not None:
        parts.append(_one_of("subject", query.subjects))
    for name, allowed in sorted(query.where.items()):
        parts.append(_one_of(f"g{names.index(name)}", allowed))
    return Sql(
        "".join(f" AND {part.text}" for part in parts), [p for part in parts for p in part.params]
    )


def _one_of(column: str, allowed: Sequence[str | None]) -> Sql:
    texts = [text for text in allowed if text is not None]
    conditions = []
    if texts:
        conditions.append(f"{column} IN ({', '.join('?' * len(texts))})")
    if len(texts) < len(allowed):
        conditions.append(f"{column} IS NULL")
    return Sql(f"({' OR '.join(conditions) or 'FALSE'})", list(texts))


def bucket(time: str = "time_us") -> str:
    """Return the expression for a time's roll-up bucket, right before 1970 too."""
    return f"({time} - ((({time} % {GRID_US}) + {GRID_US}) % {GRID_US}))"


def rollup_of_events(meter: Meter, tenant: str, seq_from: int, seq_to: int) -> Sql:
    """Return the roll-up of the commits `seq_from..seq_to`: one partial a bucket and key."""
    keys = ", ".join(["bucket_us", *key_columns(meter)])
    where = scope(meter, tenant)
    text = (
        f"WITH p AS (SELECT {bucket()} AS bucket_us, subject, {of_events(meter)} FROM src"
        f" WHERE {where.text} AND commit_seq BETWEEN ? AND ?)"
        f" SELECT {keys}, {merges(meter)} FROM p GROUP BY {keys} ORDER BY {_rollup_order(meter)}"
    )
    return Sql(text, [*where.params, seq_from, seq_to])


def rollup_of_rollups(meter: Meter) -> Sql:
    """Return the merge of roll-ups in the relation `rolled`."""
    keys = ", ".join(["bucket_us", *key_columns(meter)])
    order = _rollup_order(meter)
    return Sql(f"SELECT {keys}, {merges(meter)} FROM rolled GROUP BY {keys} ORDER BY {order}")


def _rollup_order(meter: Meter) -> str:
    """Return the order of partials: a week of one subject lies together, and so does a week."""
    rest = [key for key in key_columns(meter) if key != "subject"]
    return ", ".join([f"(bucket_us - (bucket_us % {WEEK_US}))", "subject", "bucket_us", *rest])


def final_keys(query: UsageQuery) -> list[str]:
    """Return the columns an answer is grouped by: w, then owner, subject and dimensions asked."""
    names = dimension_names(query.meter)
    keys = ["w"]
    if query.owners is not None:
        keys.append("owner")
    if query.by_subject:
        keys.append("subject")
    return keys + [f"g{names.index(name)}" for name in query.group_by]


def answer(query: UsageQuery, window: str, placed: Sql) -> Sql:
    """Return the merge of the partials in `placed`, by window and group.

    Args:
        query: the question.
        window: expression of a partial's window start, from its `at_us`.
        placed: select of partials with `at_us` and, where owners are asked, `owner`.
    """
    keys = ", ".join(final_keys(query))
    uniques = ", count(DISTINCT u) AS uniques" if query.meter.aggregation == "UNIQUE_COUNT" else ""
    text = (
        f"WITH placed AS ({placed.text}), windowed AS (SELECT *, {window} AS w FROM placed)"
        f" SELECT {keys}, {merges(query.meter)}{uniques} FROM windowed GROUP BY {keys}"
    )
    return Sql(text, placed.params)


def integral(query: UsageQuery, scoped: Sql, last_us: int) -> Sql:
    """Return TIME_WEIGHTED: levels held until the next of their series, cut to each window.

    Reads `scoped`: raw partials with time_us, source, id, v, until_us (when the subject leaves its
    owner, or NULL) and owner; and the relation `win` (w_start, w_end).
    """
    names = dimension_names(query.meter)
    dims = [f"g{i}" for i in range(len(names))]
    owner = ["owner"] if query.owners is not None else []
    series = ", ".join([*owner, "subject", *dims])
    keys = ", ".join(final_keys(query))
    own = "least(until_us, w_end)" if query.owners is not None else "w_end"
    text = (
        f"WITH ev AS ({scoped.text}),"
        f" held AS (SELECT *, lead(time_us) OVER (PARTITION BY {series}"
        f" ORDER BY time_us, source, id) AS next_us FROM ev"
        f" WHERE v IS NOT NULL AND time_us < {last_us}),"
        f" cut AS (SELECT held.*, w_start AS w, greatest(time_us, w_start) AS a,"
        f" least(coalesce(next_us, w_end), {own}) AS b FROM held, win WHERE time_us < w_end"
        f" AND (time_us >= w_start OR least(coalesce(next_us, w_end), {own}) > w_start)),"
        f" parts AS (SELECT {keys}, CAST(trunc(v) AS HUGEINT) AS i,"
        f" CAST((v - trunc(v)) * {FRACTION} AS HUGEINT) AS f,"
        f" CAST(greatest(b - a, 0) AS HUGEINT) AS d FROM cut)"
        f" SELECT {keys}, CAST(sum(i * d) AS HUGEINT) AS whole,"
        f" CAST(sum(f * d) AS HUGEINT) AS fraction FROM parts GROUP BY {keys}"
    )
    return Sql(text, scoped.params)


def banded(query: UsageQuery, window: str, scoped: Sql) -> Sql:
    """Return the bands of single values by window and group, as `meter.each` counts them.

    Reads `scoped`: raw partials with at_us, source, id, v and, where owners are asked, owner.
    """
    terms = query.each
    assert terms is not None, "only a query with terms has bands"
    keys = ", ".join(final_keys(query))
    within, part = _charged(terms)
    free = (
        f"{within} AND total <= {_number(terms.free_amount)}"
        if terms.free_amount is not None
        else within
    )
    low = f" WHEN c < {_number(terms.low)} THEN 1" if terms.low is not None else ""
    high = f" WHEN c > {_number(terms.high)} THEN 3" if terms.high is not None else ""
    text = (
        f"WITH valued AS (SELECT *, {window} AS w FROM ({scoped.text}) WHERE v IS NOT NULL),"
        f" ranked AS (SELECT *, row_number() OVER o AS k, sum(v) OVER o AS total FROM valued"
        f" WINDOW o AS (PARTITION BY {keys} ORDER BY at_us, source, id"
        f" ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)),"
        f" charged AS (SELECT {keys}, {free} AS free, {part} AS c FROM ranked),"
        f" counted AS (SELECT *, CASE WHEN free THEN 0{low}{high} ELSE 2 END AS band FROM charged)"
        f" SELECT {keys}, {', '.join(f'count(*) FILTER (WHERE band = {i})' for i in range(4))},"
        f" coalesce(sum(c) FILTER (WHERE band IN (0, 2)), 0) FROM counted GROUP BY {keys}"
    )
    return Sql(text, scoped.params)


def _charged(terms: EachEvent) -> tuple[str, str]:
    """Return whether a value is within the allowance, and what of it is charged."""
    if terms.free_events is None and terms.free_amount is None:
        return "FALSE", "v"
    within = "TRUE" if terms.free_events is None else f"k <= {int(terms.free_events)}"
    part = "0"
    if terms.free_amount is not None:
        free = _number(terms.free_amount)
        part = f"greatest(total - {free}, 0) - greatest(total - v - {free}, 0)"
    return within, f"CASE WHEN {within} THEN {part} ELSE v END"


def _number(value: Decimal) -> str:
    return f"CAST('{plain(value)}' AS DECIMAL(38,12))"
