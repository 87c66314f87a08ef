"""`python -m bench.generator`: a JSON plan on standard input, a JSON result on standard output."""

import sys

import msgspec

from bench.generator.plan import Plan
from bench.generator.send import Sending

if __name__ == "__main__":
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)
    sys.stdout.buffer.write(msgspec.json.encode(Sending(plan).run()))
