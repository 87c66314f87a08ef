"""Usage from the lake: roll-ups where they cover, raw rows where they do not.

An answer is the merge of three kinds of partials, exact for any snapshot and any borders:

1. roll-ups of the commits 1..c, for every 15-minute bucket that no border cuts;
2. raw rows of the commits 1..c in the buckets that a border cuts;
3. raw rows of the commits c+1..cut.
"""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import duckdb
import msgspec
import pyarrow as pa

from tallybook.adapters.duckdb.answers import (
    bands_of,
    event_of,
    keys_of,
    level_of,
    order_of,
    usages,
)
from tallybook.adapters.duckdb.extent import Extents
from tallybook.adapters.duckdb.lake_files import LakeFiles, VersionedTable, of_commits, of_times
from tallybook.adapters.duckdb.newest import newest
from tallybook.adapters.duckdb.pieces import EVENT, counted, listed, one
from tallybook.adapters.duckdb.rollups import Rollup, Rollups
from tallybook.adapters.duckdb.source import LakeSource, again, execute, run
from tallybook.adapters.duckdb.spill import spill_folder
from tallybook.catalog.meter import Meter
from tallybook.kernel.errors import Invalid
from tallybook.meter.each import Bands
from tallybook.meter.level import Level, LevelTerms
from tallybook.meter.level_sql import moments, uniques
from tallybook.meter.partial import rolls_up
from tallybook.meter.sql import (
    Param,
    Sql,
    answer,
    banded,
    bucket,
    final_keys,
    integral,
    narrowing,
    of_events,
    partial_columns,
    scope,
)
from tallybook.meter.usage import (
    Counters,
    Kind,
    PieceFilter,
    StoredEvent,
    Touched,
    Usage,
    UsageQuery,
)
from tallybook.meter.window import GRID_US, floor_grid, uniform_width
from tallybook.store.ports import LakeFile

CUT_BUCKETS_MAX = 256
"""With more buckets cut by borders than this, everything is read from raw rows."""
FAR_US = 1 << 62


