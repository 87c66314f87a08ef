"""An event's identity and the hash of its content.

Identity is `(tenant, source, id)`, for as long as the event is in the lake (DECISIONS 8). Parts
are length-prefixed, so that source 'a' with id 'bc' is not source 'ab' with id 'c'. XXH3 is not
a defence against forgery: whoever may write for a tenant may also repeat its identities.
"""

from collections.abc import Sequence

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


def row_hash(key: bytes, kind: str, subject: str | None, time: str | None, rest: bytes) -> bytes:
    """Return the 8 bytes that stand for identity and content together.

    Args:
        key: the identity.
        kind: the event's type.
        subject: None differs from ''.
        time: canonical text of the sent time; None where the sender gave none, so that a retry
            that is stamped anew is the same content.
        rest: extension attributes and data.
    """
    who = "" if subject is None else f"{len(subject)}:{subject}"
    head = f"{len(kind)}:{kind}|{who}|{time or ''}|"
    return xxhash.xxh3_64_digest(key + head.encode() + rest)


def keys_array(digests: Sequence[bytes]) -> Keys:
    """Return identities as an array of shape (n, 2), unsigned."""
    flat = np.frombuffer(b"".join(digests), dtype=">u8")
    return flat.astype(np.uint64).reshape(-1, 2)


def hashes_array(digests: Sequence[bytes]) -> npt.NDArray[np.int64]:
    """Return row hashes as non-negative 63-bit integers, shape (n,)."""
    flat = np.frombuffer(b"".join(digests), dtype=">u8").astype(np.uint64)
    return (flat >> np.uint64(1)).astype(np.int64)
