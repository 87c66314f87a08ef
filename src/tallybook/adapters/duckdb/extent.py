"""From when to when there are events, without reading them all.

Roll-ups tell to a quarter of an hour when a meter has usage; what they do not cover yet, the raw
rows of the newest commits tell. To the microsecond only raw rows do.
"""

from collections.abc import Iterable, Sequence

from tallybook.adapters.duckdb.lake_files import LakeFiles, of_commits, of_times, portions
from tallybook.adapters.duckdb.rollups import Rollup, Rollups
from tallybook.adapters.duckdb.source import LakeSource, run
from tallybook.catalog.meter import Meter
from tallybook.kernel.jsonpath import column_name
from tallybook.kernel.timestamps import MINUTE_US
from tallybook.meter.partial import rolls_up
from tallybook.meter.sql import Param, Sql, scope
from tallybook.meter.window import GRID_US
from tallybook.store.ports import LakeFile


class Extents:
    """Finds when events were.

    Args:
        files: the live files.
        source: raw rows.
        rollups: of all meters.
    """

    def __init__(self, files: LakeFiles, source: LakeSource, rollups: Rollups) -> None:
        """Keep them."""
        self._files = files
        self._source = source
        self._rollups = rollups

    def extent(self, tenant: str, meter: Meter, cut: int) -> tuple[int, int] | None:
        """Return a range of whole quarters of an hour with all events that a meter counts.

        Args:
            tenant: whose.
            meter: which; of a TIME_WEIGHTED one it is whole minutes, for it has no roll-ups.
            cut: the snapshot.

        Returns:
            First instant and first instant after it, microseconds UTC; None without events.

        Cost: a few files a roll-up, and the commits since the newest one.
        """
        rolled = rolls_up(meter)
        grid = GRID_US if rolled else MINUTE_US
        chain = self._rollups.covering(tenant, meter, cut) if rolled else []
        known = self._rolled(chain)
        _, files = self._files.now()
        new = of_commits(files, chain[-1].last if chain else 0, cut)
        where, columns = scope(meter, tenant), [column_name(f.path, "t") for f in meter.filter]
        where = Sql(f"{where.text} AND commit_seq <= ?", [*where.params, cut])
        first = self._least(where, columns, new, 1, None if known is None else known[0])
        if first is None:
            return None
        last = self._least(where, columns, new, -1, None if known is None else -known[1])
        assert last is not None, "what has a first event has a last one"
        return first // grid * grid, (-last // grid + 1) * grid

    def span(
        self, tenant: str, event_type: str, cut: int, within: tuple[int, int] | None = None
    ) -> tuple[int, int] | None:
        """Return the times of the first and the last event of a type, None where there is none.

        Args:
            tenant: whose.
            event_type: which.
            cut: the snapshot.
            within: only files that may hold events of this range are looked into; None for all.

        Cost: a few files where events came in the order of their times; in the worst case all.
        """
        where = Sql(
            "tenant = ? AND type = ? AND problem IS NULL AND commit_seq <= ?",
            [tenant, event_type, cut],
        )
        _, files = self._files.now()
        asked = of_commits(files, 0, cut)
        if within is not None:
            asked = of_times(asked, *within)
        first = self._least(where, (), asked, 1)
        last = self._least(where, (), asked, -1)
        return None if first is None or last is None else (first, -last)

    def _rolled(self, chain: Sequence[Rollup]) -> tuple[int, int] | None:
        """Return the first and the last bucket with usage."""
        if not chain:
            return None
        paths: list[Param] = [rollup.everybody or rollup.path for rollup in chain]
        marks = ", ".join("?" * len(paths))
        text = f"SELECT min(bucket_us), max(bucket_us) FROM read_parquet([{marks}])"
        cursor = self._source.cursor()
        try:
            ((first, last),) = run(cursor, Sql(text, paths))
        finally:
            cursor.close()
        return None if first is None else (int(str(first)), int(str(last)))

    def _least(
        self,
        where: Sql,
        columns: Iterable[str],
        files: Sequence[LakeFile],
        sign: int,
        known: int | None = None,
    ) -> int | None:
        """Return the least `sign * time` of some rows; files that cannot have it are left.

        Args:
            where: which rows.
            columns: typed ones that `where` names.
            files: to look in.
            sign: 1 or -1.
            known: one that is found already, None for none.
        """

        def least(file: LakeFile) -> int:
            return min(sign * file.time_min, sign * file.time_max)

        sql = Sql(f"SELECT min({sign} * time_us) FROM src WHERE {where.text}", where.params)
        found = known
        for some in portions(sorted(files, key=least)):
            if found is not None and found <= least(some[0]):
                break
            ((at,),) = self._source.read(sql, some, columns)
            if at is not None:
                found = int(str(at)) if found is None else min(found, int(str(at)))
        return found
