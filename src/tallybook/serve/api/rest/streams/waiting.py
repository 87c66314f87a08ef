"""Waiting for records without holding a thread: one cheap look at the file for all who wait.

Every process looks at the file's change counter while anybody waits; who waits is woken by a
change, and looks again by itself once a second, because a lease may have ended.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tallybook.kernel.errors import Throttled
from tallybook.serve.api.gate import Grant

LOOK_SECONDS = 0.05
AGAIN_SECONDS = 1.0
WAITS_OF_KEY_MAX = 32
WAITS_OF_TENANT_MAX = 128


class Waits:
    """Everybody who waits in this process."""

    def __init__(self) -> None:
        """Nobody waits."""
        self.over = False
        self._of_key: Counter[str] = Counter()
        self._of_tenant: Counter[str] = Counter()
        self._waiting = 0
        self._seen = -1
        self._woken: asyncio.Event | None = None
        self._looking: asyncio.Task[None] | None = None

    @contextmanager
    def place(self, grant: Grant) -> Iterator[None]:
        """Take a place for as long as the block runs; raises Throttled where there is none."""
        key, tenant = grant.key_id, grant.tenant
        full = self._of_key[key] >= WAITS_OF_KEY_MAX
        if full or self._of_tenant[tenant] >= WAITS_OF_TENANT_MAX:
            message = (
                f"a key may have {WAITS_OF_KEY_MAX} requests waiting and a tenant"
                f" {WAITS_OF_TENANT_MAX}, in each process: wait with fewer, or with no wait_seconds"
            )
            raise Throttled(message, code="too-many-waits", retry_after_seconds=1)
        self._of_key[key] += 1
        self._of_tenant[tenant] += 1
        try:
            yield
        finally:
            self._of_key[key] -= 1
            self._of_tenant[tenant] -= 1

    async def change(self, look: Callable[[], int], seconds: float) -> None:
        """Return after something changed, after a second, or after so many seconds."""
        if self.over:
            return
        if self._woken is None or self._looking is None or self._looking.done():
            self._woken = asyncio.Event()
            self._seen = look()
            self._looking = asyncio.create_task(self._look(look))
        self._waiting += 1
        try:
            await asyncio.wait_for(self._woken.wait(), min(seconds, AGAIN_SECONDS))
        except TimeoutError:
            return  # nothing changed: the question itself
        finally:
            self._waiting -= 1

    async def _look(self, look: Callable[[], int]) -> None:
        while self._waiting or self._woken is None or not self._woken.is_set():
            await asyncio.sleep(LOOK_SECONDS)
            seen = look()
            if (seen != self._seen or self.over) and self._woken is not None:
                self._seen = seen
                self._woken.set()
                self._woken = asyncio.Event()
            if not self._waiting:
                return

    def end(self) -> None:
        """Send everybody home: the process stops."""
        self.over = True
