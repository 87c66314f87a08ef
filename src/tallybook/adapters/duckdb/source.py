"""Raw rows of the lake as a DuckDB relation, with every typed column a meter needs.

Files written before a meter existed lack its columns; they are read from `data` by the same code
that fills them at accept, so a meter created later is exact over history (DECISIONS 11).
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from tallybook.adapters.duckdb.lake_files import LakeFiles
from tallybook.kernel.errors import Corrupt, Invalid, Unavailable
from tallybook.meter.sql import Param, Sql
from tallybook.store.commit import all_columns, fill
from tallybook.store.ports import LakeFile
from tallybook.store.schema import FIXED, typed_field

_READ_ROWS = 100_000
_SCHEMAS_MAX = 10_000
REPLACED_MAX = 3
_Answer = TypeVar("_Answer")


class LakeSource:
    """Opens DuckDB over the lake's files; one per process, safe for threads.

    Args:
        files: the live files.
        spill: folder for what does not fit into memory; made when it is needed.
        memory_limit: of the engine, such as '512MB'.
        threads: of the engine.
    """

    def __init__(
        self, files: LakeFiles, spill: Path, *, memory_limit: str = "512MB", threads: int = 2
    ) -> None:
        """Open an in-memory engine; nothing is written to a database file (DECISIONS 3)."""
        self.files = files
        self._limit = f"SET memory_limit = '{memory_limit}'"
        self._engine = duckdb.connect(":memory:", config={"temp_directory": str(spill)})
        for setting in (
            self._limit,
            f"SET threads = {int(threads)}",
            "SET TimeZone = 'UTC'",
            "SET autoinstall_known_extensions = false",
            "SET autoload_known_extensions = false",
        ):
            self._engine.execute(setting)
        self._schemas: dict[str, frozenset[str]] = {}
        self._kinds: dict[frozenset[str], frozenset[str]] = {}  # few; one of each is kept
        self._lock = threading.Lock()

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """Return a connection of its own for one query; the caller closes it."""
        with self._lock:
            return self._engine.cursor()

    def release(self) -> None:
        """Give the system back what the engine's allocator keeps: setting the limit does that."""
        with self._lock:
            self._engine.execute(self._limit)

    def relation(
        self,
        cursor: duckdb.DuckDBPyConnection,
        files: Sequence[LakeFile],
        columns: Iterable[str],
        name: str,
    ) -> Sql:
        """Return a select of raw rows: the fixed columns and these typed ones.

        Args:
            cursor: where the rows of incomplete files are registered.
            files: which files.
            columns: typed columns needed.
            name: unique within the query.
        """
        wanted = sorted(columns)
        complete = [f for f in files if set(wanted) <= self._typed(f.path)]
        done = {f.path for f in complete}
        lacking = [f for f in files if f.path not in done]
        names = ", ".join(f'"{column}"' for column in (*FIXED.names, *wanted))
        parts: list[str] = []
        params: list[Param] = []
        if complete:
            marks = ", ".join("?" * len(complete))
            parts.append(f"SELECT {names} FROM read_parquet([{marks}], union_by_name = false)")
            params += [f.path for f in complete]
        if lacking or not complete:
            cursor.register(name, self._filled(lacking, wanted))
            parts.append(f"SELECT {names} FROM {name}")
        return Sql(" UNION ALL ".join(parts), params)

    def read(
        self, sql: Sql, files: Sequence[LakeFile], columns: Iterable[str] = ()
    ) -> list[tuple[object, ...]]:
        """Return what a statement finds in some files, its relation `src`.

        Args:
            sql: the statement.
            files: which files.
            columns: typed columns needed beside the fixed ones.
        """
        cursor = self.cursor()
        try:
            src = self.relation(cursor, files, columns, "all_rows")
            text = f"WITH src AS ({src.text}) {sql.text}"
            return run(cursor, Sql(text, [*src.params, *sql.params]))
        finally:
            cursor.close()

    def _typed(self, path: str) -> frozenset[str]:
        known = self._schemas.get(path)
        if known is None:
            with readable(path):
                names = pq.read_schema(path).names
            if len(self._schemas) >= _SCHEMAS_MAX:
                self._schemas.clear()  # most are of files that were replaced long ago
                self._kinds.clear()
            found = frozenset(names)
            known = self._schemas[path] = self._kinds.setdefault(found, found)
        return known

    def _filled(self, files: Sequence[LakeFile], wanted: Sequence[str]) -> pa.Table:
        columns = all_columns(wanted, ())
        schema = FIXED
        for column in wanted:
            schema = schema.append(typed_field(column))
        parts = [schema.empty_table()]
        for file in files:
            with readable(file.path):
                batches = pq.ParquetFile(Path(file.path)).iter_batches(batch_size=_READ_ROWS)
                parts += [
                    fill(pa.table(batch), columns).select(schema.names).cast(schema)
                    for batch in batches
                ]
        return pa.concat_tables(parts)


class Replaced(Unavailable):
    """A file of the list is gone: it was replaced, and then deleted, since the list was read."""

    code = "lake-changed"


@contextmanager
def readable(path: str) -> Iterator[None]:
    """Read a file in the block; what goes wrong is told as ours."""
    try:
        yield
    except FileNotFoundError as error:
        raise Replaced(f"lake file {path} is gone") from error
    except OSError as error:
        raise Unavailable(f"lake file {path}: {error}") from error
    except pa.ArrowInvalid as error:
        raise Corrupt(f"lake file {path}: {error}") from error


def again(work: Callable[[], _Answer]) -> _Answer:
    """Do it; once more with a fresh file list where a file was replaced and deleted meanwhile."""
    for _ in range(REPLACED_MAX):
        try:
            return work()
        except Replaced:
            continue
    return work()


def run(cursor: duckdb.DuckDBPyConnection, sql: Sql) -> list[tuple[object, ...]]:
    """Return the rows of a statement; engine failures become Unavailable."""
    execute(cursor, sql)
    return cursor.fetchall()


def _too_large(error: duckdb.Error) -> Invalid:
    message = f"values are too large to be summed within 38 digits: {error}"
    return Invalid(message, code="sum-out-of-range", field="value")


@contextmanager
def batches(
    cursor: duckdb.DuckDBPyConnection, sql: Sql, rows: int
) -> Iterator[pa.RecordBatchReader]:
    """Read the rows of a statement, so many at a time; engine failures become Unavailable."""
    try:
        with _translated(), cursor.sql(sql.text, params=sql.params).to_arrow_reader(rows) as found:
            yield found
    except pa.ArrowException as error:  # the engine failed after it had given the first rows
        raise Unavailable(f"query engine: {error}") from error


def execute(cursor: duckdb.DuckDBPyConnection, sql: Sql) -> None:
    """Run a statement; its rows are then fetched from the cursor."""
    with _translated():
        cursor.execute(sql.text, sql.params)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except duckdb.IOException as error:
        raise Replaced(f"lake: {error}") from error
    except duckdb.OutOfRangeException as error:
        raise _too_large(error) from error
    except duckdb.Error as error:
        raise Unavailable(f"query engine: {error}") from error
