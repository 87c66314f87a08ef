"""Beside the requests: follows the audit logs, and asks whether they are whole."""

import structlog

from tallybook.adapters.sql.access.anchor import Anchors
from tallybook.adapters.sql.access.audit import Question
from tallybook.admit.trail import Anchor, Verdict, anchored
from tallybook.compose import World
from tallybook.kernel.errors import Invalid, TallybookError
from tallybook.serve.api.common.rounds import Rounds

SECONDS = 2.0


class AnchorWatch:
    """Keeps how far the logs are, every few seconds.

    Args:
        anchors: where that is kept.
    """

    def __init__(self, anchors: Anchors) -> None:
        """Follow nothing yet."""
        self._anchors = anchors
        self._rounds = Rounds(self.round, SECONDS, "audit-anchors")

    def start(self) -> None:
        """Follow from now on, until `close`."""
        self._rounds.start()

    def close(self) -> None:
        """Follow once more, and end."""
        self._rounds.close()
        self.round()

    def round(self) -> None:
        """Follow once; what does not fit goes to the server's log."""
        log = structlog.get_logger("audit")
        try:
            for tenant in self._anchors.follow():
                log.error("audit.tampered", tenant=tenant, see="tallybook audit --verify")
        except TallybookError as error:
            log.warning("audit.not_followed", error=error.message)


def anchors_of(world: World) -> Anchors:
    """Return how far a server knows the audit logs to be."""
    return Anchors(world.engine, world.settings.data_dir)


def verdict_of(world: World, tenant: str, kept: Anchor | None = None) -> Verdict:
    """Return whether a tenant's log is whole, and as far as it was known to be.

    Args:
        world: of the process.
        tenant: whose log.
        kept: what somebody wrote down of it elsewhere; None for nothing.
    """
    known = [one for one in (anchors_of(world).of(tenant), kept) if one is not None]
    verdict = world.audit.verified(tenant)
    for anchor in known:
        rows = world.audit.listed(tenant, Question(before_seq=anchor.seq + 1), 1)
        verdict = anchored(verdict, anchor, rows[0] if rows else None)
    newest = world.audit.listed(tenant, Question(before_seq=verdict.rows + 1), 1)
    return verdict.ending(newest[0].digest if newest else "")


def read_anchor(text: str) -> Anchor:
    """Return what somebody wrote down of a log: 'ROW:DIGEST'; raises Invalid."""
    seq, _, digest = text.strip().partition(":")
    if not (seq.isascii() and seq.isdecimal() and len(seq) < 19 and len(digest) == 64):
        message = "kept must be ROW:DIGEST, as `tallybook audit --verify` tells it"
        raise Invalid(message, field="kept")
    return Anchor(seq=int(seq), digest=digest)
