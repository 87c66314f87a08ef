"""A process that composes: orders come in on standard input, outcomes go out on standard output.

It reads nothing else and writes nothing else, and ends the moment that either pipe ends, so it
never outlives the run it works for.
"""

import gc
import os
import signal
import sys

from tallybook.adapters.processes.wire import decode_order, encode_outcomes, receive, send
from tallybook.invoice.run.batch.prepared import outcomes


def main() -> None:
    """Compose batch after batch until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the run's business
    orders = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing that is printed gets into the answers
    gc.set_threshold(100_000, 20, 100)  # a batch makes many values, hardly any in a cycle
    scope = None
    try:
        while True:
            order = decode_order(receive(orders))
            if order.scope is not None:
                scope = order.scope
                gc.freeze()
                continue
            assert scope is not None, "batches come after what they share"
            send(answers, encode_outcomes(outcomes(scope, order.tasks)))
    except (EOFError, BrokenPipeError):
        os._exit(0)  # what is left in the buffers nobody reads


if __name__ == "__main__":
    main()
