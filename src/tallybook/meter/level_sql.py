"""What a level needs of the events of each window, as SQL for one dialect.

Each statement reads `scoped`: raw partials with at_us, source, id, v (a number; `u` for
UNIQUE_COUNT) and, where owners are asked, owner; and the relation `win` (w_start, w_end).
Its columns are those of `final_keys`, then opened, net, whole, fraction, first_us.

Source: `meter.level`.
"""

from tallybook.meter.level import LevelTerms
from tallybook.meter.partial import FRACTION
from tallybook.meter.sql import Param, Sql, dimension_names, final_keys
from tallybook.meter.usage import UsageQuery

_PARTS = (
    "CAST(trunc(v) AS HUGEINT) AS i, CAST((v - trunc(v)) * {fraction} AS HUGEINT) AS f,"
    " CAST(until - at_us AS HUGEINT) AS d"
)
_SUMS = "CAST(sum(i * d) AS HUGEINT) AS whole, CAST(sum(f * d) AS HUGEINT) AS fraction"


def moments(query: UsageQuery, window: str, scoped: Sql) -> Sql:
    """Return COUNT, SUM and LATEST: values times how long each of them matters in its window."""
    keys = ", ".join(final_keys(query))
    until, first = "w_end", "NULL"
    if query.meter.aggregation == "LATEST":
        order = f"(PARTITION BY {keys} ORDER BY at_us, source, id)"
        until, first = f"coalesce(lead(at_us) OVER {order}, w_end)", "min(at_us)"
    text = (
        f"WITH valued AS (SELECT *, {window} AS w FROM ({scoped.text}) WHERE v IS NOT NULL),"
        f" held AS (SELECT valued.*, {until} AS until FROM valued JOIN win ON w_start = w),"
        f" parts AS (SELECT *, {_PARTS.format(fraction=FRACTION)} FROM held)"
        f" SELECT {keys}, 0 AS opened, 0 AS net, {_SUMS}, {first} AS first_us"
        f" FROM parts GROUP BY {keys}"
    )
    return Sql(text, scoped.params)


def uniques(query: UsageQuery, window: str, scoped: Sql) -> Sql:
    """Return UNIQUE_COUNT: values that come and go.

    A value is there from the first event that does not release it until the next that does;
    `opened` counts those whose first change within a window is to be there.
    """
    terms = query.level
    assert terms is not None, "only a query with terms asks for levels"
    keys = final_keys(query)
    each = ", ".join([*keys[1:], "u"])
    off = _released(query, terms)
    text = (
        f"WITH valued AS (SELECT *, {window} AS w, coalesce({off.text}, FALSE) AS gone"
        f" FROM ({scoped.text}) WHERE u IS NOT NULL),"
        f" seen AS (SELECT *, lag(gone) OVER (PARTITION BY {each} ORDER BY at_us, source, id)"
        f" AS was_gone FROM valued),"
        f" moved AS (SELECT *, CASE WHEN gone THEN -1 ELSE 1 END AS d FROM seen"
        f" WHERE gone <> coalesce(was_gone, TRUE)),"
        f" ranked AS (SELECT *, row_number() OVER (PARTITION BY w, {each}"
        f" ORDER BY at_us, source, id) AS k FROM moved JOIN win ON w_start = w)"
        f" SELECT {', '.join(keys)}, count(*) FILTER (WHERE k = 1 AND d = 1) AS opened,"
        f" sum(d) AS net, CAST(sum(CASE WHEN w >= {terms.since_us} THEN d * (w_end - at_us)"
        f" ELSE 0 END) AS HUGEINT) AS whole, 0 AS fraction, NULL AS first_us"
        f" FROM ranked GROUP BY {', '.join(keys)}"
    )
    return Sql(text, [*off.params, *scoped.params])


def _released(query: UsageQuery, terms: LevelTerms) -> Sql:
    """Return the condition of an event that takes its value away."""
    names = dimension_names(query.meter)
    parts: list[str] = []
    params: list[Param] = []
    for name, texts in terms.releases:
        column = f"g{names.index(name)}"
        given = [text for text in texts if text is not None]
        if given:
            parts.append(f"{column} IN ({', '.join('?' * len(given))})")
            params += given
        if len(given) < len(texts):
            parts.append(f"{column} IS NULL")
    return Sql(" OR ".join(parts) or "FALSE", params)
