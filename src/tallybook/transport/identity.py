"""An event's identity and the hash of its content.

Identity is `(tenant, source, id)`, for as long as the event is in the lake (DECISIONS 8). Parts
are length-prefixed, so that source 'a' with id 'bc' is not source 'ab' with id 'c'. XXH3 is not
a defence against forgery: whoever may write for a tenant may also repeat its identities.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import xxhash

Keys = npt.NDArray[np.uint64]
"""Identities, shape (n, 2): the high and the low half of a 128-bit hash."""


def identity(tenant: str, source: str, event_id: str, *, quarantined: bool = False) -> bytes:
    """Return the 16 bytes that stand for an identity.

    A quarantined piece lives in a space of its own, so that its corrected event is new.
    """
    mark = "q" if quarantined else "e"
    text = f"{mark}{len(tenant)}:{tenant}{len(source)}:{source}{event_id}"
    return xxhash.xxh3_128_digest(text.encode())


def identities(
    tenants: Sequence[str],
    sources: Sequence[str],
    ids: Sequence[str],
    quarantined: Sequence[bool],
) -> list[bytes]:
    """Return `identity` of every event; all arguments have one entry an event."""
    digest = xxhash.xxh3_128_digest
    places = set(zip(tenants, sources, quarantined, strict=True))
    heads = {
        (tenant, source, bad): f"{'q' if bad else 'e'}{len(tenant)}:{tenant}{len(source)}:{source}"
        for tenant, source, bad in places
    }
    if len(heads) == 1:  # one sender, the usual case
        (head,) = heads.values()
        return [digest((head + event_id).encode()) for event_id in ids]
    keyed = zip(zip(tenants, sources, quarantined, strict=True), ids, strict=True)
    return [digest((heads[place] + event_id).encode()) for place, event_id in keyed]


Content = tuple[bytes, str, str | None, int | None, bytes]
"""What a row hash covers: identity, type, subject, sent time, the rest.

Subject: None differs from ''. Sent time: microseconds UTC, None where the sender gave none, so
that a retry that is stamped anew is the same content. The rest: extension attributes and data.
"""


def row_hashes(contents: Iterable[Content]) -> list[bytes]:
    """Return for each the 8 bytes that stand for identity and content together."""
    digest = xxhash.xxh3_64_digest
    heads: dict[tuple[str, str | None], bytes] = {}
    found: list[bytes] = []
    for key, kind, subject, time_us, rest in contents:
        head = heads.get((kind, subject))
        if head is None:
            who = "" if subject is None else f"{len(subject)}:{subject}"
            head = heads[kind, subject] = f"{len(kind)}:{kind}|{who}|".encode()
        sent = b"|" if time_us is None else b"%d|" % time_us
        found.append(digest(key + head + sent + rest))
    return found


def keys_array(digests: Sequence[bytes]) -> Keys:
    """Return identities as an array of shape (n, 2), unsigned."""
    flat = np.frombuffer(b"".join(digests), dtype=">u8")
    return flat.astype(np.uint64).reshape(-1, 2)


def hashes_array(digests: Sequence[bytes]) -> npt.NDArray[np.int64]:
    """Return row hashes as non-negative 63-bit integers, shape (n,)."""
    flat = np.frombuffer(b"".join(digests), dtype=">u8").astype(np.uint64)
    return (flat >> np.uint64(1)).astype(np.int64)
