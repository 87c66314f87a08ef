"""The gate: nobody reads or writes without a key (guarantee 9).

Each process keeps the digests of all good keys in memory and learns of changes by the version
it polls, so that checking a request touches no disk (DECISIONS 2, 32).
"""

import hmac
import threading
import time

import msgspec
import structlog

from tallybook.adapters.sql.keys import ApiKey, SqlKeys, key_digest
from tallybook.kernel.errors import Forbidden, TallybookError, Unavailable

SCOPES = ("ingest", "read", "billing", "admin")
"""ingest: send events. read: see everything of the tenant. billing: catalog, invoices and
quarantine. admin: all of these, and keys."""

POLL_SECONDS = 0.5
STALE_SECONDS_MAX = 30.0
"""Keys that could not be refreshed for so long are refused: a revoked one might be among them."""


class Grant(msgspec.Struct, frozen=True):
    """What a request may do.

    Attributes:
        tenant: whose data.
        key_id: which key.
        scopes: a subset of `SCOPES`.
    """

    tenant: str
    key_id: str
    scopes: frozenset[str]

    def allows(self, scope: str) -> bool:
        """Whether the scope is granted; admin grants all, billing may read."""
        if scope in self.scopes or "admin" in self.scopes:
            return True
        return scope == "read" and "billing" in self.scopes


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
            self._grants = {key.digest: (key.digest, _grant(key)) for key in self._keys.good()}
            self._version = version
        self._fresh = time.monotonic()

    def check(self, authorization: str | None, scope: str) -> Grant:
        """Return what the header grants.

        Args:
            authorization: 'Bearer tb_…'.
            scope: what the request needs.

        Raises:
            Forbidden: no good key ('no-key'), or one without this scope ('forbidden').
            Unavailable: the keys could not be refreshed for too long.
        """
        kind, _, text = (authorization or "").partition(" ")
        if kind.lower() != "bearer" or not text:
            message = "an API key is needed: Authorization: Bearer tb_…"
            raise Forbidden(message, code="no-key")
        grant = self.grant(text.strip())
        if grant is None:
            raise Forbidden("this API key is not known or was revoked", code="no-key")
        return allowed(grant, scope)

    def grant(self, key: str) -> Grant | None:
        """Return what a key grants, None where it is not good."""
        if time.monotonic() - self._fresh > STALE_SECONDS_MAX:
            raise Unavailable("keys cannot be checked at the moment", code="gate-stale")
        digest = key_digest(self._secret, key)
        stored, grant = self._grants.get(digest, ("", None))
        return grant if hmac.compare_digest(stored, digest) else None

    def by_id(self, key_id: str) -> Grant | None:
        """Return what the key with this id grants, None where it is no longer good."""
        found = (grant for _, grant in self._grants.values() if grant.key_id == key_id)
        return next(found, None)

    def _poll(self) -> None:
        while True:
            time.sleep(POLL_SECONDS)
            try:
                self.refresh()
            except TallybookError as error:
                structlog.get_logger("gate").warning("gate.not_refreshed", error=error.message)


def allowed(grant: Grant, scope: str) -> Grant:
    """Return the grant where it allows the scope; raises Forbidden."""
    if not grant.allows(scope):
        message = f"this API key may not do that: it lacks the scope '{scope}'"
        raise Forbidden(message, code="forbidden")
    return grant


def _grant(key: ApiKey) -> Grant:
    return Grant(key.tenant, key.id, frozenset(key.scopes))
