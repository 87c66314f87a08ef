"""What the agent says to its operator: short lines on standard error, each once while it holds."""

import sys
import time
from threading import Lock

from tallybook.kernel.timestamps import format_us

_QUIET_SECONDS = 300


class Voice:
    """Says things; a complaint that is repeated is said again only after five minutes."""

    def __init__(self) -> None:
        """Nothing was said yet."""
        self._said: dict[str, tuple[str, float]] = {}
        self._lock = Lock()
        self.last_complaint: str | None = None

    def say(self, text: str) -> None:
        """Say it."""
        stamp = format_us(time.time_ns() // 1_000_000 * 1000)
        with self._lock:
            print(f"{stamp} {text}", file=sys.stderr, flush=True)

    def complain(self, about: str, text: str) -> None:
        """Say what is wrong with something, unless that was said a moment ago."""
        now = time.monotonic()
        said, at = self._said.get(about, ("", 0.0))
        self.last_complaint = f"{about}: {text}"
        if said != text or now - at > _QUIET_SECONDS:
            self._said[about] = (text, now)
            self.say(f"{about}: {text}")

    def settle(self, about: str) -> None:
        """Say that something works again, where it was complained about."""
        if self._said.pop(about, None) is not None:
            self.say(f"{about}: works again")
        if self.last_complaint is not None and self.last_complaint.startswith(f"{about}: "):
            self.last_complaint = None
