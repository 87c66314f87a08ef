"""The file of counts: slots found by a name of 16 bytes, that never move.

Layout, little-endian. A header of 4 KiB: magic (8 bytes), generation (16), members (4), then from
1,024 on 256 incarnations (4 each). Then segments of 1,024, 2,048, 4,096 … slots; a name belongs to
one bucket of 16 slots in each segment, and stands in the first that had room. A slot is 128 bytes:
the same record twice, each with a sequence number and a checksum. A writer replaces the older of
the two, so a record half-written by a process that was killed leaves the one before it, which is
the truth: nobody was told of what the dying process was about to write.

Each record says until when it means anything (hours since 1970; 0 for good), and which lock guards
it. A slot whose time is over is given to another name, so the file is as large as what counts at
one time, however many keys come and go. None is ever free again: so a search knows its end.

What can be read of neither record (a disk's fault) is damage: the slot stays unused, and what was
counted in it begins at zero in another one.
"""

import mmap
import os
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from struct import Struct
from typing import TypeAlias

from tallybook.kernel.errors import Corrupt, Unavailable

MAGIC = b"TBCOUNT1"
HEADER_BYTES = 4096
MEMBERS_AT = 24
INCARNATIONS_AT = 1024
MEMBERS_MAX = 256

SLOT_BYTES = 128
RECORD_BYTES = 64
BUCKET_SLOTS = 16
BUCKET_BYTES = BUCKET_SLOTS * SLOT_BYTES
FIRST_SLOTS = 1024
SEGMENTS_MAX = 20

_RECORD = Struct("<16sQqqqqII")
"""Name, sequence number, four values, until when (upper 24 bits) and stripe (lower 8), checksum."""
_BODY_BYTES = RECORD_BYTES - 4
_PLAIN = Struct("<16sQqqqqI")
_CRC = Struct("<I")
_FREE = bytes(SLOT_BYTES)
_U32 = Struct("<I")

Four: TypeAlias = tuple[int, int, int, int]
Read: TypeAlias = tuple[bytes, int, int, Four, int]
"""Name, sequence number, which of the two records (0, 1), values, until when and stripe."""
Claim: TypeAlias = Callable[[int], AbstractContextManager[bool]]
"""Locks a stripe for a block where nobody holds it; tells whether it did."""
UNTIL_MAX = (1 << 24) - 1
STRIPE_BITS = 255

ZEROS: Four = (0, 0, 0, 0)


