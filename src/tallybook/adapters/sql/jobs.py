"""Long work that must survive a kill: requested over HTTP, run by the jobs process."""

from typing import Literal

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    Engine,
    Integer,
    String,
    Table,
    Text,
    insert,
    select,
    update,
)

from tallybook.adapters.sql.database import read, write
from tallybook.adapters.sql.schema.declared import metadata
from tallybook.kernel.errors import Missing

State = Literal["queued", "running", "done", "failed"]

JOBS = Table(
    "job",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("id", String(64), primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("request", Text, nullable=False),
    Column("result", Text),
    Column("error", Text),
    Column("total", Integer),
    Column("finished", Integer, nullable=False, default=0),
    Column("attempts", Integer, nullable=False, default=0),
    Column("created_us", BigInteger, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
)
"""Jobs. request, result: JSON text. error: JSON of code and message, NULL unless failed. total,
finished: units of work, total NULL while unknown. attempts: times started. *_us: microseconds."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One piece of long work.

    Attributes:
        kind: such as 'billing-run'.
        request: what was asked, as JSON.
        result: what came of it, as JSON; None until done.
        error: why it failed; None otherwise.
        total: units of work, None while unknown.
        finished: units done; a resumed job starts counting again.
        attempts: how often it was started; above 1 after a kill.
    """

    tenant: str
    id: str
    kind: str
    state: State
    request: msgspec.Raw
    created_us: int
    updated_us: int
    result: msgspec.Raw | None = None
    error: msgspec.Raw | None = None
    total: int | None = None
    finished: int = 0
    attempts: int = 0


class SqlJobs:
    """The queue of jobs: many ask, one process runs."""

    def __init__(self, engine: Engine) -> None:
        """Use a control database that `open_database` made."""
        self._engine = engine

    def ask(self, tenant: str, job_id: str, kind: str, request: bytes, now_us: int) -> Job:
        """Queue a job and return it."""
        row = {
            "tenant": tenant,
            "id": job_id,
            "kind": kind,
            "state": "queued",
            "request": request.decode(),
            "created_us": now_us,
            "updated_us": now_us,
        }
        with write(self._engine) as connection:
            connection.execute(insert(JOBS), row)
        return self.get(tenant, job_id)

    def get(self, tenant: str, job_id: str) -> Job:
        """Return a job; raises Missing."""
        question = select(JOBS).where(JOBS.c.tenant == tenant, JOBS.c.id == job_id)
        with read(self._engine) as connection:
            row = connection.execute(question).mappings().first()
        if row is None:
            raise Missing(f"there is no job {job_id}")
        return _job(dict(row))

    def listed(self, tenant: str, kind: str, limit: int, before: str | None = None) -> list[Job]:
        """Return jobs of a kind, newest first; ids grow with time."""
        question = select(JOBS).where(JOBS.c.tenant == tenant, JOBS.c.kind == kind)
        if before is not None:
            question = question.where(JOBS.c.id < before)
        with read(self._engine) as connection:
            rows = connection.execute(question.order_by(JOBS.c.id.desc()).limit(limit)).mappings()
            return [_job(dict(row)) for row in rows]

    def take(self, now_us: int) -> Job | None:
        """Return the oldest job that is not finished, marked as running; None where none waits.

        Guarantees: a job that a killed process left running is taken again. One caller only.
        """
        waits = select(JOBS).where(JOBS.c.state.in_(("queued", "running")))
        with read(self._engine) as connection:
            row = connection.execute(waits.order_by(JOBS.c.id).limit(1)).mappings().first()
        if row is None:
            return None
        job = _job(dict(row))
        values = {"state": "running", "attempts": job.attempts + 1, "finished": 0}
        self._set(job, now_us, values)
        return self.get(job.tenant, job.id)

    def put_back(self, job: Job, now_us: int) -> None:
        """Do not count this start: it was not ended by the job, it waits for disk or database."""
        self._set(job, now_us, {"attempts": job.attempts - 1})

    def advance(self, job: Job, finished: int, total: int | None, now_us: int) -> None:
        """Record how far a job is."""
        self._set(job, now_us, {"finished": finished, "total": total})

    def done(self, job: Job, result: bytes, now_us: int) -> None:
        """Record the result of a job."""
        self._set(job, now_us, {"state": "done", "result": result.decode()})

    def failed(self, job: Job, error: bytes, now_us: int) -> None:
        """Record why a job cannot be done."""
        self._set(job, now_us, {"state": "failed", "error": error.decode()})

    def _set(self, job: Job, now_us: int, values: dict[str, object]) -> None:
        change = update(JOBS).where(JOBS.c.tenant == job.tenant, JOBS.c.id == job.id)
        with write(self._engine) as connection:
            connection.execute(change.values(updated_us=now_us, **values))


def _job(row: dict[str, object]) -> Job:
    for name in ("request", "result", "error"):
        text = row[name]
        row[name] = None if text is None else msgspec.Raw(str(text).encode())
    return Job(**row)  # type: ignore[arg-type]  # columns and fields are the same, see the tests