class LakeUsageReader:
    """`UsageReader` and `EventAccounts` on the lake; one per process, safe for threads.

    Args:
        table: the event table.
        rollups: folder of the roll-ups; what queries spill lies beside it.
        memory_limit: of the engine.
        threads: of the engine.
    """

    def __init__(
        self, table: VersionedTable, rollups: Path, *, memory_limit: str = "512MB", threads: int = 2
    ) -> None:
        """Open the engine."""
        self._files = LakeFiles(table)
        spill = spill_folder(rollups.parent)
        self.source = LakeSource(self._files, spill, memory_limit=memory_limit, threads=threads)
        self.rollups = Rollups(rollups, self.source)
        self._extents = Extents(self._files, self.source, self.rollups)

    def head(self) -> int:
        """Return the newest snapshot."""
        return self._files.now()[0]

    def usage(self, query: UsageQuery) -> list[Usage]:
        """Return the exact aggregates, ordered by window, owner, subject, group (None first)."""
        _check(query)
        return again(lambda: self._usage_once(query))

    def _usage_once(self, query: UsageQuery) -> list[Usage]:
        cursor = self.source.cursor()
        try:
            self._register(cursor, query)
            if query.meter.aggregation == "TIME_WEIGHTED":
                rows = self._integrated(cursor, query)
            else:
                rows = self._merged(cursor, query, query.bounds)
            if query.each is not None:
                rows = self._with_bands(cursor, query, rows)
            if query.level is not None:
                rows = self._with_levels(cursor, query, query.level, rows)
        finally:
            cursor.close()
        return sorted(rows, key=order_of)

    def events(self, query: UsageQuery, after_cut: int = 0) -> Iterator[StoredEvent]:
        """Yield the events a query counts, with commit_seq > `after_cut`, by (time, source, id)."""
        _check(query)
        cursor = again(lambda: self._events_of(query, after_cut))
        try:
            while rows := cursor.fetchmany(10_000):
                yield from map(event_of, rows)
        finally:
            cursor.close()

    def _events_of(self, query: UsageQuery, after_cut: int) -> duckdb.DuckDBPyConnection:
        """Return a cursor with the events as its result; the caller closes it."""
        cursor = self.source.cursor()
        try:
            self._register(cursor, query)
            first, last = query.bounds[0], query.bounds[-1]
            _, files = self._files.now()
            wanted = of_times(of_commits(files, after_cut, query.cut), first, last)
            src = self._source(cursor, query, wanted, "explained")
            select = f"{EVENT}, time_us AS at_us, {of_events(query.meter)}"
            inner = self._scoped(query, src, select, after_cut, first, last)
            owned = _JOIN if query.owners is not None else ""
            names = ", ".join(f"p.{name}" for name in EVENT.split(", "))
            text = (
                f"SELECT {names} FROM ({inner.text}) p {owned} ORDER BY p.time_us, p.source, p.id"
            )
            execute(cursor, Sql(text, inner.params))
        except BaseException:
            cursor.close()
            raise
        return cursor

    def subjects(self, tenant: str, event_type: str, cut: int) -> list[tuple[str, int]]:
        """Return every subject of a type with the time of its first event, by subject."""
        sql = Sql(
            "SELECT subject, min(time_us) FROM src"
            " WHERE tenant = ? AND type = ? AND problem IS NULL AND subject IS NOT NULL"
            " AND commit_seq <= ? GROUP BY subject ORDER BY subject",
            [tenant, event_type, cut],
        )
        return [(str(subject), int(str(first))) for subject, first in self._over(sql, cut)]

    def touched(
        self, tenant: str, event_type: str, after: int, cut: int, *, before_us: int | None = None
    ) -> list[Touched]:
        """Return whose events the commits after one, up to another, brought, by subject."""
        end_us = FAR_US if before_us is None else before_us
        sql = Sql(
            "SELECT subject, min(time_us) FROM src"
            " WHERE tenant = ? AND type = ? AND problem IS NULL AND subject IS NOT NULL"
            " AND commit_seq > ? AND commit_seq <= ? AND time_us < ?"
            " GROUP BY subject ORDER BY subject",
            [tenant, event_type, after, cut, end_us],
        )
        rows = self._over(sql, cut, after, end_us)
        return [Touched(str(subject), int(str(first))) for subject, first in rows]

    def news(self, kinds: Collection[Kind], after: int, cut: int) -> dict[Kind, list[Touched]]:
        """Return whose events the commits after one, up to another, brought, of several kinds."""
        sql = Sql(
            "SELECT tenant, type, subject, min(time_us) FROM src"
            " WHERE (tenant, type) IN (SELECT unnest(?), unnest(?))"
            " AND problem IS NULL AND subject IS NOT NULL AND commit_seq > ? AND commit_seq <= ?"
            " GROUP BY tenant, type, subject ORDER BY tenant, type, subject",
            [[tenant for tenant, _ in kinds], [type_ for _, type_ in kinds], after, cut],
        )
        found: dict[Kind, list[Touched]] = {}
        for tenant, type_, subject, first in self._over(sql, cut, after):
            touched = Touched(str(subject), int(str(first)))
            found.setdefault((str(tenant), str(type_)), []).append(touched)
        return found

    def counters(self, tenant: str) -> Counters:
        """Return what the commits counted."""
        return self._files.counters(tenant)

    def stored(self, tenant: str, cut: int) -> Counters:
        """Return accepted and quarantined rows, counted."""
        sql = Sql(
            "SELECT count(*) FILTER (WHERE problem IS NULL),"
            " count(*) FILTER (WHERE problem IS NOT NULL)"
            " FROM src WHERE tenant = ? AND commit_seq <= ?",
            [tenant, cut],
        )
        ((accepted, quarantined),) = self._over(sql, cut)
        return Counters(accepted=int(str(accepted)), quarantined=int(str(quarantined)))

    def quarantined_between(self, after: int, cut: int) -> list[tuple[str, str, int]]:
        """Return tenant, code and count of what commits after one, up to another, put aside."""
        sql = Sql(
            "SELECT tenant, split_part(problem, ':', 1) AS code, count(*) FROM src"
            " WHERE problem IS NOT NULL AND commit_seq > ? AND commit_seq <= ?"
            " GROUP BY tenant, code ORDER BY tenant, code",
            [after, cut],
        )
        rows = self._over(sql, cut, after)
        return [(str(tenant), str(code), int(str(count))) for tenant, code, count in rows]

    def by_type(self, tenant: str, cut: int) -> dict[str, int]:
        """Return accepted events by type, counted."""
        sql = Sql(
            "SELECT type, count(*) FROM src"
            " WHERE tenant = ? AND problem IS NULL AND commit_seq <= ? GROUP BY type ORDER BY type",
            [tenant, cut],
        )
        return {str(kind): int(str(count)) for kind, count in self._over(sql, cut)}

    def extent(self, tenant: str, meter: Meter, cut: int) -> tuple[int, int] | None:
        """Return a range of whole quarters of an hour with all events that a meter counts.

        Arguments and cost are of `Extents.extent`; None without events.
        """
        return again(lambda: self._extents.extent(tenant, meter, cut))

    def span(
        self, tenant: str, event_type: str, cut: int, within: tuple[int, int] | None = None
    ) -> tuple[int, int] | None:
        """Return the times of the first and the last event of a type, None where there is none.

        Arguments and cost are of `Extents.span`.
        """
        return again(lambda: self._extents.span(tenant, event_type, cut, within))

    def recent(
        self,
        tenant: str,
        *,
        limit: int,
        where: dict[str, str] | None = None,
        since_us: int | None = None,
        before: tuple[int, str, str] | None = None,
        quarantined: bool = False,
    ) -> list[StoredEvent]:
        """Return the newest events by (time, source, id), newest first.

        Args:
            tenant: whose.
            limit: most rows.
            where: exact values of id, source, type or subject.
            since_us: only at or after this time.
            before: only strictly before this (time, source, id): the cursor of a page.
            quarantined: pieces in quarantine instead of accepted events.
        """
        negated = "NOT " if quarantined else ""
        text = f"SELECT {EVENT} FROM src WHERE tenant = ? AND problem IS {negated}NULL"
        params: list[Param] = [tenant]
        for name, value in sorted((where or {}).items()):
            assert name in {"id", "source", "type", "subject"}, name
            text += f" AND {name} = ?"
            params.append(value)
        if since_us is not None:
            text += " AND time_us >= ?"
            params.append(since_us)
        if before is not None:
            text += " AND (time_us, source, id) < (?, ?, ?)"
            params += before
        text += " ORDER BY time_us DESC, source DESC, id DESC LIMIT ?"
        return self._newest(Sql(text, [*params, limit]), limit, since_us, before)

    def quarantined(
        self,
        tenant: str,
        *,
        limit: int,
        before: tuple[int, str, str] | None = None,
        asked: PieceFilter | None = None,
    ) -> list[StoredEvent]:
        """Return pieces in quarantine, newest first.

        Args:
            tenant: whose.
            limit: most rows.
            before: only strictly before this (time, source, id): the cursor of a page.
            asked: which of them; None is all.
        """
        sql = listed(tenant, asked or PieceFilter(), limit, before)
        return self._newest(sql, limit, None, before)

    def piece(self, tenant: str, commit_seq: int, row_hash: int) -> StoredEvent | None:
        """Return one piece of a commit; only that commit's files are read."""
        sql = one(tenant, commit_seq, row_hash)
        found = self._over(sql, commit_seq, commit_seq - 1)
        return event_of(found[0]) if found else None

    def piece_counts(self, tenant: str, asked: PieceFilter | None = None) -> dict[str, int]:
        """Return how many pieces there are of each code."""
        rows = self._over(counted(tenant, asked or PieceFilter()), FAR_US)
        return {str(code): int(str(count)) for code, count in rows}

    def _newest(
        self, sql: Sql, limit: int, since_us: int | None, before: tuple[int, str, str] | None
    ) -> list[StoredEvent]:
        """Return the rows of a statement, newest first, of the files that may hold them."""
        start = -FAR_US if since_us is None else since_us
        end = FAR_US if before is None else before[0] + 1

        def looked() -> list[StoredEvent]:
            _, files = self._files.now()
            return newest(self.source, sql, of_times(files, start, end), limit)

        return again(looked)

    def _over(
        self, sql: Sql, cut: int, after: int = 0, before_us: int = FAR_US
    ) -> list[tuple[object, ...]]:
        return again(lambda: self._over_once(sql, cut, after, before_us))

    def _over_once(
        self, sql: Sql, cut: int, after: int, before_us: int
    ) -> list[tuple[object, ...]]:
        _, files = self._files.now()
        return self.source.read(sql, of_times(of_commits(files, after, cut), -FAR_US, before_us))

    def _register(self, cursor: duckdb.DuckDBPyConnection, query: UsageQuery) -> None:
        if _reads_windows(query):
            win = {"w_start": query.bounds[:-1], "w_end": query.bounds[1:]}
            cursor.register("win", pa.table({k: pa.array(v, pa.int64()) for k, v in win.items()}))
        if query.owners is not None:
            cursor.register("own", _owned(query))

    def _source(
        self,
        cursor: duckdb.DuckDBPyConnection,
        query: UsageQuery,
        files: Sequence[LakeFile],
        name: str,
    ) -> Sql:
        return self.source.relation(cursor, files, query.meter.columns(), name)

    def _merged(
        self, cursor: duckdb.DuckDBPyConnection, query: UsageQuery, borders: tuple[int, ...]
    ) -> list[Usage]:
        placed = self._placed(cursor, query)
        if query.owners is not None:
            placed = Sql(f"SELECT p.*, own.owner FROM ({placed.text}) p {_JOIN}", placed.params)
        return usages(query, run(cursor, answer(query, _window(borders), placed)))

    def _placed(self, cursor: duckdb.DuckDBPyConnection, query: UsageQuery) -> Sql:
        cut_buckets = _cut_buckets(query)
        chain: list[Rollup] = []
        if rolls_up(query.meter) and len(cut_buckets) <= CUT_BUCKETS_MAX:
            chain = self.rollups.covering(query.tenant, query.meter, query.cut)
        covered = chain[-1].last if chain else 0
        _, files = self._files.now()
        first, last = query.bounds[0], query.bounds[-1]
        in_range = of_times(files, first, last)
        partial = f"time_us AS at_us, subject, {of_events(query.meter)}"
        parts: list[Sql] = []
        new = of_commits(in_range, covered, query.cut)
        if new or not chain:
            fresh = self._source(cursor, query, new, "fresh")
            parts.append(self._scoped(query, fresh, partial, covered, first, last))
        old = of_commits(in_range, 0, covered)
        near = [f for f in old if any(of_times([f], b, b + GRID_US) for b in cut_buckets)]
        if near:
            src = self._source(cursor, query, near, "edges")
            edges = self._scoped(query, src, partial, 0, first, last, upto=covered)
            cut = f"{bucket('at_us')} IN ({', '.join(map(str, cut_buckets))})"
            parts.append(Sql(f"SELECT * FROM ({edges.text}) WHERE {cut}", edges.params))
        if chain:
            parts.append(_rolled(query, chain, cut_buckets))
        return Sql(
            " UNION ALL ".join(f"({part.text})" for part in parts),
            [param for part in parts for param in part.params],
        )

    def _scoped(
        self,
        query: UsageQuery,
        src: Sql,
        select: str,
        after: int,
        first: int,
        last: int,
        upto: int | None = None,
    ) -> Sql:
        """Return the query's raw rows in a time range, of the commits after..upto."""
        where, narrow = scope(query.meter, query.tenant), narrowing(query)
        newest = query.cut if upto is None else upto
        text = (
            f"SELECT * FROM (SELECT {select} FROM ({src.text}) WHERE {where.text}"
            f" AND commit_seq > {int(after)} AND commit_seq <= {int(newest)}"
            f" AND time_us >= {int(first)} AND time_us < {int(last)}) p WHERE TRUE{narrow.text}"
        )
        params = [*src.params, *where.params, *narrow.params]
        return Sql(text, params)

    def _integrated(self, cursor: duckdb.DuckDBPyConnection, query: UsageQuery) -> list[Usage]:
        """Return TIME_WEIGHTED: events, problems and digest merged, the value integrated."""
        counted = {
            (u.start_us, u.owner, u.subject, u.group): u
            for u in self._merged(cursor, query, query.bounds)
        }
        first, last = -FAR_US, query.bounds[-1]
        _, files = self._files.now()
        wanted = of_times(of_commits(files, 0, query.cut), first, last)
        src = self._source(cursor, query, wanted, "levels")
        column = query.meter.value_column()
        partial = of_events(query.meter)
        select = f'time_us AS at_us, subject, time_us, source, id, "{column}" AS v, {partial}'
        scoped = self._scoped(query, src, select, 0, first, last)
        if query.owners is not None:
            scoped = Sql(
                f"SELECT p.*, own.owner, own.e AS until_us FROM ({scoped.text}) p {_JOIN}",
                scoped.params,
            )
        for held in usages(query, run(cursor, integral(query, scoped, last)), integrated=True):
            key = (held.start_us, held.owner, held.subject, held.group)
            known = counted.get(key)
            events, problems, digest = (
                (known.events, known.problems, known.digest) if known else (0, 0, 0)
            )
            counted[key] = Usage(
                start_us=held.start_us, end_us=held.end_us, owner=held.owner, subject=held.subject,
                group=held.group, value=held.value, events=events, problems=problems, digest=digest,
            )  # fmt: skip
        return list(counted.values())

    def _with_bands(
        self, cursor: duckdb.DuckDBPyConnection, query: UsageQuery, rows: list[Usage]
    ) -> list[Usage]:
        """Return rows with their single values counted, from raw rows."""
        scoped = self._single(cursor, query, query.bounds[0], "each")
        keys = len(final_keys(query))
        found = {
            tuple(row[:keys]): bands_of(row[keys:])
            for row in run(cursor, banded(query, _window(query.bounds), scoped))
        }
        return [
            msgspec.structs.replace(row, bands=found.get(keys_of(query, row), Bands()))
            for row in rows
        ]

    def _with_levels(
        self,
        cursor: duckdb.DuckDBPyConnection,
        query: UsageQuery,
        terms: LevelTerms,
        rows: list[Usage],
    ) -> list[Usage]:
        """Return rows with what they do to the level, from raw rows where values do not tell."""
        unique = query.meter.aggregation == "UNIQUE_COUNT"
        found: dict[tuple[object, ...], Level] = {}
        if unique or terms.moments:
            # What is in a set, its whole history tells; how long a value matters, its window.
            scoped = self._single(
                cursor, query, query.bounds[0] if unique else terms.since_us, "levels"
            )
            statement = (uniques if unique else moments)(query, _window(query.bounds), scoped)
            keys = len(final_keys(query))
            found = {tuple(row[:keys]): level_of(row[keys:]) for row in run(cursor, statement)}
        return [
            msgspec.structs.replace(row, level=found.get(keys_of(query, row), Level()))
            for row in rows
        ]

    def _single(
        self, cursor: duckdb.DuckDBPyConnection, query: UsageQuery, first: int, name: str
    ) -> Sql:
        """Return the query's raw rows from an instant on, with value and owner."""
        last = query.bounds[-1]
        _, files = self._files.now()
        wanted = of_times(of_commits(files, 0, query.cut), first, last)
        src = self._source(cursor, query, wanted, name)
        column = query.meter.value_column()
        value = f'"{column}" AS v' if column else "CAST(1 AS DECIMAL(38,12)) AS v"
        select = f"time_us AS at_us, subject, source, id, {value}, {of_events(query.meter)}"
        scoped = self._scoped(query, src, select, 0, first, last)
        if query.owners is None:
            return scoped
        return Sql(f"SELECT p.*, own.owner FROM ({scoped.text}) p {_JOIN}", scoped.params)


