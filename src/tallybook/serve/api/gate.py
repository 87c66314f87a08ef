"""The gate: nobody reads or writes without a key (guarantee 9).

Each process keeps the digests of all good keys in memory and learns of changes by the version
it polls, so that checking a request touches no disk (DECISIONS 2, 32).
"""

import hmac
import threading
import time

import structlog

from tallybook.adapters.sql.keys import SqlKeys, key_digest
from tallybook.admit.key import SCOPES, Grant, alive, allowed, granted
from tallybook.kernel.errors import Forbidden, TallybookError, Unavailable

__all__ = ["SCOPES", "Gate", "Grant", "allowed"]

POLL_SECONDS = 0.5
STALE_SECONDS_MAX = 30.0
"""Keys that could not be refreshed for so long are refused: a revoked one might be among them."""


class Gate:
    """Tells what an `Authorization` header allows.

    Args:
        keys: where keys are kept.
        secret: the server's.
    """

    def __init__(self, keys: SqlKeys, secret: bytes) -> None:
        """Read all keys once; `start` keeps them fresh."""
        self._keys = keys
        self._secret = secret
        self._version = -1
        self._grants: dict[str, tuple[str, Grant]] = {}
        self._fresh = 0.0
        self.refresh()

    def start(self) -> None:
        """Poll for changes in the background, for as long as the process lives."""
        threading.Thread(target=self._poll, name="gate", daemon=True).start()

    def refresh(self) -> None:
        """Read the keys again if any changed."""
        version = self._keys.version()
        if version != self._version:
            self._grants = {key.digest: (key.digest, granted(key)) for key in self._keys.good()}
            self._version = version
        self._fresh = time.monotonic()

    def check(self, authorization: str | None, scope: str, *, bound: bool = True) -> Grant:
        """Return what the header grants.

        Args:
            authorization: 'Bearer tb_…'.
            scope: what the request needs.
            bound: whether its answer keeps to a key's subjects and customer by itself.

        Raises:
            Forbidden: no good key ('no-key', 'key-expired', 'tenant-closed'), or one that may not
                do this ('forbidden').
            Unavailable: the keys could not be refreshed for too long.
        """
        kind, _, text = (authorization or "").partition(" ")
        if kind.lower() != "bearer" or not text:
            message = "an API key is needed: Authorization: Bearer tb_…"
            raise Forbidden(message, code="no-key")
        return allowed(alive(self._known(text.strip()), _now_us()), scope, bound=bound)

    def grant(self, key: str) -> Grant | None:
        """Return what a key grants, None where it is not good."""
        return _if_alive(self._known(key))

    def by_id(self, key_id: str) -> Grant | None:
        """Return what the key with this id grants, None where it is no longer good."""
        found = (grant for _, grant in self._grants.values() if grant.key_id == key_id)
        return _if_alive(next(found, None))

    def _known(self, key: str) -> Grant | None:
        if time.monotonic() - self._fresh > STALE_SECONDS_MAX:
            raise Unavailable("keys cannot be checked at the moment", code="gate-stale")
        digest = key_digest(self._secret, key)
        stored, grant = self._grants.get(digest, ("", None))
        return grant if hmac.compare_digest(stored, digest) else None

    def _poll(self) -> None:
        while True:
            time.sleep(POLL_SECONDS)
            try:
                self.refresh()
            except TallybookError as error:
                structlog.get_logger("gate").warning("gate.not_refreshed", error=error.message)


def _now_us() -> int:
    return time.time_ns() // 1000


def _if_alive(grant: Grant | None) -> Grant | None:
    try:
        return alive(grant, _now_us())
    except Forbidden:
        return None
