"""Counts that the processes of one server share, in a file that each of them maps.

The pages are the kernel's: a process that is killed takes nothing with it. `sync` writes them to
the disk; a power cut loses what was counted since.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import TypeVar

from tallybook.adapters.mapped.locks import ByteLocks
from tallybook.adapters.mapped.table import MEMBERS_MAX, ZEROS, Read, SlotFile
from tallybook.admit.plan.decide import Held, Place
from tallybook.kernel.errors import Corrupt, Unavailable

T = TypeVar("T")

STRIPES = 256
GROWING = STRIPES
"""The byte that is locked while slots are made."""
MEMBER = 512
"""The byte that member 0 holds as long as it lives."""
KNOWN_MAX = 200_000
"""Offsets that are remembered."""


class MappedCounts:
    """`Counts` in a memory-mapped file.

    Args:
        path: the file; `….lock` beside it holds no data.
        aside: renames a file that is none of counts, so that a new one takes its place.

    Raises:
        Unavailable: the files cannot be used.
    """

    def __init__(self, path: Path, aside: Callable[[Path, Corrupt], None]) -> None:
        """Open and map the file."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Unavailable(f"{path}: {error}", code="limits-unavailable") from error
        self._locks = ByteLocks(path.with_suffix(".lock"))
        self._threads = [threading.Lock() for _ in range(STRIPES)]
        self._growing = threading.RLock()
        self._known: dict[bytes, int] = {}
        self._members: dict[tuple[bytes, int], bytes] = {}
        self._me: tuple[int, int] | None = None
        self._changed = False
        self._locks.take(GROWING)
        try:
            self._slots = _opened(path, aside)
        finally:
            self._locks.drop(GROWING)

    @property
    def generation(self) -> str:
        """Names the file's content: a new file has a new one."""
        return self._slots.generation

    def close(self) -> None:
        """Unmap the file; counts of this process itself end."""
        self._slots.close()
        self._locks.close()

    def change(
        self, places: Sequence[Place], decide: Callable[[list[Held]], tuple[list[Held] | None, T]]
    ) -> T:
        """Change counts together; see `Counts`."""
        slots = [self._slot(place) for place in places]
        stripes = sorted({place.stripe for place in places})
        taken = 0
        try:
            for stripe in stripes:
                self._threads[stripe].acquire()
                try:
                    self._locks.take(stripe)
                except BaseException:
                    self._threads[stripe].release()
                    raise
                taken += 1
            before = [self._slots.read(at) for at, _ in slots]
            held = [
                self._held(place, name, read)
                for place, (_, name), read in zip(places, slots, before, strict=True)
            ]
            after, answer = decide(held)
            if after is not None:
                self._write(places, slots, before, after)
            return answer
        finally:
            for stripe in stripes[:taken]:
                self._locks.drop(stripe)
                self._threads[stripe].release()

    def read(self, places: Sequence[Place]) -> list[Held]:
        """Return counts as they are now; see `Counts`."""
        return [self._read(place) for place in places]

    def sync(self) -> None:
        """Write to the disk what was changed since the last time; see `Counts`."""
        if self._changed:
            self._changed = False
            self._slots.sync()

    def sync_all(self) -> None:
        """Write to the disk what any process has changed."""
        self._slots.sync()

    def _read(self, place: Place) -> Held:
        name = place.name
        if place.own:
            mine = self._running(name, self._me[0]) if self._me is not None else 0
            return (mine, self._others(name), 0, 0)
        at = self._find(name)
        found = self._slots.read(at) if at is not None else None
        return found[3] if found is not None else ZEROS

    def _slot(self, place: Place) -> tuple[int, bytes]:
        """Return where a place's slot is, made where there is none, and its name."""
        name = self._named(place.name, self._join()[0]) if place.own else place.name
        at = self._known.get(name)
        if at is None:
            at = self._find(name)
        return (at if at is not None else self._made(name)), name

    def _find(self, name: bytes) -> int | None:
        at = self._known.get(name)
        if at is None:
            with self._growing:
                self._slots.follow()
                at = self._slots.find(name)
                if at is not None:
                    self._remember(name, at)
        return at

    def _made(self, name: bytes) -> int:
        with self._growth():
            at = self._slots.make(name)
            self._remember(name, at)
            return at

    def _remember(self, name: bytes, at: int) -> None:
        if len(self._known) >= KNOWN_MAX:
            self._known.clear()
        self._known[name] = at

    def _held(self, place: Place, name: bytes, read: Read | None) -> Held:
        if read is None or read[0] != name:
            return ZEROS
        if not place.own:
            return read[3]
        incarnation, running, window, told = read[3]
        mine = running if incarnation == self._join()[1] else 0
        return (mine, self._others(place.name), window, told)

    def _write(
        self,
        places: Sequence[Place],
        slots: Sequence[tuple[int, bytes]],
        before: Sequence[Read | None],
        after: Sequence[Held],
    ) -> None:
        for place, (at, name), read, values in zip(places, slots, before, after, strict=True):
            held = (self._join()[1], values[0], *values[2:]) if place.own else values
            self._slots.write(at, name, (read[1], read[2]) if read is not None else (0, 1), held)
        self._changed = True

    def _others(self, name: bytes) -> int:
        """Return the sum of what the other living processes hold of a place."""
        me = self._me[0] if self._me is not None else -1
        members = [member for member in range(self._slots.members) if member != me]
        return sum(self._running(name, member) for member in members)

    def _running(self, name: bytes, member: int) -> int:
        at = self._find(self._named(name, member))
        read = self._slots.read(at) if at is not None else None
        if read is None or read[3][0] != self._slots.incarnation(member) or not read[3][1]:
            return 0
        mine = self._me is not None and self._me[0] == member
        return read[3][1] if mine or self._lives(member) else 0

    def _lives(self, member: int) -> bool:
        """Whether the process that counts as a member is there: it holds its byte."""
        if self._locks.try_take(MEMBER + member):
            self._locks.drop(MEMBER + member)
            return False
        return True

    def _named(self, name: bytes, member: int) -> bytes:
        """Return the name of a member's part of a place."""
        found = self._members.get((name, member))
        if found is None:
            if len(self._members) >= KNOWN_MAX:
                self._members.clear()
            found = blake2b(name + member.to_bytes(2, "big"), digest_size=16).digest()
            self._members[name, member] = found
        return found

    def _join(self) -> tuple[int, int]:
        """Return this process's number among the members, and its incarnation."""
        if self._me is None:
            with self._growth():
                if self._me is None:
                    self._me = self._joined()
        return self._me

    def _joined(self) -> tuple[int, int]:
        for member in range(MEMBERS_MAX):
            if self._locks.try_take(MEMBER + member):
                return member, self._slots.join(member)
        raise Unavailable("too many processes count together", code="limits-unavailable")

    @contextmanager
    def _growth(self) -> Iterator[None]:
        with self._growing:
            self._locks.take(GROWING)
            try:
                yield
            finally:
                self._locks.drop(GROWING)


def put_aside(path: Path, _error: Corrupt) -> None:
    """Rename a file that is none of counts; nothing of it is deleted."""
    path.rename(path.with_name(f"{path.name}.damaged-{time.time_ns() // 1000}"))


def _opened(path: Path, aside: Callable[[Path, Corrupt], None]) -> SlotFile:
    try:
        return SlotFile(path, os.urandom(16))
    except Corrupt as error:
        aside(path, error)
        return SlotFile(path, os.urandom(16))
