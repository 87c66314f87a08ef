"""An event's identity and the hash of its content.

Identity is `(tenant, source, id)`, for as long as the event is in the lake (DECISIONS 8). Parts
are length-prefixed, so that source 'a' with id 'bc' is not source 'ab' with id 'c'. XXH3 is not
a defence against forgery: whoever may write for a tenant may also repeat its identities.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

Keys = npt.NDArray[np.uint64]
"""Identities, shape (n, 2): the high and the low half of a 128-bit hash."""
Hashes = npt.NDArray[np.uint64]
"""One 64-bit hash an event, shape (n,)."""


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
        return list(map(digest, map(str.encode, map(head.__add__, ids))))
    keyed = zip(zip(tenants, sources, quarantined, strict=True), ids, strict=True)
    return [digest((heads[place] + event_id).encode()) for place, event_id in keyed]


def row_hashes(
    keys: Keys,
    kinds: Sequence[str],
    subjects: Sequence[str | None],
    sent: npt.NDArray[np.int64],
    rests: Sequence[bytes],
) -> npt.NDArray[np.int64]:
    """Return 63 bits for identity and content of every event, shape (n,), never negative.

    Args:
        keys: identities, shape (n, 2).
        kinds: types.
        subjects: None differs from ''.
        sent: the sent time, microseconds UTC; `UNSENT` where the sender gave none, so that a retry
            that is stamped anew is the same content.
        rests: extension attributes and data.

    Cost: one hash call an event; everything else is vectorised.
    """
    digest = xxhash.xxh3_64_intdigest
    by_kind = {kind: digest(kind.encode()) for kind in set(kinds)}
    whose = (NOBODY if subject is None else digest(subject.encode()) for subject in subjects)
    count = len(kinds)
    return mixed_hashes(
        keys,
        np.fromiter(map(by_kind.__getitem__, kinds), np.uint64, count),
        np.fromiter(whose, np.uint64, count),
        sent,
        np.fromiter(map(digest, rests), np.uint64, count),
    )


def mixed_hashes(
    keys: Keys, kinds: Hashes, subjects: Hashes, sent: npt.NDArray[np.int64], rests: Hashes
) -> npt.NDArray[np.int64]:
    """Return `row_hashes` of what is hashed already, each shape (n,)."""
    mixed = _mix(keys[:, 0] ^ _mix(keys[:, 1]))
    for part in (kinds, subjects, sent.view(np.uint64), rests):
        mixed = _mix(mixed + part)
    return (mixed >> np.uint64(1)).astype(np.int64)


def named_identities(tenant: str, sources: Any, ids: Any) -> list[bytes]:
    """Return `identity` of events of one tenant, none of them quarantined."""
    if not is_uniform(sources):
        count = len(ids)
        places, names = sources.to_pylist(), ids.to_pylist()
        return identities([tenant] * count, places, names, [False] * count)
    source = sources[0].as_py()
    head = f"e{len(tenant)}:{tenant}{len(source)}:{source}"
    return list(map(xxhash.xxh3_128_digest, _pieces(joined_texts(head, ids))))


def hashes_of(texts: "pa.Array[Any]") -> Hashes:
    """Return the hash of each text, of which many are equal; `NOBODY` for NULL."""
    if is_uniform(texts):
        return np.repeat(digests_of(texts[:1]), len(texts))
    coded = texts.dictionary_encode()
    known, codes = digests_of(coded.dictionary), coded.indices
    if codes.null_count:
        codes, known = codes.fill_null(len(known)), np.append(known, np.uint64(NOBODY))
    return known.take(np.asarray(codes))


def digests_of(texts: "pa.Array[Any]") -> Hashes:
    """Return the hash of each text."""
    return np.fromiter(map(xxhash.xxh3_64_intdigest, _pieces(texts)), np.uint64, len(texts))


def is_uniform(texts: Any) -> bool:
    """Whether all texts are equal and none is NULL."""
    if texts.null_count:
        return False
    first = texts[0].as_py().encode()
    count, (_, offsets, letters) = len(texts), texts.buffers()
    places = np.frombuffer(offsets, np.int32)[: count + 1]
    if letters is None or places[-1] - places[0] != count * len(first):
        return False
    same = bytes(memoryview(letters)[places[0] : places[-1]]) == first * count
    return same and bool((np.diff(places) == len(first)).all())


def joined_texts(first: Any, second: Any) -> "pa.Array[Any]":
    """Return each text behind that of another column, or behind the same one."""
    joined: pa.Array[Any] = pc.binary_join_element_wise(first, second, "")
    return joined


def _pieces(texts: "pa.Array[Any]") -> Iterable[bytes]:
    """Return the bytes of texts, as fast as they can be had."""
    return texts.cast(pa.binary()).to_numpy(zero_copy_only=False)


UNSENT = -(1 << 63)
"""Stands for the time of an event that was sent without one."""
NOBODY = 1
"""Stands for the subject of an event that has none."""


def _mix(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return the finalizer of SplitMix64: every bit of the input reaches every bit."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def keys_array(digests: Sequence[bytes]) -> Keys:
    """Return identities as an array of shape (n, 2), unsigned."""
    flat = np.frombuffer(b"".join(digests), dtype=">u8")
    return flat.astype(np.uint64).reshape(-1, 2)


def hashes_array(digests: Sequence[bytes]) -> npt.NDArray[np.int64]:
    """Return row hashes as non-negative 63-bit integers, shape (n,)."""
    flat = np.frombuffer(b"".join(digests), dtype=">u8").astype(np.uint64)
    return (flat >> np.uint64(1)).astype(np.int64)
