"""The jobs process: billing runs one after the other, and the lake kept in between.

One process runs all jobs, so that invoices get their numbers in one order (DECISIONS 1). A job
that a kill interrupted is taken again at the next start; its flow is idempotent.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence

import msgspec
import structlog

from tallybook.adapters.sql.jobs import Job
from tallybook.compose import World
from tallybook.kernel.errors import Conflict, Corrupt, Missing, TallybookError, Unavailable
from tallybook.serve.worker.chores import Chore, Chores
from tallybook.settings import Settings

POLL_SECONDS = 0.2
PROGRESS_SECONDS = 0.5
ATTEMPTS_MAX = 5
"""A job that ended its process so often is not tried again."""
HOUR_US = 3_600_000_000

Advance = Callable[[int, int | None], None]
Work = Callable[[World, Job, Advance], object]
"""Does a job; calls `advance(finished, total)`; returns the result, spelled as JSON."""


def run_jobs(
    settings: Settings,
    stop: threading.Event,
    work: Mapping[str, Work],
    chores: Sequence[Chore] = (),
) -> None:
    """Take jobs, do chores and keep the lake until asked to stop.

    Args:
        settings: of the server.
        stop: set from outside.
        work: kind of job -> how it is done.
        chores: looked after between jobs.
    """
    world = World(settings)
    looked_after = Chores(world, chores)
    keeper = threading.Thread(target=_keep, args=(settings, stop), name="lake-keeper")
    keeper.start()
    forgot = 0.0
    while not stop.is_set():
        if not keeper.is_alive():  # a bug ended it: end the process too, so that it starts anew
            raise Corrupt("the lake keeper ended by itself; its reason is above", code="gave-up")
        worked = step(world, work)
        looked_after.round()
        if time.monotonic() - forgot > 60:
            forgot = time.monotonic()
            _forget(world)
        if not worked:
            stop.wait(POLL_SECONDS)
    keeper.join()


def step(world: World, work: Mapping[str, Work]) -> bool:
    """Run one job to its end; return whether there was one."""
    log = structlog.get_logger("jobs")
    try:
        job = world.jobs.take(world.clock.now_us())
        if job is None:
            return False
        _run(world, job, work)
    except Unavailable as error:
        log.warning("jobs.waiting", error=error.message)  # taken again: it is still running
        return False
    return True


def _run(world: World, job: Job, work: Mapping[str, Work]) -> None:
    log = structlog.get_logger("jobs").bind(job=job.id, kind=job.kind)
    if job.attempts > ATTEMPTS_MAX:
        given_up = Conflict(f"it was interrupted {ATTEMPTS_MAX} times", code="gave-up")
        world.jobs.failed(job, _told(given_up), world.clock.now_us())
        return
    try:
        if job.kind not in work:
            raise Missing(f"no such kind of job: {job.kind}", code="unknown-job")
        with world.acting("server", f"job {job.id}"):
            result = work[job.kind](world, job, _advance(world, job))
    except Unavailable:
        world.jobs.put_back(job, world.clock.now_us())
        raise
    except TallybookError as error:
        log.warning("jobs.failed", code=error.code, error=error.message)
        world.jobs.failed(job, _told(error), world.clock.now_us())
        return
    world.jobs.done(job, msgspec.json.encode(result), world.clock.now_us())


def _advance(world: World, job: Job) -> Advance:
    last = 0.0

    def advance(finished: int, total: int | None) -> None:
        nonlocal last
        if time.monotonic() - last > PROGRESS_SECONDS:
            last = time.monotonic()
            world.jobs.advance(job, finished, total, world.clock.now_us())

    return advance


def _told(error: TallybookError) -> bytes:
    return msgspec.json.encode({"code": error.code, "message": error.message})


def _forget(world: World) -> None:
    """Drop remembered answers that are past their time."""
    before = world.clock.now_us() - world.settings.retention.idempotency_hours * HOUR_US
    try:
        world.answers.forget(before)
    except Unavailable as error:
        structlog.get_logger("jobs").warning("jobs.not_forgotten", error=error.message)


def _keep(settings: Settings, stop: threading.Event) -> None:
    """Keep the lake, round after round, beside the jobs."""
    from tallybook.serve.worker.maintain import LakeKeeper

    log = structlog.get_logger("lake")
    keeper: LakeKeeper | None = None
    while not stop.wait(settings.lake.maintain_seconds):
        try:
            keeper = keeper or LakeKeeper(settings)
            keeper.round()
        except Unavailable as error:
            log.warning("lake.round_put_off", error=error.message)
        except TallybookError as error:
            log.exception("lake.round_failed", code=error.code)
