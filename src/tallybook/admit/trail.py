"""The audit log: who changed what, when, from what to what, in rows that hang together.

Each row carries a keyed digest over itself and the digest of the row before it, so that a row that
is changed, taken out, put in or moved does not fit; a sealed head says which row is the last.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from typing import Literal

import msgspec

JSON_BYTES_MAX = 256 * 1024
"""A longer value is kept as its size and hash."""
_SECRET = re.compile(rb"\b(?:tb|whsec|sk|rk)_[A-Za-z0-9_+/=-]{16,}")
_LOGIN = re.compile(rb"(://)[^/@\s\"]+@")
_HIDDEN = frozenset(
    {"secret", "password", "private_key", "token", "signing_secret", "authorization", "key_file"}
)
_SHOWN = b"(hidden)"
_ENCODE = msgspec.json.Encoder(decimal_format="number").encode

Outcome = Literal["done", "failed", "unknown"]
"""failed: refused after a part was stored already. unknown: the process ended before it knew."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A change, before it has its place in the log.

    Attributes:
        actor: 'key:ID', 'user:TENANT/NAME', 'cli:NAME' (somebody at the machine) or 'server'.
        action: such as create, change, delete, finalize.
        kind: of the thing changed, such as meter.
        subject: its key or id; '' where there is none.
        route: as what was asked: method and path, or a command.
        request_id: of the request; '' for none.
        before, after: the thing as JSON; None where it is not there or cannot be shown.
        asked: what the request said, as JSON; None for nothing.
        outcome: what became of it.
    """

    actor: str
    action: str
    kind: str
    subject: str
    route: str = ""
    request_id: str = ""
    before: str | None = None
    after: str | None = None
    asked: str | None = None
    outcome: Outcome = "done"


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the log.

    Attributes:
        tenant: whose.
        seq: its place, from 1, without gaps.
        at_us: when, microseconds UTC.
        change: what.
        previous: digest of the row before it; '' for the first.
        digest: hex, over all of the above.
    """

    tenant: str
    seq: int
    at_us: int
    change: Change
    previous: str
    digest: str


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a tenant's log.

    Attributes:
        seq: of the last row; 0 for none.
        digest: of the last row.
        seal: over these two.
    """

    seq: int = 0
    digest: str = ""
    seal: str = ""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a log hangs together.

    Attributes:
        whole: whether nothing was tampered with.
        rows: how many were looked at.
        wrong_seq: the place where it first does not fit; null where it does.
        reason: why; '' where it fits.
        kept: place and digest of the last row, to be kept elsewhere and compared one day.
    """

    whole: bool
    rows: int
    wrong_seq: int | None = None
    reason: str = ""
    kept: str = ""

    def ending(self, digest: str) -> "Verdict":
        """Return the verdict with what to write down of a log that is whole.

        Args:
            digest: of its last row.
        """
        if not self.whole or not self.rows:
            return self
        return msgspec.structs.replace(self, kept=f"{self.rows}:{digest}")


class Anchor(msgspec.Struct, frozen=True, kw_only=True):
    """How far a log once was, known from elsewhere than the log.

    Attributes:
        seq: of its last row then.
        digest: of that row.
    """

    seq: int
    digest: str


def chained(
    secret: bytes, tenant: str, head: Head, changes: Iterable[Change], at_us: int
) -> tuple[list[Entry], Head]:
    """Return the rows of new changes, and the log's new end.

    Args:
        secret: the server's.
        tenant: whose log.
        head: its end so far.
        changes: in order.
        at_us: when, microseconds UTC.
    """
    entries: list[Entry] = []
    seq, previous = head.seq, head.digest
    for change in changes:
        seq += 1
        digest = _digest(secret, tenant, seq, at_us, change, previous)
        entries.append(
            Entry(
                tenant=tenant,
                seq=seq,
                at_us=at_us,
                change=change,
                previous=previous,
                digest=digest,
            )
        )
        previous = digest
    return entries, Head(seq=seq, digest=previous, seal=_seal(secret, tenant, seq, previous))


