"""What a client has done, in numbers."""

import msgspec


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """Counters of one client in this process; only `waiting` outlives it, in a spool.

    `recorded` + what an earlier process left = `stored` + `quarantined` + `refused` + `waiting`.

    Attributes:
        recorded: events taken by `record` and `send`.
        stored: acknowledged by the server, duplicates among them.
        quarantined: kept by the server, with a problem.
        refused: not taken by the server; parked beside the spool where there is one.
        waiting: in the buffer or the spool, in flight among them.
        requests: sent; retries: those of them that were sent again after a failure.
        damaged: spooled rows that the disk has damaged, set aside.
        last_error: why the last request failed; '' after a success.
    """

    recorded: int = 0
    stored: int = 0
    quarantined: int = 0
    refused: int = 0
    waiting: int = 0
    requests: int = 0
    retries: int = 0
    damaged: int = 0
    last_error: str = ""
