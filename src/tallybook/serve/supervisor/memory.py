"""How the processes of the tree take memory: said once, before the libraries are there that do.

Left to themselves Arrow keeps what its columns needed apart from what everything else has freed,
and every thread that allocates gets a heap of its own, which is hardly ever given back: under load
some 30 MiB of each process that accepts.
"""

import ctypes
import os
from contextlib import suppress

ARROW_POOL = "ARROW_DEFAULT_MEMORY_POOL"
ARENAS = "MALLOC_ARENA_MAX"
ARENAS_MAX = 2
"""Heaps of a process: of the thread that works, and of one beside it."""
_M_ARENA_MAX = -8  # of malloc.h


def share_heaps() -> None:
    """Let Arrow and all threads of this process, and of its forks, use the same few heaps.

    What the environment says goes first; where the system's allocator is another, it has its way.
    """
    os.environ.setdefault(ARROW_POOL, "system")
    if ARENAS not in os.environ:
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, ARENAS_MAX)
