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
from tallybook.adapters.mapped.table import MEMBERS_MAX, ZEROS, Read, SlotFile, word_of
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
HOUR_SECONDS = 3600
TRIES = 3


class _Moved(Exception):
    """A slot was given to another name before it was locked."""


class MappedCounts:
    """`Counts` in a memory-mapped file.

    Args:
        path: the file; `….lock` beside it holds no data.
        aside: renames a file that is none of counts, so that a new one takes its place.
        now: seconds since 1970: slots of what is over by then are used again.

    Raises:
        Unavailable: the files cannot be used.
    """

    def __init__(
        self,
        path: Path,
        aside: Callable[[Path, Corrupt], None],
        now: Callable[[], float] = time.time,
    ) -> None:
        """Open and map the file."""
        self._now = now
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
        for _ in range(TRIES):
            try:
                return self._change(places, decide)
            except _Moved:
                continue
        raise Unavailable("the counts of limits are busy; try again", code="limits-unavailable")

    def _change(
        self, places: Sequence[Place], decide: Callable[[list[Held]], tuple[list[Held] | None, T]]
    ) -> T:
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
            before = [self._own_read(at, name) for at, name in slots]
            held = [self._held(place, read) for place, read in zip(places, before, strict=True)]
            after, answer = decide(held)
            if after is not None:
                self._write(places, slots, before, after)
            return answer
        finally:
            for stripe in stripes[:taken]:
                self._locks.drop(stripe)
                self._threads[stripe].release()

    def _own_read(self, at: int, name: bytes) -> Read | None:
        """Return a slot of a name under its lock; None where it is damaged."""
        read = self._slots.read(at)
        if read is not None and read[0] != name:
            self._known.pop(name, None)
            raise _Moved
        return read

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
        found = self._looked_up(name)
        return found[3] if found is not None else ZEROS

    def _looked_up(self, name: bytes) -> Read | None:
        """Return what stands under a name; None where nothing does."""
        at = self._find(name)
        found = self._slots.read(at) if at is not None else None
        if found is not None and found[0] != name:  # its slot was given to another one
            self._known.pop(name, None)
            at = self._find(name)
            found = self._slots.read(at) if at is not None else None
        return found if found is not None and found[0] == name else None

    def _slot(self, place: Place) -> tuple[int, bytes]:
        """Return where a place's slot is, made where there is none, and its name."""
        name = self._named(place.name, self._join()[0]) if place.own else place.name
        at = self._known.get(name)
        if at is None:
            at = self._find(name)
        return (at if at is not None else self._made(name, place)), name

    def _find(self, name: bytes) -> int | None:
        at = self._known.get(name)
        if at is None:
            with self._growing:
                self._slots.follow()
                at = self._slots.find(name)
                if at is not None:
                    self._remember(name, at)
        return at

    def _made(self, name: bytes, place: Place) -> int:
        hour = self._hour()
        with self._growth():
            at = self._slots.make(name, self._word(place, hour), hour, self._claim)
            self._remember(name, at)
            return at

    def _hour(self) -> int:
        return int(self._now()) // HOUR_SECONDS

    def _word(self, place: Place, hour: int) -> int:
        return word_of(hour + place.hours + 1 if place.hours else 0, place.stripe)

    @contextmanager
    def _claim(self, stripe: int) -> Iterator[bool]:
        """Hold a stripe for the block where nobody does; never wait: its holder may wait for us."""
        if not self._threads[stripe].acquire(blocking=False):
            yield False
            return
        try:
            is_ours = self._locks.try_take(stripe)
            try:
                yield is_ours
            finally:
                if is_ours:
                    self._locks.drop(stripe)
        finally:
            self._threads[stripe].release()

    def _remember(self, name: bytes, at: int) -> None:
        if len(self._known) >= KNOWN_MAX:
            self._known.clear()
        self._known[name] = at

    def _held(self, place: Place, read: Read | None) -> Held:
        if read is None:
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
        hour = self._hour()
        for place, (at, name), read, values in zip(places, slots, before, after, strict=True):
            held = (self._join()[1], values[0], *values[2:]) if place.own else values
            runs = place.own and values[0]  # what runs means something until it has ended
            word = word_of(0, place.stripe) if runs else self._word(place, hour)
            newest = (read[1], read[2]) if read is not None else (0, 1)
            self._slots.write(at, name, newest, held, word)
        self._changed = True

    def _others(self, name: bytes) -> int:
        """Return the sum of what the other living processes hold of a place."""
        me = self._me[0] if self._me is not None else -1
        members = [member for member in range(self._slots.members) if member != me]
        return sum(self._running(name, member) for member in members)

    def _running(self, name: bytes, member: int) -> int:
        read = self._looked_up(self._named(name, member))
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
