"""Roll-ups on disk: one Parquet file a range of commits and meter definition.

`rollups/<id of tenant and definition>/<first>-<last>.parquet` holds the merged partials of the
commits first..last. A file is written whole and then named, so a range is there or not; building
it again gives the same content (DECISIONS 14). Meters with equal definitions share them.

`everybody/<first>-<last>.parquet` beside it holds the same partials merged over all subjects, for
questions that name none: a row for each bucket and group, of UNIQUE_COUNT for each text besides. It
is made after the file it is made from; until then, and of small files, that one is read. So it is
where merging would save little, as where groups or texts are each subject's own: an empty file
`everybody/<first>-<last>.itself` remembers that.
"""

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from tallybook.adapters.duckdb.lake_files import of_commits
from tallybook.adapters.duckdb.slices import slices, weeks, whole_weeks
from tallybook.adapters.duckdb.source import LakeSource, batches, run
from tallybook.catalog.meter import Meter
from tallybook.kernel.errors import Unavailable
from tallybook.kernel.ids import derived_id
from tallybook.meter.sql import Sql, key_columns, rollup_of_events, rollup_of_rollups
from tallybook.store.ports import LakeFile

FANOUT = 8
ROWS_MAX = 1_000_000
"""Most raw rows of one build step, but for a single file that has more: bounds its memory, up to
200 bytes a row where no two rows make one partial."""
GROUP_ROWS = 32_768
"""Rows of a roll-up that the engine reads, or leaves out by their bounds, together."""
EVERYBODY = "everybody"
SUMMED_BYTES_MIN = 128 * 1024
"""Smaller files, some ten thousand partials, cost as much to open as to read."""
SAVED_MIN = 4
"""Rows of a roll-up for each one of everybody's, about, from which on that file is made."""
ITSELF = ".itself"
_ONE_SUBJECT = "* REPLACE (CAST(NULL AS VARCHAR) AS subject)"


class Rollup(msgspec.Struct, frozen=True, order=True):
    """One file: the commits first..last, both included.

    Attributes:
        everybody: what to read where no subject matters: the file of the same commits with all
            subjects merged, or `path` where that would save little; None where neither is known.
    """

    first: int
    last: int
    path: str
    everybody: str | None = None


class Rollups:
    """Finds, builds and merges roll-up files.

    Args:
        folder: made when absent.
        source: raw rows.
    """

    def __init__(self, folder: Path, source: LakeSource) -> None:
        """Keep both."""
        self._folder = folder
        self._source = source

    def covering(self, tenant: str, meter: Meter, cut: int) -> list[Rollup]:
        """Return files that cover the commits 1..n without gap or overlap, n <= cut, n greatest."""
        chain: list[Rollup] = []
        at = 0
        by_first: dict[int, Rollup] = {}
        for rollup in sorted(self._all(tenant, meter)):
            if rollup.last <= cut:
                by_first[rollup.first] = rollup  # sorted: the widest of a start comes last
        while (following := by_first.get(at + 1)) is not None:
            chain.append(following)
            at = following.last
        return chain

    def build(self, tenant: str, meter: Meter) -> bool:
        """Do the next step: roll up commits, merge files or subjects; whether there was one."""
        head, files = self._source.files.now()
        chain = self.covering(tenant, meter, head)
        done = chain[-1].last if chain else 0
        if done < head:
            last, rows = done, 0
            for file in of_commits(files, done, head):
                if last > done and rows + file.rows > ROWS_MAX:
                    break
                last, rows = max(last, min(file.seq_max, head)), rows + file.rows
            last = head if not rows else last
            self._roll(tenant, meter, done + 1, last)
            return True
        return self._merge(tenant, meter, chain) or self._merge_subjects(meter, chain)

    def _roll(self, tenant: str, meter: Meter, first: int, last: int) -> None:
        _, files = self._source.files.now()
        cursor = self._source.cursor()
        try:
            wanted = of_commits(files, first - 1, last)
            raw = self._source.relation(cursor, wanted, meter.columns(), "rolling")
            path = self._path(tenant, meter, first, last)
            _write(path, cursor, _rolled(rollup_of_events(meter, tenant, first, last), raw, wanted))
        finally:
            cursor.close()

    def _merge(self, tenant: str, meter: Meter, chain: list[Rollup]) -> bool:
        """Merge the newest files of a size class; whether it did."""
        tail: list[Rollup] = []
        for rollup in reversed(chain):
            widest = max((r.last - r.first + 1 for r in tail), default=0)
            if tail and rollup.last - rollup.first + 1 > 2 * FANOUT * widest:
                break
            tail.insert(0, rollup)
        if len(tail) < FANOUT:
            return False
        cursor = self._source.cursor()
        try:
            path = self._path(tenant, meter, tail[0].first, tail[-1].last)
            _write(path, cursor, _merged(meter, [r.path for r in tail], slices))
        finally:
            cursor.close()
        return True

    def _merge_subjects(self, meter: Meter, chain: list[Rollup]) -> bool:
        """Make one file of everybody that is lacking, the widest first; whether there was one."""
        for rollup in chain:
            path = Path(rollup.path)
            if rollup.everybody is None and _bytes(path) >= SUMMED_BYTES_MIN:
                made = path.parent / EVERYBODY / path.name
                cursor = self._source.cursor()
                try:
                    if _saves(meter, rollup.path, cursor):
                        pieces = _merged(meter, [rollup.path], whole_weeks, _ONE_SUBJECT)
                        _write(made, cursor, pieces)
                    else:
                        _mark(made.with_suffix(ITSELF))
                finally:
                    cursor.close()
                return True
        return False

    def drop_drafts(self) -> None:
        """Remove what a killed writer left unfinished; only the one process that builds may."""
        with _usable(self._folder):
            for draft in self._folder.glob("**/*.tmp"):
                draft.unlink(missing_ok=True)

    def sweep(self, older_than_us: int) -> int:
        """Remove files that a wider one has replaced, once no reader may still use them."""
        removed = 0
        for folder in self._folder.glob("*"):
            rollups = _list(folder)
            for rollup in rollups:
                path = Path(rollup.path)
                wider = any(_contains(other, rollup) for other in rollups)
                if wider and path.stat().st_mtime_ns // 1000 < older_than_us:
                    path.unlink()
                    removed += 1
            for path in (folder / EVERYBODY).glob("*"):
                if not (folder / path.name).with_suffix(".parquet").exists():
                    path.unlink()
                    removed += 1
        return removed

    def _path(self, tenant: str, meter: Meter, first: int, last: int) -> Path:
        return self._of(tenant, meter) / f"{first:020d}-{last:020d}.parquet"

    def _of(self, tenant: str, meter: Meter) -> Path:
        definition = msgspec.json.encode(meter.definition()).decode()
        return self._folder / derived_id("roll", tenant, definition)

    def _all(self, tenant: str, meter: Meter) -> list[Rollup]:
        return _list(self._of(tenant, meter))