def verified(secret: bytes, tenant: str, entries: Iterable[Entry], head: Head) -> Verdict:
    """Return whether a tenant's log hangs together.

    Args:
        secret: the server's.
        tenant: whose log.
        entries: all rows, by place.
        head: its end.
    """
    seq, previous = 0, ""
    for entry in entries:
        seq += 1
        reason = _wrong(secret, tenant, entry, seq, previous)
        if reason:
            return Verdict(whole=False, rows=seq, wrong_seq=seq, reason=reason)
        previous = entry.digest
    if (head.seq, head.digest) != (seq, previous):
        reason = f"the log ends with row {seq}, and row {head.seq} was the last one written"
        return Verdict(whole=False, rows=seq, wrong_seq=seq + 1, reason=reason)
    if seq and not hmac.compare_digest(head.seal, _seal(secret, tenant, seq, previous)):
        reason = "the end of the log was not written by this server"
        return Verdict(whole=False, rows=seq, wrong_seq=seq, reason=reason)
    return Verdict(whole=True, rows=seq)


def anchored(verdict: Verdict, anchor: Anchor, row: Entry | None) -> Verdict:
    """Return the verdict of a log that holds, or lacks, the row that it is known to have had.

    Args:
        verdict: of the log by itself.
        anchor: how far it once was.
        row: what stands there now, or the last one before it; None for nothing.
    """
    if not verdict.whole:
        return verdict
    if row is None or row.seq != anchor.seq:
        reason = f"the log ends with row {verdict.rows}, and it had row {anchor.seq}"
    elif not hmac.compare_digest(row.digest.encode(), anchor.digest.encode()):
        reason = f"row {anchor.seq} is another one than the log had there"
    else:
        return verdict
    wrong = min(anchor.seq, verdict.rows + 1)
    return Verdict(whole=False, rows=verdict.rows, wrong_seq=wrong, reason=reason)


def _wrong(secret: bytes, tenant: str, entry: Entry, seq: int, previous: str) -> str:
    if entry.seq != seq:
        return f"row {seq} is missing"
    if entry.previous != previous:
        return f"row {seq} does not follow the row before it"
    ours = _digest(secret, tenant, seq, entry.at_us, entry.change, previous)
    return "" if hmac.compare_digest(ours, entry.digest) else f"row {seq} was changed"


def _digest(secret: bytes, tenant: str, seq: int, at_us: int, change: Change, previous: str) -> str:
    told = msgspec.json.encode([tenant, seq, at_us, change, previous])
    return hmac.digest(secret, b"tallybook audit row\0" + told, "sha256").hex()


def _seal(secret: bytes, tenant: str, seq: int, digest: str) -> str:
    told = msgspec.json.encode([tenant, seq, digest])
    return hmac.digest(secret, b"tallybook audit head\0" + told, "sha256").hex()


def _number(text: str) -> Decimal | str:
    try:
        return Decimal(text)
    except InvalidOperation:  # its exponent has more than 18 digits
        return text


_DECODE = msgspec.json.Decoder(float_hook=_number).decode


def shown(raw: bytes) -> str | None:
    """Return JSON as the log keeps it: without secrets, and not longer than it may be.

    Args:
        raw: a JSON value; what is none is kept as a text.

    Returns:
        JSON; None for nothing.
    """
    if not raw.strip():
        return None
    try:
        told = _ENCODE(_without(_DECODE(raw)))
    except (msgspec.MsgspecError, RecursionError, ValueError):
        told = _ENCODE(raw.decode(errors="replace"))
    told = _LOGIN.sub(rb"\1" + _SHOWN + b"@", _SECRET.sub(_SHOWN, told))
    if len(told) > JSON_BYTES_MAX:
        digest = hashlib.sha256(told).hexdigest()
        told = _ENCODE({"too_long": True, "bytes": len(told), "sha256": digest})
    return told.decode()


def _without(value: object) -> object:
    """Return a JSON value with what is named like a secret hidden, at any depth."""
    if isinstance(value, dict):
        return {
            name: _SHOWN.decode() if name in _HIDDEN and inner else _without(inner)
            for name, inner in value.items()
        }
    if isinstance(value, list):
        return [_without(inner) for inner in value]
    return value
