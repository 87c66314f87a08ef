"""Processes that others left behind: process 1 of a container is the parent of all of them."""

import os
import sys
from collections.abc import Container


def reap(own: Container[int]) -> int:
    """Take leave of ended processes that are nobody's; return how many there were.

    Args:
        own: processes that somebody here waits for. One of them that has ended stays as it is, and
            what ended after it waits for the next call.

    Guarantees: the exit code of one's own child is never lost.
    """
    count = 0
    while (pid := _ended()) is not None and pid not in own:
        os.waitpid(pid, 0)
        count += 1
    return count


def _ended() -> int | None:
    """Return a child that has ended, without taking leave of it; None for none."""
    if sys.platform != "linux":
        return None
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:  # there is no child at all
        return None
    return None if found is None else found.si_pid
