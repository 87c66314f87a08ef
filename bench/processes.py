"""The load generator as a process beside the one that measures."""

import subprocess
import sys

import msgspec

from bench.load import Plan, Result


def generator(plan: Plan) -> "subprocess.Popen[bytes]":
    """Start the load generator in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.load"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode(plan))
    process.stdin.close()
    return process


def finished(process: "subprocess.Popen[bytes]") -> Result:
    """Wait for a generator and return its result."""
    assert process.stdout is not None
    return msgspec.json.decode(process.stdout.read(), type=Result)
