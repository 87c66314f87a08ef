"""The processes of the tree behind the doors: pump, jobs, post, and the reader of Kafka topics."""

import gc
import os
import threading

from tallybook.serve.supervisor.child import on_stop
from tallybook.settings import Settings

NICE = 5
"""How much the job runner yields to accepting and pumping, which cannot wait."""


def run_pump_child(settings: Settings) -> int:
    """Pump until asked to stop."""
    from tallybook.serve.worker.pump import run_pump

    stop = threading.Event()
    on_stop(stop.set)
    run_pump(settings, stop)
    return 0


def run_jobs_child(settings: Settings) -> int:
    """Run jobs and keep the lake until asked to stop."""
    from tallybook.serve.worker import billing, prepaid, use, watching
    from tallybook.serve.worker.jobs import run_jobs

    os.nice(NICE)
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)  # a run makes millions of values, hardly any in a cycle
    stop = threading.Event()
    on_stop(stop.set)
    chores = (*billing.CHORES, *prepaid.CHORES, *use.CHORES, *watching.CHORES)
    run_jobs(settings, stop, billing.WORK, chores)
    return 0


def run_post_child(settings: Settings) -> int:
    """Tell facts outside until asked to stop."""
    from tallybook.serve.worker.post.run import run_post

    stop = threading.Event()
    on_stop(stop.set)
    run_post(settings, stop)
    return 0


def run_kafka_child(settings: Settings) -> int:
    """Follow Kafka topics until asked to stop."""
    from tallybook.serve.worker.kafka import KafkaDoor

    stop = threading.Event()
    on_stop(stop.set)
    KafkaDoor(settings, stop).run()
    return 0


def run_router_child(settings: Settings) -> int:
    """Put records on outbound streams until asked to stop."""
    from tallybook.serve.worker.router import run_router

    os.nice(NICE)
    stop = threading.Event()
    on_stop(stop.set)
    run_router(settings, stop)
    return 0
