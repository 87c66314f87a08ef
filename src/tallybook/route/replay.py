"""Replays: a rule is run over commits that are past; what it delivered before is left out."""

import msgspec

from tallybook.route.record import Place


class Replay(msgspec.Struct, frozen=True, kw_only=True):
    """A replay of one rule version.

    Attributes:
        from_seq, upto_seq: the lake commits it covers, both included.
        from_us: events received before are left out; None leaves none out.
        place: how far it has come.
        delivered: records it has put on streams.
        asked_by: the key that asked for it.
        done_us: when it ended; None while it runs.
        reason: why it ended early, '' otherwise.
    """

    tenant: str
    id: str
    rule: str
    version: int
    from_seq: int
    upto_seq: int
    from_us: int | None = None
    place: Place = Place()
    delivered: int = 0
    asked_by: str
    asked_us: int
    done_us: int | None = None
    reason: str = ""
