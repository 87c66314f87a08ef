"""The gate: nobody reads or writes without a key (guarantee 9).

Each process keeps the digests of all good keys in memory and learns of changes by the version
it polls, so that checking a request touches no disk (DECISIONS 2, 32). When a key was last used is
noted in memory and told to the control database by the thread that polls.
"""

import hmac
import time
from collections.abc import Callable

import structlog

from tallybook.adapters.sql.access.users import User
from tallybook.adapters.sql.keys import SqlKeys, key_digest
from tallybook.admit.key import SCOPES, Grant, alive, allowed, granted
from tallybook.kernel.errors import Forbidden, TallybookError, Unavailable
from tallybook.kernel.timestamps import MINUTE_US
from tallybook.serve.api.common.rounds import Rounds

__all__ = ["SCOPES", "Gate", "Grant", "allowed"]

POLL_SECONDS = 0.5
STALE_SECONDS_MAX = 30.0
"""Keys that could not be refreshed for so long are refused: a revoked one might be among them."""
DIGESTS_MAX = 10_000
"""Most good keys whose digests are remembered; what they allow is looked up each time."""
PERSON = "user:"
"""Before the name of a person where else the id of a key stands."""


def _wall_us() -> int:
    return time.time_ns() // 1000


class Gate:
    """Tells what an `Authorization` header allows.

    Args:
        keys: where keys are kept.
        secret: the server's.
        now_us: the present instant.
    """

    def __init__(self, keys: SqlKeys, secret: bytes, now_us: Callable[[], int] = _wall_us) -> None:
        """Read all keys once; `start` keeps them fresh."""
        self._keys = keys
        self._secret = secret
        self._now_us = now_us
        self._version = -1
        self._grants: dict[str, tuple[str, Grant]] = {}
        self._by_id: dict[str, Grant] = {}
        self._digests: dict[str, str] = {}
        self._epochs: dict[str, int] = {}
        self._minutes: dict[tuple[str, str], int] = {}
        self._told: dict[tuple[str, str], int] = {}
        self._fresh = 0.0
        self._rounds = Rounds(self._round, POLL_SECONDS, "gate")
        self.refresh()

    def start(self) -> None:
        """Poll for changes in the background, until `close`."""
        self._rounds.start()

    def close(self) -> None:
        """Tell which keys were used, and poll no more."""
        self._rounds.close()
        self._attempt(self.tell_used)

    def refresh(self) -> None:
        """Read the keys again if any changed."""
        version = self._keys.version()
        if version != self._version:
            known = self._keys.known()
            grants = [
                (key.digest, granted(key, closed=key.tenant in known.closed)) for key in known.keys
            ]
            people = [person(user, closed=user.tenant in known.closed) for user in known.users]
            self._epochs = {
                grant.key_id: user.epoch for grant, user in zip(people, known.users, strict=True)
            }
            self._by_id = {one.key_id: one for one in (*(grant for _, grant in grants), *people)}
            self._grants = {digest: (digest, grant) for digest, grant in grants}
            self._version = version
        self._fresh = time.monotonic()

    def check(self, authorization: str | None, scope: str, *, bound: bool = False) -> Grant:
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
        return allowed(self.known(authorization), scope, bound=bound)

    def known(self, authorization: str | None) -> Grant:
        """Return what the key of a header grants, whatever that is; raises as `check` does."""
        kind, _, text = (authorization or "").partition(" ")
        if kind.lower() != "bearer" or not text:
            message = "an API key is needed: Authorization: Bearer tb_…"
            raise Forbidden(message, code="no-key")
        return self._alive(self._found(text.strip()))

    def grant(self, key: str) -> Grant | None:
        """Return what a key grants, None where it is not good."""
        return self._if_alive(self._found(key))

    def by_id(self, key_id: str) -> Grant | None:
        """Return what the key, or person, with this id may do; None where it is over."""
        self._check_fresh()
        return self._if_alive(self._by_id.get(key_id))

    def epoch(self, key_id: str) -> int:
        """Return since which turn the sessions of a person are good; 0 for keys."""
        return self._epochs.get(key_id, 0)

    def tell_used(self) -> None:
        """Tell the control database which keys were used, once a minute and key."""
        last = {key: at for key, at in list(self._minutes.items()) if self._told.get(key) != at}
        if last:
            self._keys.used({key: at * MINUTE_US for key, at in last.items()})
            self._told.update(last)

    def _found(self, key: str) -> Grant | None:
        self._check_fresh()
        digest = self._digests.get(key) or key_digest(self._secret, key)
        stored, grant = self._grants.get(digest, ("", None))
        if not hmac.compare_digest(stored, digest):
            return None
        if len(self._digests) >= DIGESTS_MAX:
            self._digests.clear()
        self._digests[key] = digest
        return grant

    def _alive(self, found: Grant | None) -> Grant:
        now_us = self._now_us()
        grant = alive(found, now_us)
        if not grant.key_id.startswith(PERSON):
            self._minutes[grant.tenant, grant.key_id] = now_us // MINUTE_US
        return grant

    def _if_alive(self, found: Grant | None) -> Grant | None:
        try:
            return self._alive(found)
        except Forbidden:
            return None

    def _check_fresh(self) -> None:
        if time.monotonic() - self._fresh > STALE_SECONDS_MAX:
            raise Unavailable("keys cannot be checked at the moment", code="gate-stale")

    def _round(self) -> None:
        self._attempt(self.refresh)
        self._attempt(self.tell_used)

    @staticmethod
    def _attempt(do: Callable[[], None]) -> None:
        try:
            do()
        except TallybookError as error:
            structlog.get_logger("gate").warning("gate.not_refreshed", error=error.message)


def person(user: User, *, closed: bool = False) -> Grant:
    """Return what a person may do.

    Args:
        user: who.
        closed: whether the tenant was closed.
    """
    key_id = f"{PERSON}{user.tenant}/{user.name}"
    return Grant(user.tenant, key_id, frozenset(user.scopes), closed=closed)
