"""How long to wait before the next try: exponential, full jitter, never giving up by itself.

Source: "Exponential Backoff And Jitter" (AWS Architecture Blog): full jitter spreads senders best.
"""

FIRST_SECONDS = 1.0
CAP_SECONDS = 60.0
_DOUBLINGS_MAX = 16


def wait_seconds(
    failures: int,
    fraction: float,
    retry_after_seconds: int | None = None,
    cap_seconds: float = CAP_SECONDS,
) -> float:
    """Return the seconds to wait after the n-th failure in a row.

    Args:
        failures: 1 and up.
        fraction: 0 <= fraction < 1, drawn evenly at random for every wait.
        retry_after_seconds: what the server asked for; it is never undercut.
        cap_seconds: the longest wait that is chosen without being asked.
    """
    assert failures >= 1
    assert 0 <= fraction < 1
    doublings = min(failures - 1, _DOUBLINGS_MAX)
    jittered = fraction * min(cap_seconds, FIRST_SECONDS * (1 << doublings))
    return (retry_after_seconds or 0) + jittered
