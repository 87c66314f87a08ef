"""What the jobs process can do: billing runs."""

from collections.abc import Mapping

from tallybook.serve.worker.jobs import Work

WORK: Mapping[str, Work] = {}