class SlotFile:
    """The mapped file; callers hold the locks that keep writers apart.

    Args:
        path: made when absent or empty.
        fresh: 16 random bytes, the generation of a file that is made.

    Raises:
        Unavailable: the disk refuses.
        Corrupt: it is no such file.
    """

    def __init__(self, path: Path, fresh: bytes) -> None:
        """Open and map it; the caller holds the lock for growing."""
        self._path = path
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if os.fstat(self._file).st_size == 0:
                self._reserve(0, _segment_end(0))
                os.pwrite(self._file, MAGIC + fresh, 0)
        except OSError as error:
            raise _unavailable(path, error) from error
        self._follow()
        head = self._map[: len(MAGIC) + 16]
        if not head.startswith(MAGIC):
            self.close()
            raise Corrupt(f"{path} is no file of counts", code="damaged-counts")
        self.generation = head[len(MAGIC) :].hex()

    def close(self) -> None:
        """Unmap and close it."""
        self._map.close()
        os.close(self._file)

    def sync(self) -> None:
        """Write what was changed to the disk; other threads go on meanwhile."""
        try:
            if hasattr(os, "fdatasync"):
                os.fdatasync(self._file)  # on Linux it writes what was changed in the map too
            else:
                self._map.flush()
        except OSError as error:
            raise _unavailable(self._path, error) from error

    def find(self, name: bytes) -> int | None:
        """Return the offset of a name's slot, None where it has none that this map shows."""
        for segment in range(self._segments):
            at = _bucket(segment, name)
            bucket = self._map[at : at + BUCKET_BYTES]
            for offset in range(0, BUCKET_BYTES, SLOT_BYTES):
                if bucket[offset : offset + 16] == name or (
                    bucket[offset + RECORD_BYTES : offset + RECORD_BYTES + 16] == name
                ):
                    found = parsed(bucket[offset : offset + SLOT_BYTES])
                    if found is not None and found[0] == name:
                        return at + offset
                elif bucket[offset : offset + SLOT_BYTES] == _FREE:
                    return None  # an earlier place would have been taken, and none is ever freed
        return None

    def make(self, name: bytes, word: int, hour: int, claim: Claim) -> int:
        """Return the offset of a name's slot, made where there is none.

        The caller holds the lock for growing.

        Args:
            name: whose it shall be.
            word: until when it means anything, and its stripe; see `word_of`.
            hour: the present one: what means nothing any more may be taken.
            claim: locks the stripe of a slot that is to be taken.
        """
        self.follow()
        found = self.find(name)
        return found if found is not None else self._make(name, word, hour, claim)

    def follow(self) -> None:
        """Map what others have added to the file."""
        if os.fstat(self._file).st_size > len(self._map):
            self._follow()  # a thread that still reads the map of before keeps it alive

    def read(self, at: int) -> Read | None:
        """Return the newer sound record of a slot, None where neither is sound."""
        return parsed(self._map[at : at + SLOT_BYTES])

    def write(self, at: int, name: bytes, before: tuple[int, int], values: Four, word: int) -> None:
        """Replace the older record of a slot.

        Args:
            at: offset of the slot.
            name: whose it is.
            before: sequence number and place of the newer record.
            values: what it shall hold.
            word: until when it means anything, and its stripe; see `word_of`.
        """
        sequence, which = before
        body = _PLAIN.pack(name, sequence + 1, *values, word)
        at += RECORD_BYTES * (1 - which)
        self._map[at : at + RECORD_BYTES] = body + _CRC.pack(zlib.crc32(body))

    @property
    def members(self) -> int:
        """How many processes ever counted here at once."""
        return int(_U32.unpack_from(self._map, MEMBERS_AT)[0])

    def join(self, member: int) -> int:
        """Begin a new incarnation of a member, and return its number.

        The caller is the only one with this number, and holds the lock for growing.
        """
        at = INCARNATIONS_AT + 4 * member
        (before,) = _U32.unpack_from(self._map, at)
        _U32.pack_into(self._map, at, (before + 1) & 0xFFFFFFFF)
        if member >= self.members:
            _U32.pack_into(self._map, MEMBERS_AT, member + 1)
        return self.incarnation(member)

    def incarnation(self, member: int) -> int:
        """Return the number of a member's present life."""
        return int(_U32.unpack_from(self._map, INCARNATIONS_AT + 4 * member)[0])

    def _make(self, name: bytes, word: int, hour: int, claim: Claim) -> int:
        for segment in range(self._segments):
            at = _bucket(segment, name)
            for offset in range(at, at + BUCKET_BYTES, SLOT_BYTES):
                if self._map[offset : offset + SLOT_BYTES] == _FREE:
                    self.write(offset, name, (0, 1), ZEROS, word)
                    return offset
                if self._taken_over(offset, name, word, hour, claim):
                    return offset
        self._grow()
        return self._make(name, word, hour, claim)

    def _taken_over(self, at: int, name: bytes, word: int, hour: int, claim: Claim) -> bool:
        """Give a slot that means nothing any more to another name; return whether it was done."""
        seen = self.read(at)
        if seen is None or not is_over(seen[4], hour):
            return False
        with claim(seen[4] & STRIPE_BITS) as is_ours:
            held = self.read(at) if is_ours else None  # as it is while nobody else changes it
            if held is None or held[0] != seen[0] or not is_over(held[4], hour):
                return False
            self.write(at, name, (held[1], held[2]), ZEROS, word)
            return True

    def _grow(self) -> None:
        if self._segments >= SEGMENTS_MAX:
            message = f"{self._path} has no room for more counts"
            raise Unavailable(message, code="limits-unavailable")
        size = len(self._map)
        try:
            self._reserve(size, _segment_end(self._segments))
        except OSError as error:
            raise _unavailable(self._path, error) from error
        self.follow()

    def _reserve(self, start: int, end: int) -> None:
        """Make the file longer, with room on the disk: a map without room would be fatal."""
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(self._file, start, end - start)
        else:
            os.pwrite(self._file, bytes(end - start), start)

    def _follow(self) -> None:
        size = os.fstat(self._file).st_size
        segments = sum(_segment_end(number) <= size for number in range(SEGMENTS_MAX))
        if not segments:
            os.close(self._file)
            raise Corrupt(f"{self._path} is too short for counts", code="damaged-counts")
        try:
            self._map = mmap.mmap(self._file, _segment_end(segments - 1))
        except OSError as error:
            raise _unavailable(self._path, error) from error
        self._segments = segments


def parsed(slot: bytes) -> Read | None:
    """Return the newer sound record of a slot's bytes, None where neither is sound."""
    newest: Read | None = None
    for which in (0, 1):
        start = which * RECORD_BYTES
        name, sequence, a, b, c, d, word, crc = _RECORD.unpack_from(slot, start)
        if newest is not None and newest[1] > sequence:
            continue
        if zlib.crc32(slot[start : start + _BODY_BYTES]) == crc:
            newest = (name, sequence, which, (a, b, c, d), word)
    return newest


def word_of(until_hour: int, stripe: int) -> int:
    """Return how a record says until when it means anything, 0 for good, and what guards it."""
    return min(until_hour, UNTIL_MAX) << 8 | stripe


def is_over(word: int, hour: int) -> bool:
    """Whether a record means nothing any more."""
    return 0 < word >> 8 < hour


def _bucket(segment: int, name: bytes) -> int:
    buckets = (FIRST_SLOTS << segment) // BUCKET_SLOTS
    number = int.from_bytes(name[:8], "little") % buckets
    return _segment_end(segment - 1) + number * BUCKET_BYTES


def _segment_end(segment: int) -> int:
    return HEADER_BYTES + SLOT_BYTES * FIRST_SLOTS * ((2 << segment) - 1 if segment >= 0 else 0)


def _unavailable(path: Path, error: OSError) -> Unavailable:
    return Unavailable(f"{path}: {error.strerror or error}", code="limits-unavailable")