def _rolled(rollup: Sql, raw: Sql, files: Sequence[LakeFile]) -> Iterator[Sql]:
    """Yield the statements that roll up raw rows, some weeks each."""
    start = min((file.time_min for file in files), default=0)
    end = max((file.time_max for file in files), default=0)
    for piece in weeks(start, end, sum(f.rows for f in files)):
        src = f"WITH src AS (SELECT * FROM ({raw.text}) WHERE {piece.text}), p AS"
        text = rollup.text.replace("WITH p AS", src, 1)
        yield Sql(text, [*raw.params, *piece.params, *rollup.params])


def _merged(
    meter: Meter,
    paths: Sequence[str],
    cut: Callable[[Sequence[str]], Iterable[Sql]],
    columns: str = "*",
) -> Iterator[Sql]:
    """Yield the statements that merge these columns of files, a slice each."""
    merge = rollup_of_rollups(meter)
    rolled = f"SELECT {columns} FROM read_parquet([{', '.join('?' * len(paths))}])"
    for piece in cut(paths):
        text = f"WITH rolled AS ({rolled} WHERE {piece.text}) {merge.text}"
        yield Sql(text, [*paths, *piece.params, *merge.params])


def _saves(meter: Meter, path: str, cursor: duckdb.DuckDBPyConnection) -> bool:
    """Whether merging the subjects of a file saves much; a sketch counts, to some per cent."""
    keys = ", ".join(["bucket_us", *(key for key in key_columns(meter) if key != "subject")])
    text = f"SELECT count(*), approx_count_distinct(hash({keys})) FROM read_parquet([?])"
    ((rows, merged),) = run(cursor, Sql(text, [path]))
    return int(str(rows)) >= SAVED_MIN * int(str(merged))


def _write(path: Path, cursor: duckdb.DuckDBPyConnection, pieces: Iterable[Sql]) -> None:
    """Write what statements find, one after the other, into a file of this name."""
    draft = path.with_suffix(".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as closing:
            writer: pq.ParquetWriter | None = None
            for piece in pieces:
                with batches(cursor, piece, GROUP_ROWS) as found:
                    if writer is None:
                        writer = closing.enter_context(_writer(draft, found.schema))
                    for batch in found:
                        writer.write_batch(batch)
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException as error:
        draft.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise Unavailable(f"{path}: {error}") from error
        raise


def _mark(path: Path) -> None:
    with _usable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def _writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """Open a file; digests have no codes, for no two are equal, and an engine unpacks all codes."""
    coded: Any = [*(name for name in schema.names if name != "digest"), "latest.s"]
    return pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=coded)


def _bytes(path: Path) -> int:
    with _usable(path):
        return path.stat().st_size


@contextmanager
def _usable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Unavailable(f"{path}: {error}") from error


def _contains(wider: Rollup, narrower: Rollup) -> bool:
    inside = wider.first <= narrower.first and narrower.last <= wider.last
    return inside and wider != narrower


def _list(folder: Path) -> list[Rollup]:
    summed = {path.name for path in (folder / EVERYBODY).glob("*")}
    return [_named(path, summed) for path in folder.glob("*.parquet")]


def _named(path: Path, summed: Collection[str]) -> Rollup:
    first, last = path.stem.split("-")
    everybody = None
    if path.name in summed:
        everybody = f"{path.parent}/{EVERYBODY}/{path.name}"
    elif path.stem + ITSELF in summed:
        everybody = str(path)
    return Rollup(int(first), int(last), str(path), everybody)