_JOIN = "JOIN own ON p.subject = own.subject AND p.at_us >= own.s AND p.at_us < own.e"


def _check(query: UsageQuery) -> None:
    for name in (*query.group_by, *query.where):
        if name not in query.meter.group_by:
            known = ", ".join(sorted(query.meter.group_by)) or "none"
            raise Invalid(
                f"meter {query.meter.key} has no dimension '{name}'; it has: {known}",
                field="groupBy",
            )


def _cut_buckets(query: UsageQuery) -> list[int]:
    borders = set(query.bounds)
    for owned in query.owners or ():
        borders |= {b for b in (owned.start_us, owned.end_us) if b is not None}
    inside = {b for b in borders if query.bounds[0] <= b <= query.bounds[-1]}
    return sorted({floor_grid(b) for b in inside if b % GRID_US})


def _rolled(query: UsageQuery, chain: Sequence[Rollup], cut_buckets: Sequence[int]) -> Sql:
    columns = ", ".join(partial_columns(query.meter))
    narrow = narrowing(query)
    paths = [(query.of_everybody and rollup.everybody) or rollup.path for rollup in chain]
    marks = ", ".join("?" * len(chain))
    not_cut = f" AND bucket_us NOT IN ({', '.join(map(str, cut_buckets))})" if cut_buckets else ""
    text = (
        f"SELECT bucket_us AS at_us, {columns} FROM read_parquet([{marks}])"
        f" WHERE bucket_us >= {query.bounds[0]} AND bucket_us < {query.bounds[-1]}"
        f"{not_cut}{narrow.text}"
    )
    return Sql(text, [*paths, *narrow.params])


def _reads_windows(query: UsageQuery) -> bool:
    """Whether a statement joins the windows; a thousand of them cost as much as a small answer."""
    held = query.meter.aggregation == "TIME_WEIGHTED" or query.level is not None
    return held or uniform_width(query.bounds) is None


def _window(borders: tuple[int, ...]) -> str:
    if len(borders) == 2:
        return str(borders[0])
    width = uniform_width(borders)
    if width is not None:
        return f"{borders[0]} + ((at_us - {borders[0]}) // {width}) * {width}"
    return "(SELECT max(w_start) FROM win WHERE w_start <= at_us)"


def _owned(query: UsageQuery) -> pa.Table:
    owners = query.owners or ()
    return pa.table(
        {
            "subject": pa.array([o.subject for o in owners], pa.string()),
            "owner": pa.array([o.owner for o in owners], pa.string()),
            "s": pa.array(
                [-FAR_US if o.start_us is None else o.start_us for o in owners], pa.int64()
            ),
            "e": pa.array([FAR_US if o.end_us is None else o.end_us for o in owners], pa.int64()),
        }
    )
