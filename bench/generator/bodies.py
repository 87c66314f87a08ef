"""Request bodies, made by overwriting a few columns of rows of bytes that are all equally wide.

A generator on the server's own cores must cost next to nothing, or it is what is measured. So
eight blocks of rows are written once; before a block is sent again its ids, times and, where there
are more subjects than rows, subjects are overwritten as columns: a tenth of a microsecond an event.

An event is made from its number alone (block and position), so that a duplicate is its original to
the last byte, and what was sent adds up exactly.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import cached_property
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bench.generator.plan import KINDS, Plan, Sent

BLOCKS = 8
"""Blocks in turn; a duplicate repeats the same row of so many blocks ago."""
ROWS = 1000
BLOCK_DIGITS, ROW_DIGITS, SUBJECT_DIGITS = 9, 5, 7
ID_WIDTH = 32
Rows = npt.NDArray[np.uint8]
_HEX: Rows = np.frombuffer("".join(f"{n:02x}" for n in range(256)).encode(), np.uint8).reshape(
    256, 2
)
_STRIDE = 7919
"""A prime: neighbours in a block are of subjects far apart."""


class Body(NamedTuple):
    """One request's body; `key` names what it adds up to."""

    content: bytes
    events: int
    key: tuple[int, int, int]


class Bodies:
    """All bodies of a plan."""

    def __init__(self, plan: Plan) -> None:
        """Write the blocks."""
        self._plan = plan
        self._requests = max(1, ROWS // plan.batch)
        self.rows = self._requests * plan.batch
        self._seed = int.from_bytes(blake2b(plan.run.encode(), digest_size=8).digest(), "big")
        self._repeat = round(100 / plan.duplicate_percent) if plan.duplicate_percent else 0
        self._blocks = [self._block(turn) for turn in range(BLOCKS)]

    def __iter__(self) -> Iterator[Body]:
        """Yield bodies without end."""
        number = 0
        while True:
            rows = self._written(number)
            turn, phase = number % BLOCKS, self._phase(number)
            for request in range(self._requests):
                part = rows[request * self._plan.batch : (request + 1) * self._plan.batch]
                yield Body(self._body(part), self._plan.batch, (turn, phase, request))
            number += 1

    def sent(self, keys: Mapping[tuple[int, int, int], int]) -> Sent:
        """Return what bodies add up to, by key so many of each."""
        turns: dict[tuple[int, int], npt.NDArray[np.int64]] = {}
        for (turn, phase, request), times in keys.items():
            if (turn, phase) not in turns:
                turns[turn, phase] = np.zeros(self._requests, np.int64)
            turns[turn, phase][request] += times
        sent = Sent()
        for (turn, phase), times_each in turns.items():
            sent += self._sent(turn, phase, np.repeat(times_each, self._plan.batch))
        return sent

    def _sent(self, turn: int, phase: int, times: npt.NDArray[np.int64]) -> Sent:
        """Return what the rows of a block add up to, each sent so many times."""
        bad, again, values = self._bad, self._duplicates(phase), self._values(turn)
        counts, sums = {}, {}
        for number, kind in enumerate(KINDS[: self._plan.kinds]):
            new = np.where(~bad & ~again & (self._kinds == number), times, 0)
            counts[kind.meter] = int(new.sum())
            sums[kind.meter] = int((values * new).sum())
        return Sent(
            events=int(times.sum()),
            duplicates=int(times[again].sum()),
            bad=int(times[bad].sum()),
            counts=counts,
            sums=sums,
        )

    # ------------------------------------------------------------ what a row is, by its number

    @cached_property
    def _positions(self) -> npt.NDArray[np.int64]:
        return np.arange(self.rows)

    @cached_property
    def _kinds(self) -> npt.NDArray[np.int64]:
        return self._positions % self._plan.kinds

    @cached_property
    def _bad(self) -> npt.NDArray[np.bool_]:
        if not self._plan.bad_percent:
            return np.zeros(self.rows, bool)
        every = round(100 / self._plan.bad_percent)
        return np.asarray(self._positions % every == every // 2)

    def _values(self, turn: int) -> npt.NDArray[np.int64]:
        return 1000 + (self._positions * 31 + turn * 101) % 9000

    def _phase(self, number: int) -> int:
        """Return which rows of a block are duplicates; -1 is none, because nothing was sent yet."""
        turns = number // BLOCKS
        return turns % self._repeat if self._repeat and turns else -1

    def _duplicates(self, phase: int) -> npt.NDArray[np.bool_]:
        """Return the rows that repeat; the same rows were originals when the block was last sent.

        A block with rows that repeat at every visit would repeat repeats, so the rows move on.
        """
        if phase < 0:
            return np.zeros(self.rows, bool)
        return np.asarray((self._positions + phase) % self._repeat == 0) & ~self._bad

    # ------------------------------------------------------------ how it is written

    def _block(self, turn: int) -> Rows:
        texts = [self._text(turn, position) for position in range(self.rows)]
        width = max(map(len, texts)) + 1
        joined = "".join(f"{text.ljust(width - 1)}," for text in texts).encode()
        return np.frombuffer(joined, np.uint8).reshape(self.rows, width).copy()

    def _text(self, turn: int, position: int) -> str:
        kind = KINDS[position % self._plan.kinds]
        subject = (turn * self.rows + position) * _STRIDE % self._plan.subjects
        values = {"item": position % 97, "value": int(self._values(turn)[position])}
        version = "0.9" if self._bad[position] else "1.0"
        return (
            f'{{"specversion":"{version}","id":"{self._id(position)}"'
            f',"time":"{_time_text(self._plan.start_us)}"'
            f',"subject":"customer-{subject:0{SUBJECT_DIGITS}d}","source":"/bench/edge-1"'
            f',"type":"{kind.type}","data":{kind.data % values}}}'
        )

    def _id(self, position: int) -> str:
        tail = f"{'0' * BLOCK_DIGITS}{position:0{ROW_DIGITS}d}"
        room = ID_WIDTH - len(tail)
        return (
            "0" * ID_WIDTH if self._plan.random_ids else f"{self._plan.run:-<{room}.{room}}{tail}"
        )

    def _written(self, number: int) -> Rows:
        rows = self._blocks[number % BLOCKS]
        self._write(rows, number)
        phase = self._phase(number)
        if phase >= 0:
            again = np.flatnonzero(self._duplicates(phase))
            repeated = rows[again]
            self._write(repeated, number - BLOCKS, self._positions[again])
            rows[again] = repeated
        return rows

    def _write(
        self, rows: Rows, number: int, positions: npt.NDArray[np.int64] | None = None
    ) -> None:
        """Overwrite what differs between two visits of a block."""
        at = self._positions if positions is None else positions
        if self._plan.random_ids:
            rows[:, _ID : _ID + ID_WIDTH] = self._random(number, at)
        else:
            first = _ID + ID_WIDTH - ROW_DIGITS - BLOCK_DIGITS
            rows[:, first : first + BLOCK_DIGITS] = _bytes(f"{number:0{BLOCK_DIGITS}d}")
        rows[:, _TIME : _TIME + _TIME_WIDTH] = _bytes(_time_text(self._time(number)))
        if self._plan.subjects > BLOCKS * self.rows:
            subjects = (number * self.rows + at) * _STRIDE % self._plan.subjects
            rows[:, _SUBJECT : _SUBJECT + SUBJECT_DIGITS] = _digits(subjects, SUBJECT_DIGITS)

    def _time(self, number: int) -> int:
        seconds = number * self._plan.block_seconds % self._plan.spread_seconds
        return self._plan.start_us + int(seconds * 1_000_000)

    def _random(self, number: int, positions: npt.NDArray[np.int64]) -> Rows:
        """Return ids as hexadecimal digits: a mixed number each, so that none comes twice."""
        numbers = (number * self.rows + positions).astype(np.uint64) ^ np.uint64(self._seed)
        halves = np.stack([_mixed(numbers), _mixed(numbers + np.uint64(1 << 63))], axis=1)
        return _HEX[halves.byteswap().view(np.uint8)].reshape(len(positions), ID_WIDTH)

    def _body(self, rows: Rows) -> bytes:
        content = rows.tobytes()[:-1]
        return b"[" + content + b"]" if self._plan.batch > 1 else content


def _mixed(numbers: Any) -> Any:
    """Return the finalizer of splitmix64: one to one on 64 bits."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def _digits(numbers: npt.NDArray[np.int64], width: int) -> Rows:
    powers = 10 ** np.arange(width - 1, -1, -1)
    return (numbers[:, None] // powers % 10 + ord("0")).astype(np.uint8)


def _bytes(text: str) -> Rows:
    return np.frombuffer(text.encode(), np.uint8)


def _time_text(time_us: int) -> str:
    moment = datetime.fromtimestamp(time_us // 1_000_000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{time_us % 1_000_000 // 1000:03d}Z"


_TIME_WIDTH = len(_time_text(0))
_ID = len('{"specversion":"1.0","id":"')
_TIME = _ID + ID_WIDTH + len('","time":"')
_SUBJECT = _TIME + _TIME_WIDTH + len('","subject":"customer-')
