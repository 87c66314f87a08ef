"""The generator as a process beside the one that measures."""

import subprocess
import sys

import msgspec

from bench.generator.plan import Plan, Result


class Refusal(Exception):
    """The server refused what it had promised to take."""


class Generator:
    """A generator at work; `result()` waits for its end."""

    def __init__(self, plan: Plan) -> None:
        """Start it."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.generator"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(plan))
        self._process.stdin.close()

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def result(self) -> Result:
        """Wait for its end; raises Refusal where anything it sent was refused for good."""
        assert self._process.stdout is not None
        with self._process.stdout as output:
            text = output.read()
        if self._process.wait() != 0:
            raise Refusal("the load generator failed; its error is printed above")
        result = msgspec.json.decode(text, type=Result)
        if result.refused:
            raise Refusal(f"{result.refused:,} events were refused: {result.refusals}")
        return result


def sent(plan: Plan) -> Result:
    """Run a plan to its end."""
    return Generator(plan).result()
