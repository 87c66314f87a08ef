"""The jobs process: what ends a job for good, and what only makes it wait."""

import pytest

from tallybook.compose import World
from tallybook.kernel.errors import Invalid, Unavailable
from tallybook.serve.worker.jobs import ATTEMPTS_MAX, step
from tallybook.settings import Settings


@pytest.fixture
def world(tmp_path):
    made = World(Settings(data_dir=tmp_path))
    made.jobs.ask("default", "run_1", "work", b"{}", 1)
    return made


def state(world):
    job = world.jobs.get("default", "run_1")
    return job.state, job.attempts


def test_a_job_waits_for_disk_and_database_as_long_as_it_takes(world):
    tries = []

    def work(_world, job, _advance):
        tries.append(job.id)
        if len(tries) <= 3 * ATTEMPTS_MAX:
            raise Unavailable("the disk is full")
        return {}

    while state(world)[0] != "done":
        step(world, {"work": work})
    assert len(tries) == 3 * ATTEMPTS_MAX + 1


def test_a_job_that_ends_its_process_again_and_again_is_given_up(world):
    for _ in range(ATTEMPTS_MAX):
        assert world.jobs.take(1) is not None  # and the process is killed
    assert step(world, {"work": lambda *_: {}})
    assert state(world)[0] == "failed"


def test_a_job_that_is_refused_has_failed(world):
    def work(*_):
        raise Invalid("no such month")

    assert step(world, {"work": work})
    assert state(world) == ("failed", 1)
